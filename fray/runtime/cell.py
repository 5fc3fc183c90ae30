"""One hosted actor: its mailbox, how its methods run, its life.

::

    STARTING ──► RUNNING ──► STOPPING ──► STOPPED
        └───────────────────────────────────▲      (construction failed, or killed)

Order and concurrency. Calls start in the order in which they were submitted, and by default one
runs at a time: a second one starts when the first has ended. ``max_concurrency=N`` lets N run.
A method marked ``concurrent`` starts at once, beside the others, as soon as the actor runs.

Where methods run. An ``async def`` method runs as a task of its own on the process's loop. A plain
method runs on a thread, never on the loop; while several plain calls wait, the thread is given a
batch of them at once, since a hop between threads costs more than a small method. Arguments of
plain methods are unpickled, and their results pickled, on that thread too.

Outcome. Every submitted invocation is answered exactly once, whatever happens: the cell keeps what
is queued and what runs, and answers the rest when it stops.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fray.errors import (
    ActorDied,
    CallCancelled,
    CallError,
    DeadlineExceeded,
    DeathCause,
    DeathKind,
    MailboxFull,
    Started,
    UnknownMethodError,
)
from fray.runtime.calls import CURRENT_INVOCATION, Invocation
from fray.runtime.codecs import CODECS
from fray.runtime.error_envelope import encode_error
from fray.runtime.methods import Kind, Method, methods_of, no_such_method
from fray.runtime.payload import Codec, Payload
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.runtime.clock import Clock
    from fray.runtime.threads import Lane, Threads

T = TypeVar("T")

MAILBOX_CALLS_MAX = 100_000
"""Calls that may wait at one actor by default. A waiting call costs about a kilobyte."""

LANE_AHEAD_MAX = 128
"""Plain calls handed to the thread before the first of them is done."""

LANES_MAX = 64
"""Threads that one actor's plain methods may use at once, however large its max_concurrency."""

LOOP_PAYLOAD_BYTES_MAX = 256 << 10
"""Arguments larger than this are unpickled on a thread even for async methods."""

CLEAN_UP_S_MIN = 0.5
"""So long cancelled calls and ``on_stop`` may take together, however short the grace of a stop."""


