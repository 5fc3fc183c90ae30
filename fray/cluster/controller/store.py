"""Where a ledger's journal is kept: the seam, and the store without a file.

`Store` is the seam between a ledger's owner and a disk. `MemoryStore` forgets with its process: it
is for embedded clusters, and the disk of a simulated host. `sqlite_store` has the real one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fray.errors import ClusterError


class Entry(NamedTuple):
    """One command that changed something.

    Attributes:
        revision: Of the ledger after it.
        now: The time with which it was applied, in seconds since 1970.
        command: As `codec.encode_command` wrote it.
    """

    revision: int
    now: float
    command: bytes


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a store has.

    Attributes:
        generation: How often the store has been loaded, this time included: larger than that of
            every controller before.
        snapshot: The newest snapshot; None without one.
        entries: What came after it, in order.
    """

    generation: int
    snapshot: bytes | None
    entries: tuple[Entry, ...]


class Store(Protocol):
    """Keeps one ledger.

    At most one owner at a time: loading it fences every earlier one, whose appends fail from then
    on. After an append has failed every later one fails too, so that nothing has a gap; the owner
    starts anew.
    """

    async def load(self) -> Recovered:
        """Takes the store over, and gives all that was kept.

        Raises:
            ClusterError: It cannot be read.
        """
        ...

    async def append(self, entries: Sequence[Entry]) -> None:
        """Keeps entries: on return they survive a crash, or none of them was kept.

        Appends that wait at the same time are kept together and in the order of their calls.
        Cancelling the wait does not undo it.

        Args:
            entries: In order, the first one following what is there; at least one.

        Raises:
            ClusterError: They could not be kept, or somebody else has taken the store over.
        """
        ...

    async def snapshot(self, revision: int, data: bytes) -> None:
        """Keeps a snapshot in place of the entries up to it, all or nothing.

        Args:
            revision: Of the ledger; not beyond what was appended.
            data: As `codec.encode_tables` wrote it.

        Raises:
            ClusterError: It could not be kept, or somebody else has taken the store over.
        """
        ...

    async def close(self) -> None:
        """Ends this owner's use of it, after what it has appended is kept."""
        ...


@dataclass(slots=True)
class MemoryDisk:
    """What a `MemoryStore` keeps; it outlives the store as a disk outlives a process.

    Attributes:
        generation: How often it was loaded.
        snapshot: The newest snapshot.
        first: The revision of the first entry, or of the next one where there is none.
        entries: What came after the snapshot.
    """

    generation: int = 0
    snapshot: bytes | None = None
    first: int = 1
    entries: list[Entry] = field(default_factory=list[Entry])


class MemoryStore:
    """A store without a file.

    Args:
        disk: Where it keeps things; None: on a new one.
    """

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self._disk = disk or MemoryDisk()
        self._generation = 0
        self._broken = ""

    def __repr__(self) -> str:
        return f"<MemoryStore generation {self._generation}, {len(self._disk.entries)} entries>"

    async def load(self) -> Recovered:
        """See `Store.load`."""
        disk = self._disk
        disk.generation += 1
        self._generation = disk.generation
        self._broken = ""
        return Recovered(disk.generation, disk.snapshot, tuple(disk.entries))

    async def append(self, entries: Sequence[Entry]) -> None:
        """See `Store.append`."""
        try:
            self._check_owner()
            check_order(self._disk.first + len(self._disk.entries), entries)
        except ClusterError as exc:
            self._broken = str(exc)
            raise
        self._disk.entries.extend(entries)

    async def snapshot(self, revision: int, data: bytes) -> None:
        """See `Store.snapshot`."""
        self._check_owner()
        disk = self._disk
        done = revision - disk.first + 1
        if not 0 <= done <= len(disk.entries):
            raise ClusterError(f"a snapshot of revision {revision} does not fit the journal")
        del disk.entries[:done]
        disk.first = revision + 1
        disk.snapshot = data

    async def close(self) -> None:
        """See `Store.close`."""
        self._generation = 0

    def _check_owner(self) -> None:
        if self._broken:
            raise ClusterError(f"the journal keeps nothing more: {self._broken}")
        if not self._generation:
            raise ClusterError("the journal has not been loaded, or was closed")
        if self._generation != self._disk.generation:
            raise ClusterError("another controller has taken over the journal")


def check_order(following: int, entries: Sequence[Entry]) -> None:
    """Checks that entries continue a journal.

    Args:
        following: The revision that the first of them must have.
        entries: In order.

    Raises:
        ClusterError: They leave a gap, or repeat something.
    """
    for revision, entry in enumerate(entries, following):
        if entry.revision != revision:
            raise ClusterError(f"entry {entry.revision} cannot follow {revision - 1} in a journal")


__all__ = ["Entry", "MemoryDisk", "MemoryStore", "Recovered", "Store", "check_order"]
