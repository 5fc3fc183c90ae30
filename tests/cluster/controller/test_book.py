"""The book: what it tells is durable, in order, and told though the asker has gone."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from fray.actor.directory import ActorKey, Endpoint
from fray.cluster.control import NameClaim
from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import MarkWorker, RegisterWorker
from fray.cluster.controller.fleet import Fleet
from fray.cluster.controller.jobs import Jobs
from fray.cluster.controller.journal import MemoryDisk, MemoryStore
from fray.cluster.controller.names import Names
from fray.cluster.controller.records import Health
from fray.cluster.controller.security import Security
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.reports import JobQuery
from fray.cluster.shelflimits import ShelfLimits
from fray.cluster.worker.hosts import host_resources
from fray.ids import WorkerId
from fray.runtime.clock import SystemClock

from .test_tree import submission

if TYPE_CHECKING:
    from fray.cluster.resources import Resources

CAPACITY: Resources = host_resources('{"cpu": 4, "memory": "8g", "disk": "8g"}').capacity


class SlowStore(MemoryStore):
    """A store whose disk writes only while its gate is open."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, entries):
        await self.gate.wait()
        await super().append(entries)


async def some_ticks() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_change_is_told_to_all_though_whoever_asked_for_it_was_cancelled():
    disk = MemoryDisk()
    store = SlowStore(disk)
    book = await Book.open(store, SystemClock())
    told = []
    book.listeners.append(told.extend)
    store.gate.clear()
    asking = asyncio.create_task(book.commit(submission(1)))
    await some_ticks()
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert not told
    store.gate.set()
    await book.durable()
    assert told
    assert len(disk.entries) == 1
    await book.commit(submission(2))
    assert [entry.revision for entry in disk.entries] == [1, 2]
    await book.close()


async def test_no_host_gets_orders_that_a_crash_could_take_back():
    store = SlowStore(MemoryDisk())
    book = await Book.open(store, SystemClock())
    kept = ShelfLimits(count_max=3)
    fleet = Fleet(book, SystemClock(), None, Security(SystemClock()), environments=kept)
    spec = WorkerSpec(WorkerId("w"), "127.0.0.1:1", CAPACITY)
    await fleet.register(RegisterWorker(spec, "boot"))
    store.gate.clear()
    submitting = asyncio.create_task(book.commit(submission(1)))
    asking = asyncio.create_task(fleet.orders(WorkerId("w"), "boot", -1, 0.0))
    await some_ticks()
    assert not asking.done()
    store.gate.set()
    await submitting
    assert (await asking).desired.worker_id == "w"
    assert (await asking).environments == kept
    await book.close()


async def test_whoever_looks_something_up_waits_for_no_disk():
    clock = SystemClock()
    store = SlowStore(MemoryDisk())
    book = await Book.open(store, clock)
    await book.commit(submission(1))
    [job_id] = book.ledger.tables.jobs
    names = Names(book, clock, book.generation)
    endpoint = Endpoint("a-x", 1, "p", "h:1")
    await names.register(NameClaim("ns", "x", endpoint, True, "slot", 1, 60.0))
    jobs = Jobs(book, names, clock)
    store.gate.clear()
    writing = asyncio.create_task(book.commit(submission(2)))
    await some_ticks()
    async with asyncio.timeout(5):
        assert (await names.locate(ActorKey("ns", name="x"), wait_s=0)).endpoints == (endpoint,)
        assert [each.name for each in await names.list("ns", "")] == ["x"]
        assert (await jobs.report(job_id)).job_id == job_id
        assert (await jobs.wait(job_id, wait_s=0)).job_id == job_id
        assert job_id in await jobs.ids(JobQuery())
    assert not writing.done()
    store.gate.set()
    await writing
    await book.close()


async def test_a_listener_that_fails_keeps_nobody_from_hearing_that_a_change_is_kept():
    book = await Book.open(MemoryStore(MemoryDisk()), SystemClock())

    def listener(events):
        raise RuntimeError("a bug")

    book.listeners.append(listener)
    _, writing = book.begin(submission(1))
    async with asyncio.timeout(10):
        await book.durable()
    with pytest.raises(RuntimeError, match="a bug"):
        await writing
    await book.close()


