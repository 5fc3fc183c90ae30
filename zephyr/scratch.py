"""Folders of runs: marked with their owner, so that what a driver that was killed has left can go.

A driver marks its folder before anything is stored there. A later one removes the folders of owners
that are certainly dead: processes of this very machine, since it was started, that are not there
any more. Whatever it knows nothing about (a driver on another machine or in another container, a
folder without a mark) it leaves alone.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache

from zephyr.files import filesystem, join, local_path, protocol_of, remove_tree, write_bytes

PREFIX = "zephyr-"
MARK = "owner.json"

_log = logging.getLogger("zephyr")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, unlike any other one.

    Attributes:
        machine: This start of its machine.
        namespace: In which its number means something: a container has its own.
        user: Whose it is: a machine may hide processes from other users.
        pid: Its number there.
        started: When it was started, in ticks since the start of the machine: numbers are reused.
    """

    machine: str
    namespace: str
    user: int
    pid: int
    started: int


def is_dead(owner: Owner, here: Owner, started_of: Callable[[int], int | None]) -> bool:
    """Whether an owner is certainly dead.

    Args:
        owner: The owner.
        here: The process that wants to know.
        started_of: When the process of a number was started, None if there is none.
    """
    if (owner.machine, owner.namespace, owner.user) != (here.machine, here.namespace, here.user):
        return False
    return started_of(owner.pid) != owner.started


def claim(folder: str) -> None:
    """Makes a folder this process's own.

    Args:
        folder: The path or URL; it is made.
    """
    owner = _this_process()
    mark = {} if owner is None else asdict(owner)
    write_bytes(join(folder, MARK), json.dumps(mark).encode())


@lru_cache
def remove_abandoned(root: str) -> None:
    """Removes folders of dead owners; the first time that this process is asked for it.

    Args:
        root: Where folders of runs are, a path or URL.
    """
    here = _this_process()
    if here is None:
        return
    try:
        found = _claimed(root)
    except Exception as exc:  # a store may let it write, and not look
        _log.info("cannot look for what drivers that were killed have left in %s: %s", root, exc)
        return
    for folder, content in found:
        owner = _owner_of(content)
        if owner is not None and is_dead(owner, here, _started_of):
            _log.info("removing %s, whose driver was killed", folder)
            remove_tree(folder)


def _claimed(root: str) -> list[tuple[str, bytes]]:
    """The folders of runs that have a mark, and that."""
    local = local_path(root)
    if local is not None:
        return _claimed_here(local)
    fs, within = filesystem(root)
    fs.invalidate_cache(within)
    try:
        names = [path.rstrip("/").rpartition("/")[2] for path in fs.ls(within, detail=False)]
    except FileNotFoundError:
        return []
    marks = [join(within, name, MARK) for name in names if name.startswith(PREFIX)]
    found: dict[str, bytes] = fs.cat(marks, on_error="omit") if marks else {}
    scheme = protocol_of(root)
    return [
        (f"{scheme}://{path.lstrip('/').removesuffix('/' + MARK)}", content)
        for path, content in found.items()
    ]


def _claimed_here(root: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    try:
        with os.scandir(root) as entries:
            folders = [
                each.path
                for each in entries
                if each.name.startswith(PREFIX) and each.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    for folder in folders:
        try:
            if os.stat(folder).st_uid == os.getuid():
                with open(os.path.join(folder, MARK), "rb") as mark:
                    found.append((folder, mark.read()))
        except OSError:  # it has no mark, or is just being removed
            continue
    return found


def _owner_of(mark: bytes) -> Owner | None:
    """Who wrote a mark; None for whatever else it may be."""
    try:
        return Owner(**json.loads(mark))
    except (ValueError, TypeError):
        return None


def _this_process() -> Owner | None:
    """Who this process is; None where a machine does not tell, as only Linux does."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            machine = file.read().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    pid = os.getpid()
    started = _started_of(pid)
    return None if started is None else Owner(machine, namespace, os.getuid(), pid, started)


def _started_of(pid: int) -> int | None:
    """When a process was started; None if there is none, or if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in (b"Z", b"X") else int(fields[18])


__all__ = ["MARK", "PREFIX", "Owner", "claim", "is_dead", "remove_abandoned"]
