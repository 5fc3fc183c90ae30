"""One attempt on a host, as its agent knows it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from fray.cluster.controller.attempt import AttemptState, StopKind
from fray.cluster.controller.commands import ObservedAttempt
from fray.errors import DeathCause, DeathKind

if TYPE_CHECKING:
    from fray.cluster.controller.desired import AttemptSpec
    from fray.cluster.worker.launcher import Running
    from fray.ids import AttemptId


class HostedAttempt:
    """One attempt on this host.

    Attributes:
        attempt_id: Which.
        spec: What is wanted of it; None of one that was adopted, until orders come.
        state: Where it is in its life.
        cause: Why it ended.
        host_fault: Whether it could not be started by this host's fault.
        running: What the launcher has made of it; None before.
        stopping: Whether it was told to stop.
        stop_by: Until when it may take to do so, on the monotonic clock.
        fenced: Why this host had to end it, where nobody has ordered that.
        ports: Its ports, by what they are for.
        waits_for_others: How many of its threads wait for other jobs.
        checkpoints: How often it has said that its work is saved, to this life of the agent.
        ran_s: For how long it ran, in seconds; None before its end, or where it did not.
        told: Set when it is told to stop.
        ended: Set when nothing of it is left.
    """

    def __init__(self, spec: AttemptSpec | None, attempt_id: AttemptId) -> None:
        self.attempt_id = attempt_id
        self.spec = spec
        self.state = AttemptState.BUILDING
        self.cause: DeathCause | None = None
        self.host_fault = False
        self.running: Running | None = None
        self.stopping = False
        self.stop_by = math.inf
        self.fenced: DeathCause | None = None
        self.ports: dict[str, int] = {}
        self.waits_for_others = 0
        self.checkpoints = 0
        self.ran_s: float | None = None
        self.told = asyncio.Event()
        self.ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<HostedAttempt {self.attempt_id} {self.state}>"

    def observed(self) -> ObservedAttempt:
        """As it is reported."""
        return ObservedAttempt(
            attempt_id=self.attempt_id,
            state=self.state,
            cause=self.cause,
            host_fault=self.host_fault,
            ports=self.ports,
            blocked=self.waits_for_others > 0,
            checkpoints=self.checkpoints,
            ran_s=self.ran_s,
        )

    def why_stopped(self) -> DeathCause:
        """Why it was told to stop."""
        if self.fenced is not None:
            return self.fenced
        order = self.spec.stop if self.spec is not None else None
        if order is None:
            return DeathCause(DeathKind.STOPPED, "it was stopped")
        preempted = order.kind is StopKind.PREEMPT
        return DeathCause(DeathKind.PREEMPTED if preempted else DeathKind.STOPPED, order.reason)


__all__ = ["HostedAttempt"]
