"""Finds what it is, inside of a value, that cannot be pickled.

Pickle says only "cannot pickle '_thread.lock' object", and the lock may sit anywhere. This room
searches for it, after the failure, by pickling parts of the value on their own: the first part that
fails too is entered, and so on. The search is bounded, best effort, and knows pickle only.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, cast

import cloudpickle

DEPTH_MAX = 24
"""How far the search goes into a value."""

TRIALS_MAX = 2_000
"""How many parts are tried in all: a value of many parts must not block its caller for long."""

REASON_CHARS_MAX = 500
"""What is quoted of an exception's message."""

Part = tuple[str, object]


class Culprit(NamedTuple):
    """What cannot be pickled.

    Attributes:
        path: Where it is, for people: ``argument 2 → .lock``.
        reason: Why not, for people.
    """

    path: str
    reason: str


def find_culprit(obj: object, what: str, exc: Exception) -> Culprit:
    """Finds the innermost part of a value that cannot be pickled.

    Args:
        obj: A value that could not be pickled.
        what: What it is; begins the path.
        exc: What pickling it raised.
    """
    return _Search().descend(obj, what, exc)


def find_culprit_argument(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], exc: Exception
) -> Culprit:
    """Finds which argument of a call, and what within it, cannot be pickled.

    Args:
        args: The positional arguments.
        kwargs: The keyword arguments.
        exc: What pickling them raised.
    """
    search = _Search()
    parts = [(f"argument {number}", arg) for number, arg in enumerate(args, 1)]
    parts += [(f"argument {name!r}", arg) for name, arg in kwargs.items()]
    for name, arg in parts:
        failure = search.failure(arg)
        if failure is not None:
            return search.descend(arg, name, failure)
    return search.descend((args, dict(kwargs)), "arguments", exc)


def find_culprit_call(
    fn: object, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str, exc: Exception
) -> Culprit:
    """Finds what cannot be pickled of a callable and its arguments.

    Args:
        fn: What is to be called.
        args: The positional arguments.
        kwargs: The keyword arguments.
        what: What is to be called, for people.
        exc: What pickling them raised.
    """
    failure = _Search().failure(fn)
    if failure is not None:
        return find_culprit(fn, what, failure)
    path, reason = find_culprit_argument(args, kwargs, exc)
    first, arrow, rest = path.partition(" → ")
    return Culprit(f"{first} of {what}{arrow}{rest}", reason)


class _Search:
    def __init__(self) -> None:
        self._trials_left = TRIALS_MAX

    def failure(self, obj: object) -> Exception | None:
        """What pickling this raises. Nothing is copied or kept."""
        self._trials_left -= 1
        pickler = cloudpickle.Pickler(_Nowhere(), 5, _out_of_band)
        try:
            pickle.Pickler.dump(pickler, obj)
        except Exception as exc:
            return exc
        return None

    def descend(self, obj: object, what: str, exc: Exception) -> Culprit:
        path = what
        entered = [id(obj)]
        while len(entered) < DEPTH_MAX and not _is_too_deep(exc):
            found = self._failing_part(obj, entered)
            if found is None:
                break
            step, obj, exc = found
            path += f" → {step}"
            entered.append(id(obj))
        return Culprit(path, _reason(exc))

    def _failing_part(
        self, obj: object, entered: list[int]
    ) -> tuple[str, object, Exception] | None:
        try:
            for step, part in _parts(obj):
                if self._trials_left <= 0:
                    return None
                if id(part) in entered or type(part) in _ATOMS:
                    continue
                failure = self.failure(part)
                if failure is not None:
                    return step, part, failure
        except Exception:
            # Looking at its parts runs the object's own code, and that is what failed to begin
            # with, more often than not. Then the object itself is the culprit, as already known.
            return None
        return None


class _Nowhere:
    def write(self, data: object) -> None:
        """Drops what is pickled."""


def _out_of_band(_buffer: pickle.PickleBuffer) -> None:
    """Keeps buffers out of the pickle, and drops them."""


_ATOMS = frozenset((int, float, str, bytes, bool, type(None)))


def _is_too_deep(exc: Exception) -> bool:
    return isinstance(exc, RecursionError) or isinstance(exc.__cause__, RecursionError)


