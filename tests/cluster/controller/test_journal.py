"""One suite for every store: what was appended survives a crash, and only one owner writes."""

import asyncio
import os
import stat

import pytest

from fray.cluster.controller.codec import encode_command, encode_tables
from fray.cluster.controller.commands import StopJob
from fray.cluster.controller.journal import (
    Entry,
    MemoryDisk,
    MemoryStore,
    SqliteStore,
    Store,
    recover,
)
from fray.errors import ClusterError
from fray.testing.disk import SimDisk
from fray.testing.store import SimStore

from .world import FAILED, World


def entry(revision: int) -> Entry:
    return Entry(revision, 1000.0 + revision, f'{{"n":{revision}}}'.encode())


@pytest.fixture(params=["memory", "sqlite", "sqlite-fast", "simulated"])
async def make(request, tmp_path):
    """Opens the same store again and again, as controllers do that follow each other."""
    disk = MemoryDisk()
    simulated = SimDisk("journal")
    opened: list[Store] = []

    def open_one() -> Store:
        if request.param == "memory":
            store = MemoryStore(disk)
        elif request.param == "simulated":
            store = SimStore(simulated)
        else:
            store = SqliteStore(tmp_path / "journal.db", power_safe=request.param == "sqlite")
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()


async def test_an_empty_store_recovers_nothing_and_counts_its_owners(make):
    store = make()
    recovered = await store.load()
    assert (recovered.generation, recovered.snapshot, recovered.entries) == (1, None, ())
    assert (await make().load()).generation == 2


async def test_what_was_appended_is_there_for_the_next_owner(make):
    store = make()
    await store.load()
    await store.append([entry(1), entry(2)])
    await store.append([entry(3)])
    assert (await make().load()).entries == (entry(1), entry(2), entry(3))


async def test_appends_that_wait_together_keep_the_order_of_their_calls(make):
    store = make()
    await store.load()
    await asyncio.gather(*(store.append([entry(n)]) for n in range(1, 101)))
    assert [e.revision for e in (await make().load()).entries] == list(range(1, 101))


async def test_a_snapshot_takes_the_place_of_what_it_covers(make):
    store = make()
    await store.load()
    await store.append([entry(n) for n in range(1, 6)])
    await store.snapshot(3, b"three")
    await store.append([entry(6)])
    recovered = await make().load()
    assert recovered.snapshot == b"three"
    assert [e.revision for e in recovered.entries] == [4, 5, 6]


async def test_a_journal_goes_on_after_a_snapshot_that_covers_all_of_it(make):
    store = make()
    await store.load()
    await store.append([entry(1), entry(2)])
    await store.snapshot(2, b"two")
    await store.snapshot(2, b"two again")
    store = make()
    assert (await store.load()).entries == ()
    await store.append([entry(3)])
    recovered = await make().load()
    assert (recovered.snapshot, recovered.entries) == (b"two again", (entry(3),))


async def test_a_snapshot_beyond_the_journal_is_refused(make):
    store = make()
    await store.load()
    await store.append([entry(1)])
    with pytest.raises(ClusterError, match="does not fit the journal"):
        await store.snapshot(2, b"future")
    assert (await make().load()).snapshot is None


async def test_a_new_owner_fences_the_old_one(make):
    old, new = make(), make()
    await old.load()
    await old.append([entry(1)])
    await new.load()
    with pytest.raises(ClusterError, match="taken over the journal"):
        await old.append([entry(2)])
    with pytest.raises(ClusterError, match="taken over the journal"):
        await old.snapshot(1, b"stale")
    await new.append([entry(2)])
    assert [e.revision for e in (await make().load()).entries] == [1, 2]


@pytest.mark.parametrize("revision", [1, 3, 0])
async def test_a_gap_or_a_repetition_is_refused_and_nothing_follows_it(make, revision):
    store = make()
    await store.load()
    await store.append([entry(1)])
    with pytest.raises(ClusterError, match="cannot follow"):
        await store.append([entry(revision)])
    with pytest.raises(ClusterError, match="keeps nothing more"):
        await store.append([entry(2)])
    assert (await store.load()).entries == (entry(1),)
    await store.append([entry(2)])


async def test_a_store_must_be_loaded_before_it_is_used(make):
    store = make()
    with pytest.raises(ClusterError, match="has not been loaded"):
        await store.append([entry(1)])
    with pytest.raises(ClusterError, match="has not been loaded"):
        await store.snapshot(0, b"")


