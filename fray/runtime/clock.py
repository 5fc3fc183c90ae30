"""Time, randomness and identifiers: the only home of `time`, `random` and `uuid` in fray.

Everything that asks what time it is, waits, rolls dice or invents a name asks a `Clock`, so that
a simulation decides all of it from one seed.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol


class Clock(Protocol):
    """Where a process gets time, randomness and identifiers from."""

    @property
    def random(self) -> random.Random:
        """The process's source of randomness (jitter, tie-breaks); never for secrets."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; its zero means nothing."""
        ...

    def time(self) -> float:
        """Seconds since 1970, for people and for records; may jump."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Waits; cancellable.

        Args:
            delay_s: Seconds; zero or less yields to other tasks once.
        """
        ...

    def token(self, nbytes: int = 8) -> str:
        """A fresh identifier of ``2 * nbytes`` hexadecimal digits; unguessable in production.

        Args:
            nbytes: How many random bytes, at least 1.
        """
        ...


class SystemClock:
    """The real one. Safe to use from any thread."""

    def __init__(self) -> None:
        self._random = random.Random()
        self._secrets = random.SystemRandom()

    @property
    def random(self) -> random.Random:
        """See `Clock.random`."""
        return self._random

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def time(self) -> float:
        """See `Clock.time`."""
        return time.time()

    async def sleep(self, delay_s: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(delay_s)

    def token(self, nbytes: int = 8) -> str:
        """See `Clock.token`."""
        return self._secrets.randbytes(nbytes).hex()


def duration(seconds: float) -> str:
    """A time span for people, as in ``3m05s``.

    Args:
        seconds: Below 0 counts as 0: clocks of two machines differ.
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


__all__ = ["Clock", "SystemClock", "duration"]
