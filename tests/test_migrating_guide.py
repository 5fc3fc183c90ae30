"""Programs before and after moving from Ray do the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.guides import blocks_of, run

TASKS_ON_RAY, TASKS, ACTORS_ON_RAY, ACTORS, JOBS_ON_RAY, NAMES_ON_RAY = blocks_of(
    "docs/migrating-from-ray.md"
)


def printed_by(program: str, folder: Path, address: str) -> str:
    environ = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": address}
    return run(program, folder, environ=environ, deadline_s=100).stdout


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        pytest.param(TASKS_ON_RAY, "5\n", id="tasks"),
        pytest.param(ACTORS_ON_RAY, "[]\n", id="actors"),
        pytest.param(JOBS_ON_RAY, "succeeded\n", id="jobs"),
        pytest.param(NAMES_ON_RAY, "['add']\n", id="names"),
    ],
)
def test_programs_of_the_guide_to_migrating_run_on_ray(
    program: str, printed: str, tmp_path: Path, ray_address: str
):
    assert printed_by(program, tmp_path, ray_address) == printed


@pytest.mark.parametrize(
    ("program", "printed"),
    [pytest.param(TASKS, "5\n", id="tasks"), pytest.param(ACTORS, "[]\n", id="actors")],
)
def test_programs_of_the_guide_to_migrating_print_the_same_on_fray(
    program: str, printed: str, tmp_path: Path
):
    assert printed_by(program, tmp_path, "") == printed
