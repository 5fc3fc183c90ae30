"""The scheduler's loop: large plans are taken in parts, and the controller answers meanwhile."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from fray.actor.directory import ActorKey, Endpoint
from fray.cluster.control import NameClaim
from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import GroupSpec, RegisterWorker, SubmitJobs
from fray.cluster.controller.invariants import violations
from fray.cluster.controller.journal import Entry, MemoryDisk, MemoryStore, Recovered, recover
from fray.cluster.controller.names import Names
from fray.cluster.controller.scheduler import TASKS_AT_ONCE, Scheduler, parts_of
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import Resources
from fray.cluster.scheduling.plan import Assignment, Placement
from fray.runtime.clock import SystemClock
from fray.runtime.tasks import Scope

from .world import GIB, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GANGS, LONE = 25, 200


def assignment(name: str, tasks: int) -> Assignment:
    places = tuple(Placement(f"u/{name}", index, 0, "w") for index in range(tasks))
    return Assignment(f"gang:{name}", places)


def test_parts_of_a_plan_hold_whole_units_in_their_order():
    made = [assignment(f"g{n}", 1 + n * 7 % 13) for n in range(40)]
    parts = parts_of(made)
    assert [each for part in parts for each in part] == made
    for part in parts:
        assert len(part) == 1 or sum(len(e.placements) for e in part) <= TASKS_AT_ONCE


def test_a_plan_without_assignments_has_one_part():
    assert parts_of(()) == [()]


@pytest.fixture
async def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
async def book(disk: MemoryDisk) -> AsyncIterator[Book]:
    """A cluster with room for all that is submitted: gangs, groups, and tasks on their own."""
    made = await Book.open(MemoryStore(disk), SystemClock())
    world = World()
    for number in range(GANGS):
        for host in world.slice(f"s{number}"):
            await made.commit(RegisterWorker(world.ledger.tables.workers[host].spec, "b1"))
    for number in range(20):
        capacity = Resources(64_000, 64 * GIB, 512 * GIB)
        await made.commit(RegisterWorker(WorkerSpec(f"h{number}", f"h{number}:1", capacity), "b1"))
    for number in range(GANGS):
        gang = world.spec(f"gang-{number}", ResourceConfig.with_tpu("v5litepod-16"))
        await made.commit(SubmitJobs(f"g-{number}", (gang,)))
    for number in range(LONE // 10):
        lone = world.spec(f"lone-{number}", ResourceConfig(cpu=1, ram="1g", replicas=10))
        await made.commit(SubmitJobs(f"l-{number}", (lone,)))
    for number in range(10):
        members = tuple(
            world.spec(f"group-{number}-{member}", ResourceConfig(cpu=1, ram="1g", replicas=7))
            for member in range(3)
        )
        await made.commit(SubmitJobs(f"group-{number}", members, GroupSpec(f"group-{number}")))
    yield made
    await made.close()


TASKS = GANGS * 4 + LONE + 10 * 3 * 7


async def until_placed(book: Book) -> None:
    async with Scope("test") as scope:
        scope.spawn(Scheduler(book, SystemClock()).run(), name="scheduler")
        placed = book.ledger.tables.attempts
        assert await book.changed.until(lambda: len(placed) == TASKS, 30.0), len(placed)


async def test_after_a_crash_between_two_parts_every_gang_and_group_is_whole(book, disk):
    before = len(disk.entries)
    await until_placed(book)
    kept = list(disk.entries)
    assert len(kept) - before > TASKS / (4 * TASKS_AT_ONCE)  # it was taken in many parts
    torn = 0
    for crash in range(before, len(kept) + 1):
        tables = recover(Recovered(1, disk.snapshot, tuple(kept[:crash]))).tables
        assert violations(tables) == []
        for name, gang in tables.gangs.items():
            live = [a for a in tables.attempts.values() if a.job_id == gang.job_id]
            assert len(live) in (0, gang.size), name
        for name, group in tables.groups.items():
            live = [a for a in tables.attempts.values() if a.job_id in group.job_ids]
            assert len(live) in (0, 21), name
            assert group.admitted == bool(live)
        torn += 0 < len(tables.attempts) < TASKS
    assert torn > 10


async def test_who_starts_after_a_crash_between_two_parts_places_the_rest(book, disk):
    before = len(disk.entries)
    await until_placed(book)
    half: list[Entry] = disk.entries[: (before + len(disk.entries)) // 2]
    again = await Book.open(MemoryStore(MemoryDisk(1, None, 1, half)), SystemClock())
    assert 0 < len(again.ledger.tables.attempts) < TASKS
    await until_placed(again)
    assert violations(again.ledger.tables) == []
    await again.close()


async def test_look_ups_are_answered_between_the_parts_of_a_large_plan(book):
    names = Names(book, SystemClock(), book.generation)
    endpoint = Endpoint("a-1", 1, "p-1", "10.0.0.1:1")
    await names.register(NameClaim("ns", "model", endpoint, True, "u/x/0", 1, 3600.0))
    placed = book.ledger.tables.attempts
    counts: list[int] = []

    async def look_up() -> None:
        while len(placed) < TASKS:
            found = await names.locate(ActorKey("ns", name="model"), wait_s=0.0)
            assert found.endpoints == (endpoint,)
            if 0 < len(placed) < TASKS:
                counts.append(len(placed))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look_up())
    await until_placed(book)
    await looking
    # Never did more come between two answers than one part, or one group, which is not divided.
    steps = [after - before for before, after in pairwise(counts)]
    assert len(set(counts)) > 20
    assert max(steps) <= max(TASKS_AT_ONCE, 21)
