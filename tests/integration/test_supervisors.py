"""Supervisors over real processes: restarts after ``kill -9``, and programs that end with one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

import fray
from fray.errors import ActorDied
from tests.integration.real_cluster import ROOT, RealCluster, driving, is_gone, until
from tests.integration.supervising import Worker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[RealCluster]:
    cluster = RealCluster(tmp_path_factory.mktemp("cluster"))

    async def begin() -> None:
        await cluster.start()
        supervisor = fray.Supervisor([fray.ChildSpec("first", Worker)])
        async with driving(cluster), supervisor:
            assert (await supervisor.count_children()).active == 1

    try:
        asyncio.run(begin())
        yield cluster
    finally:
        cluster.close()


async def test_killed_processes_are_restarted_with_those_that_depend_on_them(
    cluster: RealCluster,
):
    names = ["a", "b", "c"]
    specs = [fray.ChildSpec(name, Worker.options(name=name)) for name in names]
    policy = {"strategy": "rest_for_one", "intensity": 3, "period_s": 60}
    async with driving(cluster) as connection:
        async with fray.Supervisor(specs, **policy) as supervisor:
            handles = [supervisor[name] for name in names]
            before = [await handle.pid.remote() for handle in handles]
            with fray.monitor(handles[1]) as watching:
                os.kill(before[1], signal.SIGKILL)
                down = await watching
            assert (down.incarnation, down.cause.kind, down.cause.signal) == (1, "signal", 9)
            await until(lambda: is_gone(before[2]), "the one after it is stopped")
            after = [await handle.pid.remote() for handle in handles]
            assert after[0] == before[0]
            assert not set(before[1:]) & set(after)
            found = await connection.resolver.lookup_async("c")
            assert await found.pid.remote() == after[2]
        with pytest.raises(ActorDied):
            await handles[0].pid.remote()
    await until(lambda: all(is_gone(pid) for pid in after), "its processes have ended")


async def test_program_ends_with_the_whole_chain_when_its_root_gives_up(
    cluster: RealCluster, tmp_path: Path
):
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.supervising",
        cwd=ROOT,
        env=cluster.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    left, right = [int(await program.stdout.readline()) for _ in range(2)]
    os.kill(right, signal.SIGKILL)
    _, told = await program.communicate()
    assert program.returncode == 1
    text = told.decode()
    order = [
        "ExceptionGroup: what ended program (1 sub-exception)",
        "fray.errors.ChildFailed: right ended, signal: killed by SIGKILL",
        "fray.errors.SupervisorFailed: supervisor program has ended: 1 failures",
    ]
    places = [text.find(line) for line in order]
    assert -1 < places[0] < places[1] < places[2], text
    await until(lambda: is_gone(left), "the other process has ended")
