"""The supervisor: keeps its children running, by OTP's rules.

The words are those of `fray.runtime.restart`: strategy, restart type, intensity, period. What is
said there about when a child is restarted, and who with it, is done here.

::

    CREATED ──► STARTING ──► RUNNING ──► STOPPING ──► STOPPED
                    └───────────────────────▲ stopped, or given up   (killed: at once, from any)

Start. Children start in their order; each waits until the one before it runs. A start function that
raises has failed as a child fails that had run: the supervisor starts it again after a delay, or
gives up. Only a child that is *added* later is forgotten if its first start fails: whoever adds it
is told.

Restart. With ``one_for_one`` each child is restarted for itself, at the same time as others. With
``one_for_all`` and ``rest_for_one`` those that are restarted together are first stopped, one after
the other in the reverse of their order, then, when the delay is over, started in their order. If
another one fails meanwhile, whoever has to be stopped because of that is stopped too, and all start
again in their order.

Stop. Children stop one after the other in the reverse of their order. A child's present work may go
on for the child's grace; cleaning up may take as long again; what is not gone `KILL_MARGIN_S` after
that is killed.

Escalation. When the intensity is exceeded the supervisor gives up: it stops all children and ends
with `DeathKind.RESTART_LIMIT` and the chain of what led to it. It is a child itself, so its own
supervisor decides what comes next; a root's failure ends the process (`fray.runtime.root`).

This room decides; `fray.runtime.crew` does the starting and stopping.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from fray.errors import DeathCause, DeathKind, SupervisorFailed
from fray.runtime.crew import KILL_MARGIN_S, Crew, Pace
from fray.runtime.failures import FAILURES_TOLD_MAX, Failure
from fray.runtime.restart import Child as Sibling
from fray.runtime.restart import (
    RestartPlan,
    RestartPolicy,
    RestartTracker,
    RestartType,
    Strategy,
    plan_restart,
)
from fray.runtime.slots import ChildState, Slot
from fray.runtime.supervisor_state import SupervisorState, SupervisorStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.runtime.children import Child, ChildSpec
    from fray.runtime.clock import Clock

log = logging.getLogger(__name__)


INNOCENT = (DeathKind.PREEMPTED, DeathKind.HOST_LOST)
"""Ends that say nothing about a child: they are counted apart from failures."""


@dataclass(frozen=True, slots=True)
class _Fall:
    """A gang that is going down.

    Attributes:
        first: Who went first.
        before: How each had ended the last time before that.
    """

    first: Failure
    before: dict[str, Failure | None]


class Supervisor:
    """Keeps children running. On one event loop; itself a `fray.runtime.children.Child`.

    Args:
        name: For people.
        children: Its first children, in their order of start.
        clock: Time, and the jitter of delays.
        policy: When to restart whom, and when to give up.
        on_gone: Told of each child that is not its any longer, and why; not of those that it has
            when it ends.
        on_changed: Called whenever a child may be in another state than before.

    Attributes:
        name: As given.
        policy: As given.
        state: Where it is in its life.
        stopped: See `Child.stopped`.
        failure: How it ended with what led to it; None while it runs, or if it was stopped.

    Raises:
        ValueError: Two children have the same name.
    """

    def __init__(
        self,
        name: str,
        children: Iterable[ChildSpec] = (),
        *,
        clock: Clock,
        policy: RestartPolicy | None = None,
        on_gone: Callable[[str, DeathCause], object] | None = None,
        on_changed: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        self._on_gone = on_gone
        self._on_changed = on_changed
        self.policy = policy or RestartPolicy()
        self.state = SupervisorState.CREATED
        self.failure: Failure | None = None
        self.stopped: asyncio.Future[DeathCause] = asyncio.get_running_loop().create_future()
        self._clock = clock
        self._tracker = RestartTracker(self.policy)
        self._gang = self.policy.strategy is Strategy.GANG
        pace = Pace.TOGETHER if self._gang else Pace.ONE_BY_ONE
        self._crew = Crew(name, self, clock, pace=pace)
        self._fall: _Fall | None = None
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cause = DeathCause()
        self._latest: deque[Failure] = deque(maxlen=FAILURES_TOLD_MAX)
        for spec in children:
            self._crew.put(spec)

    def __repr__(self) -> str:
        strategy = self.policy.strategy.value
        return f"<Supervisor {self.name} {self.state.value} {strategy}: {self._crew!r}>"

    def statistics(self) -> SupervisorStatistics:
        """What it does now."""
        now = self._clock.monotonic()
        return SupervisorStatistics(
            self.state,
            tuple(slot.statistics(now) for slot in self._crew.slots.values()),
            self._tracker.recent,
            self._tracker.preemptions,
        )

    def starting(self) -> list[str]:
        """The children that are being started, in their order."""
        slots = self._crew.slots.items()
        return [name for name, slot in slots if slot.state is ChildState.STARTING]

    def __getitem__(self, name: str) -> Child | None:
        """A child as long as it is up; None while it is not.

        Raises:
            KeyError: There is no child of this name.
        """
        slot = self._crew.slots[name]
        return slot.child if slot.state is ChildState.UP else None

    # ---- life

    async def start(self) -> None:
        """Starts the children; returns when all have started. Once only.

        If the caller is cancelled, what has started is stopped again first.

        Raises:
            SupervisorFailed: It gave up, or was stopped, before that. All its children have ended.
            RuntimeError: It was started before.
        """
        if not self._ending:
            if self.state is not SupervisorState.CREATED:
                raise RuntimeError(f"supervisor {self.name} was started before")
            self.state = SupervisorState.STARTING
            self._crew.open()
            try:
                await asyncio.shield(self._started)
            except asyncio.CancelledError:
                await self.stop(DeathCause(DeathKind.STOPPED, "its start was cancelled"))
                raise
        if self._ending:
            await asyncio.shield(self.stopped)
            raise SupervisorFailed(self.name, self._cause)

    async def stop(self, cause: DeathCause, *, grace_s: float = inf) -> None:
        """Stops the children in the reverse of their order, then ends.

        Cancelling the caller leaves it stopping.

        Args:
            cause: Why. The first cause counts.
            grace_s: How long all children together may go on with their work, in seconds; each at
                most as long as its own grace. The shortest of several calls counts, for children
                whose turn to stop has not come.
        """
        self._crew.stop_by = min(self._crew.stop_by, self._clock.monotonic() + grace_s)
        if not self._ending:
            self._begin_to_stop(cause, why=cause)
        await asyncio.shield(self.stopped)

    def kill(self, cause: DeathCause) -> None:
        """Kills the children in the reverse of their order, and ends at once.

        Args:
            cause: Why.
        """
        if self.state is SupervisorState.STOPPED:
            return
        if not self._ending:
            self._cause = cause
        self._crew.kill_all(cause)
        self._finish()

    @property
    def _ending(self) -> bool:
        return self.state in (SupervisorState.STOPPING, SupervisorState.STOPPED)

    def _begin_to_stop(self, cause: DeathCause, *, why: DeathCause) -> None:
        self.state = SupervisorState.STOPPING
        self._cause = cause
        if not self._started.done():
            self._started.set_result(None)
        self._crew.stop_all(why)

    def _finish(self) -> None:
        self.state = SupervisorState.STOPPED
        if not self._started.done():
            self._started.set_result(None)
        for slot in self._crew.slots.values():
            slot.tell_started(SupervisorFailed(self.name, self._cause))
            slot.tell_down()
            slot.tell_gone()
        if not self.stopped.done():
            self.stopped.set_result(self._cause)

    def crew_changed(self) -> None:
        """See `fray.runtime.crew.Owner`."""
        if self._fall is not None and not self._ending:
            if all(s.state is ChildState.DOWN for s in self._crew.slots.values() if not s.wanted):
                self._judge_gang()
                self._crew.advance()
        elif self.state is SupervisorState.STARTING and self._crew.all_up:
            self.state = SupervisorState.RUNNING
            if self.policy.strategy is Strategy.ONE_FOR_ONE:
                self._crew.pace = Pace.ALONE
            self._started.set_result(None)
        elif self.state is SupervisorState.STOPPING and self._crew.all_down:
            self._finish()
        if self._on_changed is not None:
            self._on_changed()

    # ---- children

    async def add(self, spec: ChildSpec) -> None:
        """Adds a child after all others; returns when it has started.

        If the caller is cancelled, the child is removed again. Before `start` this only makes a
        note of it.

        Args:
            spec: How to make it.

        Raises:
            ValueError: There is a child of this name.
            SupervisorFailed: The supervisor has ended, or ends meanwhile.
            BaseException: What the start function raised. The child is not kept then, and this does
                not count as a failure.
        """
        if self._ending:
            raise SupervisorFailed(self.name, self._cause)
        slot = self._crew.put(spec)
        if self.state is SupervisorState.CREATED:
            return
        slot.first_start = asyncio.get_running_loop().create_future()
        self._crew.advance()
        try:
            refusal = await asyncio.shield(slot.first_start)
        except asyncio.CancelledError:
            self._remove(slot)
            raise
        if refusal is not None:
            raise refusal

    async def remove(self, name: str) -> None:
        """Stops a child, whatever its restart type, and forgets it.

        Cancelling the caller changes nothing for the child.

        Args:
            name: Which.

        Raises:
            KeyError: There is no child of this name.
        """
        slot = self._crew.slots[name]
        if slot.gone is None:
            slot.gone = asyncio.get_running_loop().create_future()
        gone = slot.gone
        self._remove(slot)
        await asyncio.shield(gone)

    async def terminate(self, name: str) -> None:
        """Stops a child and keeps its place, until `restart` or `remove`; it stays down meanwhile.

        A temporary child is removed. Cancelling the caller changes nothing for the child.

        Args:
            name: Which.

        Raises:
            KeyError: There is no child of this name.
        """
        slot = self._crew.slots[name]
        if slot.spec.restart is RestartType.TEMPORARY:
            await self.remove(name)
            return
        if slot.down is None or slot.down.done():
            slot.down = asyncio.get_running_loop().create_future()
        down = slot.down
        why = DeathCause(DeathKind.STOPPED, f"{self.name} was told to terminate it")
        self._crew.halt(slot, why)
        slot.tell_started(SupervisorFailed(self.name, why))
        self._crew.advance()
        await asyncio.shield(down)

    async def restart(self, name: str) -> None:
        """Starts a child that was terminated, or has ended and was not restarted.

        Returns when it has started. If the caller is cancelled, the child is terminated again.

        Args:
            name: Which.

        Raises:
            KeyError: There is no child of this name.
            ValueError: It is not down for good.
            SupervisorFailed: The supervisor has ended, or ends meanwhile.
            BaseException: What the start function raised. The child stays down then.
        """
        slot = self._crew.slots[name]
        if self._ending:
            raise SupervisorFailed(self.name, self._cause)
        if slot.wanted or slot.state is not ChildState.DOWN:
            raise ValueError(f"child {name} of {self.name} runs, or is about to: terminate it")
        slot.wanted, slot.halted, slot.not_before = True, False, -inf
        slot.first_start = asyncio.get_running_loop().create_future()
        self._crew.advance()
        try:
            refusal = await asyncio.shield(slot.first_start)
        except asyncio.CancelledError:
            self._crew.halt(slot, DeathCause(DeathKind.STOPPED, "its start was cancelled"))
            self._crew.advance()
            raise
        if refusal is not None:
            raise refusal

    def _remove(self, slot: Slot) -> None:
        why = DeathCause(DeathKind.STOPPED, f"it was removed from {self.name}")
        self._crew.remove(slot, why)
        self._crew.advance()

    # ---- decisions

    def child_ended(self, slot: Slot, failure: Failure) -> None:
        """See `fray.runtime.crew.Owner`."""
        if self._ending:
            return
        name = slot.spec.name
        siblings = [Sibling(s.spec.name, s.spec.restart) for s in self._crew.slots.values()]
        plan = plan_restart(self.policy.strategy, siblings, name, normal=failure.normal)
        if plan.start and self._gang:
            self._fall_of_gang(slot, failure, plan)
            return
        if plan.start:
            self._restart(failure, plan)
            return
        log.log(
            logging.INFO if failure.normal else logging.WARNING,
            f"{self.name}: {name} has ended and is not restarted: {failure.cause}",
            exc_info=failure.error,
        )
        slot.wanted = False
        for forgotten in plan.forget:
            self._crew.remove(self._crew.slots[forgotten], failure.cause)
        if slot.spec.significant:
            message = f"its significant child {name} has ended: {failure.cause.message}"
            self._end_with(replace(failure.cause, message=message), failure)

    def child_gone(self, slot: Slot) -> None:
        """See `fray.runtime.crew.Owner`."""
        if self._on_gone is not None:
            why = slot.forgotten or DeathCause(DeathKind.STOPPED, "it could not be started")
            self._on_gone(slot.spec.name, why)

    def _restart(self, failure: Failure, plan: RestartPlan) -> None:
        name, cause = failure.name, failure.cause
        now = self._clock.monotonic()
        preempted = cause.kind in INNOCENT
        decision = self._tracker.record(now, self._clock.random, preempted=preempted)
        self._latest.append(failure)
        log.warning(
            f"{self.name}: {name} has ended: {cause}; {decision.message}", exc_info=failure.error
        )
        if decision.delay_s is None:
            message = f"{decision.message}; the last: {name}: {cause.message or cause}"
            limit = DeathCause(DeathKind.RESTART_LIMIT, message, host=cause.host)
            self._end_with(limit, *self._latest)
            return
        slots = self._crew.slots
        why = DeathCause(DeathKind.STOPPED, f"it is restarted together with {name}")
        for other in (slots[each] for each in plan.stop):
            if other.state is not ChildState.DOWN and other.doom is None:
                other.doom = why
        for other in (slots[each] for each in plan.start):
            other.wanted = other.forgotten is None and not other.halted
            other.not_before = now + decision.delay_s
        for other in [slots[each] for each in plan.forget]:
            self._crew.remove(other, why)

    def _fall_of_gang(self, slot: Slot, failure: Failure, plan: RestartPlan) -> None:
        """One of a gang is down: the others follow. What comes then is decided when all are."""
        before = {each.spec.name: each.last for each in self._crew.slots.values()}
        self._fall = _Fall(failure, {**before, failure.name: None})
        log.warning(
            f"{self.name}: {failure.name} has ended, and its gang with it: {failure.cause}",
            exc_info=failure.error,
        )
        slot.wanted = False
        why = DeathCause(DeathKind.STOPPED, f"{failure.name} of its gang is down: {failure.cause}")
        for other in (self._crew.slots[each] for each in plan.stop):
            other.wanted = False
            if other.state is not ChildState.DOWN and other.doom is None:
                other.doom = why

    def _judge_gang(self) -> None:
        """All of a gang are down: members die of each other's absence, so it is one failure."""
        fall, self._fall = self._fall, None
        slots = self._crew.slots
        staying = [n for n, s in slots.items() if s.spec.restart is not RestartType.TEMPORARY]
        if fall is None or not staying:
            return
        ended = fall.first.name if fall.first.name in slots else staying[0]  # else it was removed
        ends = [slot.last for name, slot in slots.items() if slot.last is not fall.before.get(name)]
        innocent = (each for each in ends if each is not None and each.cause.kind in INNOCENT)
        siblings = [Sibling(s.spec.name, s.spec.restart) for s in slots.values()]
        plan = plan_restart(Strategy.GANG, siblings, ended, normal=False)
        self._restart(next(innocent, fall.first), plan)

    def _end_with(self, cause: DeathCause, *because: Failure) -> None:
        """Ends for a reason of its own."""
        if cause.kind is not DeathKind.STOPPED:
            if cause.kind is DeathKind.RESTART_LIMIT:
                log.error(f"{self.name} gives up: {cause}")
            else:  # a significant child has ended, which was told
                log.info(f"{self.name} ends: {cause}")
            self.failure = Failure(self.name, cause, because=because)
        why = DeathCause(DeathKind.STOPPED, f"its supervisor {self.name} has ended: {cause}")
        self._begin_to_stop(cause, why=why)


__all__ = [
    "KILL_MARGIN_S",
    "Supervisor",
]
