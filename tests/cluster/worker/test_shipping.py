"""Shipping logs to the archive: all of it, in bounds, whatever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fray.cluster.archive.layout import (
    SEGMENT_BYTES,
    Entry,
    attempt_folder,
    segment_start,
)
from fray.cluster.archive.reader import ArchiveReader
from fray.cluster.archive.store import DirectoryStore
from fray.cluster.worker import shipping
from fray.cluster.worker.logs import LogWriter
from fray.cluster.worker.shim.system import HOLE_ALIGN_BYTES, punch_hole
from fray.cluster.worker.shipping import (
    FLUSH_S,
    LOOK_S,
    Shipper,
    begin_note,
    note_path,
    read_marks,
)
from fray.errors import ClusterUnavailable
from fray.ids import AttemptId

if TYPE_CHECKING:
    from fray.testing import Simulation

ATTEMPT = AttemptId("ann/train-7f3a/0#0")
OTHER = AttemptId("ann/train-7f3a/1#0")


class Faulty(DirectoryStore):
    """A directory that counts, and may be away."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.away = False
        self.puts: list[str] = []

    async def put(self, path: str, data: bytes) -> None:
        if self.away:
            raise ClusterUnavailable("the archive is away")
        self.puts.append(path)
        await super().put(path, data)

    async def list(self, folder: str) -> Sequence[Entry]:
        if self.away:
            raise ClusterUnavailable("the archive is away")
        return await super().list(folder)


