"""Shipping what attempts print to the log archive, beside everything else that a host does.

Level-triggered: every few seconds the folder of logs is compared with what is in the archive, and
the difference is shipped. Beside each log lies a note of whose it is and how far that is
(`LogNote`), so that the next agent goes on where this one was; without it, it would begin anew,
which changes nothing but the time that it takes.

An attempt waits for none of this, nor does the host's conversation with its controller. If a task
prints faster than is shipped, the archive lacks what its log lacks. Nobody is kept waiting for an
archive that is away; what is there already stays, and the rest follows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.archive.layout import (
    ABOUT,
    ATTEMPT_BYTES_MAX,
    END,
    SEGMENT_BYTES,
    About,
    Ending,
    attempt_folder,
    packed,
    segment_path,
    surplus,
)
from fray.cluster.archive.marks import Marks
from fray.cluster.files import write_atomically
from fray.cluster.worker.logs import read_extent
from fray.errors import FrayError, PayloadError
from fray.ids import AttemptId
from fray.runtime.jsoncodec import json_dumps, json_loads

if TYPE_CHECKING:
    from fray.cluster.archive.store import Store
    from fray.runtime.clock import Clock

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Between two looks at the logs of this host."""

FLUSH_S = 5.0
"""How old output may become before it is shipped: what a host that dies takes along."""

RATE_BYTES_S = 8 << 20
"""How much a host ships, at most, before it is compressed."""

BURST_BYTES = 4 * SEGMENT_BYTES

RETRY_MAX_S = 60.0
"""Between two attempts to reach an archive that is away; they begin with `LOOK_S`."""

DRAIN_S = 10.0
"""How long a host that goes tries to ship the rest."""

ABOUT_S = 60.0
"""How often it is said again when what was printed: once a minute at most."""

KEEP_S = 86400.0
"""How long a log stays on its host after all of it was archived."""

NOTE_SUFFIX = ".ship"


@dataclass(frozen=True, slots=True)
class LogNote:
    """Whose log this is, and how much of it is in the archive.

    Attributes:
        attempt_id: Whose.
        segments: Where the archive's segments of it begin, ascending.
        shipped_bytes: Up to which offset all is there.
        complete_at: When the archive had all of it, the end included; None before. In seconds since
            1970.
        marks: See `Marks`.
    """

    attempt_id: AttemptId
    segments: tuple[int, ...] = ()
    shipped_bytes: int = 0
    complete_at: float | None = None
    marks: tuple[tuple[float, int], ...] = ()


def note_path(log_path: Path) -> Path:
    """Where the note of a log is.

    Args:
        log_path: The log.
    """
    return log_path.with_suffix(NOTE_SUFFIX)


def begin_note(log_path: Path, attempt_id: AttemptId) -> None:
    """Says whose a log will be, before there is one.

    Args:
        log_path: The log.
        attempt_id: Whose.

    Raises:
        OSError: It cannot be written.
    """
    log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    note_path(log_path).write_bytes(json_dumps(LogNote(attempt_id)))


def read_marks(log_path: Path) -> Marks:
    """When what of a log was printed, as far as that was noted.

    Args:
        log_path: The log.
    """
    try:
        return Marks(json_loads(note_path(log_path).read_bytes(), LogNote).marks)
    except (OSError, PayloadError):
        return Marks()


