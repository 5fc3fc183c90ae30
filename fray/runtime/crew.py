"""The mechanics of supervision: children start in order, and stop in reverse.

A `Crew` holds the places of a supervisor's children and brings each to where it is to be. What is
*wanted* is set from outside; all the rest is one function, `Crew.advance`, that looks at the
present state and does what is to be done next. Whatever happens changes the state and calls it.
Nothing waits inside of it, so any order of events is right.

This room knows the order of children and how long they may take. It does not know when a child is
restarted, or that there is such a thing as too often.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from contextvars import copy_context
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Protocol

from fray.errors import DeathCause, DeathKind, SupervisorFailed
from fray.runtime.children import failure_of
from fray.runtime.failures import Failure, failure_to_start
from fray.runtime.slots import ChildState, Slot
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.runtime.children import Child, ChildSpec, StartChild
    from fray.runtime.clock import Clock

KILL_MARGIN_S = 1.0
"""How much longer than twice its grace a child may take to stop before it is killed."""

TIMER_SLACK_S = 1e-3
"""A delay that is over but for so much is over: clocks round."""


class Pace(Enum):
    """Whom children wait for."""

    ONE_BY_ONE = "one by one"
    """Each, on its way up, for those before it, and for all that are to be stopped."""
    TOGETHER = "together"
    """All at the same time, but none starts while any is to be stopped."""
    ALONE = "alone"
    """Each minds itself. When all are stopped, that is one by one."""


class Owner(Protocol):
    """Who decides what a crew is to do."""

    def child_ended(self, slot: Slot, failure: Failure) -> None:
        """A child has ended by itself, or has failed to start; it is down. `advance` follows."""
        ...

    def child_gone(self, slot: Slot) -> None:
        """The place of a child is no longer there."""
        ...

    def crew_changed(self) -> None:
        """Something is different now. Called at the end of each `advance`."""
        ...


class Crew:
    """The children of one supervisor.

    Args:
        name: For people.
        owner: Who decides.
        clock: Time.
        pace: Whom children wait for on their way up and down.

    Attributes:
        slots: The children's places by name, in their order of start.
        pace: As given; may change.
        why: What children are told when all are stopped; None while they are to run.
        stop_by: When all work is to be over once they stop, on the clock's monotonic time.
    """

    def __init__(self, name: str, owner: Owner, clock: Clock, *, pace: Pace) -> None:
        self.slots: dict[str, Slot] = {}
        self.pace = pace
        self.why: DeathCause | None = None
        self.stop_by = inf
        self._name = name
        self._owner = owner
        self._clock = clock
        self._scope = Scope(name)
        # Children start in this context, not in that of whoever caused a restart.
        self._context = copy_context()
        self._open = False
        self._killed: DeathCause | None = None
        self._timer: tuple[float, asyncio.Task[None]] | None = None

    def __repr__(self) -> str:
        now = self._clock.monotonic()
        return ", ".join(slot.describe(now) for slot in self.slots.values()) or "no children"

    @property
    def all_up(self) -> bool:
        """Whether all children run that are wanted."""
        return all(s.state is ChildState.UP or not s.wanted for s in self.slots.values())

    @property
    def all_down(self) -> bool:
        """Whether no child runs."""
        return all(s.state is ChildState.DOWN for s in self.slots.values())

    # ---- what is wanted

    def open(self) -> None:
        """From now on children are started."""
        self._open = True
        self.advance()

    def put(self, spec: ChildSpec) -> Slot:
        """Makes a place after all others.

        Args:
            spec: How to make the child.

        Raises:
            ValueError: There is one of this name.
        """
        if spec.name in self.slots:
            raise ValueError(f"supervisor {self._name} already has a child {spec.name!r}")
        slot = self.slots[spec.name] = Slot(spec)
        return slot

    def remove(self, slot: Slot, why: DeathCause) -> None:
        """Takes a place away, as soon as its child is down.

        Args:
            slot: Which.
            why: What the child is told.
        """
        slot.wanted, slot.forgotten = False, why
        slot.tell_started(SupervisorFailed(self._name, why))
        if slot.state is ChildState.DOWN:
            self._forget(slot)
        elif slot.doom is None:
            slot.doom = why

    def halt(self, slot: Slot, why: DeathCause) -> None:
        """Keeps a place, but stops its child.

        Args:
            slot: Which.
            why: What the child is told.
        """
        slot.wanted, slot.halted = False, True
        if slot.state is ChildState.DOWN:
            slot.tell_down()
        elif slot.doom is None:
            slot.doom = why

    def stop_all(self, why: DeathCause) -> None:
        """From now on children are stopped, one after the other, the last first.

        Args:
            why: What they are told.
        """
        self._open, self.why = False, why
        self._set_timer(inf, inf)
        self.advance()

    def kill_all(self, cause: DeathCause) -> None:
        """Kills all children, the last first; all are down when this returns.

        Args:
            cause: Why.
        """
        self._open, self._killed = False, cause
        self._set_timer(inf, inf)
        for slot in reversed(list(self.slots.values())):
            if slot.stopping is not None:
                slot.stopping.cancel()
            if slot.starting is not None:
                slot.starting.cancel()
            child, slot.child, slot.starting, slot.stopping = slot.child, None, None, None
            if child is not None:
                child.kill(cause)
            self._is_down(slot)

    # ---- what is to be done next

    def advance(self) -> None:
        """Does what the present state asks for. Safe to call at any time."""
        if self.why is not None:
            self._stop(list(self.slots.values()), one_by_one=self.pace is not Pace.TOGETHER)
        elif self._open:
            doomed = [slot for slot in self.slots.values() if slot.doom is not None]
            self._stop(doomed, one_by_one=self.pace is Pace.ONE_BY_ONE)
            if not doomed or self.pace is Pace.ALONE:
                self._start_due()
        self._owner.crew_changed()

    def _stop(self, slots: list[Slot], *, one_by_one: bool) -> None:
        if one_by_one:
            self._stop_last(slots)
            return
        for slot in slots:
            self._stop_last([slot])

    def _stop_last(self, slots: Iterable[Slot]) -> None:
        """Stops the last of these that is not down, unless that is being done already."""
        for slot in reversed(list(slots)):
            if slot.state is ChildState.DOWN:
                continue
            if slot.state is not ChildState.STOPPING:
                slot.state = ChildState.STOPPING
                why = slot.doom or self.why or DeathCause(DeathKind.STOPPED)
                slot.stopping = self._scope.spawn(
                    self._stop_child(slot, why),
                    name=f"stop {slot.spec.name}",
                    context=self._context.copy(),
                )
            return

    def _start_due(self) -> None:
        now = self._clock.monotonic()
        due = inf
        for slot in self.slots.values():
            if not slot.wanted or slot.state is ChildState.UP:
                continue
            if slot.state is ChildState.DOWN:
                if slot.not_before > now + TIMER_SLACK_S:
                    due = min(due, slot.not_before)
                else:
                    self._start_child(slot)
            if self.pace is Pace.ONE_BY_ONE:
                break
        self._set_timer(due, due - now)

    def _set_timer(self, due: float, delay_s: float) -> None:
        if self._timer is not None:
            if self._timer[0] == due:
                return
            self._timer[1].cancel()
            self._timer = None
        if due < inf:
            wait = self._advance_after(delay_s)
            task = self._scope.spawn(wait, name="delay", context=self._context.copy())
            self._timer = (due, task)

    async def _advance_after(self, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        self._timer = None
        self.advance()

    # ---- a child starts and ends

    def _start_child(self, slot: Slot) -> None:
        slot.state = ChildState.STARTING
        slot.starts += 1
        slot.starting = self._scope.spawn(
            _outcome_of(slot.spec.start),
            name=f"start {slot.spec.name}",
            context=self._context.copy(),
        )
        slot.starting.add_done_callback(functools.partial(self._start_ended, slot))

    def _start_ended(self, slot: Slot, task: asyncio.Task[Child | BaseException]) -> None:
        outcome = RuntimeError("it was cancelled") if task.cancelled() else task.result()
        if slot.starting is not task:  # nobody waited for it any longer
            if not isinstance(outcome, BaseException):
                outcome.kill(self._killed or self.why or DeathCause(DeathKind.STOPPED))
            return
        slot.starting = None
        if not isinstance(outcome, BaseException):
            slot.child = outcome
        if slot.state is not ChildState.STARTING:
            return  # it is being stopped, which goes on with the child, if there is one
        if isinstance(outcome, BaseException):
            slot.state = ChildState.DOWN
            self._start_failed(slot, outcome)
            self.advance()
            return
        slot.state, slot.was_up = ChildState.UP, True
        if outcome.stopped.done():  # a supervisor that gave up, say
            self._child_ended(slot, outcome, outcome.stopped)
            return
        slot.tell_started(None)
        outcome.stopped.add_done_callback(functools.partial(self._child_ended, slot, outcome))
        self.advance()

    def _start_failed(self, slot: Slot, exc: BaseException) -> None:
        if slot.tell_started(exc):  # who added it knows, and decides
            self._refused(slot)
        else:
            slot.last = failure_to_start(slot.spec.name, exc)
            self._owner.child_ended(slot, slot.last)

    def _child_ended(self, slot: Slot, child: Child, stopped: asyncio.Future[DeathCause]) -> None:
        if slot.child is not child or slot.state is not ChildState.UP:
            return  # it is being stopped, or was killed
        if stopped.cancelled():  # it lives, but nobody would ever know of its end
            child.kill(DeathCause(DeathKind.UNKNOWN, "nobody can see any longer whether it runs"))
        failure = slot.last = failure_of(slot.spec.name, child)
        slot.child, slot.state = None, ChildState.DOWN
        refusal = None if failure.normal else SupervisorFailed(slot.spec.name, failure.cause)
        if slot.tell_started(refusal) and refusal is not None:
            self._refused(slot)
        elif slot.doom is not None:  # it was about to be stopped anyhow
            self._is_down(slot)
        else:
            self._owner.child_ended(slot, failure)
        self.advance()

    async def _stop_child(self, slot: Slot, why: DeathCause) -> None:
        left_s = max(self.stop_by - self._clock.monotonic(), 0.0)
        grace_s = min(slot.spec.stop_grace_s, left_s)
        limit_s = None if grace_s == inf else 2 * grace_s + KILL_MARGIN_S
        if slot.starting is not None:
            slot.starting.cancel()
            await asyncio.wait([slot.starting], timeout=limit_s)
            slot.starting = None  # if it has not reacted, what it makes yet is killed
        if slot.child is not None:
            await self._stop_or_kill(slot.child, why, grace_s, limit_s)
            failure = failure_of(slot.spec.name, slot.child)
            if not failure.normal:  # it died of something else while it was stopped
                slot.last = failure
        slot.child = slot.stopping = None
        self._is_down(slot)
        self.advance()

    async def _stop_or_kill(
        self, child: Child, why: DeathCause, grace_s: float, limit_s: float | None
    ) -> None:
        if child.stopped.done():
            return
        stop = self._scope.spawn(child.stop(why, grace_s=grace_s), name="stop")
        try:
            await asyncio.wait([stop], timeout=limit_s)
        finally:
            stop.cancel()  # in case it goes on; if it has failed, the scope tells of it
        if not child.stopped.done():
            child.kill(why)

    def _refused(self, slot: Slot) -> None:
        """Its first start failed, or the one that somebody asked for."""
        if slot.was_up:
            slot.wanted, slot.halted = False, True
        else:
            self._forget(slot)

    def _is_down(self, slot: Slot) -> None:
        slot.state, slot.doom = ChildState.DOWN, None
        slot.tell_down()
        if slot.forgotten is not None:
            self._forget(slot)

    def _forget(self, slot: Slot) -> None:
        if self.slots.get(slot.spec.name) is slot:
            del self.slots[slot.spec.name]
            self._owner.child_gone(slot)
        slot.tell_gone()


async def _outcome_of(start: StartChild) -> Child | BaseException:
    try:
        return await start()
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as exc:  # told to the owner, whose matter it is
        return exc


__all__ = ["KILL_MARGIN_S", "TIMER_SLACK_S", "Crew", "Owner", "Pace"]
