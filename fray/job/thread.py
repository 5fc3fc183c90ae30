"""`ThreadContext`: tasks and actors on threads of this process."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar, cast

from fray.checks import check_whole
from fray.errors import CallCancelled, ClusterClosed, Started
from fray.job.base import Lifetime, check_class, check_function, frozen
from fray.job.calling import call, items
from fray.job.current import CURRENT_JOB_CONTEXT
from fray.job.futures import ITEMS_AHEAD, GeneratorFuture, TaskFuture, wait_for
from fray.job.locals import (
    Arguments,
    LocalFuture,
    NamedActors,
    StoredRef,
    same,
    take_along,
    value_of,
)
from fray.job.sync import find_method, settle, told
from fray.job.threads import CURRENT_TURN, TaskThreads, Turn, Work, block
from fray.runtime.methods import methods_of
from fray.runtime.serialization import dumps

T = TypeVar("T")


def _on_thread(name: str) -> Callable[[Callable[[], None]], None]:
    def start(fn: Callable[[], None]) -> None:
        threading.Thread(target=fn, name=name, daemon=True).start()

    return start


class ThreadContext:
    """Runs tasks on threads, and each actor's calls one at a time. See `JobContext`.

    A task that waits in `get` or `wait` does not count, so tasks may wait for tasks that they run.

    Args:
        max_workers: Tasks that run at once, ≥ 1.

    Raises:
        InvalidRequestError: ``max_workers`` is below 1.
    """

    def __init__(self, max_workers: int = 1) -> None:
        self._max_workers = check_whole("max_workers", max_workers, 1)
        self._threads = TaskThreads(max_workers, _on_thread("fray task"))
        self._actors = NamedActors()
        self._lock = threading.Lock()
        self._waiting: dict[Work, TaskFuture[Any]] = {}  # for a thread, or for other tasks
        self._closed = False

    def __repr__(self) -> str:
        return f"<ThreadContext max_workers={self._max_workers}>"

    def __enter__(self) -> ThreadContext:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Cancels tasks that have not begun. Those that run go on, and keep nobody waiting."""
        self._closed = True
        self._cancel_waiting("the context was shut down")

    def put(self, obj: Any) -> Any:
        """See `JobContext.put`."""
        return StoredRef(*take_along(lambda: frozen(obj)))

    def get(self, ref: Any) -> Any:
        """See `JobContext.get`. Ctrl-C cancels the tasks that have not begun."""
        try:
            return value_of(ref)
        except KeyboardInterrupt:
            self._cancel_waiting("it had not begun when Ctrl-C was pressed")
            raise

    def wait(self, futures: list[Any], num_returns: int = 1) -> tuple[list[Any], list[Any]]:
        """See `JobContext.wait`. Ctrl-C cancels the tasks that have not begun."""
        try:
            return wait_for(futures, num_returns)
        except KeyboardInterrupt:
            self._cancel_waiting("it had not begun when Ctrl-C was pressed")
            raise

    def run(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Any:
        """See `JobContext.run`."""
        label = check_function(fn, name)
        if self._closed:
            raise ClusterClosed(f"this context was shut down: {label} was not run")
        arguments = Arguments(args, {})
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            return self._begin(*_generator(label, fn, arguments), arguments)
        future = _ThreadFuture(label, self)
        return self._begin(future, lambda: settle(future, lambda: _call(fn, arguments)), arguments)

    def _begin(
        self, future: TaskFuture[Any], body: Callable[[], None], arguments: Arguments
    ) -> TaskFuture[Any]:
        context = copy_context()
        context.run(CURRENT_JOB_CONTEXT.set, self)
        context.run(CURRENT_TURN.set, Turn(self._threads))

        def work() -> None:
            with self._lock:
                if self._waiting.pop(work, None) is None:
                    return
            context.run(body)

        with self._lock:
            self._waiting[work] = future
        if isinstance(future, _ThreadFuture):
            future.work = work
        _when_done(arguments, lambda: self._threads.add([work]))
        return future

    def cancel(self, work: Work, why: str) -> bool:
        """Keeps a task from running.

        Args:
            work: What it would run.
            why: For the message.
        """
        with self._lock:
            future = self._waiting.pop(work, None)
        if future is None:
            return False
        future.fail(CallCancelled(f"task {future.label} was cancelled: {why}", started=Started.NO))
        return True

    def _cancel_waiting(self, why: str) -> None:
        self._threads.clear()
        for work in list(self._waiting):
            self.cancel(work, why)

    def create_actor(
        self,
        actor_class: type[T],
        *args: Any,
        name: str | None = None,
        get_if_exists: bool = False,
        lifetime: Lifetime = "non_detached",
        preemptible: bool = True,
        **kwargs: Any,
    ) -> Any:
        """See `JobContext.create_actor`."""
        check_class(actor_class)

        def make() -> ThreadActorHandle:
            context = copy_context()
            context.run(CURRENT_JOB_CONTEXT.set, self)
            made = context.run(_call, actor_class, Arguments(args, kwargs))
            return ThreadActorHandle(made, name or actor_class.__name__, self)

        return self._actors.get_or_make(name, make, get_if_exists=get_if_exists, lifetime=lifetime)


def _call(fn: Callable[..., Any], arguments: Arguments) -> Any:
    args, kwargs = arguments.values()
    return call(fn, tuple(args), kwargs)


def _when_done(arguments: Arguments, then: Callable[[], None]) -> None:
    """Calls a function once every task whose result is among the arguments has ended."""
    refs = [ref for ref in arguments.refs.values() if not ref.done()]
    if not refs:
        then()
        return
    lock = threading.Lock()
    left = len(refs)

    def one(_: Any) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            then()

    for ref in refs:
        ref.add_done_callback(one)


class _ThreadFuture(LocalFuture):
    def __init__(self, label: str, context: ThreadContext) -> None:
        super().__init__(label)
        self._context = context
        self.work: Work | None = None

    def cancel(self) -> bool:
        """See `TaskFuture.cancel`."""
        work = self.work
        return work is not None and self._context.cancel(work, "its future was cancelled")


class _Flow:
    """Between a generator's thread and whoever takes its items."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ahead = 0
        self._room = threading.Event()
        self.closed = False

    def taken(self) -> None:
        with self._lock:
            self._ahead -= 1
        self._room.set()

    def close(self) -> None:
        self.closed = True
        self._room.set()

    def yielded(self) -> None:
        """One more item is out: waits until there is room for the next."""
        with self._lock:
            self._ahead += 1
        while not self.closed:
            self._room.clear()
            with self._lock:
                if self._ahead < ITEMS_AHEAD:
                    return
            block(self._room)


def _generator(
    label: str, fn: Callable[..., Any], arguments: Arguments
) -> tuple[GeneratorFuture, Callable[[], None]]:
    flow = _Flow()
    future = GeneratorFuture(label, flow.taken, flow.close)
    known = weakref.ref(future)  # dropped by its user, it closes the generator

    def body() -> None:
        try:
            args, _ = arguments.values()
            made = items(fn, tuple(args))
            for item in made:
                payload = dumps(item, what=f"an item of {label}")
                del item
                taker = known()
                if taker is None or flow.closed:
                    close = getattr(made, "close", None)
                    if close is not None:
                        close()
                    break
                taker.offer(payload)
                del taker
                flow.yielded()
        except Exception as exc:
            if (taker := known()) is not None:
                if flow.closed:  # nobody wants to know how it ended
                    taker.finish()
                else:
                    taker.fail(told(exc, label))
        else:
            if (taker := known()) is not None:
                taker.finish()

    return future, body


class ThreadActorHandle:
    """An actor of `ThreadContext`: its methods run on a thread, one call at a time, in order.

    Args:
        instance: The object.
        label: Its name or class.
        context: Whose actor it is.
    """

    def __init__(self, instance: Any, label: str, context: ThreadContext) -> None:
        self._instance = instance
        self._label = label
        self._context = context
        self._methods = methods_of(cast("type[Any]", instance.__class__))
        self._thread = TaskThreads(1, _on_thread(f"fray actor {label}"))

    def __repr__(self) -> str:
        return f"<ThreadActorHandle {self._label}>"

    def __getattr__(self, name: str) -> ThreadActorMethod:
        if name.startswith("__"):
            raise AttributeError(name)
        return ThreadActorMethod(self, find_method(self._label, name, self._methods).name)

    def __reduce__(self) -> Any:
        return same(self)

    def _submit(self, name: str, arguments: Arguments) -> TaskFuture[Any]:
        future = LocalFuture(f"{self._label}.{name}")
        method = getattr(self._instance, name)
        context = copy_context()
        context.run(CURRENT_JOB_CONTEXT.set, self._context)
        context.run(CURRENT_TURN.set, None)  # while a call waits no other one starts

        def work() -> None:
            context.run(settle, future, lambda: _call(method, arguments))

        self._thread.add([work])
        return future


class ThreadActorMethod:
    """One method of a `ThreadActorHandle`: ``remote`` gives a future; called directly, it blocks.

    Args:
        handle: The actor's.
        name: The method's name.
    """

    def __init__(self, handle: ThreadActorHandle, name: str) -> None:
        self._handle = handle
        self._name = name

    def remote(self, *args: Any, **kwargs: Any) -> TaskFuture[Any]:
        """Queues the call. Arguments have the value that they have now.

        Args:
            *args: The method's arguments; references are replaced by their values.
            **kwargs: The method's keyword arguments.
        """
        return self._handle._submit(self._name, Arguments(args, kwargs))  # pyright: ignore[reportPrivateUsage]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Makes the call and blocks until it has its outcome.

        Args:
            *args: The method's arguments.
            **kwargs: The method's keyword arguments.
        """
        return self.remote(*args, **kwargs).result()


__all__ = ["ThreadActorHandle", "ThreadActorMethod", "ThreadContext"]
