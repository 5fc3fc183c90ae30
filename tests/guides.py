"""What README and guides show: their blocks of Python, run as a reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]

DEADLINE_S = 60.0


def blocks_of(page: str) -> list[str]:
    """The blocks of Python of a page, in order.

    Args:
        page: Its path from the root of the project.
    """
    text = (ROOT / page).read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(
    program: str,
    folder: Path,
    *,
    name: str = "program.py",
    environ: Mapping[str, str] | None = None,
    deadline_s: float = DEADLINE_S,
) -> subprocess.CompletedProcess[str]:
    """Runs a program that is to end well, and without a traceback.

    Args:
        program: Its text.
        folder: Where it is put, and run.
        name: What it is called there.
        environ: Its environment; None for that of the tests.
        deadline_s: How long it may take.
    """
    (folder / name).write_text(program)
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done
