"""How many rollout workers there should be: a decision, and nothing else.

What the learner needs decides. It says which part of its time it has lately spent waiting for
rollouts: if much, somebody else should play; if it never waits, somebody plays for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

STARVED = 0.3
"""A learner that waits for a larger part of its time than this could learn faster."""

SATED = 0.02
"""One that waits for a smaller part than this has more rollouts than it can learn from."""

GROW_STEPS = 2
"""So many steps are made with the present workers before there is one more."""

SHRINK_STEPS = 12
"""Likewise before there is one fewer: too few cost speed, and one too many hardly anything."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many rollout workers there may be.

    Attributes:
        least: At least 1.
        most: At least as many.
    """

    least: int
    most: int

    def within(self, room: int) -> Bounds:
        """The bounds on a cluster that has room for so many, but never fewer than the least.

        Args:
            room: How many.
        """
        return Bounds(self.least, max(self.least, min(self.most, room)))


def workers_wanted(workers: int, waited: float, steps: int, bounds: Bounds) -> int:
    """How many there should be: as many as there are, or one more or one fewer.

    Args:
        workers: How many there are.
        waited: Which part of its time the learner has lately waited for rollouts, 0 to 1.
        steps: How many steps were made since all of these workers play.
        bounds: How many there may be.
    """
    wanted = workers
    if waited >= STARVED and steps >= GROW_STEPS:
        wanted = workers + 1
    elif waited <= SATED and steps >= SHRINK_STEPS:
        wanted = workers - 1
    return max(bounds.least, min(bounds.most, wanted))
