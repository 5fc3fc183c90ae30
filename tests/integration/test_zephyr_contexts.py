"""zephyr by the job contexts of fray, as its second argument."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator

import pytest

from fray.cluster import LocalCluster
from fray.job import FrayContext, JobContext, RayContext, SyncContext, ThreadContext
from zephyr import Backend, Dataset, ShardLostError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(90),
    pytest.mark.leftovers("the cluster of all tests here keeps an interpreter warm"),
]

PIPELINE = (
    Dataset.from_list([list(range(n)) for n in range(12)])
    .flat_map(lambda numbers: numbers)
    .group_by(lambda n: n % 5, lambda key, numbers: (key, sum(numbers)), num_output_shards=3)
)


@pytest.fixture(scope="module")
def pool() -> Generator[FrayContext]:
    with LocalCluster() as cluster, FrayContext(cluster=cluster, max_workers=2) as context:
        yield context


@pytest.fixture(params=["sync", "threads", "fray", "ray"])
def context(request: pytest.FixtureRequest) -> Generator[JobContext]:
    if request.param == "fray":
        yield request.getfixturevalue("pool")
        return
    if request.param == "ray":
        request.getfixturevalue("ray")
        yield RayContext()
        return
    with SyncContext() if request.param == "sync" else ThreadContext(2) as made:
        yield made


def test_every_job_context_gives_the_same(context: JobContext) -> None:
    assert Backend.execute(PIPELINE, context, max_parallelism=4) == Backend.execute(PIPELINE)


def test_every_job_context_tells_where_a_function_failed(context: JobContext) -> None:
    with pytest.raises(ZeroDivisionError) as told:
        Backend.execute(PIPELINE.map(lambda pair: 1 // pair[0]), context)
    assert any("raised by map(<lambda>) at item 0" in note for note in told.value.__notes__)


def test_a_worker_of_a_pool_that_dies_changes_nothing(
    pool: FrayContext, tmp_path_factory: pytest.TempPathFactory
) -> None:
    marker = str(tmp_path_factory.mktemp("markers") / "died")

    def die_once(n: int) -> int:
        if n == 7 and not os.path.exists(marker):
            os.close(os.open(marker, os.O_CREAT))
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    dataset = with_map(die_once)
    assert Backend.execute(dataset, pool) == Backend.execute(PIPELINE)
    assert os.path.exists(marker)


def test_a_shard_that_a_pool_gives_up_is_named(pool: FrayContext) -> None:
    def die(n: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return n

    with pytest.raises(ShardLostError, match=r"shard \d+ is lost: its worker died: .* SIGKILL"):
        Backend.execute(with_map(die), pool)


def with_map(fn: Callable[[int], int]) -> Dataset[object]:
    """The same pipeline, with a function at its beginning."""
    flat, grouped = PIPELINE.operations
    dataset = Dataset(PIPELINE.source, (flat,)).map(fn)
    return Dataset(dataset.source, (*dataset.operations, grouped))
