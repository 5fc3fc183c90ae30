"""What the guide to groups shows runs, and does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.guides import blocks_of, run
from tests.testing.test_plugin import OURS

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

PROGRAM, TESTS = blocks_of("docs/groups.md")


def test_the_program_of_the_guide_to_groups_prints_what_it_says(tmp_path: Path):
    sums = [f"{step} {sum(range(step, step + 12))}" for step in range(4)]
    assert run(PROGRAM, tmp_path).stdout.splitlines() == [*sums, "[2, 1]"]


def test_the_test_of_the_guide_to_groups_passes(pytester: pytest.Pytester):
    pytester.makepyfile(test_guide=TESTS)
    pytester.runpytest_subprocess(*OURS).assert_outcomes(passed=1)
