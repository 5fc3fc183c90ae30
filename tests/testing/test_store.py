"""The journal on a simulated disk: what was acknowledged survives the loss of power."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import pytest

from fray.cluster.controller.store import Entry
from fray.errors import ClusterError
from fray.testing import SimDisk, simulate
from fray.testing.store import ENTRIES, SimStore

if TYPE_CHECKING:
    from fray.testing import Simulation


def entry(revision: int) -> Entry:
    return Entry(revision, float(revision), b'{"n":%d}' % revision)


def test_what_was_acknowledged_survives_a_loss_of_power_and_no_torn_end_is_read():
    async def main(sim: Simulation) -> None:
        disk = sim.disk("test")
        disk.torn_writes = True
        acknowledged = 0

        async def write(store: SimStore, revision: int) -> None:
            nonlocal acknowledged
            await store.append([entry(revision)])
            acknowledged = max(acknowledged, revision)

        store = SimStore(disk)
        await store.load()
        async with asyncio.TaskGroup() as group:
            tasks = []
            for revision in range(1, 30):
                tasks.append(group.create_task(write(store, revision)))
                await asyncio.sleep(sim.clock.random.random() / 100)
                if revision == 20:
                    await store.snapshot(acknowledged, b"so far")
            for task in tasks:
                task.cancel()
        disk.crash()
        recovered = await SimStore(disk).load()
        kept = [each.revision for each in recovered.entries]
        first = kept[0] if kept else acknowledged + 1
        assert kept == list(range(first, first + len(kept)))
        assert first + len(kept) > acknowledged

    for seed in range(30):
        simulate(seed, main)


async def test_appends_that_wait_together_share_a_sync():
    synced: list[str] = []
    store = SimStore(SimDisk("x", synced.append))
    await store.load()
    synced.clear()
    await asyncio.gather(*(store.append([entry(n)]) for n in range(1, 101)))
    assert len(synced) <= 2


async def test_a_failing_disk_breaks_the_store_until_it_is_loaded_again():
    disk = SimDisk("x")
    store = SimStore(disk)
    await store.load()
    await store.append([entry(1)])
    disk.fail(errno.ENOSPC)
    with pytest.raises(ClusterError):
        await store.append([entry(2)])
    disk.fail(None)
    with pytest.raises(ClusterError, match="keeps nothing more"):
        await store.append([entry(2)])
    assert (await store.load()).entries == (entry(1),)
    await store.append([entry(2)])


async def test_a_damaged_line_ends_the_journal():
    disk = SimDisk("x")
    store = SimStore(disk)
    await store.load()
    await store.append([entry(n) for n in (1, 2, 3)])
    disk.write(ENTRIES, disk[ENTRIES].replace(b'n\\":2', b'n\\":7'))
    assert (await store.load()).entries == (entry(1),)