async def test_another_life_of_a_host_is_no_sign_of_the_present_one():
    clock = StillClock()
    book = await Book.open(MemoryStore(MemoryDisk()), clock)
    fleet = Fleet(book, clock, None, Security(clock))
    spec = WorkerSpec(WorkerId("w"), "127.0.0.1:1", CAPACITY)
    await fleet.register(RegisterWorker(spec, "boot"))
    await book.commit(MarkWorker(WorkerId("w"), "boot", True, "silent"))
    looking = asyncio.create_task(fleet.run())
    await some_ticks()
    for _ in range(200):
        await fleet.orders(WorkerId("w"), "another boot", 0, 0.0)
        clock.tick(1.0)
        await some_ticks()
    assert book.ledger.tables.workers[WorkerId("w")].health is Health.LOST
    looking.cancel()
    await asyncio.wait([looking])
    await book.close()


class StillClock(SystemClock):
    """Its time goes on by `tick` only, which wakes whoever sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.ticked = asyncio.Event()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        until = self.now + delay_s
        while self.now < until:
            self.ticked.clear()
            await self.ticked.wait()

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.ticked.set()


async def test_a_repeated_submission_is_answered_when_the_first_is_durable():
    store = SlowStore(MemoryDisk())
    book = await Book.open(store, SystemClock())
    store.gate.clear()
    first, again = (asyncio.create_task(book.commit(submission(1))) for _ in range(2))
    await some_ticks()
    assert not first.done()
    assert not again.done()
    store.gate.set()
    await asyncio.gather(first, again)
    await book.close()


async def test_a_snapshot_that_is_due_while_writes_are_under_way_fits_the_journal(monkeypatch):
    monkeypatch.setattr("fray.cluster.controller.book.SNAPSHOT_ENTRIES", 1)
    disk = MemoryDisk()
    book = await Book.open(MemoryStore(disk), SystemClock())
    await book.commit(submission(1))
    commits = [asyncio.create_task(book.commit(submission(n))) for n in range(2, 6)]
    await asyncio.sleep(0)  # they are applied, and not yet written
    await book.snapshot_if_due()
    await asyncio.gather(*commits)
    await book.close()
    again = await Book.open(MemoryStore(disk), SystemClock())
    assert len(list(again.ledger.list_jobs())) == 5


async def test_what_a_controller_found_in_the_journal_counts_for_the_next_snapshot(monkeypatch):
    monkeypatch.setattr("fray.cluster.controller.book.SNAPSHOT_ENTRIES", 4)
    disk = MemoryDisk()
    for number in range(1, 5):  # it dies after each submission
        book = await Book.open(MemoryStore(disk), SystemClock())
        await book.commit(submission(number))
        await book.snapshot_if_due()
        await book.close()
    assert disk.snapshot is not None
    assert disk.entries == []
    again = await Book.open(MemoryStore(disk), SystemClock())
    assert len(list(again.ledger.list_jobs())) == 4


class BusyClock(SystemClock):
    """Whatever is done takes a fifth of a millisecond."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 0.0001
        return self.now


async def test_others_have_their_turn_while_very_many_submit_at_once():
    book = await Book.open(MemoryStore(), BusyClock())
    submitting = [asyncio.create_task(book.commit(submission(n))) for n in range(1, 101)]
    counts = [0]
    while counts[-1] < 100:
        await asyncio.sleep(0)
        counts.append(len(book.ledger.tables.jobs))
    await asyncio.gather(*submitting)
    assert max(after - before for before, after in pairwise(counts)) < 10
    assert [job.rank for job in book.ledger.tables.jobs.values()] == list(range(1, 101))
    assert list(book.ledger.tables.jobs) == [f"me/job-{n}" for n in range(1, 101)]
    await book.close()


async def test_jobs_that_are_submitted_at_once_have_ids_and_names_of_their_own():
    """What a submission is given depends on what has been added by the time of its turn."""
    clock = BusyClock()
    book = await Book.open(MemoryStore(), clock)
    jobs = Jobs(book, Names(book, clock, 1), clock)
    answers = await asyncio.gather(*(jobs.submit(submission(n)) for n in range(1, 51)))
    assert len({job_id for (job_id,) in answers}) == 50
    numbers = [int(job_id[-2:], 16) for (job_id,) in answers]
    assert numbers == list(range(1, 51))
    await book.close()
