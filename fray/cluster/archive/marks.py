"""When which byte of a log was printed, roughly: logs carry no times of their own. Pure."""

from __future__ import annotations

from collections.abc import Iterable

MARKS_MAX = 512
"""So many are kept; then every other one goes."""


class Marks:
    """Pairs of a time and how much was printed by then, ascending.

    Args:
        marks: Those that are known already.
    """

    def __init__(self, marks: Iterable[tuple[float, int]] = ()) -> None:
        self._marks = list(marks)

    def __len__(self) -> int:
        return len(self._marks)

    def as_tuple(self) -> tuple[tuple[float, int], ...]:
        """All of them."""
        return tuple(self._marks)

    def add(self, time: float, size_bytes: int) -> None:
        """Notes how much is printed now.

        Args:
            time: Seconds since 1970.
            size_bytes: The size of the log.
        """
        if self._marks and (size_bytes <= self._marks[-1][1] or time <= self._marks[-1][0]):
            return
        if len(self._marks) >= MARKS_MAX:
            del self._marks[1:-1:2]
        self._marks.append((time, size_bytes))

    def offset_at(self, time: float) -> int:
        """An offset before which nothing was printed at or after a time.

        Args:
            time: Seconds since 1970.

        Returns:
            The nearest that is known; 0 at worst.
        """
        return max((size for at, size in self._marks if at <= time), default=0)


__all__ = ["MARKS_MAX", "Marks"]
