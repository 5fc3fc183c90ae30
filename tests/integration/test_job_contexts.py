"""`FrayContext` on a cluster of real processes: workers that are killed, jobs that run tasks."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import numpy as np
import pytest

from fray.cluster import Entrypoint, JobRequest, JobStatus
from fray.errors import TaskLostError
from fray.job import FrayContext, create_job_ctx
from tests.integration.real_cluster import RealCluster, driving, until

pytestmark = pytest.mark.integration

LARGE = 1 << 20


async def begin(cluster: RealCluster) -> None:
    """Starts all that stays until the last test is done, an agent's fork server among it."""
    await cluster.start()
    async with driving(cluster) as connection, FrayContext(cluster=connection) as context:
        await context.run(os.getpid)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[RealCluster]:
    cluster = RealCluster(tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(begin(cluster))
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
async def connection(cluster: RealCluster) -> AsyncGenerator[object]:
    async with driving(cluster) as connection:
        yield connection


def die_at_first(path: str) -> str:
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "ran"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def large(x: float) -> np.ndarray:
    return np.full(LARGE, x)


def pid_and_total(array: np.ndarray) -> tuple[int, float]:
    return os.getpid(), float(array.sum())


async def test_a_task_whose_worker_is_killed_runs_again(connection, tmp_path):
    async with FrayContext(cluster=connection, max_workers=2) as context:
        assert await context.run(die_at_first, str(tmp_path / "died")) == "ran"


async def test_a_task_that_kills_its_workers_fails_and_says_by_which_signal(connection):
    async with FrayContext(cluster=connection, max_workers=1, retries=1) as context:
        with pytest.raises(TaskLostError, match=r"SIGKILL.*tried 2 times"):
            await context.run(die)
        assert await context.run(max, 1, 2) == 2


async def test_a_result_whose_worker_is_killed_is_made_again(connection):
    async with FrayContext(cluster=connection, max_workers=1) as context:
        array = context.run(large, 3.0)
        pid, total = await context.run(pid_and_total, array)
        assert total == 3.0 * LARGE
        os.kill(pid, signal.SIGKILL)
        other, total = await context.run(pid_and_total, array)
        assert (other != pid, total) == (True, 3.0 * LARGE)
        assert (await array).sum() == 3.0 * LARGE


async def test_a_large_value_reaches_many_workers_and_leaves_the_driver_twice(connection):
    async with FrayContext(cluster=connection, max_workers=4, min_workers=4) as context:
        await until(lambda: sum(n in context.pool.staff for n in range(1, 5)) == 4, "four workers")
        weights = context.put(np.ones(4 * LARGE))
        sums = await asyncio.gather(*(context.run(pid_and_total, weights) for _ in range(40)))
        assert {total for _, total in sums} == {4.0 * LARGE}
        assert 1 <= context.pool.values.copies_sent <= 2


def square(x: int) -> int:
    return x * x


def job_of_tasks(path: str) -> None:
    with create_job_ctx("auto", max_workers=2) as context:
        assert isinstance(context, FrayContext)
        total = sum(context.get([context.run(square, i) for i in range(10)]))
    Path(path).write_text(str(total))


async def test_a_job_of_a_cluster_runs_tasks_on_that_cluster(connection, tmp_path):
    job = await connection.launch(
        JobRequest(
            name="tasks",
            entrypoint=Entrypoint.from_callable(job_of_tasks, args=(str(tmp_path / "total"),)),
        )
    )
    info = await connection.wait_for(job)
    lines = [line.text async for line in connection.logs(job)]
    assert (info.status, info.error_message) == (JobStatus.SUCCEEDED, None), lines
    assert (tmp_path / "total").read_text() == "285"
