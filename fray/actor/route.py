"""The way from a handle to living incarnations, shared by all handles to one actor.

A route asks the directory where its actor is, remembers the answer, and asks again when that
proves stale. Calls that wait for an answer wait in order. What a failure means is decided here:

* A call that is known not to have started is sent again by itself, to wherever the actor now is.
* A call that may have run is repeated only where the method said that it may be (``retries``).
* When a connection is lost, the directory is asked what became of the other side; the call then
  ends with `ActorDied` and its cause, or with `ActorUnavailable` where nobody knows of a death.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from bisect import bisect
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fray.actor.directory import BEING_STARTED
from fray.errors import (
    ActorDied,
    ActorNotFoundError,
    ActorUnavailable,
    CallError,
    FrayError,
    Started,
)
from fray.runtime.calls import OutgoingCall
from fray.runtime.serialization import dumps_arguments, loads

if TYPE_CHECKING:
    import asyncio

    from fray.actor.directory import ActorKey, Departure, Endpoint
    from fray.actor.outcome import Outcome
    from fray.actor.system import ActorSystem
    from fray.runtime.payload import Payload

log = logging.getLogger("fray")

LOCATE_WAIT_S = 10.0
"""How long one question to the directory waits; then it is asked again."""

NOT_READY_ASKED_S = 1.0
"""After this time it is asked why an actor is not ready: calls that are given up say so."""

NOT_READY_TOLD_S = 3.0
"""After this time whoever waits for it is told, too."""

POOL_REFRESH_S = 2.0
"""How old the knowledge of a name's endpoints may be while calls go to it."""

RESEND_BACKOFF_S = (0.0, 0.02, 0.1, 0.5, 1.0)
"""Pauses before the same call is sent again: an actor that has just moved is found at once."""


class _Target:
    """An endpoint, and how many of this route's calls are out to it."""

    __slots__ = ("endpoint", "outstanding")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.outstanding = 0