async def test_a_cancelled_wait_undoes_nothing(make):
    store = make()
    await store.load()
    waiting = [asyncio.ensure_future(store.append([entry(n)])) for n in (1, 2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [e.revision for e in (await make().load()).entries] == [1, 2]


# The file -----------------------------------------------------------------------------------


async def test_the_file_is_for_its_owners_eyes_only(tmp_path):
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    await store.load()
    await store.append([entry(1)])
    for each in tmp_path.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
    await store.close()


async def test_appends_that_wait_together_share_commits(tmp_path):
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    await store.load()
    commits: list[str] = []

    def note(sql: str) -> None:
        if sql == "COMMIT":
            commits.append(sql)

    await store._run(lambda: store._db.set_trace_callback(note))
    await asyncio.gather(*(store.append([entry(n)]) for n in range(1, 201)))
    assert len(commits) < 20
    await store.close()


async def test_a_process_that_is_killed_loses_nothing_that_was_kept(tmp_path):
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    await store.load()
    await store.append([entry(1)])
    # As after kill -9: the files as they are now, without a closed connection.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for each in tmp_path.glob("journal.db*"):
        (crashed / each.name).write_bytes(each.read_bytes())
    await store.close()
    after = SqliteStore(crashed / "journal.db")
    assert (await after.load()).entries == (entry(1),)
    await after.close()


async def test_a_file_that_is_no_journal_is_told(tmp_path):
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is no database" * 100)
    store = SqliteStore(path)
    with pytest.raises(ClusterError, match=r"journal\.db failed: file is not a database"):
        await store.load()
    await store.close()


async def test_a_folder_that_is_not_there_is_told(tmp_path):
    store = SqliteStore(tmp_path / "nowhere" / "journal.db")
    with pytest.raises(ClusterError, match=r"journal\.db failed: .*No such file or directory"):
        await store.load()
    await store.close()
    await store.close()


async def test_a_full_disk_fails_those_who_wait_and_the_store_can_be_loaded_again(tmp_path):
    store = SqliteStore(tmp_path / "journal.db")
    await store.load()
    await store.append([entry(1)])
    await store._run(lambda: store._db.execute("PRAGMA max_page_count=1").fetchall())
    big = Entry(2, 0.0, os.urandom(1 << 20))
    with pytest.raises(ClusterError, match="keeps nothing more: database or disk is full"):
        await store.append([big])
    with pytest.raises(ClusterError, match="keeps nothing more"):
        await store.append([entry(2)])
    await store._run(lambda: store._db.execute("PRAGMA max_page_count=1000000").fetchall())
    assert (await store.load()).entries == (entry(1),)
    await store.append([big])
    await store.close()


async def test_a_snapshot_gives_room_back(tmp_path):
    path = tmp_path / "journal.db"
    store = SqliteStore(path, power_safe=False)
    await store.load()
    await store.append([Entry(n, 0.0, os.urandom(10_000)) for n in range(1, 301)])
    await store.snapshot(300, b"small")
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 300_000
    await store.close()


# Recovery -----------------------------------------------------------------------------------


def busy_world() -> World:
    world = World()
    world.host("a")
    world.start(world.spec("x", max_retries_failure=1))
    world.tell("u/x", 0, FAILED)
    world.schedule()
    return world


async def test_a_ledger_is_recovered_as_it_was(make):
    world, store = busy_world(), make()
    await store.load()
    await store.append(world.entries)
    ledger = recover(await make().load())
    assert ledger.tables == world.ledger.tables
    assert ledger.tables.indexes == world.ledger.tables.indexes


async def test_a_ledger_is_recovered_from_a_snapshot_and_what_followed(make):
    world, store = busy_world(), make()
    await store.load()
    await store.append(world.entries)
    await store.snapshot(world.ledger.revision, encode_tables(world.ledger.tables))
    done = len(world.entries)
    world.run("u/x")
    world.submit("y")
    await store.append(world.entries[done:])
    recovered = await make().load()
    assert recovered.snapshot is not None
    assert recover(recovered).tables == world.ledger.tables


async def test_a_journal_that_leads_elsewhere_is_told(make):
    store = make()
    await store.load()
    world = busy_world()
    await store.append(
        [world.entries[0], world.entries[1]._replace(command=world.entries[0].command)]
    )
    with pytest.raises(ClusterError, match="does not replay: its entry for revision 2 led to 1"):
        recover(await store.load())


async def test_a_command_that_fails_on_replay_is_told(make):
    store = make()
    await store.load()
    await store.append([Entry(1, 0.0, encode_command(StopJob("u/none", "")))])
    with pytest.raises(ClusterError, match="there is no job u/none"):
        recover(await store.load())