class CellState(Enum):
    """Where an actor is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class CellOptions:
    """How an actor is run.

    Attributes:
        max_concurrency: Calls that may run at once, ≥ 1.
        mailbox_calls_max: Calls that may wait, ≥ 1.
        codec: What arguments and results are made of; actors of the control plane take JSON only.
        thread_affinity: Run every plain method on the same thread.
    """

    max_concurrency: int = 1
    mailbox_calls_max: int = MAILBOX_CALLS_MAX
    codec: Codec = Codec.PICKLE
    thread_affinity: bool = False

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise ValueError(f"max_concurrency must be at least 1, not {self.max_concurrency}")
        if self.mailbox_calls_max < 1:
            raise ValueError(f"mailbox_calls_max must be at least 1, not {self.mailbox_calls_max}")


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
        self.instance: Any = None
        self.cause: DeathCause | None = None
        self._clock = clock
        self._threads = threads
        self._context = context or copy_context()
        self._codec = CODECS[self.options.codec]
        self._scope = Scope(label)
        self._methods: dict[str, Method] = {}
        self._mailbox: deque[Invocation] = deque()
        self._mailbox_cancelled = 0  # how many of them nobody waits for any more
        self._running: dict[Invocation, None] = {}
        self._lane = self._new_lane()
        self._spare_lanes: list[Lane] = []
        self._lanes = 1
        self._turn = 0  # calls running that count against max_concurrency
        self._turn_is_plain = False  # serial actors: whether what runs is on the thread
        self._idle: asyncio.Future[None] | None = None
        self.stopped: asyncio.Future[DeathCause] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return (
            f"<Cell {self.label} {self.state.value} waiting={self._waiting} "
            f"running={len(self._running)}>"
        )

    @property
    def _waiting(self) -> int:
        return len(self._mailbox) - self._mailbox_cancelled

    def statistics(self) -> CellStatistics:
        """What it does now."""
        busy = None
        for invocation in self._running:
            busy = (invocation.method, self._clock.monotonic() - invocation.started_at)
            break
        return CellStatistics(self.state, self._waiting, len(self._running), busy)

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
            self.instance = await self._unless_stopped(self._on_lane(self._lane, factory))
            cls = cast("type", type(self.instance))  # pyright: ignore[reportUnnecessaryCast]
            self._methods = dict(methods_of(cls))
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
        self._start_concurrent()
        self._pump()

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
        self.cause = cause
        clean_up_s = max(grace_s, CLEAN_UP_S_MIN)
        limit = asyncio.timeout(None)
        try:
            if grace_s > 0 and was_running:
                await self._drained(grace_s)
            self._refuse_waiting(cause)
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

    def _has_ended(self) -> bool:
        return self.state is CellState.STOPPED

    def _finish(self, cause: DeathCause) -> None:
        if self.state is CellState.STOPPED:
            return
        self.state = CellState.STOPPED
        self.cause = cause
        self._refuse_waiting(cause)
        for invocation in list(self._running):
            self._cancel_task(invocation)
            self._cut_off(invocation)
        self._lane.close()
        for lane in self._spare_lanes:
            lane.close()
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        if not self.stopped.done():
            self.stopped.set_result(cause)

    async def _drained(self, grace_s: float) -> None:
        if self._mailbox or self._running:
            self._idle = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout_at(_deadline(grace_s)):
                    await self._idle
            except TimeoutError:
                pass  # what is left is cancelled by the caller
            finally:
                self._idle = None

    async def _cancel_running(self, limit_s: float) -> None:
        tasks = [i.task for i in self._running if i.task is not None]
        for invocation in list(self._running):
            self._cancel_task(invocation)
        if tasks:
            await asyncio.wait(tasks, timeout=None if limit_s == inf else limit_s)

    def _refuse_waiting(self, cause: DeathCause) -> None:
        while self._mailbox:
            self._fail(self._mailbox.popleft(), ActorDied(self.label, cause, started=Started.NO))
        self._mailbox_cancelled = 0

    async def _hook(self, name: str, *args: Any) -> None:
        hook = getattr(self.instance, name, None)
        if hook is None or self._has_ended():
            return
        if inspect.iscoroutinefunction(hook):
            task = self._scope.spawn(
                _outcome_of(hook(*args)), name=name, context=self._context.copy()
            )
            exc = await self._unless_stopped(task)
            if exc is not None:
                raise exc
        else:
            await self._unless_stopped(self._on_lane(self._lane, functools.partial(hook, *args)))

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
                await self._scope.close()
        except TimeoutError:
            message = f"actor {self.label} has ended, but code of it ignores that it was cancelled"
            asyncio.get_running_loop().call_exception_handler({"message": message})

    # ---- calls

    def submit(self, invocation: Invocation) -> None:
        """Takes a call. It is answered through its ``reply_to``, possibly before this returns.

        Args:
            invocation: The call.
        """
        if self.state in (CellState.STOPPING, CellState.STOPPED):
            gone = ActorDied(self.label, self.cause, started=Started.NO)
            self._fail(invocation, gone)
        elif self._is_concurrent(invocation):
            self._begin_beside(invocation)
        elif len(self._mailbox) - self._mailbox_cancelled >= self.options.mailbox_calls_max:
            self._fail(
                invocation,
                MailboxFull(
                    f"actor {self.label} already has {self._waiting} calls waiting; wait for "
                    "some of yours before you send more, or raise mailbox_calls_max"
                ),
            )
        else:
            self._mailbox.append(invocation)
            self._pump()

    def cancel(self, invocation: Invocation) -> None:
        """The caller has gone: drops a waiting call, cancels a running one. No answer is sent.

        Args:
            invocation: The call.
        """
        waits = not invocation.finished and invocation not in self._running
        invocation.cancelled = True
        invocation.finished = True
        if not waits:
            self._cancel_task(invocation)
            return
        # A waiting one is dropped when its turn comes: searching the mailbox would cost more. But
        # there are never more of these than others.
        invocation.payload = None
        self._mailbox_cancelled += 1
        if 2 * self._mailbox_cancelled > len(self._mailbox):
            self._mailbox = deque(each for each in self._mailbox if not each.cancelled)
            self._mailbox_cancelled = 0

    def _cancel_task(self, invocation: Invocation) -> None:
        invocation.cancelled = True  # what a plain method sees: a thread cannot be interrupted
        task = invocation.task
        # A plain method that has begun ends when it ends, and until then it is its turn. Its thread
        # takes the payload first and looks at `cancelled` then, so one of the two sees the other.
        if task is not None and (isinstance(task, asyncio.Task) or invocation.payload is not None):
            task.cancel()

    def _is_concurrent(self, invocation: Invocation) -> bool:
        if self.state is not CellState.RUNNING:
            return False
        method = self._methods.get(invocation.method)
        return method is not None and method.options.concurrent

    def _start_concurrent(self) -> None:
        """Starts what has waited only for the actor to run."""
        beside = [each for each in self._mailbox if self._is_concurrent(each)]
        if beside:
            self._mailbox = deque(each for each in self._mailbox if not self._is_concurrent(each))
        for invocation in beside:
            if invocation.cancelled:
                self._mailbox_cancelled -= 1
            else:
                self._begin_beside(invocation)

    def _begin_beside(self, invocation: Invocation) -> None:
        refusal = self._refusal(invocation)
        if refusal is None:
            self._begin(invocation, self._methods[invocation.method], in_turn=False)
        else:
            self._fail(invocation, refusal)

    def _pump(self) -> None:
        """Starts what may start."""
        while self._mailbox and self.state in (CellState.RUNNING, CellState.STOPPING):
            invocation = self._mailbox[0]
            if invocation.cancelled:
                self._mailbox.popleft()
                self._mailbox_cancelled -= 1
                continue
            refusal = self._refusal(invocation)
            if refusal is not None:
                self._mailbox.popleft()
                self._fail(invocation, refusal)
                continue
            method = self._methods[invocation.method]
            if not self._has_turn(method):
                return
            self._mailbox.popleft()
            self._begin(invocation, method, in_turn=True)
        if self._idle is not None and not self._running and not self._idle.done():
            self._idle.set_result(None)

    def _refusal(self, invocation: Invocation) -> CallError | None:
        if invocation.method not in self._methods:
            return UnknownMethodError(no_such_method(self.label, invocation.method, self._methods))
        if invocation.deadline is not None and self._clock.monotonic() >= invocation.deadline:
            return DeadlineExceeded(
                f"{self.label}.{invocation.method} was still waiting for its turn when its time "
                "was up",
                started=Started.NO,
            )
        payload = invocation.payload
        if payload is not None and payload.codec is not self.options.codec:
            return CallError(
                f"actor {self.label} takes {self.options.codec.name} arguments, "
                f"not {payload.codec.name}",
                started=Started.NO,
            )
        return None

    def _has_turn(self, method: Method) -> bool:
        if self._turn == 0:
            return True
        if self.options.max_concurrency > 1:
            return self._turn < self.options.max_concurrency
        return self._turn_is_plain and method.kind is Kind.SYNC and self._turn < LANE_AHEAD_MAX

    def _begin(self, invocation: Invocation, method: Method, *, in_turn: bool) -> None:
        self._running[invocation] = None
        invocation.started_at = self._clock.monotonic()
        if in_turn:
            self._turn += 1
            self._turn_is_plain = method.kind is Kind.SYNC
        context = self._context.copy()
        context.run(CURRENT_INVOCATION.set, invocation)
        if method.kind is Kind.SYNC:
            lane = self._take_lane(in_turn)
            future = lane.submit(self._call_plain, (invocation,), context)
            invocation.task = future
            future.add_done_callback(
                functools.partial(self._plain_done, invocation, lane, in_turn=in_turn)
            )
        else:
            run = self._call_async if method.kind is Kind.ASYNC else self._call_generator
            task = self._scope.spawn(run(invocation, method), name=method.name, context=context)
            invocation.task = task
            task.add_done_callback(functools.partial(self._task_done, invocation, in_turn=in_turn))

    def _ended(self, invocation: Invocation, *, in_turn: bool) -> None:
        self._running.pop(invocation, None)
        invocation.task = None
        if in_turn:
            self._turn -= 1
        if not self._mailbox and self._idle is None:
            return
        self._pump()

    # ---- plain methods, on a thread

    def _new_lane(self) -> Lane:
        return self._threads.lane(self.label, thread_affinity=self.options.thread_affinity)

    def _take_lane(self, in_turn: bool) -> Lane:
        if self.options.thread_affinity or (in_turn and self.options.max_concurrency == 1):
            return self._lane
        if self._spare_lanes:
            return self._spare_lanes.pop()
        if self._lanes >= LANES_MAX:
            return self._lane
        self._lanes += 1
        return self._new_lane()

    def _give_lane_back(self, lane: Lane) -> None:
        if lane is self._lane:
            return
        if self.state is CellState.STOPPED:
            lane.close()
        else:
            self._spare_lanes.append(lane)

    def _on_lane(self, lane: Lane, fn: Callable[[], T]) -> asyncio.Future[T]:
        return lane.submit(fn, (), self._context.copy())

    def _call_plain(self, invocation: Invocation) -> tuple[bool, Payload] | None:
        """On the lane's thread. Never raises. None if nobody waits for the call any more."""
        payload, invocation.payload = invocation.payload, None
        if payload is None or invocation.cancelled:  # in this order, see _cancel_task
            return None
        try:
            fn = getattr(self.instance, invocation.method)
            args, kwargs = self._codec.decode(fn, payload, take=invocation.owns_payload)
            return True, self._codec.encode(fn, fn(*args, **kwargs))
        except BaseException as exc:
            return False, encode_error(exc)

    def _plain_done(
        self,
        invocation: Invocation,
        lane: Lane,
        future: asyncio.Future[tuple[bool, Payload] | None],
        *,
        in_turn: bool,
    ) -> None:
        self._give_lane_back(lane)
        outcome = None
        if not future.cancelled():
            exc = future.exception()
            outcome = future.result() if exc is None else (False, encode_error(exc))
        if outcome is not None:
            self._answer(invocation, *outcome)
        else:
            self._cut_off(invocation)
        self._ended(invocation, in_turn=in_turn)

    # ---- async methods and generators, on the loop

    async def _arguments(self, invocation: Invocation, fn: Any) -> tuple[Any, Any]:
        payload, invocation.payload = invocation.payload, None
        assert payload is not None
        decode = functools.partial(self._codec.decode, fn, payload, take=invocation.owns_payload)
        if payload.nbytes <= LOOP_PAYLOAD_BYTES_MAX:
            return decode()
        lane = self._take_lane(in_turn=False)
        try:
            return await self._on_lane(lane, decode)
        finally:
            self._give_lane_back(lane)

    async def _call_async(self, invocation: Invocation, method: Method) -> None:
        try:
            fn = getattr(self.instance, method.name)
            args, kwargs = await self._arguments(invocation, fn)
            payload = self._codec.encode(fn, await fn(*args, **kwargs))
        except asyncio.CancelledError:
            if not invocation.cancelled:  # the method's own: it cancelled itself
                self._fail(invocation, CallCancelled(f"{method.name} cancelled itself"))
            return
        except BaseException as exc:  # SystemExit must not end the process of other actors
            self._answer(invocation, False, encode_error(exc))
            return
        self._answer(invocation, True, payload)

    async def _call_generator(self, invocation: Invocation, method: Method) -> None:
        iterator: Any = None
        # A plain generator keeps its lane: what closes it must not overtake what runs in it.
        is_plain = method.kind is Kind.GENERATOR
        lane = self._take_lane(not method.options.concurrent) if is_plain else self._lane
        try:
            fn = getattr(self.instance, method.name)
            args, kwargs = await self._arguments(invocation, fn)
            iterator = fn(*args, **kwargs)
            step = functools.partial(self._next_plain, lane) if is_plain else self._next_async
            while (payload := await step(fn, iterator)) is not None:
                await invocation.credit(payload.nbytes)
                if not invocation.finished:
                    invocation.reply_to.item(invocation, payload)
        except asyncio.CancelledError:
            if not invocation.cancelled:
                self._fail(invocation, CallCancelled(f"{method.name} cancelled itself"))
        except BaseException as exc:
            self._answer(invocation, False, encode_error(exc))
        else:
            if not invocation.finished:
                invocation.finished = True
                invocation.reply_to.end(invocation)
        finally:
            await self._close_iterator(invocation, iterator, lane)
            self._give_lane_back(lane)

    async def _next_async(self, fn: Any, iterator: Any) -> Payload | None:
        try:
            return self._codec.encode(fn, await anext(iterator))
        except StopAsyncIteration:
            return None

    async def _next_plain(self, lane: Lane, fn: Any, iterator: Any) -> Payload | None:
        def step() -> Payload | None:
            try:
                return self._codec.encode(fn, next(iterator))
            except StopIteration:
                return None

        return await lane.submit(step, (), copy_context())  # in which the call can be seen

    async def _close_iterator(self, invocation: Invocation, iterator: Any, lane: Lane) -> None:
        """Runs the generator's ``finally`` blocks; the stream has ended already."""
        try:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
            elif hasattr(iterator, "close") and self.state is not CellState.STOPPED:
                await lane.submit(iterator.close, (), copy_context())
        except (Exception, asyncio.CancelledError) as exc:
            if invocation.cancelled and isinstance(exc, asyncio.CancelledError):
                return  # cancelled once more, by the end of the actor
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"closing a stream of {self.label} failed", "exception": exc}
            )

    def _task_done(
        self, invocation: Invocation, task: asyncio.Task[None], *, in_turn: bool
    ) -> None:
        if not invocation.finished:
            self._cut_off(invocation)
        self._ended(invocation, in_turn=in_turn)

    # ---- answers

    def _answer(self, invocation: Invocation, ok: bool, payload: Payload) -> None:
        if invocation.finished:
            return
        invocation.finished = True
        invocation.more = bool(self._mailbox)
        if ok:
            invocation.reply_to.result(invocation, payload)
        else:
            invocation.reply_to.error(invocation, payload)

    def _cut_off(self, invocation: Invocation) -> None:
        """Answers a call that was given its turn but not its time."""
        started = Started.NO if invocation.payload is not None else Started.UNKNOWN
        if self.cause is not None:
            self._fail(invocation, ActorDied(self.label, self.cause, started=started))
        else:
            self._fail(invocation, CallCancelled("it was cut off", started=started))

    def _fail(self, invocation: Invocation, exc: CallError) -> None:
        if not invocation.finished:
            invocation.finished = True
            invocation.reply_to.failure(invocation, exc)


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
    "LANES_MAX",
    "LANE_AHEAD_MAX",
    "LOOP_PAYLOAD_BYTES_MAX",
    "MAILBOX_CALLS_MAX",
    "Cell",
    "CellOptions",
    "CellState",
    "CellStatistics",
]
