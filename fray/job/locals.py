"""What the contexts of one process share: references, and the table of their named actors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from fray.errors import NameTakenError, PayloadError
from fray.job.futures import GeneratorFuture, TaskFuture
from fray.job.threads import block
from fray.runtime.serialization import dumps_arguments, loads

if TYPE_CHECKING:
    from fray.job.base import Lifetime
    from fray.runtime.payload import Payload

_ALONG: ContextVar[list[Any] | None] = ContextVar("fray_taken_along", default=None)
_HERE: WeakValueDictionary[int, Any] = WeakValueDictionary()


def take_along(make: Callable[[], Payload]) -> tuple[Payload, list[Any]]:
    """Pickles something that may hold handles and references of this process.

    Args:
        make: Pickles it.

    Returns:
        The pickle, and those; they must live as long as the pickle does.
    """
    along: list[Any] = []
    token = _ALONG.set(along)
    try:
        return make(), along
    finally:
        _ALONG.reset(token)


def same(here: Any) -> Any:
    """How something that exists in this process only is pickled: what is read is the same object.

    Args:
        here: A handle or a reference.
    """
    along = _ALONG.get()
    if along is None:
        raise PayloadError(
            f"{here!r} exists in this process only: it can be given to tasks and actors of its own "
            "context, and not be sent or stored"
        )
    along.append(here)
    _HERE[id(here)] = here
    return _found, (id(here),)


def _found(key: int) -> Any:
    return _HERE[key]


class LocalFuture(TaskFuture[Any]):
    """The outcome of a task of this process."""

    def __reduce__(self) -> Any:
        return same(self)


class StoredRef(LocalFuture):
    """A reference to a value that was put.

    Args:
        payload: The value.
        along: What its pickle refers to in this process.
    """

    def __init__(self, payload: Payload, along: list[Any]) -> None:
        super().__init__("put")
        self.along = along
        self.succeed(payload)


def value_of(ref: Any) -> Any:
    """What `JobContext.get` gives for what it was given. Blocks.

    Args:
        ref: See there.
    """
    if isinstance(ref, list):
        return [value_of(one) for one in ref]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(ref, GeneratorFuture):
        return ref
    result = getattr(ref, "result", None)
    return result() if callable(getattr(ref, "done", None)) and callable(result) else ref


def is_awaited(value: Any) -> bool:
    """Whether an argument is replaced by what it refers to.

    Args:
        value: The argument.
    """
    return isinstance(value, TaskFuture) and not isinstance(value, GeneratorFuture)


class Arguments:
    """The arguments of one call as they were when it was made.

    Args:
        args: Positional ones.
        kwargs: The others.

    Raises:
        PayloadError: One of them cannot be pickled; the message says which.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.refs: dict[int | str, TaskFuture[Any]] = {}
        plain = list(args)
        for place, value in enumerate(args):
            if is_awaited(value):
                self.refs[place], plain[place] = value, None
        named = dict(kwargs)
        for key, value in kwargs.items():
            if is_awaited(value):
                self.refs[key], named[key] = value, None
        self._payload, self._along = take_along(lambda: dumps_arguments(tuple(plain), named))

    def values(self) -> tuple[list[Any], dict[str, Any]]:
        """Both, with references replaced by their values.

        Raises:
            BaseException: What a task raised whose result is among them.
        """
        args, kwargs = loads(self._payload, what="the arguments")
        args = list(args)
        for place, ref in self.refs.items():
            if isinstance(place, int):
                args[place] = ref.result()
            else:
                kwargs[place] = ref.result()
        return args, kwargs


class _Making:
    """Has the name of an actor whose constructor runs, on this thread."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.over = threading.Event()


class NamedActors:
    """The actors of a context by name; detached ones are the process's.

    Constructors run without locks: they may take long, and make or wait for other actors.
    """

    _detached: dict[str, Any] = {}  # noqa: RUF012 - of all contexts of the process
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._own: dict[str, Any] = {}

    def get_or_make(
        self,
        name: str | None,
        make: Callable[[], Any],
        *,
        get_if_exists: bool,
        lifetime: Lifetime,
    ) -> Any:
        """The living actor of a name, or a new one.

        Args:
            name: None for an actor without one.
            make: Makes it.
            get_if_exists: Whether it may be there.
            lifetime: Whether it outlives the context.

        Raises:
            NameTakenError: It is there, and may not be.
        """
        check_lifetime(name, get_if_exists=get_if_exists, lifetime=lifetime)
        if name is None:
            return make()
        table = self._detached if lifetime == "detached" else self._own
        mine = _Making()
        while True:
            with self._lock:
                found = self._own.get(name) or self._detached.get(name)
                if found is None:
                    table[name] = mine
                    break
            if not get_if_exists:
                raise NameTakenError(
                    f"there is an actor {name!r} already; choose another name, or give "
                    "get_if_exists=True to have that one"
                )
            if not isinstance(found, _Making):
                return found
            if found.thread == mine.thread:
                raise NameTakenError(f"the constructor of the actor {name!r} asks for that actor")
            block(found.over)  # then it is there, or its constructor has failed
        try:
            made = make()
        except BaseException:
            with self._lock:
                del table[name]
            raise
        else:
            with self._lock:
                table[name] = made
            return made
        finally:
            mine.over.set()

    def forget(self, handle: Any) -> None:
        """An actor has ended.

        Args:
            handle: Its handle.
        """
        with self._lock:
            for table in (self._own, self._detached):
                for name in [name for name, one in table.items() if one is handle]:
                    del table[name]


def check_lifetime(name: Any, *, get_if_exists: bool, lifetime: Any) -> None:
    """Refuses what makes no sense together.

    Args:
        name: The actor's.
        get_if_exists: Whether it may be there.
        lifetime: How long it lives.

    Raises:
        ValueError: A name is missing or empty, or the lifetime is none.
    """
    from fray.actor.options import ActorOptions

    ActorOptions(name=name, get_if_exists=get_if_exists, lifetime=lifetime).check_creation()


__all__ = [
    "Arguments",
    "LocalFuture",
    "NamedActors",
    "StoredRef",
    "check_lifetime",
    "is_awaited",
    "same",
    "take_along",
    "value_of",
]
