"""Values to payloads and back: cloudpickle, with large buffers out of band.

This room knows pickle and buffers. It must not know the wire, actors, or numpy: arrays speak for
themselves through pickle protocol 5 (PEP 574), the rest through `fray.runtime.arrays`.

Value semantics. `dumps` takes the value as it is at the call: what the caller changes afterwards is
not seen. Memory that the caller can write is copied, once; memory that it cannot (read-only arrays,
`bytes`) is referred to. `loads` gives memory of its own to everything that can be written.

By value or by name. Functions and classes of ``__main__``, of a notebook or of a function body
travel by value, everything importable by name. Plain pickle would send those of ``__main__`` by
name too, and fail at the other side only; hence there is no short cut around cloudpickle here.
There need not be one: a reused pickler costs about 0.2 µs more than ``pickle.dumps``, and less than
finding out whether ``pickle.dumps`` would do.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import cloudpickle
import orjson

from fray.errors import PayloadError
from fray.runtime.arrays import ARRAY_CLASSES, reduce_array
from fray.runtime.payload import Codec, Payload
from fray.runtime.unpicklable import (
    Culprit,
    find_culprit,
    find_culprit_argument,
    find_culprit_call,
)

if TYPE_CHECKING:
    from fray.runtime.transport import Buffer

OUT_OF_BAND_BYTES_MIN = 64 << 10
"""Buffers from this size on travel outside of the pickle."""

IDLE_PICKLERS_MAX = 8
"""Picklers kept for the next call; more exist only while more threads (or nested calls) pickle."""

Allocate = Callable[[int], "bytearray | memoryview"]
"""Gives so many bytes of writable memory (as format ``B``) for the copy of a buffer."""


class _Parts:
    """What a pickler writes into: a list, since small pickles arrive in one piece."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[Any], object]) -> None:
        self.write = write


