"""A worker of a pool: an actor that runs tasks, keeps their large results, and gives these on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from fray.actor.current import current_system
from fray.actor.decorator import actor, method
from fray.errors import CallError, ReferenceFreedError
from fray.job.current import CURRENT_JOB_CONTEXT
from fray.job.futures import ITEMS_AHEAD
from fray.job.heap import keep_freed_memory
from fray.job.parts import INLINE_BYTES_MAX, Parts, own, parts_of, payload_of, shared
from fray.job.threads import CURRENT_TURN, TaskThreads, Turn, Work, block
from fray.job.workerlink import WorkerLink
from fray.runtime.error_envelope import decode_error, encode_error
from fray.runtime.payload import Codec, Payload
from fray.runtime.serialization import dumps, loads
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from contextvars import Context

    from fray.actor.handle import ActorHandle
    from fray.runtime.threads import Lane

FUNCTIONS_MAX = 256
"""Functions that a worker keeps, those used last."""

TOLD_AT_ONCE_MAX = 512
"""Messages in one batch."""


class _Task:
    """A task that this worker has."""

    def __init__(self, number: int, label: str, function: bytes, function_ref: int) -> None:
        self.number = number
        self.label = label
        self.function = function
        self.function_ref = function_ref
        self.arguments = Payload(b"")
        self.values: dict[int | str, Payload] = {}  # of references among them
        self.streams = False
        self.work: Work | None = None


class _Window:
    """How far a generator may be ahead."""

    def __init__(self) -> None:
        self._room = threading.Semaphore(ITEMS_AHEAD)
        self._changed = threading.Event()
        self._changed_here = asyncio.Event()  # for a generator that runs on the loop
        self.closed = False

    def grant(self, items: int) -> None:
        """Items were taken; 0 closes the generator. On the loop."""
        if items:
            self._room.release(items)
        else:
            self.closed = True
        self._changed.set()
        self._changed_here.set()

    def enter(self) -> bool:
        """Waits for room for one more item; False once it is closed."""
        while not self.closed:
            self._changed.clear()
            if self._room.acquire(blocking=False):
                return not self.closed
            block(self._changed)
        return False

    async def enter_async(self) -> bool:
        """As `enter`, on the loop."""
        while not self.closed:
            self._changed_here.clear()
            if self._room.acquire(blocking=False):
                return not self.closed
            turn = CURRENT_TURN.get()
            assert turn is not None
            with turn.lent():
                await self._changed_here.wait()
        return False


@actor
class TaskWorker:
    """Runs tasks, one at a time; those that wait for something do not count.

    Args:
        number: Its number in the pool.
        pool: What the pool is called.
        desk: The pool, for what tasks want of it.
    """

    def __init__(self, number: int, pool: str, desk: ActorHandle[Any]) -> None:
        keep_freed_memory()
        self._number = number
        self._desk = desk
        self._system = current_system()
        self._process = self._system.process
        self._clock = self._process.clock
        self._scope = Scope(f"worker {number}")
        self._lanes: list[Lane] = []
        self._threads = TaskThreads(1, self._on_thread, self._now_waiting)
        self._values: dict[int, tuple[Payload, bool]] = {}
        self._fetching: dict[int, asyncio.Future[tuple[Payload, bool]]] = {}
        self._functions: OrderedDict[bytes | int, Callable[..., Any]] = OrderedDict()
        self._functions_lock = threading.Lock()
        self._tasks: dict[int, _Task] = {}
        self._windows: dict[int, _Window] = {}
        self._told: list[tuple[Any, ...]] = []
        self._news: asyncio.Event | None = None
        self._is_waking = False
        self._waiting_threads = 0
        self._resolving = 0
        from fray.job.fray import FrayContext

        self._link = WorkerLink(pool, number, desk, self)
        self._context = copy_context()
        self._context.run(CURRENT_JOB_CONTEXT.set, FrayContext.within(self._link))

    async def on_stop(self) -> None:
        """Ends what it does for tasks."""
        await self._scope.close()

    # ---- what the pool says

    @method(concurrent=True)
    async def results(self) -> AsyncIterator[list[tuple[Any, ...]]]:
        """All that happens here, for the pool, in batches."""
        news = self._news = asyncio.Event()
        if self._told:
            news.set()
        while True:
            await news.wait()
            news.clear()
            self._is_waking = False  # what is told from here on wakes again
            while self._told:
                told = self._told[:TOLD_AT_ONCE_MAX]
                del self._told[:TOLD_AT_ONCE_MAX]
                await self._link.heard()
                yield told

    @method(concurrent=True)
    async def push(self, functions: list[Any], tasks: list[tuple[Any, ...]]) -> None:
        """Tasks to run.

        Args:
            functions: Their pickled functions.
            tasks: Each as ``(number, label, function, function's reference, arguments, inline
                values, references to fetch, whether it is a generator)``.
        """
        works: list[Work] = []
        for number, label, index, function_ref, arguments, inline, refs, streams in tasks:
            function = b"" if index < 0 else bytes(functions[index])
            task = self._tasks[number] = _Task(number, label, function, function_ref)
            task.arguments = payload_of(arguments)
            task.values = {place: payload_of(parts) for place, parts in inline.items()}
            task.streams = streams
            task.work = self._work_of(task)
            if refs or (function_ref and function_ref not in self._functions):
                self._resolving += 1
                self._say_waiting()
                self._scope.spawn(self._resolve(task, refs), name=label)
            else:
                works.append(task.work)
        if works:
            self._threads.add(works)

    @method(concurrent=True)
    async def recall(self, numbers: list[int]) -> None:
        """Tasks that are not to be run here, if they have not begun.

        Args:
            numbers: Which.
        """
        works = {t.work: n for n in numbers if (t := self._tasks.get(n)) and t.work is not None}
        given = [works[work] for work in self._threads.take_back(list(works))]
        for number in given:
            self._tasks.pop(number, None)
        self._say("back", numbers, given)

    @method(concurrent=True)
    async def fetch(self, number: int) -> tuple[Parts, bool]:
        """A value that is kept here, and whether it was put.

        Args:
            number: Which.
        """
        found = self._values.get(number)
        if found is None:
            raise ReferenceFreedError(f"value {number} is not kept here any more")
        return parts_of(found[0]), found[1]

    @method(concurrent=True)
    async def forget(self, numbers: list[int]) -> None:
        """Values that nobody wants any more.

        Args:
            numbers: Which.
        """
        for number in numbers:
            self._values.pop(number, None)

    @method(concurrent=True)
    async def grant(self, number: int, items: int) -> None:
        """Items of a generator were taken.

        Args:
            number: The task.
            items: How many; 0 to close the generator.
        """
        window = self._windows.get(number)
        if window is not None:
            window.grant(items)

    # ---- values

    def keep(self, number: int, payload: Payload, was_put: bool) -> None:
        """Keeps a value here.

        Args:
            number: Which.
            payload: The value.
            was_put: Whether it is read-only for everybody.
        """
        self._values[number] = (payload, was_put)

    async def load(self, number: int) -> tuple[Payload, bool]:
        """A value, wherever it is, and whether it was put. On the loop.

        Args:
            number: Which.

        Raises:
            BaseException: What the task raised whose result it is.
        """
        found = self._values.get(number)
        if found is not None:
            return found
        fetching = self._fetching.get(number)
        if fetching is None:
            fetching = self._scope.spawn(self._load(number), name=f"load {number}")
            self._fetching[number] = fetching
            fetching.add_done_callback(functools.partial(self._fetched, number))
        return await asyncio.shield(fetching)

    def _fetched(self, number: int, fetching: asyncio.Task[tuple[Payload, bool]]) -> None:
        self._fetching.pop(number, None)
        if not fetching.cancelled():
            fetching.exception()  # who waited for it is told

    async def _load(self, number: int) -> tuple[Payload, bool]:
        while True:
            found = await self._desk.locate.remote(self._number, number)
            kind = found[0]
            if kind == "inline":
                return payload_of(found[1]), found[2]
            if kind == "error":
                raise decode_error(Payload(found[1], codec=Codec.JSON), unpickle=True)
            if kind == "here":
                return self._values[number]
            if kind == "at":
                try:
                    parts, was_put = await found[1].fetch.remote(number)
                except (CallError, ReferenceFreedError):
                    await self._desk.fetched.remote(self._number, number, False)
                    continue
            else:
                parts, was_put = found[1], found[2]
            payload = payload_of(parts)
            self._values[number] = (payload, was_put)
            if not await self._desk.fetched.remote(self._number, number, True):
                self._values.pop(number, None)  # it was released meanwhile
            return payload, was_put

    async def _resolve(self, task: _Task, refs: dict[int | str, int]) -> None:
        try:
            if task.function_ref:
                payload, _ = await self.load(task.function_ref)
                self._function(task.function_ref, payload)
            for place, number in refs.items():
                payload, was_put = await self.load(number)
                task.values[place] = shared(payload) if was_put else own(payload)
        except Exception as exc:
            self._tasks.pop(task.number, None)
            self._say("error", task.number, encode_error(exc).data, 0.0)
        else:
            assert task.work is not None
            self._threads.add([task.work])
        finally:
            self._resolving -= 1
            self._say_waiting()

    # ---- running, on a thread

    def _work_of(self, task: _Task) -> Work:
        return lambda: self._context.copy().run(self._run, task)

    def _run(self, task: _Task) -> bool:
        began = self._clock.monotonic()
        CURRENT_TURN.set(Turn(self._threads))
        try:
            function = self._function_of(task)
            args, kwargs = loads(task.arguments, what=f"the arguments of {task.label}", take=True)
            given: list[Any] = list(args)
            for place, payload in task.values.items():
                value = loads(payload, what=f"an argument of {task.label}", take=True)
                if isinstance(place, int):
                    given[place] = value
                else:
                    kwargs[place] = value
            task.arguments, task.values = Payload(b""), {}
            result = function(*given, **kwargs)
            if inspect.iscoroutine(result) or inspect.isasyncgen(result):
                self._process.post(self._go_on, task, result, began, copy_context())
                return True
            if task.streams:
                self._stream(task, result)
                self._end(task, began)
            else:
                self._succeed(task, result, began)
        except BaseException as exc:
            self._fail(task, exc, began)
        return False

    def _succeed(self, task: _Task, result: object, began: float) -> None:
        payload = dumps(result, what=f"the result of {task.label}")
        seconds = self._clock.monotonic() - began
        self._forget_task(task)
        if payload.nbytes <= INLINE_BYTES_MAX:
            data, buffers = parts_of(payload)
            self._say("done", task.number, data, buffers, seconds)
        else:
            self._values[task.number] = (payload, False)
            self._say("held", task.number, payload.nbytes, seconds)

    def _fail(self, task: _Task, exc: BaseException, began: float) -> None:
        self._forget_task(task)
        seconds = self._clock.monotonic() - began
        self._say("error", task.number, encode_error(exc).data, seconds)

    def _go_on(self, task: _Task, coro: Any, began: float, context: Context) -> None:
        async def rest() -> None:
            try:
                if task.streams:
                    await self._stream_async(task, coro)
                    self._end(task, began)
                else:
                    self._succeed(task, await coro, began)
            except asyncio.CancelledError as exc:
                self._fail(task, exc, began)
                raise
            except BaseException as exc:
                self._fail(task, exc, began)
            finally:
                self._threads.leave()

        self._scope.spawn(rest(), name=task.label, context=context)

    def _stream(self, task: _Task, made: Generator[Any, None, None]) -> None:
        window = self._windows[task.number] = _Window()
        with contextlib.closing(made):
            while window.enter():
                try:
                    item = next(made)
                except StopIteration:
                    break
                self._say_item(task, item)

    async def _stream_async(self, task: _Task, made: AsyncGenerator[Any, None]) -> None:
        window = self._windows[task.number] = _Window()
        async with contextlib.aclosing(made):
            while await window.enter_async():
                try:
                    item = await anext(made)
                except StopAsyncIteration:
                    break
                self._say_item(task, item)

    def _say_item(self, task: _Task, item: object) -> None:
        data, buffers = parts_of(dumps(item, what=f"an item of {task.label}"))
        self._say("item", task.number, data, buffers)

    def _end(self, task: _Task, began: float) -> None:
        self._forget_task(task)
        self._say("end", task.number, self._clock.monotonic() - began)

    def _forget_task(self, task: _Task) -> None:
        self._tasks.pop(task.number, None)
        self._windows.pop(task.number, None)

    def _function_of(self, task: _Task) -> Callable[..., Any]:
        if not task.function_ref:
            return self._function(task.function, Payload(task.function))
        with self._functions_lock:
            found = self._functions.get(task.function_ref)
        if found is None:
            return loads(self._values[task.function_ref][0], what=f"the function {task.label}")
        return found

    def _function(self, key: bytes | int, payload: Payload) -> Callable[..., Any]:
        with self._functions_lock:
            found = self._functions.get(key)
            if found is not None:
                self._functions.move_to_end(key)
                return found
        made: Callable[..., Any] = loads(payload, what="the function of a task")
        with self._functions_lock:
            self._functions[key] = made
            while len(self._functions) > FUNCTIONS_MAX:
                self._functions.popitem(last=False)
        return made

    # ---- threads, and what they say

    def _on_thread(self, drain: Callable[[], None]) -> None:
        self._process.post(self._begin_lane, drain)

    def _begin_lane(self, drain: Callable[[], None]) -> None:
        lane = self._lanes.pop() if self._lanes else self._process.threads.lane("task")
        lane.submit(drain).add_done_callback(lambda _: self._lanes.append(lane))

    def _now_waiting(self, waiting: int) -> None:
        self._waiting_threads = waiting
        self._say_waiting()

    def _say_waiting(self) -> None:
        self._say("waiting", self._waiting_threads + self._resolving)

    def _say(self, *message: Any) -> None:
        """Tells the pool. Any thread."""
        self._told.append(message)
        if not self._is_waking:
            self._is_waking = True
            self._process.post(self._wake)

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()


__all__ = ["TaskWorker"]
