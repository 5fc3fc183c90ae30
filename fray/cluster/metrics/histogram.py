"""How long something took, counted in buckets. Pure."""

from __future__ import annotations

from bisect import bisect_left

SHORT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""For what should take milliseconds."""

LONG_S = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 86400.0)
"""For what people wait for."""


class Histogram:
    """Counts values.

    Args:
        bounds: Upper bounds of the buckets, ascending; what is above the last one counts as well.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def __repr__(self) -> str:
        return f"<Histogram of {sum(self._counts)}, mean {self.mean:g}>"

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self._counts)

    @property
    def mean(self) -> float:
        """Their mean; 0 for none."""
        return self.sum / self.count if self.count else 0.0

    def observe(self, value: float) -> None:
        """Counts a value.

        Args:
            value: At least 0.
        """
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[float, int]]:
        """Each upper bound, infinity last, and how many values are not above it."""
        found: list[tuple[float, int]] = []
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self._counts, strict=True):
            total += count
            found.append((bound, total))
        return found


__all__ = ["LONG_S", "SHORT_S", "Histogram"]
