"""What the guide to job contexts shows runs, and does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guides import blocks_of, run
from tests.testing.test_plugin import OURS

pytest_plugins = ["pytester"]

FIRST, ON_FRAY, TEST = blocks_of("docs/job-contexts.md")


@pytest.mark.parametrize(
    ("program", "printed"), [(FIRST, "19000.0\n"), (ON_FRAY, "[0, 1, 4, 9, 16]\n")]
)
def test_the_programs_of_the_guide_to_job_contexts_print_what_it_says(
    program: str, printed: str, tmp_path: Path
):
    assert run(program, tmp_path).stdout == printed


def test_the_test_of_the_guide_to_job_contexts_passes(pytester: pytest.Pytester):
    pytester.makepyfile(test_guide=TEST)
    pytester.runpytest_subprocess(*OURS).assert_outcomes(passed=1)
