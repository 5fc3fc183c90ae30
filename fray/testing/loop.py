"""The event loop of a simulation.

`SimLoop` implements `asyncio.AbstractEventLoop` directly, without selector, sockets or threads: the
`Scheduler` decides what runs and what time it is, and this module gives it the surface that asyncio
and its users expect. What it cannot simulate it refuses (`fray.testing.refusals`).

A program that can never go on is an error here, not a hang: `SimDeadlock` when nothing is ready or
scheduled, `SimLivelock` when callbacks run without end at one instant, `SimTimeLimit` when the
clock passes a limit. Each lists the pending tasks and where they wait.

This module knows nothing of networks, hosts or pytest.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack, cast

from fray.runtime.outbox import bearable
from fray.testing.errors import SimUnsupported
from fray.testing.lanes import LANE, Lane, SimHandle, SimTask
from fray.testing.refusals import RefusingLoop
from fray.testing.reports import pending_report, pending_tasks
from fray.testing.scheduler import Limits, Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
    from concurrent.futures import Executor
    from contextvars import Context

    ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_log = logging.getLogger("fray.testing")

THREAD_DELAY_S_MAX = 1e-3
"""A function given to an executor runs a seeded moment later, at most so long."""


class SimLoop(Scheduler, RefusingLoop):
    """A deterministic event loop with virtual time.

    Args:
        seed: Decides which lane runs when several could. Any integer.
        **limits: See `Scheduler`.

    Attributes:
        graveyard: Tasks of dead lanes. They are kept so that nothing unwinds them: a process that
            was killed runs no ``finally`` block.
    """

    def __init__(self, seed: int = 0, **limits: Unpack[Limits]) -> None:
        super().__init__(seed, **limits)
        self.graveyard: list[SimTask[Any]] = []
        self._thread_random = random.Random(f"{seed}/executor")
        self._tasks = 0
        self._closed = False
        self._debug = False
        self._thread: int | None = None
        self._exception_handler: ExceptionHandler | None = None
        self._task_factory: Callable[..., asyncio.Future[Any]] | None = None
        self._generators: weakref.WeakValueDictionary[int, AsyncGenerator[Any, Any]]
        self._generators = weakref.WeakValueDictionary()
        self._generators_made = 0
        self._generator_lanes: dict[int, Lane] = {}

    # ---- lanes

    def kill_lanes(self, *lanes: Lane) -> None:
        """Freezes lanes for ever, as ``kill -9`` would: none of their code runs again.

        Their tasks are not cancelled, since that would run their ``finally`` blocks. If the caller
        itself runs in one, it goes on until it next suspends.

        Args:
            *lanes: None of them the main lane; dead ones may be among them.
        """
        dying = {lane: None for lane in lanes if lane.alive}
        tasks = [task for task in pending_tasks(self) if task.lane in dying] if dying else []
        for lane in dying:
            self.drop_lane(lane)
        for task in tasks:
            # Or whoever cancels all tasks at the end would wait for these.
            asyncio.tasks._unregister_task(task)  # pyright: ignore[reportPrivateUsage]
            task._log_destroy_pending = False  # pyright: ignore[reportAttributeAccessIssue]
            self.graveyard.append(task)

    def tasks_of(self, lane: Lane) -> list[SimTask[Any]]:
        """The pending tasks of one lane, in the order of their creation.

        Args:
            lane: Any lane of this loop.
        """
        wanted = None if lane is self.main_lane else lane
        return [task for task in pending_tasks(self) if task.lane is wanted]

    # ---- running

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> SimHandle:
        """See `asyncio.loop.call_soon_threadsafe`.

        Raises:
            SimUnsupported: Called from a real thread, whose timing no seed decides.
        """
        self._check_closed()
        if self._thread not in (None, threading.get_ident()):
            raise SimUnsupported(
                "call_soon_threadsafe() from a real thread: its timing would not be replayable; "
                "use asyncio.to_thread or the process's threads, which the simulation runs itself"
            )
        return self.call_soon(callback, *args, context=context)

    def run_forever(self) -> None:
        """Runs until `stop`.

        Raises:
            SimDeadlock: Nothing is ready and nothing is scheduled.
            SimLivelock: Too many callbacks ran at one instant.
            SimTimeLimit: The clock passed the limit.
        """
        self._check_closed()
        if asyncio._get_running_loop() is not None:  # pyright: ignore[reportPrivateUsage]
            raise RuntimeError("Cannot run the event loop while another loop is running")
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._generator_made, finalizer=self._generator_dropped)
        self._thread = threading.get_ident()
        asyncio._set_running_loop(self)  # pyright: ignore[reportPrivateUsage]
        try:
            self.run_until_stopped()
        finally:
            self._stopping = False
            self._thread = None
            asyncio._set_running_loop(None)  # pyright: ignore[reportPrivateUsage]
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(
        self, future: Generator[Any, None, _T] | Awaitable[_T] | asyncio.Future[_T]
    ) -> _T:
        """See `asyncio.loop.run_until_complete`.

        Raises:
            SimDeadlock: See `run_forever`.
            SimLivelock: See `run_forever`.
            SimTimeLimit: See `run_forever`.
        """
        self._check_closed()
        waited: asyncio.Future[_T] = asyncio.ensure_future(cast("Awaitable[_T]", future), loop=self)

        def stop(_done: asyncio.Future[_T]) -> None:
            self._stopping = True

        waited.add_done_callback(stop)
        try:
            self.run_forever()
        except BaseException:
            if waited.done() and not waited.cancelled():
                waited.exception()  # retrieved: the error that is under way says more
            raise
        finally:
            waited.remove_done_callback(stop)
        if not waited.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return waited.result()

    def is_running(self) -> bool:
        """Whether the loop runs now."""
        return self._thread is not None

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Forgets all that is scheduled. Idempotent."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        self._closed = True
        self.clear()

    def _check_closed(self) -> None:
        if self._closed:
            raise RuntimeError("Event loop is closed")

    # ---- futures and tasks

    def create_future(self) -> asyncio.Future[Any]:
        """A plain future.

        It is not one that hashes by number, as tasks do: that would cost a quarter of all speed.
        So a *set* of bare futures has no stable order; keep them in lists and dicts.
        """
        return asyncio.Future(loop=self)

    def next_task_number(self) -> int:
        """Counts the tasks of this loop from 1."""
        self._tasks += 1
        return self._tasks

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[_T]:
        """See `asyncio.loop.create_task`. The task belongs to the lane of its context."""
        self._check_closed()
        coro = cast("Coroutine[Any, Any, _T]", coro)
        if self._task_factory is None:
            return SimTask(coro, loop=self, name=name, context=context, **kwargs)
        made = self._task_factory(self, coro, name=name, context=context, **kwargs)
        return cast("asyncio.Task[_T]", made)

    def set_task_factory(self, factory: Callable[..., asyncio.Future[Any]] | None) -> None:
        """See `asyncio.loop.set_task_factory`. Tasks of other classes break replay."""
        self._task_factory = factory

    def get_task_factory(self) -> Callable[..., asyncio.Future[Any]] | None:
        """See `asyncio.loop.get_task_factory`."""
        return self._task_factory

    # ---- threads, of which there are none

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[_Ts]], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """Runs a function at a seeded moment of its own, on this very thread.

        It must not wait for anything: nobody else runs meanwhile. Cancelling the future before
        that moment keeps the function from running, as with a real executor.

        Args:
            executor: Ignored.
            func: What to run.
            *args: Its arguments.
        """
        self._check_closed()
        future: asyncio.Future[_T] = self.create_future()
        self.call_later(
            self._thread_random.random() * THREAD_DELAY_S_MAX,
            run_as_thread,
            future,
            lambda: func(*args),
            context=LANE.get(self.main_lane).context.copy(),
        )
        return future

    def set_default_executor(self, executor: Executor) -> None:
        """Accepted and ignored, see `run_in_executor`."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to shut down."""

    # ---- async generators

    def _generator_made(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators_made += 1
        self._generators[self._generators_made] = generator
        self._generator_lanes[id(generator)] = LANE.get(self.main_lane)

    def _generator_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        # Whoever dropped it may belong to another process than whoever made it. Of a dead process
        # nothing is scheduled: the generator goes without being unwound.
        lane = self._generator_lanes.pop(id(generator), self.main_lane)
        if lane.alive and not self._closed:
            self.call_soon(self._close_generator, generator, context=lane.context.copy())

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        self.create_task(generator.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Closes all async generators that are still open, in the order of their creation."""
        generators = [generator for _, generator in sorted(self._generators.items())]
        self._generators.clear()
        for generator in generators:
            if self._generator_lanes.pop(id(generator), self.main_lane).alive:
                await generator.aclose()

    # ---- signals, errors, debugging

    def pending_report(self) -> str:
        """See `Scheduler.pending_report`."""
        return pending_report(self, self.lanes)

    def callback_failed(self, handle: SimHandle, exc: BaseException) -> None:
        """See `Scheduler.callback_failed`."""
        message = f"Exception in callback {handle!r}"
        self.call_exception_handler({"message": message, "exception": exc, "handle": handle})

    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts
    ) -> None:
        """Registers a handler of the simulated process that calls, see `Simulation.stop`."""
        LANE.get(self.main_lane).signal_handlers[sig] = lambda: callback(*args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Removes a handler; tells whether there was one."""
        return LANE.get(self.main_lane).signal_handlers.pop(sig, None) is not None

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """See `asyncio.loop.set_exception_handler`."""
        self._exception_handler = handler

    def get_exception_handler(self) -> ExceptionHandler | None:
        """See `asyncio.loop.get_exception_handler`."""
        return self._exception_handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Logs the error."""
        _log.error("%s", context.get("message"), exc_info=context.get("exception"))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """See `asyncio.loop.call_exception_handler`."""
        if self._exception_handler is not None:
            self._exception_handler(self, context)
        else:
            self.default_exception_handler(context)

    def get_debug(self) -> bool:
        """See `asyncio.loop.get_debug`."""
        return self._debug

    def set_debug(self, enabled: bool) -> None:
        """Kept, and without effect."""
        self._debug = enabled


def run_as_thread(future: asyncio.Future[_T], call: Callable[[], _T]) -> None:
    """Runs a function where it believes to be on a thread of its own: without a running loop.

    Args:
        future: Gets the outcome; if it is done already, the function does not run.
        call: What to run.
    """
    if future.done():
        return
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)  # pyright: ignore[reportPrivateUsage]
    try:
        value = call()
    except KeyboardInterrupt:  # of who watches; everything else is the function's own
        raise
    except BaseException as exc:
        outcome = functools.partial(future.set_exception, bearable(exc))
    else:
        outcome = functools.partial(future.set_result, value)
    finally:
        asyncio._set_running_loop(loop)  # pyright: ignore[reportPrivateUsage]
    if not future.done():
        outcome()


__all__ = ["THREAD_DELAY_S_MAX", "SimLoop", "run_as_thread"]
