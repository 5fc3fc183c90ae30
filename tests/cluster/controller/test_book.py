"""The book: what it tells is durable, in order, and told though the asker has gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import RegisterWorker
from fray.cluster.controller.fleet import Fleet
from fray.cluster.controller.journal import MemoryDisk, MemoryStore
from fray.cluster.controller.specs import WorkerSpec
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
    fleet = Fleet(book, SystemClock())
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
    await book.close()


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
