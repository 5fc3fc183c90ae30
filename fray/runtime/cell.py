"""One hosted actor: its life.

::

    STARTING ──► RUNNING ──► STOPPING ──► STOPPED
        └───────────────────────────────────▲      (construction failed, or killed)

A cell is three parts. This one makes the actor, calls its hooks and ends it. Which of its calls
starts when is said by `fray.runtime.mailbox`, how a method runs by `fray.runtime.execution`.

Outcome. Every submitted invocation is answered exactly once, whatever happens: what is queued and
what runs when the actor ends is told that, and why.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fray.errors import ActorDied, CallCancelled, DeathCause, DeathKind, Started
from fray.runtime.cell_options import CellOptions
from fray.runtime.mailbox import Mailbox
from fray.runtime.methods import hook_takes, methods_of
from fray.runtime.repeats import Repeats
from fray.runtime.waits import holding_up

if TYPE_CHECKING:
    from fray.runtime.calls import Invocation
    from fray.runtime.clock import Clock
    from fray.runtime.threads import Threads

T = TypeVar("T")

CURRENT_CELL: ContextVar[Cell | None] = ContextVar("fray_current_cell", default=None)
"""The actor that the running code is part of."""

CLEAN_UP_S_MIN = 0.5
"""So long cancelled calls and ``on_stop`` may take together, however short the grace of a stop."""


class CellState(Enum):
    """Where an actor is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class CellStatistics:
    """What a cell does at a moment.

    Attributes:
        state: Its state.
        waiting: Calls in the mailbox.
        running: Calls that have started and not ended.
        busy_in: The method of the oldest running call, and for how many seconds it has run.
    """

    state: CellState
    waiting: int
    running: int
    busy_in: tuple[str, float] | None


