"""What the guide to supervision shows runs, and does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testing.test_plugin import OURS

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

GUIDE = Path(__file__).parents[1] / "docs" / "supervision.md"
PROGRAM, TESTS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_program_of_the_guide_to_supervision_prints_what_it_says(tmp_path: Path):
    script = tmp_path / "supervised.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1\n1\n2\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_the_test_of_the_guide_to_supervision_passes(pytester: pytest.Pytester):
    pytester.makepyfile(test_guide=TESTS)
    pytester.runpytest_subprocess(*OURS).assert_outcomes(passed=1)
