"""The controller's supervision tree: services come back, and the ledger outlives its book."""

import asyncio
from pathlib import Path

import pytest

from fray.cluster.connect import make_process
from fray.cluster.control import ClusterFacts
from fray.cluster.controller.commands import SubmitJobs
from fray.cluster.controller.journal import MemoryStore
from fray.cluster.controller.specs import JobSpec, Program
from fray.cluster.controller.tree import Controller
from fray.errors import ClusterError, DeathCause
from fray.ids import JobId, Namespace

TOKEN = "a-token-that-is-long-enough"


def submission(number: int) -> SubmitJobs:
    spec = JobSpec(
        job_id=JobId(f"me/job-{number}"),
        name=f"job-{number}",
        user="me",
        namespace=Namespace("n"),
        program=Program(command=("true",)),
    )
    return SubmitJobs(f"s-{number}", (spec,))


class BreakableStore(MemoryStore):
    """A store whose disk can be full for one append."""

    full = False

    async def append(self, entries):
        if self.full:
            self.full = False
            raise ClusterError("the disk is full")
        await super().append(entries)


@pytest.fixture
async def controller(tmp_path: Path):
    async with make_process(TOKEN, label="test") as process:
        made = Controller(process, BreakableStore(), tmp_path, ClusterFacts("test", local=False))
        await made.start()
        made.process = process
        yield made
        await made.close()


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("service", ["jobs", "fleet", "scheduler", "sessions", "blobs", "names"])
async def test_a_service_that_dies_is_started_again(controller: Controller, service: str):
    cells = controller.process.cells
    first = cells[f"{service}/1"]
    first.kill(DeathCause(message="killed by the test"))
    await until(lambda: cells.get(f"{service}/1") not in (None, first))
    await controller.book.commit(submission(1))
    assert list(controller.book.ledger.list_jobs()) == ["me/job-1"]


async def test_a_book_that_cannot_write_starts_anew_from_its_journal(controller: Controller):
    first = controller.book
    await first.commit(submission(1))
    controller._store.full = True
    with pytest.raises(ClusterError, match="disk is full"):
        await first.commit(submission(2))
    await until(lambda: controller.book is not first and "fleet/1" in controller.process.cells)
    assert list(controller.book.ledger.list_jobs()) == ["me/job-1"]
    await controller.book.commit(submission(3))
    assert controller.book.generation == first.generation + 1