class Host:
    """Logs, and which attempts run."""

    def __init__(self, tmp_path: Path, sim: Simulation) -> None:
        self.logs = tmp_path / "logs"
        self.store = Faulty(tmp_path / "archive")
        self.running: set[AttemptId] = set()
        self.sim = sim
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, attempt_id: AttemptId) -> LogWriter:
        path = self.logs / f"{attempt_folder(attempt_id).replace('/', '_')}.log"
        begin_note(path, attempt_id)
        self.running.add(attempt_id)
        return LogWriter(path)

    def agent(self, **options: int) -> Shipper:
        async def find() -> Faulty:
            return self.store

        shipper = Shipper(
            self.logs,
            "w1",
            self.sim.clock,
            runs=self.running.__contains__,
            find_store=find,
            **options,
        )
        self.tasks.append(asyncio.create_task(shipper.run()))
        return shipper

    async def kill_agent(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def archived(self, attempt_id: AttemptId = ATTEMPT) -> tuple[bytes, bool]:
        reader = ArchiveReader(self.store)
        data, offset = b"", 0
        while True:
            piece = await reader.read(attempt_id, offset, 1 << 20)
            data, offset = data + piece.data, piece.next_offset
            if not piece.data:
                return data, piece.end


@pytest.fixture
async def host(tmp_path: Path, sim: Simulation):
    made = Host(tmp_path, sim)
    yield made
    await made.kill_agent()


async def rounds(count: int = 1) -> None:
    await asyncio.sleep(count * LOOK_S + 0.5)


async def test_output_is_archived_while_it_is_printed_and_whole_at_the_end(host: Host):
    writer = host.begin(ATTEMPT)
    host.agent()
    writer.append(b"one\n")
    await asyncio.sleep(FLUSH_S + 2 * LOOK_S)
    assert await host.archived() == (b"one\n", False)
    writer.append(b"two\n")
    host.running.clear()
    await rounds()
    assert await host.archived() == (b"one\ntwo\n", True)


async def test_attempt_that_printed_nothing_ends_in_the_archive_too(host: Host):
    host.begin(ATTEMPT)
    host.running.clear()
    host.agent()
    await rounds()
    assert await host.archived() == (b"", True)


async def test_large_output_comes_in_segments_that_fit_together(host: Host):
    writer = host.begin(ATTEMPT)
    host.agent()
    printed = b"".join(b"%063d\n" % n for n in range(3 * SEGMENT_BYTES // 64 + 7))
    for at in range(0, len(printed), 100_000):
        writer.append(printed[at : at + 100_000])
        await asyncio.sleep(1.1)
    host.running.clear()
    await rounds()
    assert await host.archived() == (printed, True)
    segments = [e for e in await host.store.list("") if segment_start(e.path) is not None]
    assert len(segments) == 4


async def test_next_agent_goes_on_where_the_last_one_was_killed(host: Host):
    writer = host.begin(ATTEMPT)
    host.agent()
    printed = b"".join(b"%063d\n" % n for n in range(SEGMENT_BYTES // 64 + 9))
    writer.append(printed)
    await rounds(4)
    await host.kill_agent()
    puts = len(host.store.puts)
    writer.append(b"more\n")
    host.running.clear()
    host.agent()
    await rounds()
    assert await host.archived() == (printed + b"more\n", True)
    assert f"{attempt_folder(ATTEMPT)}/{0:020d}.gz" not in host.store.puts[puts:]


async def test_attempt_that_was_forgotten_while_no_agent_ran_is_finished_by_the_next_one(
    host: Host,
):
    host.begin(ATTEMPT).append(b"last words\n")
    host.running.clear()
    host.agent()
    await rounds()
    assert await host.archived() == (b"last words\n", True)


async def test_archive_that_is_away_delays_and_loses_nothing(host: Host):
    writer = host.begin(ATTEMPT)
    host.store.away = True
    shipper = host.agent()
    for n in range(10):
        writer.append(b"%d\n" % n)
        await asyncio.sleep(10)
    assert shipper.failures > 1
    assert shipper.behind_bytes == 20
    host.running.clear()
    host.store.away = False
    await asyncio.sleep(130)
    assert await host.archived() == (b"".join(b"%d\n" % n for n in range(10)), True)
    assert shipper.behind_bytes == 0


async def test_one_that_floods_delays_no_other(host: Host):
    flood, quiet = host.begin(ATTEMPT), host.begin(OTHER)
    flood.append(b"x" * (8 << 20))
    quiet.append(b"hello\n")
    host.running.discard(OTHER)
    begun = host.sim.clock.monotonic()
    host.agent(rate_bytes_s=1 << 20)
    await asyncio.sleep(1.0)
    assert await host.archived(OTHER) == (b"hello\n", True)
    host.running.clear()
    while not (await host.archived())[1]:
        await asyncio.sleep(0.5)
    assert host.sim.clock.monotonic() - begun > 7.0  # at no more than the rate


async def test_what_was_freed_on_the_host_is_a_gap_in_the_archive(host: Host):
    writer = host.begin(ATTEMPT)
    lines = b"".join(b"%063d\n" % n for n in range(3 * HOLE_ALIGN_BYTES // 64))
    writer.append(lines)
    if not punch_hole(writer.fileno(), HOLE_ALIGN_BYTES, 2 * HOLE_ALIGN_BYTES):
        pytest.skip("this file system cannot free the middle of a file")
    host.running.clear()
    host.agent()
    await rounds()
    data, end = await host.archived()
    assert end
    dropped = HOLE_ALIGN_BYTES + 64
    marker = b"[fray] %d bytes of output were dropped here to bound this log\n" % dropped
    head = lines[:HOLE_ALIGN_BYTES]
    assert data == head + marker + lines[2 * HOLE_ALIGN_BYTES + 64 :]


async def test_archive_of_one_attempt_is_bounded(host: Host):
    writer = host.begin(ATTEMPT)
    host.agent(bytes_max=8 * SEGMENT_BYTES)
    block = b"".join(b"%063d\n" % n for n in range(SEGMENT_BYTES // 64))
    for _ in range(20):
        writer.append(block)
        await asyncio.sleep(1.0)
    host.running.clear()
    await rounds(3)
    segments = [e for e in await host.store.list("") if segment_start(e.path) is not None]
    assert len(segments) <= 8
    data, end = await host.archived()
    assert end
    assert b"dropped here" in data
    assert data.startswith(block)


async def test_leaving_host_ships_the_rest(host: Host):
    writer = host.begin(ATTEMPT)
    shipper = host.agent()
    await rounds()
    writer.append(b"bye\n")
    await shipper.drain()
    assert await host.archived() == (b"bye\n", True)


async def test_log_leaves_its_host_long_after_it_was_archived_and_not_before(
    host: Host, monkeypatch: pytest.MonkeyPatch
):
    keep_s = 3600.0
    monkeypatch.setattr(shipping, "KEEP_S", keep_s)
    writer = host.begin(ATTEMPT)
    still = host.begin(OTHER)
    host.running.discard(ATTEMPT)
    host.agent()
    await asyncio.sleep(keep_s - 60)
    assert writer.path.exists()
    await asyncio.sleep(120)
    assert not writer.path.exists()
    assert not note_path(writer.path).exists()
    assert still.path.exists()


async def test_time_of_output_is_known_on_the_host_and_in_the_archive(host: Host):
    writer = host.begin(ATTEMPT)
    host.agent()
    writer.append(b"old\n")
    await asyncio.sleep(60)
    between = host.sim.clock.time()
    await asyncio.sleep(60)
    writer.append(b"new\n")
    host.running.clear()
    await rounds()
    assert read_marks(writer.path).offset_at(between) == 4
    assert await ArchiveReader(host.store).offset_at(ATTEMPT, between) == 4
