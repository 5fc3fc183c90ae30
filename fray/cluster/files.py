"""Files that appear whole or not at all.

They are written beside their place and then moved or linked there, so that nobody ever reads half
of one, and a crash leaves the old content.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path


def write_atomically(
    path: Path, data: bytes, *, owner: tuple[int, int] | None = None, durable: bool = True
) -> None:
    """Replaces a file as a whole, readable by its owner only.

    Args:
        path: The file.
        data: Its content.
        owner: Whose it is to be, user and group; by default ours.
        durable: Whether it is to survive the machine, which takes the disk's time.

    Raises:
        OSError: It cannot be written; then the old content is still there.
    """
    beside = _write_beside(path, data, owner, durable=durable)
    try:
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_once(path: Path, data: bytes) -> None:
    """Makes a file, whole and readable by its owner only, unless it exists.

    Args:
        path: The file.
        data: Its content.

    Raises:
        OSError: It cannot be written.
    """
    beside = _write_beside(path, data)
    try:
        with suppress(FileExistsError):
            os.link(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _write_beside(
    path: Path, data: bytes, owner: tuple[int, int] | None = None, *, durable: bool = True
) -> Path:
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    beside.unlink(missing_ok=True)  # left by a process with this id that was killed here
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except BaseException:  # a full disk, perhaps
        beside.unlink()
        raise
    return beside


__all__ = ["write_atomically", "write_once"]
