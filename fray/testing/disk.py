"""Disks of simulated hosts, which forget what was not synced.

A write goes to the operating system's memory. It survives the crash of the process that wrote it,
but not that of the host, unless it was synced before. That is the difference on which every journal
stands, and the one that tests on a real machine cannot show.

The disk belongs to the host: it outlives processes and reboots. It knows nothing of the network.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field

SYNC_DELAY_S = (0.001, 0.01)
"""How long a sync takes: a fast SSD to a slow network disk. Uniform between the two."""


@dataclass(slots=True, eq=False)
class _Inode:
    """Contents that only grow; replacing a file's contents makes a new one."""

    data: bytearray = field(default_factory=bytearray)
    synced: int = 0
    """So many bytes from the start survive a crash, where a durable name leads here."""


class SimDisk(MutableMapping[str, bytes]):
    """Files by name, as a mapping from name to contents.

    Reading and writing take no time, syncing does. All of it is for the host's own processes;
    that a crashed process writes nothing any more follows from its never running again.

    Args:
        seed: Decides how long syncs take, and what is torn in a crash.
        note: Told of syncs and losses, for the trace.

    Attributes:
        capacity_bytes: Writing beyond it raises ``ENOSPC``; None for no limit.
        used_bytes: The length of all files.
        sync_delay_s: Shortest and longest time that `sync` takes; change it for a slow disk.
        torn_writes: Whether a crash may keep part of what was not synced: a seeded length of what
            was appended, and the old contents or part of the new where they were replaced.
            Otherwise a crash keeps none of it.
    """

    def __init__(self, seed: str, note: Callable[[str], None] | None = None) -> None:
        self._random = random.Random(f"{seed}/disk")
        self._note = note or _ignore
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._failing: int | None = None
        self.capacity_bytes: int | None = None
        self.used_bytes = 0
        self.sync_delay_s = SYNC_DELAY_S
        self.torn_writes = False

    def __repr__(self) -> str:
        return f"<SimDisk {len(self)} files, {self.used_bytes} bytes, {len(self.unsynced())} dirty>"

    # ---- files

    def __getitem__(self, name: str) -> bytes:
        return bytes(self._names[name].data)

    def __setitem__(self, name: str, data: bytes) -> None:
        self.write(name, data)

    def __delitem__(self, name: str) -> None:
        self._check()
        self.used_bytes -= len(self._names.pop(name).data)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def read(self, name: str) -> bytes:
        """The contents of a file.

        Args:
            name: Which file.

        Raises:
            FileNotFoundError: There is none; as a mapping the disk raises `KeyError` instead.
        """
        return bytes(self._inode(name).data)

    def write(self, name: str, data: bytes) -> None:
        """Replaces the contents of a file, making it where needed. Not durable until synced.

        Args:
            name: Which file.
            data: Its whole new contents.

        Raises:
            OSError: The disk is full or fails.
        """
        old = self._names.get(name)
        self._grow(len(data) - (len(old.data) if old is not None else 0))
        self._names[name] = _Inode(bytearray(data))

    def append(self, name: str, data: bytes) -> None:
        """Writes at the end of a file, making it where needed. Not durable until synced.

        Args:
            name: Which file.
            data: What to add.

        Raises:
            OSError: The disk is full or fails.
        """
        self._grow(len(data))
        self._names.setdefault(name, _Inode()).data.extend(data)

    def rename(self, old: str, new: str) -> None:
        """Renames a file, replacing another. Atomic; not durable until `new` is synced.

        Args:
            old: Its present name.
            new: Its new name.

        Raises:
            OSError: There is no such file, or the disk fails.
        """
        self._check()
        inode = self._inode(old)
        del self._names[old]
        replaced = self._names.get(new)
        self.used_bytes -= len(replaced.data) if replaced is not None else 0
        self._names[new] = inode

    def _inode(self, name: str) -> _Inode:
        try:
            return self._names[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", name) from None

    # ---- durability

    async def sync(self, *names: str) -> None:
        """Makes files durable as they are now. Takes virtual time.

        If the host crashes meanwhile they are not durable; cancelling leaves them so, too.

        Args:
            *names: Which files, also deleted ones; none for all, with all renames and deletions.

        Raises:
            OSError: The disk fails; the files are not durable then.
        """
        state = self._state(names)
        await asyncio.sleep(self._random.uniform(*self.sync_delay_s))
        self._make_durable(state)

    def flush(self, *names: str) -> None:
        """What `sync` does, at once: for code that cannot wait.

        Args:
            *names: See `sync`.

        Raises:
            OSError: The disk fails.
        """
        self._make_durable(self._state(names))

    def unsynced(self) -> list[str]:
        """The files that a crash of the host would change."""
        return [
            name
            for name, inode, length in self._state(())
            if inode is not self._durable_names.get(name)
            or (inode is not None and inode.synced != length)
        ]

    def _state(self, names: tuple[str, ...]) -> list[tuple[str, _Inode | None, int]]:
        chosen = names or sorted(self._names.keys() | self._durable_names.keys())
        inodes = [(name, self._names.get(name)) for name in chosen]
        return [(name, node, len(node.data) if node is not None else 0) for name, node in inodes]

    def _make_durable(self, state: list[tuple[str, _Inode | None, int]]) -> None:
        self._check()
        for name, inode, length in state:
            if inode is None:
                self._durable_names.pop(name, None)
            else:
                inode.synced = max(inode.synced, length)
                self._durable_names[name] = inode
        self._note(f"synced {' '.join(name for name, _, _ in state)}")

    # ---- faults

    def fail(self, code: int | None = errno.EIO) -> None:
        """From now on every change raises `OSError`.

        Args:
            code: The error number; None heals the disk.
        """
        self._failing = code

    def crash(self) -> None:
        """The host lost power: only what was synced is left. The simulation calls it."""
        lost = self.unsynced()
        names = dict(self._durable_names)
        for name in lost if self.torn_writes else ():
            newest = self._names.get(name)
            if newest is not None and self._random.random() < 0.5:
                newest.synced = self._random.randint(newest.synced, len(newest.data))
                names[name] = newest
        for inode in names.values():
            del inode.data[inode.synced :]
        self._names = names
        self._durable_names = dict(names)
        self.used_bytes = sum(len(inode.data) for inode in names.values())
        if lost:
            self._note(f"lost what was not synced of {' '.join(lost)}")

    def _grow(self, nbytes: int) -> None:
        self._check()
        if self.capacity_bytes is not None and self.used_bytes + nbytes > self.capacity_bytes:
            raise OSError(errno.ENOSPC, "no space left on the simulated disk")
        self.used_bytes += nbytes

    def _check(self) -> None:
        if self._failing is not None:
            raise OSError(self._failing, "the simulated disk fails")


def _ignore(event: str) -> None:
    """Who watches a disk that nobody traces."""


__all__ = ["SYNC_DELAY_S", "SimDisk"]
