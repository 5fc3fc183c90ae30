"""The directory of an embedded cluster, which goes with it, and at the latest with its successor.

Its owner holds a lock on a file in it, which the kernel lets go of however the owner ends. Whoever
makes the next directory removes those whose locks are free: their owners were killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "fray-local-"

_LOCK = "lock"


class Scratch:
    """A new directory, of this user alone. Removes those of owners that were killed.

    Attributes:
        path: Where it is.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self) -> None:
        sweep()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        making = self.path / f"{_LOCK}.new"
        self._lock = os.open(making, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: nobody will sweep it
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            making.rename(self.path / _LOCK)  # only now anybody else may try to lock it

    def remove(self) -> None:
        """Removes it, with all that is in it. May be called again."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep() -> None:
    """Removes what owners that were killed have left. Never raises for what it cannot remove."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, one that is being made, or one in use
            if path.lstat().st_uid == os.geteuid() and not path.is_symlink():
                lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(lock)


__all__ = ["PREFIX", "Scratch", "sweep"]
