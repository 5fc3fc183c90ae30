"""The file of ``--output``: opened before the work, and whole or not there after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from fray.cli.errors import UsageFailure


@contextmanager
def new_file(path: Path, *, force: bool) -> Generator[Callable[[bytes], None]]:
    """Opens a file for what is not there yet: what cannot be kept is not made.

    Args:
        path: The file; only its owner will be able to read it.
        force: Whether one that is there is replaced, once there is something to replace it by.

    Yields:
        Takes what is to be in the file.

    Raises:
        UsageFailure: The file exists, or cannot be written; nothing has been done.
    """
    if path.is_dir():
        raise UsageFailure(f"--output: {path} is a folder; name a file")
    opened = path.with_name(f".{path.name}.{os.getpid()}") if force else path
    try:
        fd = os.open(opened, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as exc:
        raise UsageFailure(f"--output: {path} exists; --force replaces it") from exc
    except OSError as exc:
        raise UsageFailure(f"--output: {path} cannot be written: {exc.strerror}") from exc

    def keep(data: bytes) -> None:
        file.write(data)
        file.flush()
        os.fsync(fd)
        os.replace(opened, path)

    with open(fd, "wb") as file:
        try:
            yield keep
        except BaseException:
            opened.unlink(missing_ok=True)
            raise


__all__ = ["new_file"]
