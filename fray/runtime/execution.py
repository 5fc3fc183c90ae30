"""How an actor's methods run: on a thread, as a task, as a stream of items.

An ``async def`` method runs as a task of its own on the process's loop. A plain method runs on a
thread, never on the loop; while several plain calls wait, the thread is given a batch of them at
once, since a hop between threads costs more than a small method. Arguments of plain methods are
unpickled, and their results pickled, on that thread too.

This room answers the calls that it is given, each once. Which of them runs when is its owner's
matter, the mailbox's; so is what a call is told that is cut off.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import replace
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fray.errors import CallCancelled, DeadlineExceeded, Started
from fray.runtime.calls import CURRENT_INVOCATION, Invocation
from fray.runtime.codecs import CODECS
from fray.runtime.error_envelope import encode_error
from fray.runtime.methods import Kind, Method
from fray.runtime.tasks import Scope
from fray.runtime.waits import blocked_on

if TYPE_CHECKING:
    from fray.runtime.cell_options import CellOptions
    from fray.runtime.clock import Clock
    from fray.runtime.payload import Payload
    from fray.runtime.threads import Lane, Threads

T = TypeVar("T")

LANES_MAX = 64
"""Threads that one actor's plain methods may use at once, however large its max_concurrency."""

LOOP_PAYLOAD_BYTES_MAX = 256 << 10
"""Arguments larger than this are unpickled on a thread even for async methods."""


class Owner(Protocol):
    """Who gives the calls."""

    @property
    def calls_wait(self) -> bool:
        """Whether others wait: then an answer may wait a moment for theirs."""
        ...

    def ended(self, invocation: Invocation, *, in_turn: bool) -> None:
        """A call no longer runs. It has been answered."""
        ...

    def cut_off(self, invocation: Invocation) -> None:
        """Answers a call that was given its turn but not its time."""
        ...