class Cell:
    """One hosted actor.

    Args:
        target: What frames address it by; names the incarnation.
        label: Its name, for people.
        clock: The process's clock.
        threads: Where plain methods run.
        options: How it is run.
        context: Context variables that its methods see (the process they run in, among others).

    Attributes:
        state: Where it is in its life.
        failure: What it died of by its own fault, once it has; see `fail`.
        fence: Asked before each call whether the actor may have been given up; then the call is
            refused. May be set.
        stopped: Done once it has ended, with the cause.
    """

    def __init__(
        self,
        target: str,
        *,
        label: str,
        clock: Clock,
        threads: Threads,
        options: CellOptions | None = None,
        context: Context | None = None,
    ) -> None:
        self.target = target
        self.label = label
        self.options = options or CellOptions()
        self.state = CellState.STARTING
        self.failure: BaseException | None = None
        self.fence: Callable[[], bool] | None = None
        self.stopped: asyncio.Future[DeathCause] = asyncio.get_running_loop().create_future()
        self._clock = clock
        self._mailbox = Mailbox(
            label,
            self.options,
            clock=clock,
            threads=threads,
            context=self._context_of(context),
        )
        self._execution = self._mailbox.execution
        self.repeats = Repeats(clock)

    def __repr__(self) -> str:
        running = len(self._execution.running)
        waiting = len(self._mailbox)
        return f"<Cell {self.label} {self.state.value} waiting={waiting} running={running}>"

    @property
    def instance(self) -> Any:
        """The actor; None until it is made."""
        return self._execution.instance

    @property
    def cause(self) -> DeathCause | None:
        """Why it stops or has stopped; None while it does not."""
        return self._mailbox.cause

    def statistics(self) -> CellStatistics:
        """What it does now."""
        busy = None
        running = self._execution.running
        for invocation in running:
            busy = (invocation.method, self._clock.monotonic() - invocation.started_at)
            break
        return CellStatistics(self.state, len(self._mailbox), len(running), busy)

    @property
    def running(self) -> Collection[Invocation]:
        """The calls that run, or are handed to the thread; the oldest first."""
        return self._execution.running.keys()

    def awaits(self) -> tuple[str, ...]:
        """The calls of other actors that the oldest running call waits for, for people."""
        for invocation in self._execution.running:
            return tuple(awaited.describe() for _, awaited in holding_up(invocation))
        return ()

    # ---- calls

    def submit(self, invocation: Invocation) -> None:
        """Takes a call. It is answered through its ``reply_to``, possibly before this returns.

        Args:
            invocation: The call.
        """
        if self.fence is not None and self.fence():
            cause = DeathCause(DeathKind.HOST_LOST, "its host was away, and may have been given up")
            invocation.fail(ActorDied(self.label, cause, started=Started.NO))
        else:
            self._mailbox.submit(invocation)

    def submit_repeatable(self, invocation: Invocation) -> None:
        """Takes a call that has a key: it does not run if it is known what became of it.

        Args:
            invocation: The call.
        """
        if self.repeats.admit(invocation):
            self._mailbox.submit(invocation)

    def cancel(self, invocation: Invocation) -> None:
        """The caller has gone: drops a waiting call, cancels a running one. No answer is sent.

        Args:
            invocation: The call.
        """
        victim = invocation
        if invocation.repeats is not None:
            victim = invocation.repeats.cancelled(invocation)
        if victim is not None:
            victim.is_late = invocation.is_late
            self._mailbox.cancel(victim)

    def lost(self, invocation: Invocation) -> None:
        """The caller's connection has ended for good: like `cancel`, but it may ask again.

        Args:
            invocation: The call.
        """
        if invocation.repeats is None or not invocation.repeats.lost(invocation):
            self._mailbox.cancel(invocation)

    def holder(self, invocation: Invocation) -> Invocation | None:
        """For whose end a call waits before it can have its turn; None where it need not.

        Args:
            invocation: The call.
        """
        return self._mailbox.holder(invocation)

    def break_cycle(self, invocation: Invocation, chain: str) -> None:
        """Takes a call out of a cycle of waits: refuses it, or runs it beside the others.

        Args:
            invocation: The call; nothing happens where it has its turn by now.
            chain: The cycle, for people.
        """
        self._mailbox.break_cycle(invocation, chain)

    # ---- life

    async def start(self, factory: Callable[[], Any]) -> None:
        """Makes the actor and begins to serve what waits.

        Args:
            factory: Makes the instance; runs on a thread, since constructors may take long.

        Raises:
            ActorDied: It was stopped or killed meanwhile, or before.
            BaseException: What the factory or ``on_start`` raised. The cell is stopped then.
        """
        if self._has_ended():
            raise ActorDied(self.label, self.cause, started=Started.NO)
        try:
            made = await self._unless_stopped(self._execution.on_thread(factory))
            self._execution.instance = made
            if self.state is CellState.STARTING:
                await self._hook("on_start")
        except BaseException as exc:
            if self.state is CellState.STARTING:
                message = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
                self._finish(DeathCause(DeathKind.APP_ERROR, f"it failed to start: {message}"))
            raise
        if self.state is not CellState.STARTING:
            raise ActorDied(self.label, self.cause, started=Started.NO)
        self.state = CellState.RUNNING
        cls = cast("type", type(self.instance))  # pyright: ignore[reportUnnecessaryCast]
        self._mailbox.open(methods_of(cls))

    async def stop(self, cause: DeathCause, *, grace_s: float = 5.0) -> None:
        """Refuses new calls, lets the present ones end, then ends the actor.

        If the caller is cancelled, the actor ends at once, without its hook.

        Args:
            cause: Why; told to whoever still waits, and to ``on_stop``.
            grace_s: How long the present calls may take, in seconds; then they are cancelled. What
                was cancelled, and ``on_stop``, may together take as long again (at least
                `CLEAN_UP_S_MIN`); then the actor is killed.

        Raises:
            BaseException: What ``on_stop`` raised. The actor has ended.
        """
        if self.state in (CellState.STOPPING, CellState.STOPPED):
            await asyncio.shield(self.stopped)
            return
        was_running = self.state is CellState.RUNNING
        self.state = CellState.STOPPING
        self._mailbox.refuse_new(cause)
        clean_up_s = max(grace_s, CLEAN_UP_S_MIN)
        limit = asyncio.timeout(None)
        try:
            if grace_s > 0 and was_running:
                await self._drained(grace_s)
            self._mailbox.refuse_waiting(cause)
            async with limit:
                limit.reschedule(_deadline(clean_up_s))
                await self._cancel_running(clean_up_s / 2)
                if was_running:
                    await self._hook("on_stop", cause)
        except (ActorDied, TimeoutError):
            if not (limit.expired() or self._has_ended()):  # then it is the hook's own
                raise
        finally:
            self._finish(cause)
        await self._scope_closed()

    def kill(self, cause: DeathCause) -> None:
        """Ends the actor at once: no draining, no hook. What runs on a thread cannot be stopped.

        Args:
            cause: Why.
        """
        if self.state is not CellState.STOPPED:
            self._finish(cause)

    def fail(self, exc: BaseException, cause: DeathCause) -> None:
        """Ends the actor at once, since something that it cannot do without has failed.

        Args:
            exc: What failed.
            cause: The same for its callers.
        """
        if self.state is not CellState.STOPPED:
            self.failure = exc
            self._finish(cause)

    def _context_of(self, context: Context | None) -> Context:
        context = context or copy_context()
        context.run(CURRENT_CELL.set, self)
        return context

    def _has_ended(self) -> bool:
        return self.state is CellState.STOPPED

    def _finish(self, cause: DeathCause) -> None:
        if self.state is CellState.STOPPED:
            return
        self.state = CellState.STOPPED
        self._mailbox.close(cause)
        if not self.stopped.done():
            self.stopped.set_result(cause)

    async def _drained(self, grace_s: float) -> None:
        try:
            async with asyncio.timeout_at(_deadline(grace_s)):
                await self._mailbox.drained()
        except TimeoutError:
            pass  # what is left is cancelled by the caller

    async def _cancel_running(self, limit_s: float) -> None:
        running = list(self._execution.running)
        tasks = [i.task for i in running if i.task is not None]
        for invocation in running:
            self._execution.cancel(invocation)
        if tasks:
            await asyncio.wait(tasks, timeout=None if limit_s == inf else limit_s)

    async def _hook(self, name: str, *args: Any) -> None:
        hook = getattr(self.instance, name, None)
        if hook is None or self._has_ended():
            return
        cls = cast("type", type(self.instance))  # pyright: ignore[reportUnnecessaryCast]
        args = args[: hook_takes(cls, name)] if hasattr(cls, name) else args
        if inspect.iscoroutinefunction(hook):
            outcome = _outcome_of(hook(*args))
            task = self._execution.scope.spawn(
                outcome, name=name, context=self._execution.context()
            )
            exc = await self._unless_stopped(task)
            if exc is not None:
                raise exc
        else:
            await self._unless_stopped(self._execution.on_thread(functools.partial(hook, *args)))

    async def _unless_stopped(self, future: asyncio.Future[T]) -> T:
        """Waits for what the actor itself does, which nobody waits for once it has ended."""
        try:
            await asyncio.wait([future, self.stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not future.done():
                future.cancel()
        if future.done() and not future.cancelled():
            return future.result()
        if self._has_ended():
            raise ActorDied(self.label, self.cause, started=Started.NO)
        raise CallCancelled(f"what {self.label} does as it starts or stops cancelled itself")

    async def _scope_closed(self) -> None:
        try:
            async with asyncio.timeout(CLEAN_UP_S_MIN):
                await self._execution.scope.close()
        except TimeoutError:
            message = f"actor {self.label} has ended, but code of it ignores that it was cancelled"
            asyncio.get_running_loop().call_exception_handler({"message": message})


def _deadline(delay_s: float) -> float | None:
    """A moment on the loop's clock; None for never: loops refuse infinite timers."""
    return None if delay_s == inf else asyncio.get_running_loop().time() + delay_s


async def _outcome_of(call: Awaitable[object]) -> BaseException | None:
    """What a hook raises, as a value: else its task would be reported as failed, too."""
    try:
        await call
    except asyncio.CancelledError:
        raise
    except BaseException as exc:
        return exc
    return None


__all__ = [
    "CLEAN_UP_S_MIN",
    "CURRENT_CELL",
    "Cell",
    "CellOptions",
    "CellState",
    "CellStatistics",
]
