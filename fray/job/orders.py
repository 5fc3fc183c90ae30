"""What a pool wants done, and its bounds: plain data between `PoolState` and its user."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The bounds of a pool.

    Attributes:
        workers_min: Workers that are kept, ≥ 0.
        workers_max: Workers that there may be, ≥ 1.
        idle_s: A worker beyond the minimum goes after so long without a task, in seconds.
    """

    workers_min: int = 0
    workers_max: int = 4
    idle_s: float = 30.0


class Order(enum.Enum):
    """What the pool wants done."""

    START = "start"
    """A new worker: ``worker``."""
    STOP = "stop"
    """A worker is to end: ``worker``."""
    SEND = "send"
    """``tasks`` go to ``worker``."""
    RECALL = "recall"
    """``tasks`` that ``worker`` has not begun are to come back."""
    FAIL = "fail"
    """``tasks`` have used up their tries: ``reason``."""


@dataclass(frozen=True, slots=True)
class PoolOrder:
    """One thing to be done.

    Attributes:
        order: What.
        worker: Which worker is meant.
        tasks: Which tasks are meant.
        reason: Why, for people.
    """

    order: Order
    worker: int = 0
    tasks: tuple[int, ...] = ()
    reason: str = ""


__all__ = ["Order", "PoolLimits", "PoolOrder"]
