"""Clocks of simulated hosts: virtual time, seeded dice.

All clocks of a simulation tick from the one virtual clock of the loop, but not alike: a host's wall
clock may be wrong by some seconds, its oscillator may be fast or slow, and the zero of its
monotonic clock means nothing, least of all on another host. Code that confuses any two of these
works on one machine and fails in a cluster; here it fails in a test.

This module knows the loop's time, and nothing of networks or processes.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH_S = 1_800_000_000.0
"""What a right wall clock shows when a simulation begins: 2027-01-15 08:00:00 UTC."""


class HostTime:
    """The hardware clocks of one simulated host.

    Args:
        now: The virtual time in seconds.
        monotonic_zero_s: What the monotonic clock shows at virtual time 0.
        skew_s: How far the wall clock is ahead of the right time.
        drift: How much faster than it should this host's oscillator runs; 1e-4 is bad hardware.
            Above -1.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        monotonic_zero_s: float = 0.0,
        skew_s: float = 0.0,
        drift: float = 0.0,
    ) -> None:
        self._now = now
        self._zero_s = monotonic_zero_s
        self._skew_s = skew_s
        self._drift = drift
        self._base = 0.0  # virtual time at which the drift was last set
        self._local = 0.0  # local seconds that had passed by then

    @property
    def skew_s(self) -> float:
        """How far the wall clock is ahead, besides what the drift has added."""
        return self._skew_s

    @property
    def drift(self) -> float:
        """How much faster than virtual time this host's clocks run."""
        return self._drift

    def elapsed(self) -> float:
        """Seconds since the simulation began, by this host's oscillator."""
        return self._local + (self._now() - self._base) * (1.0 + self._drift)

    def monotonic(self) -> float:
        """What the monotonic clock shows."""
        return self._zero_s + self.elapsed()

    def time(self) -> float:
        """What the wall clock shows."""
        return EPOCH_S + self._skew_s + self.elapsed()

    def virtual_delay(self, delay_s: float) -> float:
        """How much virtual time passes while this host counts some seconds.

        Args:
            delay_s: Seconds by this host's oscillator.
        """
        return delay_s / (1.0 + self._drift)

    def set_skew(self, skew_s: float) -> None:
        """Makes the wall clock jump, as an operator or NTP might.

        Args:
            skew_s: How far it is ahead from now on; may be negative.
        """
        self._skew_s = skew_s

    def set_drift(self, drift: float) -> None:
        """Changes the speed of the oscillator. No clock jumps.

        Args:
            drift: The new drift; above -1.
        """
        if drift <= -1.0:
            raise ValueError("a clock with a drift of -1 or less stands still or goes back")
        self._local, self._base = self.elapsed(), self._now()
        self._drift = drift


class SimClock:
    """The clock of one simulated process; see `fray.runtime.clock.Clock`.

    Args:
        host_time: The clocks of its host.
        seed: Seeds its randomness; make it differ from process to process.
    """

    def __init__(self, host_time: HostTime, seed: str) -> None:
        self._host_time = host_time
        self._random = random.Random(f"{seed}/random")
        # Apart from `random`, or drawing one number more would change all identifiers after it.
        self._tokens = random.Random(f"{seed}/tokens")

    @property
    def random(self) -> random.Random:
        """See `Clock.random`."""
        return self._random

    def monotonic(self) -> float:
        """See `Clock.monotonic`. Not the loop's time, unless this is the test's own clock."""
        return self._host_time.monotonic()

    def time(self) -> float:
        """See `Clock.time`."""
        return self._host_time.time()

    async def sleep(self, delay_s: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(self._host_time.virtual_delay(delay_s))

    def token(self, nbytes: int = 8) -> str:
        """See `Clock.token`. Different in each process and incarnation, the same in a replay."""
        return self._tokens.randbytes(nbytes).hex()


__all__ = ["EPOCH_S", "HostTime", "SimClock"]
