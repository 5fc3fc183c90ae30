"""How long hosts may be silent, and all that follows from it: one number, and what hangs on it.

A host that has not heard the controller for the length of its lease ends all that runs there. The
controller gives it up only after that, when even the slowest way of ending has had its time::

    heard      suspect          lease is over: the agent kills         lost: given to others
      |-----------|------------------------|-----------------------------------|
                                           supervisors (if there is no agent): margin, grace, kill

The defaults are for networks and machines that may stand still for many seconds. A shorter lease
finds the dead sooner, and takes a host for dead that only stood still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fray.errors import InvalidRequestError

LEASE_S = 60.0
LEASE_S_MIN = 3.0
"""Below this the scheduler of an ordinary machine decides who is dead."""


@dataclass(frozen=True, slots=True)
class HostTimes:
    """The times of a cluster's hosts, in seconds, all of them following from the lease.

    Attributes:
        lease_s: How long a host goes on without hearing from a controller that runs; at least
            `LEASE_S_MIN`.

    Raises:
        InvalidRequestError: The lease is too short, or no length at all.
    """

    lease_s: float = LEASE_S

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lease_s) and self.lease_s >= LEASE_S_MIN):
            raise InvalidRequestError(
                f"the lease of hosts is at least {LEASE_S_MIN:g} s, not {self.lease_s:g} s"
            )

    @property
    def orders_wait_s(self) -> float:
        """How long one question for changed orders waits: it is the host's sign of life, too."""
        return min(10.0, self.lease_s / 6)

    @property
    def answer_s(self) -> float:
        """How long the controller may take to answer, beside what it was asked to wait."""
        return min(4.0, self.lease_s / 15)

    @property
    def suspect_s(self) -> float:
        """Silence after which nothing new goes to a host: it should have asked again by then."""
        return self.orders_wait_s + self.answer_s

    @property
    def look_s(self) -> float:
        """How often the controller looks for silence."""
        return min(2.0, self.lease_s / 30)

    @property
    def supervisor_margin_s(self) -> float:
        """How much longer than the agent supervisors wait before they act.

        It does so more gently, and what it heard they read up to a second later.
        """
        return min(5.0, self.lease_s / 12 + 1.0)

    @property
    def fence_grace_s(self) -> float:
        """What a task has between SIGTERM and SIGKILL where its supervisor acts."""
        return min(10.0, self.lease_s / 6)

    @property
    def lost_s(self) -> float:
        """Silence after which a host is given up: nothing runs there then, whoever ended it."""
        kill_s = min(15.0, max(2.0, self.lease_s / 4))
        return self.lease_s + self.supervisor_margin_s + self.fence_grace_s + kill_s


__all__ = ["LEASE_S", "LEASE_S_MIN", "HostTimes"]