class _Pickler(cloudpickle.Pickler):
    """A cloudpickle pickler that can be used again, by one thread at a time.

    The public `cloudpickle.dumps` makes a pickler per call, which costs four times as much as
    pickling a small value. Between two uses everything that refers to the last value is cleared:
    the memo, and the table by which functions of one pickle share their globals (its keys are
    addresses, which would be mistaken for those of other objects later).
    """

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._buffers: list[Buffer] = []
        self._allocate: Allocate | None = None
        super().__init__(_Parts(self._parts.append), 5, self._place)  # pyright: ignore[reportUnknownMemberType]

    def take(self, obj: object, allocate: Allocate | None) -> Payload:
        """Pickles one value. After an exception the pickler must not be used again."""
        self._allocate = allocate
        # Not cloudpickle's own dump(): it only rewords RecursionError.
        pickle.Pickler.dump(self, obj)
        parts, buffers = self._parts, self._buffers
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.clear_memo()
        shared_globals: dict[int, object] = self.globals_ref  # pyright: ignore[reportUnknownMemberType]
        if shared_globals:
            shared_globals.clear()
        if not buffers:
            return Payload(data)
        self._buffers = []
        return Payload(data, buffers)

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`; asked about everything but plain values."""
        if type(obj).__name__ in ARRAY_CLASSES:
            reduced = reduce_array(obj, OUT_OF_BAND_BYTES_MIN)
            if reduced is not NotImplemented:
                return reduced
        return super().reducer_override(obj)  # pyright: ignore

    def _place(self, buffer: pickle.PickleBuffer) -> bool:
        """Decides where a buffer goes.

        Returns:
            Whether it belongs into the pickle itself.
        """
        raw = buffer.raw()  # pickle has refused what is not contiguous; arrays pack themselves
        if raw.nbytes < OUT_OF_BAND_BYTES_MIN:
            return True
        self._buffers.append(raw if raw.readonly else self._copy(raw))
        return False

    def _copy(self, raw: memoryview) -> Buffer:
        if self._allocate is None:
            return bytearray(raw)
        memory = self._allocate(raw.nbytes)
        memory[:] = raw
        return memory


class _Picklers:
    """Picklers that nobody uses at the moment. They hold nothing of any value.

    Taking one and giving it back are single operations on a list, which threads may do at once;
    a ``__reduce__`` that pickles something itself finds another pickler.
    """

    __slots__ = ("_idle",)

    def __init__(self) -> None:
        self._idle: list[_Pickler] = []

    def dump(self, obj: object, allocate: Allocate | None) -> Payload:
        try:
            pickler = self._idle.pop()
        except IndexError:
            pickler = _Pickler()
        payload = pickler.take(obj, allocate)
        if len(self._idle) < IDLE_PICKLERS_MAX:
            self._idle.append(pickler)
        return payload


_PICKLERS = _Picklers()


def dumps(obj: object, *, what: str = "value", allocate: Allocate | None = None) -> Payload:
    """Serializes a value as it is now.

    Buffers from `OUT_OF_BAND_BYTES_MIN` bytes on stand outside of the pickle: writable ones as
    copies (writable memory), read-only ones by reference (read-only memory). Safe to use from
    several threads at once.

    Args:
        obj: Any value that cloudpickle takes.
        what: What it is, for error messages ("result of Model.predict").
        allocate: Where copies of writable buffers go, e.g. a pool; fresh memory by default.

    Raises:
        PayloadError: It cannot be pickled. The message names the path to what cannot.
        MemoryError: There is not enough memory for it.
    """
    try:
        return _PICKLERS.dump(obj, allocate)
    except MemoryError:
        raise
    except Exception as exc:
        raise _unpicklable(find_culprit(obj, what, exc)) from exc


def dumps_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], *, allocate: Allocate | None = None
) -> Payload:
    """Serializes a call's arguments as they are now: the pair ``(args, kwargs)``.

    Args:
        args: The positional arguments; an error counts them from 1.
        kwargs: The keyword arguments.
        allocate: As for `dumps`.

    Raises:
        PayloadError: One of them cannot be pickled; the message begins with which ("argument 2").
        MemoryError: There is not enough memory for them.
    """
    try:
        return _PICKLERS.dump((args, kwargs), allocate)
    except MemoryError:
        raise
    except Exception as exc:
        raise _unpicklable(find_culprit_argument(args, kwargs, exc)) from exc


def dumps_call(
    fn: object, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, what: str
) -> Payload:
    """Serializes what is to be called together with its arguments: ``(fn, args, kwargs)``.

    Args:
        fn: A function or class.
        args: The positional arguments; an error counts them from 1.
        kwargs: The keyword arguments.
        what: What ``fn`` is, for error messages ("the entrypoint of job 'train'").

    Raises:
        PayloadError: It or an argument cannot be pickled; the message says which.
        MemoryError: There is not enough memory for them.
    """
    try:
        return _PICKLERS.dump((fn, args, dict(kwargs)), None)
    except MemoryError:
        raise
    except Exception as exc:
        raise _unpicklable(find_culprit_call(fn, args, kwargs, what, exc)) from exc


def _unpicklable(culprit: Culprit) -> PayloadError:
    return PayloadError(
        f"{culprit.path}: {culprit.reason}. Send what it is made from instead, make it inside the "
        "actor, or leave it out in the __getstate__ of its owner"
    )


def loads(payload: Payload, *, what: str = "value", take: bool = False) -> Any:
    """Rebuilds a value.

    Arrays that were writable are writable and share memory with nothing else; read-only ones are
    read-only and refer to the payload's memory. Only payloads of one's own job are to be given to
    this: unpickling runs whatever code the payload names.

    Args:
        payload: What `dumps` gave, here or elsewhere. JSON payloads give plain JSON values.
        what: What it is, for error messages ("result of Model.predict").
        take: The payload's writable buffers become the value's own memory, without a copy. The
            payload must then not be read or sent again. For what came off a wire.

    Raises:
        PayloadError: It cannot be rebuilt here: a module or class is missing, a constructor
            refused, the bytes are damaged. The message says which and what to do.
        MemoryError: There is not enough memory for it.
    """
    try:
        if payload.codec is not _PICKLE:
            return orjson.loads(payload.data)
        buffers = payload.buffers
        if not buffers:
            return pickle.loads(payload.data)
        return pickle.loads(
            payload.data, buffers=buffers if take else [_separate(buffer) for buffer in buffers]
        )
    except MemoryError:
        raise
    except Exception as exc:
        raise PayloadError(f"{what} cannot be rebuilt here: {_why_not(exc)}") from exc


_PICKLE = Codec.PICKLE  # looking up a member of an enumeration costs as much as a small pickle


def _separate(buffer: Buffer) -> Buffer:
    view = memoryview(buffer)
    return buffer if view.readonly else bytearray(view)


_NO_ATTRIBUTE = re.compile(r"Can't get attribute '(?P<name>.+?)' on <module '(?P<module>.+?)'")


def _why_not(exc: Exception) -> str:
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        return (
            f"there is no module {exc.name!r} in this environment. Install it for whoever receives "
            "the value (a job: its dependencies), or send plain data instead"
        )
    missing = _NO_ATTRIBUTE.search(str(exc)) if isinstance(exc, AttributeError) else None
    if missing is not None:
        return (
            f"module {missing['module']!r} has no {missing['name']!r} here. Sender and receiver "
            "run different versions of it: give both the same code"
        )
    if isinstance(exc, pickle.UnpicklingError | EOFError | orjson.JSONDecodeError):
        return f"its bytes are damaged or incomplete ({exc})"
    return f"{type(exc).__name__}: {exc}"


__all__ = [
    "IDLE_PICKLERS_MAX",
    "OUT_OF_BAND_BYTES_MIN",
    "Allocate",
    "dumps",
    "dumps_arguments",
    "dumps_call",
    "loads",
]
