"""The folders of a host's environments: each is whole or not there, in use or free to go.

A folder is being made until it has its marker; without one, after a crash, it is rubbish. The
marker's time is that of the last use, so that those which are used least can be told also by the
next agent. One that is in use never goes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.shelflimits import ShelfLimits
from fray.cluster.worker.shim import procfs

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

_READY = "ready.json"
_BUILDER = "builder.json"
_TRASH = "trash-"


@dataclass(slots=True)
class _Item:
    path: Path
    size_bytes: int
    used_at: float


class Shelf:
    """The folders below one. Belongs to one agent, and to its loop but where said otherwise.

    Args:
        folder: Where they are; made at `recover`.
        clock: The host's.
        limits: How much is kept.

    Attributes:
        limits: As given; may be changed.
    """

    def __init__(self, folder: Path, clock: Clock, limits: ShelfLimits | None = None) -> None:
        self._folder = folder
        self._clock = clock
        self.limits = limits or ShelfLimits()
        self._items: dict[str, _Item] = {}
        self._holders: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<Shelf {self._folder}: {len(self._items)} folders>"

    def recover(self) -> None:
        """Finds what earlier agents have left; what is not whole goes. Blocks.

        Raises:
            OSError: The folder cannot be made or read.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            try:
                known = json.loads((path / _READY).read_bytes())
                item = _Item(path, known["size_bytes"], (path / _READY).stat().st_mtime)
                self._items[known["key"]] = item
            except (OSError, ValueError, KeyError):
                _end_builder(path)
                remove([path])

    def new(self, name: str) -> Path:
        """An empty folder in which something is made.

        Args:
            name: Of what; the folder's name begins so.

        Raises:
            OSError: It cannot be made.
        """
        path = self._folder / f"{name}.{self._clock.token(4)}"
        path.mkdir(mode=0o700)
        return path

    def finish(self, key: str, path: Path, size_bytes: int) -> None:
        """Says that a folder is whole.

        Args:
            key: By which it is found from now on.
            path: As `new` gave it.
            size_bytes: What is in it.

        Raises:
            OSError: The marker cannot be written.
        """
        (path / _BUILDER).unlink(missing_ok=True)
        beside = path / f"{_READY}.new"
        beside.write_text(json.dumps({"key": key, "size_bytes": size_bytes}))
        beside.replace(path / _READY)
        self._items[key] = _Item(path, size_bytes, 0.0)
        self.find(key)

    def find(self, key: str) -> Path | None:
        """The folder with a key, which is used now; None where there is none.

        Args:
            key: As it was given to `finish`.
        """
        item = self._items.get(key)
        if item is None:
            return None
        item.used_at = self._clock.time()
        try:
            os.utime(item.path / _READY, (item.used_at, item.used_at))
        except FileNotFoundError:  # somebody has removed it by hand
            del self._items[key]
            return None
        return item.path

    def hold(self, key: str, holder: str) -> None:
        """Keeps a folder from going, also one that is still being made.

        Args:
            key: Of the folder.
            holder: Who uses it.
        """
        self._holders.setdefault(key, set()).add(holder)

    def release(self, holder: str) -> None:
        """Somebody uses nothing any more.

        Args:
            holder: Who.
        """
        for key in [key for key, holders in self._holders.items() if holder in holders]:
            self._holders[key].discard(holder)
            if not self._holders[key]:
                del self._holders[key]
                self.find(key)  # its last use was now

    def take_out(self) -> list[Path]:
        """Takes the least recently used out until the rest is within the limits.

        Returns:
            Folders that are to be removed, which takes a while: see `remove`.
        """
        gone: list[Path] = []
        free = [key for key in self._items if key not in self._holders]
        free.sort(key=lambda key: self._items[key].used_at, reverse=True)
        while free and not self._is_within():
            item = self._items.pop(free.pop())
            trash = self._folder / f"{_TRASH}{self._clock.token(4)}"
            item.path.rename(trash)  # at once: nobody finds half of it
            (trash / _READY).unlink(missing_ok=True)
            gone.append(trash)
        return gone

    def _is_within(self) -> bool:
        total = sum(item.size_bytes for item in self._items.values())
        return len(self._items) <= self.limits.count_max and total <= self.limits.size_bytes_max


def note_builder(path: Path, pid: int) -> None:
    """Writes down who works in a folder: if this agent is killed, its successor ends them.

    Args:
        path: The folder.
        pid: The leader of a process group.

    Raises:
        OSError: It cannot be written.
    """
    found = procfs.read_stat(pid)
    if found is not None:
        record = {"pid": pid, "start_time": found.start_time, "boot_id": procfs.boot_id()}
        (path / _BUILDER).write_text(json.dumps(record))


def _end_builder(path: Path) -> None:
    try:
        record = json.loads((path / _BUILDER).read_bytes())
    except (OSError, ValueError):
        return
    found = procfs.read_stat(record["pid"])
    same = found is not None and found.start_time == record["start_time"]
    if same and record["boot_id"] == procfs.boot_id():
        try:
            os.killpg(record["pid"], signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it has ended just now
            return


def remove(paths: Iterable[Path]) -> None:
    """Removes folders, as far as that is possible: the next agent tries again. Blocks.

    Args:
        paths: The folders.
    """
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """The bytes of all files in a folder. Blocks.

    Args:
        path: The folder.
    """
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total


__all__ = [
    "Shelf",
    "note_builder",
    "remove",
    "size_of",
]
