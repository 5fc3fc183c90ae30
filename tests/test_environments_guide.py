"""What the guide to environments shows runs, on a cluster, from a project of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.guides import blocks_of, run
from tests.integration.real_cluster import real_cluster

PROGRAMS = blocks_of("docs/environments.md")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("program", "told"),
    list(zip(PROGRAMS, ("succeeded\n", "5\n"), strict=True)),
    ids=("job", "actor"),
)
async def test_the_programs_of_the_guide_to_environments_print_what_they_say(
    tmp_path: Path, program: str, told: str
):
    project = tmp_path / "project"
    (project / "src" / "mypackage").mkdir(parents=True)
    (project / "src" / "mypackage" / "__init__.py").write_text("NAME = 'mine'\n")
    async with real_cluster(tmp_path / "home") as cluster:
        environ = cluster.environ
        done = await asyncio.to_thread(run, program, project, name="train.py", environ=environ)
    assert done.stdout == told
