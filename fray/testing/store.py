"""The ledger's journal on a simulated disk, which may be slow, full, broken, or lose power.

It does for `fray.testing.disk` what the SQLite store does for a real one, and passes the same
tests. Nobody hears of a change before it is synced; a torn end of the journal, which nobody can
have heard of, is cut off when the next controller takes it over.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import TYPE_CHECKING

from fray.cluster.controller.store import Entry, Recovered, check_order
from fray.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fray.testing.disk import SimDisk

OWNER = "journal/owner"
ENTRIES = "journal/entries"
SNAPSHOT = "journal/snapshot"


class SimStore:
    """Keeps a ledger on the disk of a simulated host; see `fray.cluster.controller.store.Store`.

    Args:
        disk: The disk.
        note: Told of each entry that was kept, for the trace.
    """

    def __init__(self, disk: SimDisk, note: Callable[[str], None] | None = None) -> None:
        self._disk = disk
        self._note = note or _ignore
        self._generation = 0
        self._broken = ""
        self._next = 1  # the revision of the next entry
        self._durable = 0  # the last revision that survives a crash
        self._first = 1  # the revision of the first entry in the file
        self._syncing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<SimStore generation {self._generation}, next entry {self._next}>"

    async def load(self) -> Recovered:
        """See `Store.load`."""
        disk = self._disk
        try:
            self._generation = self._owner() + 1
            disk.append(OWNER, b"\n%d\n" % self._generation)
            revision, snapshot = self._read_snapshot()
            kept = disk.get(ENTRIES, b"")
            entries, whole = _read_entries(kept)
            if whole != kept:
                await self._replace(ENTRIES, lambda: whole)
            await disk.sync(OWNER, ENTRIES)
        except OSError as exc:
            raise ClusterError(f"the journal cannot be read: {exc}") from exc
        self._broken = ""
        entries = [entry for entry in entries if entry.revision > revision]
        check_order(revision + 1, entries)
        self._first = revision + 1
        self._next = self._first + len(entries)
        self._durable = self._next - 1
        return Recovered(self._generation, snapshot, tuple(entries))

    async def append(self, entries: Sequence[Entry]) -> None:
        """See `Store.append`. Appends that wait together share a sync."""
        try:
            self._check_owner()
            check_order(self._next, entries)
            self._disk.append(ENTRIES, b"".join(_line(entry) for entry in entries))
            self._next = last = self._next + len(entries)
            async with self._syncing:
                if self._durable < last - 1:
                    written = self._next - 1
                    await self._disk.sync(ENTRIES)
                    self._durable = written
        except (ClusterError, OSError) as exc:
            self._broken = self._broken or str(exc)
            raise ClusterError(str(exc)) from exc
        for entry in entries:
            self._note(f"journal {entry.revision}: {json.loads(entry.command).get('type')}")

    async def snapshot(self, revision: int, data: bytes) -> None:
        """See `Store.snapshot`. A crash in between leaves the old one with all its entries."""
        self._check_owner()
        if not self._first - 1 <= revision < self._next:
            raise ClusterError(f"a snapshot of revision {revision} does not fit the journal")
        try:
            async with self._syncing:
                await self._replace(SNAPSHOT, lambda: f"{revision}\n".encode() + data)
                written = self._next - 1
                await self._replace(ENTRIES, lambda: self._entries_after(revision))
                self._durable = max(self._durable, written)
        except OSError as exc:
            self._broken = str(exc)
            raise ClusterError(f"the snapshot could not be kept: {exc}") from exc
        self._first = revision + 1

    async def close(self) -> None:
        """See `Store.close`."""
        self._generation = 0

    def _read_snapshot(self) -> tuple[int, bytes | None]:
        head, found, data = self._disk.get(SNAPSHOT, b"").partition(b"\n")
        return (int(head), data) if found else (0, None)

    def _entries_after(self, revision: int) -> bytes:
        entries, _ = _read_entries(self._disk[ENTRIES])
        return b"".join(_line(entry) for entry in entries if entry.revision > revision)

    async def _replace(self, name: str, contents: Callable[[], bytes]) -> None:
        """Replaces a file; a crash in between leaves all of the old one.

        The contents may grow at their end meanwhile.
        """
        disk, new = self._disk, f"{name}.new"
        data = contents()
        disk.write(new, data)
        await disk.sync(new)
        disk.append(new, contents()[len(data) :])
        disk.rename(new, name)
        await disk.sync(name, new)

    def _owner(self) -> int:
        """Who took it over last. Of one that lost its power meanwhile a part may be there."""
        return max((int(each) for each in self._disk.get(OWNER, b"").split()), default=0)

    def _check_owner(self) -> None:
        if self._broken:
            raise ClusterError(f"the journal keeps nothing more: {self._broken}")
        if not self._generation:
            raise ClusterError("the journal has not been loaded, or was closed")
        if self._owner() != self._generation:
            raise ClusterError("another controller has taken over the journal")


def _ignore(event: str) -> None:
    """Nobody wants to know."""


def _line(entry: Entry) -> bytes:
    text = json.dumps([entry.revision, entry.now, entry.command.decode()]).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read_entries(data: bytes) -> tuple[list[Entry], bytes]:
    """What is whole of a journal: as entries, and as bytes."""
    entries: list[Entry] = []
    length = 0
    for line in data.splitlines(keepends=True):
        checksum, _, text = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
            break
        revision, now, command = json.loads(text)
        entries.append(Entry(revision, now, command.encode()))
        length += len(line)
    return entries, data[:length]


__all__ = ["ENTRIES", "OWNER", "SNAPSHOT", "SimStore"]
