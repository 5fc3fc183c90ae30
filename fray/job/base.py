"""What every job context can do, and what all of them share.

A *job context* runs functions as tasks, keeps values, and makes actors. Code that is written for
one runs on all: on the caller's stack (`SyncContext`), on threads (`ThreadContext`), on a pool of
worker actors of a fray cluster (`FrayContext`), on Ray (`RayContext`). What is common to them:

* Arguments have the value that they have at `run`, and no two tasks share an object. So they, and
  results, must be picklable, on threads too: what works on a laptop works on a cluster.
* A reference among the arguments of `run` or `create_actor` is replaced by its value. One inside
  another argument (a list, say) stays a reference; the task may `get` it.
* A value that was `put` does not change: its large arrays come read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from fray.checks import check_whole
from fray.errors import PayloadError
from fray.runtime.payload import Payload
from fray.runtime.serialization import dumps

T = TypeVar("T")

Lifetime = Literal["non_detached", "detached"]


@runtime_checkable
class JobContext(Protocol):
    """Runs tasks, keeps values, makes actors.

    Implementations: `SyncContext`, `ThreadContext`, `FrayContext`, `RayContext`.
    """

    def put(self, obj: Any) -> Any:
        """Keeps a value, for any number of tasks.

        Args:
            obj: Any value that can be pickled.

        Returns:
            A reference, to be given to `get`, `run` and `create_actor`.

        Raises:
            PayloadError: It cannot be pickled.
        """
        ...

    def get(self, ref: Any) -> Any:
        """The value behind a reference or future; blocks until it is there.

        Args:
            ref: What `put` or `run` gave, or a call of an actor's method; a list of them gives the
                list of their values. Anything else is given back as it is.

        Raises:
            BaseException: What the task raised.
        """
        ...

    def run(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Any:
        """Runs a function as a task.

        Args:
            fn: The function. One that is a generator gives a `GeneratorFuture`, whose items stream.
            *args: Its arguments; references among them are replaced by their values.
            name: What the task is called in messages; None for the function's name.

        Returns:
            The future of its result.

        Raises:
            PayloadError: The function or an argument cannot be pickled; nothing was run.
        """
        ...

    def wait(self, futures: list[Any], num_returns: int = 1) -> tuple[list[Any], list[Any]]:
        """Blocks until some of several futures are ready. A generator is when its next item is.

        Args:
            futures: What `run`, `put` or a call of an actor's method gave, none of it twice.
            num_returns: How many must be ready, between 1 and their number.

        Returns:
            Exactly ``num_returns`` that are ready, and the others, each in the order given. Failed
            ones are ready, too. For no futures, two empty lists.

        Raises:
            ValueError: ``num_returns`` is out of bounds, or a future is given twice.
        """
        ...

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
        """Makes an actor. It serves one call at a time; ``handle.method.remote(…)`` gives a future.

        Args:
            actor_class: Its class.
            *args: Of its constructor; references among them are replaced by their values.
            name: A name that no other living actor has; None for none.
            get_if_exists: Give the living actor of that name, if there is one.
            lifetime: ``"detached"`` actors outlive the context, and need a name.
            preemptible: Whether it may be placed where it can be taken away.
            **kwargs: Of its constructor; references too.

        Returns:
            Its handle.

        Raises:
            ValueError: The name is in use, and ``get_if_exists`` was not given; or there is no name
                where one is needed.
        """
        ...


def check_futures(futures: Iterable[Any], num_returns: int) -> list[Any]:
    """What `JobContext.wait` was given, once it is seen to make sense.

    Args:
        futures: What should be futures.
        num_returns: How many of them are to be ready.

    Raises:
        TypeError: One is something else.
        ValueError: ``num_returns`` is out of bounds, or a future is given twice.
    """
    given = list(futures)
    for future in given:
        if not callable(getattr(future, "done", None)):
            raise TypeError(f"wait() takes what run() and put() gave, not {future!r:.200}")
    if check_whole("num_returns", num_returns, 1) > max(len(given), 1):
        raise ValueError(f"num_returns must be between 1 and {len(given)}, not {num_returns}")
    if len({id(future) for future in given}) != len(given):
        raise ValueError("a future was given twice")
    return given


def split_ready(futures: Sequence[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
    """Exactly so many futures that are ready, and the others.

    Args:
        futures: All of them.
        num_returns: How many, at least so many are ready.
    """
    ready = [future for future in futures if future.done()][:num_returns]
    chosen = {id(future) for future in ready}
    return ready, [future for future in futures if id(future) not in chosen]


def check_function(fn: object, name: object) -> str:
    """What a task is called, once it is seen that it could be run.

    Args:
        fn: What should be a function.
        name: What the user calls it; None for the function's own name.

    Raises:
        TypeError: It cannot be called, or its name is no string.
    """
    if not callable(fn):
        raise TypeError(f"run() takes a function and its arguments, not {fn!r:.200}")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"a task's name is a string, not {name!r}")
    return name or getattr(fn, "__qualname__", None) or type(fn).__qualname__


def check_class(actor_class: object) -> None:
    """Makes sure that `JobContext.create_actor` was given a class.

    Args:
        actor_class: What was given.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(actor_class, type):
        raise TypeError(f"create_actor() makes an actor of a class, not of {actor_class!r:.200}")


def frozen(obj: object) -> Payload:
    """A value as it is now, to be read any number of times: its large buffers are read-only.

    Args:
        obj: The value.

    Raises:
        PayloadError: It cannot be pickled.
    """
    try:
        payload = dumps(obj)
    except PayloadError as exc:
        raise PayloadError(f"put(): {exc}") from exc
    return Payload(payload.data, [memoryview(b).toreadonly() for b in payload.buffers])


__all__ = [
    "JobContext",
    "Lifetime",
    "check_class",
    "check_function",
    "check_futures",
    "frozen",
    "split_ready",
]
