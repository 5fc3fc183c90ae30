from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.testing import SimDisk

if TYPE_CHECKING:
    from fray.testing import Simulation


def test_a_disk_is_a_mapping_from_names_to_contents():
    disk = SimDisk("s")
    disk["b"] = b"2"
    disk.append("a", b"1")
    disk.append("a", b"1")
    assert dict(disk) == {"a": b"11", "b": b"2"}
    assert list(disk) == ["a", "b"]
    assert (len(disk), disk.used_bytes) == (2, 3)
    assert "a" in disk
    assert disk.get("c") is None
    assert repr(disk) == "<SimDisk 2 files, 3 bytes, 2 dirty>"
    del disk["a"]
    with pytest.raises(KeyError):
        del disk["a"]
    with pytest.raises(FileNotFoundError):
        disk.read("a")
    assert disk.read("b") == b"2"
    assert disk.used_bytes == 1


def test_what_was_not_synced_is_lost_in_a_crash():
    disk = SimDisk("s")
    disk["kept"] = b"old"
    disk["deleted"] = b"still here"
    disk.flush()
    disk["kept"] = b"new"
    disk["lost"] = b"x"
    del disk["deleted"]
    assert disk.unsynced() == ["deleted", "kept", "lost"]
    disk.crash()
    assert dict(disk) == {"kept": b"old", "deleted": b"still here"}
    assert disk.used_bytes == 13
    assert disk.unsynced() == []


def test_a_file_is_cut_back_to_what_was_synced_of_it():
    disk = SimDisk("s")
    disk.append("journal", b"one ")
    disk.flush("journal")
    disk.append("journal", b"two ")
    disk.crash()
    assert disk["journal"] == b"one "
    disk.append("journal", b"three ")
    disk.flush("journal")
    disk.crash()
    assert disk["journal"] == b"one three "


def test_a_rename_replaces_a_file_wholly_or_not_at_all():
    disk = SimDisk("s")
    disk["state"] = b"old"
    disk.flush()
    disk["state.new"] = b"newer"
    disk.flush("state.new")
    disk.rename("state.new", "state")
    assert dict(disk) == {"state": b"newer"}
    assert disk.used_bytes == 5
    disk.crash()
    assert disk["state"] == b"old"
    disk.rename("state.new", "state")
    disk.flush()
    disk.crash()
    assert dict(disk) == {"state": b"newer"}
    with pytest.raises(FileNotFoundError):
        disk.rename("state.new", "state")


async def test_sync_takes_time_and_saves_what_there_was_when_it_began(sim: Simulation):
    disk = sim.disk("test")
    disk["f"] = b"before"
    syncing = asyncio.create_task(disk.sync("f"))
    await asyncio.sleep(0)
    disk.append("f", b" after")
    await syncing
    assert sim.loop.time() > 0
    disk.crash()
    assert disk["f"] == b"before"


async def test_a_crash_during_a_sync_comes_before_it(sim: Simulation):
    disk = sim.disk("test")
    disk["f"] = b"x"
    disk.sync_delay_s = (10, 20)
    syncing = asyncio.create_task(disk.sync())
    await asyncio.sleep(5)
    disk.crash()
    syncing.cancel()
    assert "f" not in disk


def test_a_torn_write_keeps_a_piece_from_the_start():
    lengths = set()
    for seed in range(200):
        disk = SimDisk(str(seed))
        disk.torn_writes = True
        disk.append("f", b"abc")
        disk.flush()
        disk.append("f", b"defg")
        disk["new"] = b"12"
        disk.crash()
        assert b"abcdefg".startswith(disk["f"])
        assert disk["f"].startswith(b"abc")
        assert disk.get("new", b"") in (b"", b"1", b"12")
        assert disk.used_bytes == len(disk["f"]) + len(disk.get("new") or b"")
        lengths.add(len(disk["f"]))
    assert lengths == {3, 4, 5, 6, 7}


def test_a_full_disk_and_a_broken_disk_say_so():
    disk = SimDisk("s")
    disk.capacity_bytes = 3
    disk["f"] = b"123"
    for write in (lambda: disk.append("f", b"4"), lambda: disk.write("g", b"1")):
        with pytest.raises(OSError) as caught:
            write()
        assert caught.value.errno == errno.ENOSPC
    disk["f"] = b"4"
    disk.fail()
    for change in (
        lambda: disk.write("f", b""),
        lambda: disk.rename("f", "g"),
        lambda: disk.__delitem__("f"),
        disk.flush,
    ):
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EIO
    disk.fail(None)
    disk.flush()


NAMES = st.sampled_from("ab")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "append"]), NAMES, st.binary(max_size=4)),
        st.tuples(st.sampled_from(["delete", "flush"]), NAMES, st.just(b"")),
        st.tuples(st.sampled_from(["crash", "flush all"]), st.just(""), st.just(b"")),
    )
)


@given(STEPS)
def test_a_disk_agrees_with_two_dictionaries(steps):
    disk, files, durable = SimDisk("s"), {}, {}
    for step, name, data in steps:
        if step == "write":
            disk[name] = files[name] = data
        elif step == "append":
            disk.append(name, data)
            files[name] = files.get(name, b"") + data
        elif step == "delete" and name in files:
            del disk[name], files[name]
        elif step == "flush":
            disk.flush(name)
            durable.pop(name, None)
            durable.update({name: files[name]} if name in files else {})
        elif step == "flush all":
            disk.flush()
            durable = dict(files)
        elif step == "crash":
            disk.crash()
            files = dict(durable)
        assert dict(disk) == files
        assert disk.used_bytes == sum(map(len, files.values()))
        assert set(disk.unsynced()) >= {
            name for name in files | durable if files.get(name) != durable.get(name)
        }