class Route:
    """The way to an actor, or to a pool of them.

    Args:
        system: Whose loop, process and directory it uses.
        key: Which actor.
        label: For people.
        unpickles: Whether results may be unpickled here: not those of the control plane.
        watched: Whether the directory is asked about those who do not answer.
    """

    unpickles = True
    watched = True

    def __init__(self, system: ActorSystem, key: ActorKey, label: str) -> None:
        self.system = system
        self.process = system.process
        self.key = key
        self.label = label
        self._targets: list[_Target] = []
        # Every call that has no outcome yet, and where it is out at present.
        self._calls: dict[Outcome, _Target | None] = {}
        self._bereaved: dict[str, list[tuple[Outcome, CallError]]] = {}
        self._watch = system.watch if self.watched else None
        self._waiting: deque[Outcome] = deque()  # in the order in which they were made
        self.creation: asyncio.Future[None] | None = None  # where this system made the actor
        self._resolving = False
        self._submitted = 0
        self._turn = 0
        self._fresh_until = 0.0
        self.waits_for = ""  # why the actor is not ready yet, as far as was asked
        self._told = ""
        self._lost = ""  # why it is asked again where the actor is

    def __repr__(self) -> str:
        return (
            f"<Route {self.label} to {len(self._targets)} endpoints, waiting={len(self._waiting)}>"
        )

    def encode(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """Arguments, as they are at this moment.

        Args:
            method: Whose arguments.
            args: Positional ones.
            kwargs: The others.

        Raises:
            PayloadError: Something cannot be pickled; the message says what.
        """
        return dumps_arguments(args, kwargs)

    def decode(self, method: str, payload: Payload) -> Any:
        """A result, as the caller gets it.

        Args:
            method: Whose result.
            payload: The result.
        """
        return loads(payload, what=f"the result of {self.label}.{method}", take=True)

    # ---- calls, on the loop

    def submit(self, future: Outcome, call: OutgoingCall) -> None:
        """Sends a call when it is known where to.

        Args:
            future: Its future.
            call: The call.
        """
        if future.done():
            return
        if self.system.closed:  # as for what was posted while it closed
            future.fail(self._shutting_down(), expected=True)
            return
        future.call = call
        if future.retries > 0:
            call.context = replace(call.context, key=self.process.new_call_key())
        future.number = self._submitted = self._submitted + 1
        future.begin()
        if self._targets and not self._waiting:
            self._dispatch(future)
            self._keep_fresh()
        else:
            self._wait(future)

    def _wait(self, future: Outcome, pause_s: float = 0.0) -> None:
        """Sends a call, in its turn, when it is known where to. All later ones wait for it."""
        if self.system.closed:
            future.fail(self._shutting_down(), expected=True)
            return
        self._calls[future] = None
        waiting = self._waiting
        if waiting and waiting[-1].number > future.number:  # it was out before those were made
            waiting.insert(bisect(waiting, future.number, key=lambda f: f.number), future)
        else:
            waiting.append(future)
        if not self._resolving:
            self._resolving = True
            self.system.spawn(self._resolve_for_waiting(pause_s), f"resolve {self.label}")

    def _shutting_down(self) -> FrayError:
        return ActorUnavailable(
            f"{self.label}: the system is shutting down; the call was not sent", started=Started.NO
        )

    def _dispatch(self, future: Outcome) -> None:
        target = self._choose()
        target.outstanding += 1
        self._calls[future] = target
        call = future.call
        assert call is not None
        endpoint = target.endpoint
        if self._watch is not None and not self._watch.active:
            self._watch.begin()
        self.process.send(endpoint.process_id, endpoint.address, endpoint.target, call)

    def _choose(self) -> _Target:
        """Least outstanding, then round robin."""
        targets = self._targets
        if len(targets) == 1:
            return targets[0]
        self._turn += 1
        count = len(targets)
        return min(
            (targets[(self._turn + i) % count] for i in range(count)), key=lambda t: t.outstanding
        )

    def settled(self, future: Outcome) -> None:
        """A call of this route has its outcome.

        Args:
            future: Its future.
        """
        target = self._calls.pop(future, None)
        if target is not None:
            target.outstanding -= 1

    # ---- failures

    def failed(self, future: Outcome, exc: BaseException) -> None:
        """Something went wrong on the way: repeats the call, or settles it.

        Args:
            future: The call's future.
            exc: What went wrong.
        """
        target = self._calls.get(future)
        if target is not None:
            self._calls[future] = None
            target.outstanding -= 1
            if isinstance(exc, ActorUnavailable | ActorDied):
                self._forget(target)
                self._lost = str(exc)
        if not isinstance(exc, ActorUnavailable | ActorDied) or target is None:
            future.fail(exc)
        elif exc.started is Started.NO and not future.has_begun:
            self._again(future)
        elif isinstance(exc, ActorDied):
            self._repeat_or_fail(future, exc)
        else:
            self._ask_why(future, target.endpoint, exc)

    @property
    def in_flight(self) -> bool:
        """Whether a call is on its way or runs."""
        return any(self._calls.values())

    def awaited_endpoints(self) -> list[Endpoint]:
        """Whom calls in flight went to."""
        return [target.endpoint for target in dict.fromkeys(self._calls.values()) if target]

    def departed(self, departure: Departure) -> None:
        """An incarnation is gone: what is in flight to it ends, or is repeated elsewhere.

        Args:
            departure: Which, and why.
        """
        for future, target in list(self._calls.items()):
            call = future.call
            if target is None or call is None:
                continue
            if target.endpoint.target == departure.target:
                started = Started.UNKNOWN if call.sent else Started.NO
                call.cancel()  # what it still says does not count
                self.failed(future, ActorDied(self.label, departure.cause, started=started))

    def avoid(self, target: str) -> None:
        """An incarnation is gone: later calls do not go there. Those in flight are `departed`'s.

        Args:
            target: `Endpoint.target`.
        """
        self._targets = [t for t in self._targets if t.endpoint.target != target]

    def _forget(self, target: _Target) -> None:
        if target in self._targets:
            self._targets.remove(target)

    def _again(self, future: Outcome) -> None:
        old = future.call
        assert old is not None
        future.call = OutgoingCall(
            old.method,
            old.payload,
            future,
            deadline=old.deadline,
            repeatable=future.retries > 0,
            context=old.context,
        )
        pause_s = RESEND_BACKOFF_S[min(future.attempts, len(RESEND_BACKOFF_S) - 1)]
        future.attempts += 1
        self._wait(future, pause_s)

    def _repeat_or_fail(self, future: Outcome, exc: BaseException) -> None:
        if future.retries > 0 and not future.has_begun:
            future.retries -= 1
            future.may_have_run = True
            self._again(future)
        else:
            future.fail(exc)

    def _ask_why(self, future: Outcome, endpoint: Endpoint, exc: CallError) -> None:
        """What became of the other side is asked once, for all calls that were out to it."""
        if self.system.closed:
            future.fail(exc, expected=True)
            return
        bereaved = self._bereaved.get(endpoint.target)
        if bereaved is None:
            bereaved = self._bereaved[endpoint.target] = []
            self.system.spawn(self._learn_why(endpoint), f"obituary {self.label}")
        bereaved.append((future, exc))

    async def _learn_why(self, endpoint: Endpoint) -> None:
        cause, problem = None, ""
        try:
            cause = await self.system.directory.obituary(endpoint)
        except FrayError as failure:
            problem = f"what became of it could not be asked: {failure}"
        except BaseException as end:  # of the process; nobody waits in vain for it
            for future, exc in self._bereaved.pop(endpoint.target):
                future.fail(exc, expected=isinstance(end, CancelledError))
            raise
        for future, exc in self._bereaved.pop(endpoint.target):
            if future.done():
                continue
            if cause is not None:
                exc = ActorDied(self.label, cause, started=exc.started)
            elif problem:
                exc.add_note(problem)
            self._repeat_or_fail(future, exc)

    # ---- where the actor is

    async def _resolve_for_waiting(self, pause_s: float) -> None:
        try:
            if pause_s > 0:
                await self.process.clock.sleep(pause_s)
            await self.resolve()
        except FrayError as exc:
            for future in self._stop_waiting():
                told = _copy_of(exc)
                if self._lost:
                    told.add_note(f"it was asked where {self.label} is, since: {self._lost}")
                future.fail(told)
        except BaseException as exc:  # the end of the process; nobody waits in vain for it
            for future in self._stop_waiting():
                future.fail(self._shutting_down(), expected=isinstance(exc, CancelledError))
            raise
        else:
            for future in self._stop_waiting():
                if future.done():
                    continue
                if self._targets:
                    self._dispatch(future)
                else:  # what was found failed at once, within this loop
                    self._wait(future)

    def _stop_waiting(self) -> deque[Outcome]:
        self._resolving = False
        waiting, self._waiting = self._waiting, deque()
        return waiting

    async def resolve(self, wait_s: float | None = None, *, anew: bool = False) -> None:
        """Finds the actor, waiting while it is being made or restarted.

        Args:
            wait_s: How long to wait for a name that nobody has; None for the system's default.
            anew: Ask although it is known where the actor was.

        Raises:
            ActorNotFoundError: Nobody has the name.
            ActorDied: The actor is gone for good.
        """
        await self.system.created(self.key)
        if wait_s is None:
            wait_s = self.system.lookup_timeout_s if self.key.name else NOT_READY_ASKED_S
        began = self.process.clock.monotonic()
        while anew or not self._targets:
            anew = False
            try:
                located = await self.system.directory.locate(self.key, wait_s=wait_s)
            except (ActorNotFoundError, ActorDied):
                self.invalidate()
                raise
            self._set(located.endpoints)
            waited_s = self.process.clock.monotonic() - began
            wait_s = _until_next_question(waited_s)  # somebody will have it
            self.waits_for = located.pending
            if waited_s >= NOT_READY_TOLD_S and self.waits_for != self._told:
                self._told = self.waits_for
                level = logging.INFO if self._told == BEING_STARTED else logging.WARNING
                log.log(level, "%s is not ready yet: %s", self.label, self._told)

    def _keep_fresh(self) -> None:
        """The members of a pool come and go: what a name means is asked for again, beside calls."""
        now = self.process.clock.monotonic()
        if self.key.name and now >= self._fresh_until and not self._resolving:
            self._fresh_until = now + POOL_REFRESH_S
            self.system.spawn(self._refresh(), f"refresh {self.label}")

    async def _refresh(self) -> None:
        try:
            located = await self.system.directory.locate(self.key, wait_s=0)
        except FrayError as exc:  # what is known stays in use; calls find out by themselves
            log.debug("could not refresh %s: %s", self.label, exc)
            return
        if located.endpoints:
            self._set(located.endpoints)

    def _set(self, endpoints: tuple[Endpoint, ...]) -> None:
        known = {t.endpoint.target: t for t in self._targets}
        self._targets = [known.get(e.target) or _Target(e) for e in endpoints]
        if endpoints:
            self.waits_for = self._told = self._lost = ""
        self._fresh_until = self.process.clock.monotonic() + POOL_REFRESH_S

    def invalidate(self) -> None:
        """The directory says that the actor's places have changed: ask anew for the next call."""
        self._targets = []

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where calls go at present."""
        return [t.endpoint for t in self._targets]

    def fail_all(self, why: str) -> None:
        """The system ends: settles everything that still waits here.

        Args:
            why: For the message.
        """
        for future, target in list(self._calls.items()):
            started = Started.NO if target is None else Started.UNKNOWN
            exc = ActorUnavailable(f"{future.describe()}: {why}", started=started)
            future.fail(exc, expected=True)
        self._waiting.clear()


def _until_next_question(waited_s: float) -> float:
    """How long the next question for an actor that is not ready may wait."""
    for moment_s in (NOT_READY_ASKED_S, NOT_READY_TOLD_S):
        if waited_s < moment_s:
            return moment_s - waited_s
    return LOCATE_WAIT_S


def _copy_of(exc: FrayError) -> FrayError:
    """Each waiter raises an exception object of its own: tracebacks pile up on a shared one."""
    if isinstance(exc, ActorDied):
        return ActorDied(exc.actor, exc.cause, started=exc.started)
    copy = type(exc)(*exc.args)
    copy.__cause__ = exc.__cause__
    return copy


__all__ = ["LOCATE_WAIT_S", "POOL_REFRESH_S", "RESEND_BACKOFF_S", "Route"]
