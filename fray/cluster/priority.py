"""How important a job is: a whole number, in bands that have names.

Bands are strict: a waiting job of a higher band is served first, and may have running jobs of a
lower one stopped. Inside a band the number only moves a job forward in the queue of its user.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from fray.errors import InvalidRequestError

BAND_WIDTH = 100
"""Priorities per band."""


class Band(IntEnum):
    """A range of priorities; the value is its lowest."""

    BATCH = 0
    """Takes what is left over, and gives it back first."""
    NORMAL = 100
    HIGH = 200
    CRITICAL = 300

    @property
    def label(self) -> str:
        """Its name, as users write it."""
        return self.name.lower()


PRIORITY_MAX = Band.CRITICAL + BAND_WIDTH - 1
DEFAULT_PRIORITY = int(Band.NORMAL)

PriorityLike: TypeAlias = int | str
"""A number from 0 to 399, the name of a band, or both as in ``"high+5"``."""


def parse_priority(value: PriorityLike) -> int:
    """Reads a priority.

    Args:
        value: See `PriorityLike`.

    Returns:
        0 to `PRIORITY_MAX`.

    Raises:
        InvalidRequestError: It is none.
    """
    if isinstance(value, str):
        name, plus, offset = value.partition("+")
        band = Band.__members__.get(name.strip().upper())
        offset = offset if plus else "0"
        if band is not None and offset.isdecimal() and int(offset) < BAND_WIDTH:
            return band + int(offset)
    elif not isinstance(value, bool) and 0 <= value <= PRIORITY_MAX:
        return int(value)
    names = ", ".join(band.label for band in Band)
    raise InvalidRequestError(
        f"a priority is one of {names}, such a name with an offset as in 'high+5', or a number "
        f"from 0 to {PRIORITY_MAX}; not {value!r}"
    )


def band_of(priority: int) -> Band:
    """The band of a priority.

    Args:
        priority: 0 to `PRIORITY_MAX`.
    """
    return Band(priority - priority % BAND_WIDTH)


def describe_priority(priority: int) -> str:
    """A priority for people, as in ``high+5``.

    Args:
        priority: 0 to `PRIORITY_MAX`.
    """
    offset = priority % BAND_WIDTH
    return band_of(priority).label + (f"+{offset}" if offset else "")


__all__ = [
    "BAND_WIDTH",
    "DEFAULT_PRIORITY",
    "PRIORITY_MAX",
    "Band",
    "PriorityLike",
    "band_of",
    "describe_priority",
    "parse_priority",
]
