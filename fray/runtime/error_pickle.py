"""Pickling exceptions so that they come back, whatever parameters their constructors have.

Python pickles an exception as its class, its ``args`` and its attributes, and calls the class with
the ``args`` to make it anew. For the common ``def __init__(self, code, text):
super().__init__(f"{code}: {text}")`` that fails, or, with one parameter, gives a message that is
wrapped twice. Here a class's own constructor is not called again: what it made is put back.

A class that says itself how it is pickled (``__reduce__`` and the like) is left to that.
"""

from __future__ import annotations

import contextlib
import inspect
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

import cloudpickle

from fray.runtime.guarded import is_a

E = TypeVar("E", bound=BaseException)

_HEAP_TYPE = 1 << 9
"""Of ``__flags__``: a class that is not compiled into the interpreter."""

_OWN_WAYS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__")


def dump_exception(exc: BaseException, file: Any) -> None:
    """Pickles an exception and all that it holds. ``pickle.loads`` reads it.

    Args:
        exc: The exception.
        file: With ``write``.

    Raises:
        BaseException: Something cannot be pickled, or the file takes no more.
    """
    pickle.Pickler.dump(_Pickler(file, 5), exc)


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if not is_a(obj, BaseException) or not _is_to_be_put_back(obj):
            return cast("Any", super()).reducer_override(obj)
        made_by, args, *state = obj.__reduce__()  # a built-in one
        kept: dict[str, Any] = _slots_of(obj)
        kept.update(state[0] if state and state[0] else {})
        return (_bare, (made_by, args), kept, None, None, _put_back)


def _is_to_be_put_back(exc: BaseException) -> bool:
    """Whether its class has a constructor of its own, and no way of its own of being pickled."""
    cls = type(exc)
    if any(not _is_built_in(_definer(cls, name)) for name in _OWN_WAYS):
        return False
    makers = (_definer(cls, name).__dict__[name] for name in ("__init__", "__new__"))
    return any(isinstance(getattr(each, "__func__", each), FunctionType) for each in makers)


def _definer(cls: type, name: str) -> type:
    return next((each for each in cls.__mro__ if name in each.__dict__), object)


def _is_built_in(cls: type[Any]) -> bool:
    return not cls.__flags__ & _HEAP_TYPE


def _slots_of(exc: BaseException) -> dict[str, Any]:
    slots: dict[str, Any] = {}
    for cls in type(exc).__mro__:
        if not _is_built_in(cls):
            for name, member in cls.__dict__.items():
                if inspect.ismemberdescriptor(member):
                    with contextlib.suppress(AttributeError):  # it was never set
                        slots[name] = member.__get__(exc)
    return slots


def _bare(cls: type[E], args: tuple[Any, ...]) -> E:
    """An exception of a class, made by the built-in class below it alone."""
    base = next(each for each in cls.__mro__ if _is_built_in(each))
    try:
        exc = cast("Callable[..., E]", base.__new__)(cls, *args)
    except TypeError:  # a class of C between the two holds more than that one makes
        return cls(*args)
    cast("Callable[..., None]", base.__init__)(exc, *args)
    return exc


def _put_back(exc: BaseException, state: dict[str, Any]) -> None:
    for name, value in state.items():
        try:  # past the class's own __setattr__, which a frozen dataclass makes raise
            object.__setattr__(exc, name, value)
        except AttributeError:  # a property without a setter stands there
            exc.__dict__[name] = value


__all__ = ["dump_exception"]