class Shipment:
    """One log on its way to the archive.

    Args:
        path: The log.
        note: How far it is.
    """

    def __init__(self, path: Path, note: LogNote) -> None:
        self.path = path
        self.note = note
        self.marks = Marks(note.marks)
        self._dirty_since: float | None = None
        self._about_at: float | None = None

    def __repr__(self) -> str:
        return f"<Shipment of {self.note.attempt_id} at {self.note.shipped_bytes}>"

    def size_bytes(self) -> int:
        """How much was printed so far."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def is_due(self, now: float, *, ended: bool) -> bool:
        """Whether there is something to ship that should not wait for more.

        Args:
            now: On the monotonic clock.
            ended: Whether nothing more will be printed.
        """
        fresh = self.size_bytes() - self.note.shipped_bytes
        if ended or fresh >= SEGMENT_BYTES:
            return True
        if fresh <= 0:
            return False
        if self._dirty_since is None:
            self._dirty_since = now
        return now - self._dirty_since >= FLUSH_S

    def next_segment(self) -> tuple[int, bytes] | None:
        """The segment to be written next, longer than it is in the archive; None for none."""
        at = self.note.shipped_bytes
        start = self.note.segments[-1] if self.note.segments else 0
        if at - start >= SEGMENT_BYTES:
            start = at
        extent = read_extent(self.path, start, SEGMENT_BYTES)
        if extent.data and extent.end <= at:  # before a hole: that segment is as long as it can be
            extent = read_extent(self.path, at, SEGMENT_BYTES)
        return (extent.start, extent.data) if extent.data and extent.end > at else None

    def shipped(self, start: int, length: int) -> None:
        """Notes that a segment is in the archive.

        Args:
            start: Where it begins.
            length: How long it is.
        """
        known = self.note.segments
        segments = known if known and known[-1] == start else (*known, start)
        self.note = replace(self.note, segments=segments, shipped_bytes=start + length)
        self._dirty_since = None

    def drop(self, starts: list[int]) -> None:
        """Notes that segments were removed from the archive.

        Args:
            starts: Where they began.
        """
        left = tuple(start for start in self.note.segments if start not in starts)
        self.note = replace(self.note, segments=left)

    def about_is_due(self, now: float) -> bool:
        """Whether it should be said again whose it is; then that counts as said.

        Args:
            now: On the monotonic clock.
        """
        if self._about_at is not None and now - self._about_at < ABOUT_S:
            return False
        self._about_at = now
        return True

    def save(self) -> None:
        """Remembers how far it is, for the next agent.

        Raises:
            OSError: It cannot be written.
        """
        self.note = replace(self.note, marks=self.marks.as_tuple())
        write_atomically(note_path(self.path), json_dumps(self.note))


class Shipper:
    """Ships the logs of a host.

    Args:
        logs: The folder of logs.
        host: The host's name.
        clock: The host's.
        runs: Whether an attempt may still print.
        find_store: Finds the archive; None where there is none.
        bytes_max: How much of an attempt's output the archive keeps.
        rate_bytes_s: How much is shipped, at most, before it is compressed.

    Attributes:
        shipped_bytes: How much was shipped so far.
        failures: How often the archive could not be reached.
    """

    def __init__(
        self,
        logs: Path,
        host: str,
        clock: Clock,
        *,
        runs: Callable[[AttemptId], bool],
        find_store: Callable[[], Awaitable[Store | None]],
        bytes_max: int = ATTEMPT_BYTES_MAX,
        rate_bytes_s: int = RATE_BYTES_S,
    ) -> None:
        self._logs = logs
        self._host = host
        self._clock = clock
        self._runs = runs
        self._find_store = find_store
        self._bytes_max = bytes_max
        self._rate_bytes_s = rate_bytes_s
        self._store: Store | None = None
        self._shipments: dict[Path, Shipment] = {}
        self._complete: dict[Path, float] = {}
        self._allowance = float(BURST_BYTES)
        self._allowed_at = clock.monotonic()
        self._round = asyncio.Lock()
        self._leaving = False
        self.shipped_bytes = 0
        self.failures = 0

    def __repr__(self) -> str:
        return f"<Shipper of {self._host}: {len(self._shipments)} logs>"

    @property
    def behind_bytes(self) -> int:
        """How much was printed and is not in the archive yet."""
        return sum(
            max(each.size_bytes() - each.note.shipped_bytes, 0) for each in self._shipments.values()
        )

    async def run(self) -> None:
        """Ships for ever; returns at once where there is no archive."""
        pause_s = LOOK_S
        while True:
            try:
                if self._store is None:
                    self._store = await self._find_store()
                    if self._store is None:
                        return
                await self._look(self._store)
                pause_s = LOOK_S
            except (FrayError, OSError) as exc:
                self.failures += 1
                if pause_s == LOOK_S:  # once for each time that it is away
                    log.warning("logs cannot be archived now, and will be later: %s", exc)
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            await self._clock.sleep(pause_s)

    async def drain(self) -> None:
        """Ships what is left, for a while: nothing runs here any more."""
        self._leaving = True
        if self._store is None:
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._look(self._store)
        except (FrayError, OSError, TimeoutError) as exc:
            log.warning("the end of some logs is not archived until this host is back: %s", exc)

    # ---- a look

    async def _look(self, store: Store) -> None:
        async with self._round:
            self._find_logs()
            now = self._clock.time()
            for path in [p for p, at in self._complete.items() if now - at > KEEP_S]:
                del self._complete[path]
                path.unlink(missing_ok=True)
                note_path(path).unlink(missing_ok=True)
            waiting = list(self._shipments.values())
            while waiting:  # a segment of each in turn: one that floods delays no other
                waiting = [each for each in waiting if await self._ship(store, each)]

    def _find_logs(self) -> None:
        for path in sorted(self._notes()):
            try:
                note = json_loads(note_path(path).read_bytes(), LogNote)
            except FileNotFoundError:
                continue
            except PayloadError:  # half written when the machine lost its power
                log.warning("%s says nothing: that log is not archived", note_path(path))
                note_path(path).unlink(missing_ok=True)
                continue
            if note.complete_at is None:
                self._shipments[path] = Shipment(path, note)
            else:
                self._complete[path] = note.complete_at

    def _notes(self) -> Iterator[Path]:
        """The logs that are new here."""
        for note in self._logs.glob(f"*{NOTE_SUFFIX}"):
            path = note.with_suffix(".log")
            if path not in self._shipments and path not in self._complete:
                yield path

    async def _ship(self, store: Store, shipment: Shipment) -> bool:
        """Ships one segment; gives whether there may be more to ship now."""
        attempt_id = shipment.note.attempt_id
        ended = self._leaving or not self._runs(attempt_id)  # before the look: then it is all
        if not shipment.is_due(self._clock.monotonic(), ended=ended):
            return False
        shipment.marks.add(self._clock.time(), shipment.size_bytes())
        folder = attempt_folder(attempt_id)
        segment = shipment.next_segment()
        if segment is None:
            if ended:
                await self._finish(store, shipment, folder)
            return False
        start, data = segment
        await self._allow(start + len(data) - shipment.note.shipped_bytes)
        if shipment.about_is_due(self._clock.monotonic()):
            await self._say_about(store, shipment, folder)
        await store.put(segment_path(folder, start), await asyncio.to_thread(packed, data))
        self.shipped_bytes += start + len(data) - max(shipment.note.shipped_bytes, start)
        shipment.shipped(start, len(data))
        gone = surplus(shipment.note.segments, self._bytes_max)
        if gone:
            await store.remove([segment_path(folder, each) for each in gone])
            shipment.drop(gone)
        shipment.save()
        return True

    async def _finish(self, store: Store, shipment: Shipment, folder: str) -> None:
        now = self._clock.time()
        await self._say_about(store, shipment, folder)
        ending = Ending(shipment.note.shipped_bytes, now)
        await store.put(f"{folder}/{END}", json_dumps(ending))
        shipment.note = replace(shipment.note, complete_at=now)
        shipment.save()
        del self._shipments[shipment.path]
        self._complete[shipment.path] = now

    async def _say_about(self, store: Store, shipment: Shipment, folder: str) -> None:
        about = About(shipment.note.attempt_id, self._host, shipment.marks.as_tuple())
        await store.put(f"{folder}/{ABOUT}", json_dumps(about))

    async def _allow(self, size_bytes: int) -> None:
        """Waits until so much more may be shipped."""
        now = self._clock.monotonic()
        refill = (now - self._allowed_at) * self._rate_bytes_s
        self._allowance = min(self._allowance + refill, float(BURST_BYTES)) - size_bytes
        self._allowed_at = now
        if self._allowance < 0:
            await self._clock.sleep(-self._allowance / self._rate_bytes_s)


__all__ = [
    "DRAIN_S",
    "FLUSH_S",
    "KEEP_S",
    "LOOK_S",
    "RATE_BYTES_S",
    "LogNote",
    "Shipment",
    "Shipper",
    "begin_note",
    "note_path",
    "read_marks",
]
