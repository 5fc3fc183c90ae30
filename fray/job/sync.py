"""`SyncContext`: tasks and actors on the caller's stack, for tests and for the debugger."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from fray.errors import UnknownMethodError
from fray.job.base import Lifetime, check_class, check_function, frozen
from fray.job.calling import call, items
from fray.job.current import CURRENT_JOB_CONTEXT
from fray.job.futures import GeneratorFuture, TaskFuture, wait_for
from fray.job.locals import (
    Arguments,
    LocalFuture,
    NamedActors,
    StoredRef,
    same,
    take_along,
    value_of,
)
from fray.runtime.error_envelope import decode_error, encode_error
from fray.runtime.methods import Method, methods_of, no_such_method
from fray.runtime.serialization import dumps

T = TypeVar("T")


class SyncContext:
    """Runs each task when `run` is called, on the caller's stack. See `JobContext`."""

    def __init__(self) -> None:
        self._actors = NamedActors()

    def __repr__(self) -> str:
        return "<SyncContext>"

    def __enter__(self) -> SyncContext:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Does nothing: nothing is left."""

    def put(self, obj: Any) -> Any:
        """See `JobContext.put`."""
        return StoredRef(*take_along(lambda: frozen(obj)))

    def get(self, ref: Any) -> Any:
        """See `JobContext.get`."""
        return value_of(ref)

    def run(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Any:
        """See `JobContext.run`. A generator runs as its items are taken."""
        label = check_function(fn, name)
        arguments = Arguments(args, {})
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            return _SyncGenerator(label, self, fn, arguments)
        return outcome_of(label, lambda: self.call(fn, arguments))

    def call(self, fn: Callable[..., Any], arguments: Arguments) -> Any:
        """Calls a function here, with this as its context.

        Args:
            fn: The function.
            arguments: Its arguments.
        """
        token = CURRENT_JOB_CONTEXT.set(self)
        try:
            args, kwargs = arguments.values()
            return call(fn, tuple(args), kwargs)
        finally:
            CURRENT_JOB_CONTEXT.reset(token)

    def wait(self, futures: list[Any], num_returns: int = 1) -> tuple[list[Any], list[Any]]:
        """See `JobContext.wait`; all are ready."""
        return wait_for(futures, num_returns)

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

        def make() -> SimpleActor:
            made = self.call(actor_class, Arguments(args, kwargs))
            return SimpleActor(made, name or actor_class.__name__, self)

        return self._actors.get_or_make(name, make, get_if_exists=get_if_exists, lifetime=lifetime)


class _SyncGenerator(GeneratorFuture):
    """Runs its generator on the stack of whoever takes an item."""

    def __init__(
        self, label: str, context: SyncContext, fn: Callable[..., Any], arguments: Arguments
    ) -> None:
        super().__init__(label)
        self._context = context
        self._fn = fn
        self._arguments = arguments
        self._made: Any = None

    def done(self) -> bool:
        """Always: whoever takes an item makes it."""
        return True

    def __next__(self) -> Any:
        if not self._items and not self._settled:
            self._advance()
        return super().__next__()

    def _advance(self) -> None:
        token = CURRENT_JOB_CONTEXT.set(self._context)
        try:
            if self._made is None:
                args, _ = self._arguments.values()
                self._made = items(self._fn, tuple(args))
            item = next(self._made)
            self.offer(dumps(item, what=f"an item of {self.label}"))
        except StopIteration:
            self.finish()
        except Exception as exc:
            self.fail(told(exc, self.label))
        finally:
            CURRENT_JOB_CONTEXT.reset(token)

    def close(self) -> None:
        """See `GeneratorFuture.close`."""
        made = getattr(self, "_made", None)
        if made is not None and not self._settled:
            self._settled = True
            made.close()


class SimpleActor:
    """An actor of `SyncContext`: a method runs on the caller's stack.

    Args:
        instance: The object.
        label: Its name or class.
        context: Whose actor it is.
    """

    def __init__(self, instance: Any, label: str, context: SyncContext) -> None:
        self._instance = instance
        self._label = label
        self._context = context
        self._methods = methods_of(cast("type[Any]", instance.__class__))

    def __repr__(self) -> str:
        return f"<SimpleActor {self._label}>"

    def __getattr__(self, name: str) -> SimpleMethod:
        if name.startswith("__"):
            raise AttributeError(name)
        method = find_method(self._label, name, self._methods)
        return SimpleMethod(self._instance, method, self._context)

    def __reduce__(self) -> Any:
        return same(self)


class SimpleMethod:
    """One method of a `SimpleActor`: call it, or give a future of the call with ``remote``."""

    def __init__(self, instance: Any, method: Method, context: SyncContext) -> None:
        self._instance = instance
        self._method = method
        self._context = context

    def remote(self, *args: Any, **kwargs: Any) -> TaskFuture[Any]:
        """Makes the call, here and now.

        Args:
            *args: The method's arguments.
            **kwargs: The method's keyword arguments.
        """
        arguments = Arguments(args, kwargs)
        method = getattr(self._instance, self._method.name)
        return outcome_of(self._method.name, lambda: self._context.call(method, arguments))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Makes the call and gives its result.

        Args:
            *args: The method's arguments.
            **kwargs: The method's keyword arguments.
        """
        return self.remote(*args, **kwargs).result()


def find_method(label: str, name: str, methods: Any) -> Method:
    """A method that an actor has.

    Args:
        label: The actor's name or class.
        name: The method's.
        methods: All that it has.

    Raises:
        UnknownMethodError: It has no such method.
    """
    found = methods.get(name)
    if found is None:
        raise UnknownMethodError(no_such_method(label, name, methods))
    return found


def outcome_of(label: str, work: Callable[[], Any]) -> TaskFuture[Any]:
    """Runs something here and gives what became of it.

    Args:
        label: What it is called.
        work: What to run.
    """
    future = LocalFuture(label)
    settle(future, work)
    return future


def settle(future: TaskFuture[Any], work: Callable[[], Any]) -> None:
    """Runs something here and settles a future with what became of it.

    Args:
        future: The future.
        work: What to run.
    """
    try:
        value = work()
        payload, future.along = take_along(
            lambda: dumps(value, what=f"the result of {future.label}")
        )
    except Exception as exc:  # Ctrl-C is the caller's own
        future.fail(told(exc, future.label))
    else:
        future.succeed(payload)


def told(exc: BaseException, label: str) -> BaseException:
    """An exception as it would come from elsewhere: with its traceback as a `RemoteError`.

    Args:
        exc: What a task raised.
        label: What the task is called.
    """
    return decode_error(encode_error(exc), actor=label, unpickle=True)


__all__ = ["SimpleActor", "SimpleMethod", "SyncContext"]