def _reason(exc: Exception) -> str:
    if _is_too_deep(exc):
        return "is nested too deeply to be pickled"
    try:
        message = str(exc)
    except Exception as failure:
        message = f"(its message cannot be had: {type(failure).__name__})"
    message = message[:REASON_CHARS_MAX]
    if isinstance(exc, TypeError | pickle.PicklingError) and message:
        return message
    return f"{type(exc).__name__}: {message}" if message else type(exc).__name__


def _parts(obj: Any) -> Iterator[Part]:
    """What pickling an object pickles, each with a step that leads there."""
    if isinstance(obj, types.FunctionType):
        return _parts_of_function(obj)
    if isinstance(obj, types.MethodType):
        return iter(((".__self__", obj.__self__), (".__func__", obj.__func__)))
    if isinstance(obj, type):
        return ((f".{name}", part) for name, part in list(vars(obj).items()))
    kind = cast("type[Any]", type(obj))
    if issubclass(kind, functools.partial):
        return _parts_of_partial(obj)
    if kind in (list, tuple):
        return ((f"[{index}]", part) for index, part in enumerate(obj))
    if kind is dict:
        return _parts_of_mapping(obj)
    if kind in (set, frozenset):
        return (("an element", part) for part in sorted(obj, key=_label))
    return _parts_of_object(obj)


def _label(key: object) -> str:
    try:
        return repr(key)[:40]
    except Exception as exc:
        return f"<{type(key).__name__}, whose repr() raises {type(exc).__name__}>"


def _parts_of_mapping(obj: dict[Any, Any]) -> Iterator[Part]:
    for key, value in list(obj.items()):
        yield f"[{_label(key)}]", value
        yield f"key {_label(key)}", key


def _parts_of_function(function: types.FunctionType) -> Iterator[Part]:
    variables = inspect.getclosurevars(function)
    for name, part in variables.nonlocals.items():
        yield f"closure variable {name!r}", part
    for name, part in variables.globals.items():
        yield f"global {name!r}", part
    for part in function.__defaults__ or ():
        yield "a default", part
    for name, part in (function.__kwdefaults__ or {}).items():
        yield f"default of {name!r}", part
    for name, part in vars(function).items():
        yield f".{name}", part


def _parts_of_partial(obj: Any) -> Iterator[Part]:
    yield ".func", obj.func
    for index, part in enumerate(obj.args):
        yield f".args[{index}]", part
    for name, part in obj.keywords.items():
        yield f".keywords[{name!r}]", part


def _parts_of_object(obj: Any) -> Iterator[Part]:
    """The parts of what ``__reduce_ex__`` gives (pickle's own protocol)."""
    kind = cast("type[Any]", type(obj))
    table: Mapping[type, Callable[[Any], Any]] = cloudpickle.Pickler.dispatch_table
    reducer = table.get(kind)
    reduced: Any = reducer(obj) if reducer is not None else obj.__reduce_ex__(5)
    if type(reduced) is str:  # the name of a global
        return
    function: Any
    args: Any
    function, args, state, items, pairs = [*reduced[:5], None, None, None][:5]
    yield from _parts_of_state(state)
    yield from ((f"[{index}]", part) for index, part in enumerate(_limited(items)))
    yield from ((f"[{_label(key)}]", part) for key, part in _limited(pairs))
    fields: tuple[str, ...] = getattr(kind, "_fields", ())  # a named tuple's
    is_named = issubclass(kind, tuple) and len(fields) == len(args) - 1
    for index, part in enumerate(args):
        if is_named and index > 0:
            yield f".{fields[index - 1]}", part
        elif part is not kind:
            yield f"constructor argument {index + 1}", part
    yield "its constructor", function


def _limited(items: Iterable[Any] | None) -> Iterable[Any]:
    return islice(items or (), TRIALS_MAX)


def _parts_of_state(state: Any) -> Iterator[Part]:
    is_pair = isinstance(state, tuple) and len(cast("tuple[Any, ...]", state)) == 2
    states = cast("tuple[Any, ...]", state if is_pair else (state,))
    for part in states:  # (attributes, slots), or attributes alone
        if isinstance(part, dict):
            for name, value in list(cast("dict[Any, Any]", part).items()):
                yield f".{name}", value
        elif part is not None:
            yield "its state", part


__all__ = [
    "DEPTH_MAX",
    "TRIALS_MAX",
    "Culprit",
    "find_culprit",
    "find_culprit_argument",
    "find_culprit_call",
]