class Execution:
    """Runs the methods of one actor.

    Args:
        label: Its name, for people.
        options: How it is run.
        clock: The process's clock.
        threads: Where plain methods run.
        context: Context variables that its methods see.
        owner: Who gives the calls.

    Attributes:
        instance: The actor; None until it is made.
        scope: Owns its tasks.
        running: The calls that run, the oldest first, and whether each does so in its turn.
    """

    def __init__(
        self,
        label: str,
        options: CellOptions,
        *,
        clock: Clock,
        threads: Threads,
        context: Context,
        owner: Owner,
    ) -> None:
        self.instance: Any = None
        self.scope = Scope(label)
        self.running: dict[Invocation, bool] = {}
        self._label = label
        self._options = options
        self._clock = clock
        self._threads = threads
        self._context = context
        self._owner = owner
        self._codec = CODECS[options.codec]
        self._lane = self._new_lane()
        self._spare_lanes: list[Lane] = []
        self._lanes = 1
        self._closed = False

    def begin(self, invocation: Invocation, method: Method, *, in_turn: bool) -> None:
        """Runs a call. Its owner is told when it has ended.

        Args:
            invocation: The call.
            method: What it calls.
            in_turn: Whether it runs in its turn, not beside the others.
        """
        self.running[invocation] = in_turn
        if self._options.reentrant:
            self._add_link(invocation)
        invocation.started_at = now = self._clock.monotonic()
        if invocation.deadline is not None:  # whether or not its caller can still tell that
            left_s = max(invocation.deadline - now, 0.0)
            loop = asyncio.get_running_loop()
            invocation.timer = loop.call_later(left_s, self._too_late, invocation)
        context = self.context()
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
            task = self.scope.spawn(run(invocation, method), name=method.name, context=context)
            invocation.task = task
            task.add_done_callback(functools.partial(self._task_done, invocation, in_turn=in_turn))

    def _add_link(self, invocation: Invocation) -> None:
        """What this call makes others call here is known by this number in its chain."""
        context = invocation.context
        link = self._clock.random.getrandbits(64)
        invocation.context = replace(context, chain=(*context.chain, link))

    def cancel(self, invocation: Invocation) -> None:
        """Cancels a call that runs. A plain method that has begun can only be told.

        Args:
            invocation: The call.
        """
        invocation.interrupt()  # a plain method sees it when it asks, or when it blocks
        task = invocation.task
        # A plain method that has begun ends when it ends, and until then it is its turn. Its thread
        # takes the payload first and looks at `cancelled` then, so one of the two sees the other.
        if task is not None and (isinstance(task, asyncio.Task) or invocation.payload is not None):
            task.cancel()
        for awaited in blocked_on(invocation):  # which its thread would only see in the end
            awaited.cancel()

    def _too_late(self, invocation: Invocation) -> None:
        if invocation.cancelled:  # it cleans up
            return
        started = Started.NO if invocation.payload is not None else Started.UNKNOWN
        message = f"{self._label}.{invocation.method} had not ended when its time was up"
        invocation.is_late = True
        invocation.fail(DeadlineExceeded(message, started=started))
        self.cancel(invocation)

    def context(self) -> Context:
        """The context variables that the actor's code sees, for one run of it."""
        return self._context.copy()

    def on_thread(self, fn: Callable[[], T]) -> asyncio.Future[T]:
        """Runs something of the actor's on the thread of its plain methods, in its turn there.

        Args:
            fn: What to run.
        """
        return self._lane.submit(fn, (), self.context())

    def close(self) -> None:
        """Gives the threads back; each goes on to the end of what it runs."""
        self._closed = True
        self._lane.close()
        for lane in self._spare_lanes:
            lane.close()

    def _ended(self, invocation: Invocation, *, in_turn: bool) -> None:
        self.running.pop(invocation, None)
        if invocation.timer is not None:
            invocation.timer.cancel()
        invocation.task = None
        self._owner.ended(invocation, in_turn=in_turn)

    # ---- plain methods, on a thread

    def _new_lane(self) -> Lane:
        return self._threads.lane(self._label, thread_affinity=self._options.thread_affinity)

    def _take_lane(self, in_turn: bool) -> Lane:
        if self._options.thread_affinity or (in_turn and self._options.max_concurrency == 1):
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
        if self._closed:
            lane.close()
        else:
            self._spare_lanes.append(lane)

    def _call_plain(self, invocation: Invocation) -> tuple[bool, Payload] | None:
        """On the lane's thread. Never raises. None if nobody waits for the call any more."""
        payload, invocation.payload = invocation.payload, None
        if payload is None or invocation.cancelled:  # in this order, see cancel
            return None
        invocation.thread = get_ident()
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
            self._owner.cut_off(invocation)
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
            return await lane.submit(decode, (), self.context())
        finally:
            self._give_lane_back(lane)

    async def _call_async(self, invocation: Invocation, method: Method) -> None:
        try:
            fn = getattr(self.instance, method.name)
            args, kwargs = await self._arguments(invocation, fn)
            payload = self._codec.encode(fn, await fn(*args, **kwargs))
        except asyncio.CancelledError:
            if not invocation.cancelled:  # the method's own: it cancelled itself
                invocation.fail(CallCancelled(f"{method.name} cancelled itself"))
            return
        except BaseException as exc:  # SystemExit must not end the process of other actors
            self._answer(invocation, False, encode_error(exc))
            return
        self._answer(invocation, True, payload)

    async def _call_generator(self, invocation: Invocation, method: Method) -> None:
        if invocation.repeats is not None and not invocation.repeats.streams(invocation):
            return
        iterator: Any = None
        # A plain generator keeps its lane: what closes it must not overtake what runs in it.
        is_plain = method.kind is Kind.GENERATOR
        lane = self._take_lane(not method.options.concurrent) if is_plain else self._lane
        try:
            fn = getattr(self.instance, method.name)
            args, kwargs = await self._arguments(invocation, fn)
            iterator = fn(*args, **kwargs)
            step = (
                functools.partial(self._next_plain, lane, invocation)
                if is_plain
                else self._next_async
            )
            while (payload := await step(fn, iterator)) is not None:
                await invocation.credit(payload.nbytes)
                if not invocation.finished:
                    invocation.reply_to.item(invocation, payload)
        except asyncio.CancelledError:
            if not invocation.cancelled:
                invocation.fail(CallCancelled(f"{method.name} cancelled itself"))
        except BaseException as exc:
            self._answer(invocation, False, encode_error(exc))
        else:
            invocation.end()
        finally:
            await self._close_iterator(invocation, iterator, lane)
            self._give_lane_back(lane)

    async def _next_async(self, fn: Any, iterator: Any) -> Payload | None:
        try:
            return self._codec.encode(fn, await anext(iterator))
        except StopAsyncIteration:
            return None

    async def _next_plain(
        self, lane: Lane, invocation: Invocation, fn: Any, iterator: Any
    ) -> Payload | None:
        def step() -> Payload | None:
            invocation.thread = get_ident()
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
            elif hasattr(iterator, "close") and not self._closed:
                await lane.submit(iterator.close, (), copy_context())
        except (Exception, asyncio.CancelledError) as exc:
            if invocation.cancelled and isinstance(exc, asyncio.CancelledError):
                return  # cancelled once more, by the end of the actor
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"closing a stream of {self._label} failed", "exception": exc}
            )

    def _task_done(
        self, invocation: Invocation, task: asyncio.Task[None], *, in_turn: bool
    ) -> None:
        if not invocation.finished:
            self._owner.cut_off(invocation)
        self._ended(invocation, in_turn=in_turn)

    def _answer(self, invocation: Invocation, ok: bool, payload: Payload) -> None:
        invocation.more = self._owner.calls_wait
        invocation.answer(ok, payload)


__all__ = ["LANES_MAX", "LOOP_PAYLOAD_BYTES_MAX", "Execution", "Owner"]
