"""What ended attempts leave on their host is dropped in time."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

TIDY_S = 600.0
"""How often an agent looks for it."""

_NOW = ".now"


def drop_old_logs(directory: Path, keep: Set[str], age_s: float) -> int:
    """Drops the output of attempts that nobody asks for any more.

    The age is judged by the file system's own clock, which may differ from this host's.

    Args:
        directory: Where the logs are.
        keep: The beginnings of the names of those that stay, whatever their age.
        age_s: Nothing goes that was written to since, in seconds.

    Returns:
        How many files were dropped.

    Raises:
        OSError: The directory cannot be read or changed.
    """
    marker = directory / _NOW
    marker.touch()
    now = marker.stat().st_mtime
    dropped = 0
    for path in directory.iterdir():
        if path.name == _NOW or path.name.partition(".log")[0] in keep or not path.is_file():
            continue
        if now - path.stat().st_mtime > age_s:
            path.unlink(missing_ok=True)
            dropped += 1
    return dropped


__all__ = ["TIDY_S", "drop_old_logs"]
