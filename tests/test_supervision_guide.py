"""What the guide to supervision shows runs, and does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.guides import blocks_of, run
from tests.testing.test_plugin import OURS

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

PROGRAM, TESTS = blocks_of("docs/supervision.md")


def test_the_program_of_the_guide_to_supervision_prints_what_it_says(tmp_path: Path):
    assert run(PROGRAM, tmp_path).stdout == "1\n1\n2\n"


def test_the_test_of_the_guide_to_supervision_passes(pytester: pytest.Pytester):
    pytester.makepyfile(test_guide=TESTS)
    pytester.runpytest_subprocess(*OURS).assert_outcomes(passed=1)
