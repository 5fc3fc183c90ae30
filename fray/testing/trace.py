"""The trace of a simulation: what happened when, one line each, made to be compared with `diff`.

Lines hold virtual time and names that the simulation gave, never addresses or real time: two runs
of one seed have equal traces, and the first line that differs shows where they parted.
"""

from __future__ import annotations

import zlib
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINES_MAX = 100_000
"""So many lines are kept, the latest ones; about 10 MB."""


class Trace:
    """A bounded list of lines with a checksum over all that were ever written.

    Args:
        now: The virtual time in seconds.
        lines_max: How many lines to keep, at least 1.

    Attributes:
        checksum: CRC-32 of all lines, also of those that are no longer kept.
        written: How many lines there were.
    """

    def __init__(self, now: Callable[[], float], lines_max: int = LINES_MAX) -> None:
        self._now = now
        self._lines: deque[str] = deque(maxlen=lines_max)
        self.checksum = 0
        self.written = 0

    def note(self, event: str) -> None:
        """Writes a line.

        Args:
            event: What happened; one line.
        """
        line = f"{self._now():.6f} {event}"
        self._lines.append(line)
        self.written += 1
        self.checksum = zlib.crc32(line.encode(), self.checksum)

    def tail(self, count: int) -> list[str]:
        """The latest lines.

        Args:
            count: How many at most.
        """
        return list(self._lines)[-count:] if count > 0 else []

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __str__(self) -> str:
        dropped = self.written - len(self._lines)
        head = [f"... {dropped} earlier lines ..."] if dropped else []
        return "\n".join([*head, *self._lines])


__all__ = ["LINES_MAX", "Trace"]
