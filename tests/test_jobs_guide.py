"""What the guide to jobs shows runs, and does what it says."""

from __future__ import annotations

from pathlib import Path

from tests.guides import blocks_of, run

(PROGRAM,) = blocks_of("docs/jobs.md")


def test_the_program_of_the_guide_to_jobs_finds_its_actor_in_two_ways(tmp_path: Path):
    assert run(PROGRAM, tmp_path).stdout == "addition\naddition\n"
