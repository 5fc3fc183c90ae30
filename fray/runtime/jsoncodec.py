"""JSON for the control plane: typed values to bytes and back, with nothing executed on the way.

What is carried: dataclasses (frozen, nested, recursive), enumerations, new types, tuples, lists,
sets, mappings with string or integer keys, bytes (as base64, or beside the JSON), optional values,
unions of plain JSON types, and unions of dataclasses told apart by their field ``kind``. Reading is
strict (`fray.runtime.jsonreading`). Writing is orjson's, which knows neither NaN nor infinities:
they become ``null``, and so are refused where a number is read.

This room knows types and JSON; no wire, no actors. cattrs is imported on the first read only.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import orjson

from fray.errors import PayloadError
from fray.runtime.jsonreading import BESIDE_KEY, message_of, read_part, reader_of

T = TypeVar("T")

SIGNATURES_MAX = 4096
"""How many functions' signatures are remembered."""


# ---- writing


BESIDE_BYTES_MIN = 4 << 10
"""Bytes from this size on travel beside the JSON, where they can: base64 of a blob of 100 MiB would
hold up the event loops on its way for seconds."""


def json_dumps(obj: object, *, beside: list[bytes] | None = None) -> bytes:
    """Writes a value as JSON.

    Args:
        obj: A value of the kinds that the module names.
        beside: Takes large bytes, which then are not in the JSON; None to have them in it.

    Raises:
        PayloadError: It holds something else; the message names the path to it.
    """

    def plain(obj: object) -> object:
        if beside is not None and isinstance(obj, bytes) and len(obj) >= BESIDE_BYTES_MIN:
            beside.append(obj)
            return {BESIDE_KEY: len(beside) - 1}
        return _plain(obj)

    try:
        return orjson.dumps(obj, default=plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as exc:
        path, reason = _find_unwritable(obj, "value", exc)
        raise PayloadError(f"{path} cannot be written as JSON: {reason}") from exc


def _plain(obj: object) -> object:
    """Tells orjson what to write for what it does not know."""
    if isinstance(obj, bytes | bytearray | memoryview):
        return base64.b64encode(cast("bytes", obj)).decode("ascii")
    if isinstance(obj, frozenset | set):
        members = cast("Collection[Any]", obj)
        return sorted(members, key=json_dumps)  # an order that does not depend on hash seeds
    if isinstance(obj, Mapping):
        return dict(cast("Mapping[Any, Any]", obj))
    if isinstance(obj, Sequence):
        return list(cast("Sequence[Any]", obj))
    raise TypeError(f"{type(obj).__qualname__} has no form in JSON")


def _find_unwritable(obj: object, path: str, exc: Exception) -> tuple[str, str]:
    for step, part in _parts(obj):
        try:
            orjson.dumps(part, default=_plain, option=orjson.OPT_NON_STR_KEYS)
        except TypeError as inner:
            return _find_unwritable(part, path + step, inner)
    return path, str(exc.__cause__ or exc)


def _parts(obj: object) -> Iterable[tuple[str, object]]:
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return ((f".{f.name}", getattr(obj, f.name)) for f in dataclasses.fields(obj))
    if isinstance(obj, Mapping):
        pairs = cast("Mapping[Any, Any]", obj).items()
        return ((f"[{key!r}]", part) for key, part in pairs)
    if isinstance(obj, list | tuple):
        items = cast("Sequence[Any]", obj)
        return ((f"[{index}]", part) for index, part in enumerate(items))
    return ()


# ---- reading


@typing.overload
def json_loads(data: bytes | bytearray | memoryview, kind: type[T], *, what: str = "") -> T: ...
@typing.overload
def json_loads(data: bytes | bytearray | memoryview, kind: Any, *, what: str = "") -> Any: ...
def json_loads(data: bytes | bytearray | memoryview, kind: Any, *, what: str = "") -> Any:
    """Reads JSON as a value of a type.

    Args:
        data: UTF-8 JSON.
        kind: The type: any that the module names, with its parameters; `Any` for plain JSON.
        what: What it is, for error messages; the type's name by default.

    Raises:
        PayloadError: It is not JSON, or not of that type. The message names what is wrong by its
            path, as in ``JobRequest.resources.cpu: expected int, got str 'two'``.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise PayloadError(f"{what or _name(kind)} is not JSON: {exc}") from exc
    return structure(value, kind, what=what)


@typing.overload
def structure(value: object, kind: type[T], *, what: str = "") -> T: ...
@typing.overload
def structure(value: object, kind: Any, *, what: str = "") -> Any: ...
def structure(value: object, kind: Any, *, what: str = "") -> Any:
    """Makes a value of a type from a plain JSON value.

    Args:
        value: What JSON gives: dicts, lists, strings, numbers, booleans, None.
        kind: As for `json_loads`.
        what: As for `json_loads`.

    Raises:
        PayloadError: It is not of that type; the message names what is wrong by its path.
    """
    try:
        return reader_of(kind)(value, kind)
    except Exception as exc:
        raise PayloadError(message_of(exc, what or _name(kind))) from exc


_MODULES = re.compile(r"\b(?:\w+\.)+")


def _name(kind: object) -> str:
    if isinstance(kind, type) and not typing.get_args(kind):
        return kind.__name__
    return _MODULES.sub("", str(kind))


# ---- calls


def structure_arguments(
    fn: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Makes a function's arguments from plain JSON values, by its type hints.

    Parameters without a hint take any JSON value as it is. Defaults are left to the function.

    Args:
        fn: The function or bound method that is to be called.
        args: The positional arguments.
        kwargs: The keyword arguments.

    Raises:
        PayloadError: Arguments are missing, too many, unknown, or not of their parameter's type.
            The message names function and argument.
        TypeError: The function's hints cannot be resolved, or name a type that JSON cannot carry.
    """
    function = getattr(fn, "__func__", fn)
    signature = _signature(function, function is not fn)
    args = tuple(args)
    if signature.counted is not None and _fits(signature.counted, args, kwargs):
        return _structure_counted(signature, signature.counted, args, kwargs)
    try:
        bound = signature.shape.bind(*args, **kwargs)
    except TypeError as exc:
        raise PayloadError(f"{signature.name}(): {exc}") from exc
    for name, value in bound.arguments.items():
        read = signature.reads.get(name)
        if read is None:
            continue
        try:
            bound.arguments[name] = read(value)
        except Exception as exc:
            raise PayloadError(message_of(exc, f"{signature.name}(): argument {name!r}")) from exc
    return bound.args, bound.kwargs


def _fits(names: _Counted, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether each argument has a parameter, and each parameter without a default an argument."""
    given = len(args)
    return (
        given <= len(names)
        and all(name in kwargs for name, has_default in names[given:] if not has_default)
        and sum(name in kwargs for name, _ in names[given:]) == len(kwargs)
    )


def _structure_counted(
    signature: _Signature, names: _Counted, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What most calls need: to bind arguments as `inspect` does it takes ten times as long."""
    reads, name = signature.reads, ""
    made, named = list(args), dict(kwargs)
    try:
        for at, value in enumerate(args):
            name = names[at][0]
            if (read := reads.get(name)) is not None:
                made[at] = read(value)
        for name, value in kwargs.items():
            if (read := reads.get(name)) is not None:
                named[name] = read(value)
    except Exception as exc:
        raise PayloadError(message_of(exc, f"{signature.name}(): argument {name!r}")) from exc
    return tuple(made), named


def result_type(fn: Callable[..., Any]) -> Any:
    """What a function's result, or each item of its stream, is to be read as; `Any` if unsaid.

    Args:
        fn: A function or bound method.

    Raises:
        TypeError: Its hints cannot be resolved.
    """
    function = getattr(fn, "__func__", fn)
    return _signature(function, function is not fn).result


_Counted = tuple[tuple[str, bool], ...]
"""Names of parameters in their order, and whether they have defaults."""


class _Signature(typing.NamedTuple):
    name: str
    shape: inspect.Signature
    reads: Mapping[str, Callable[[Any], Any]]
    result: Any
    counted: _Counted | None
    """Its parameters, where they all may be given by position or by name."""


_STREAMS = (
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
    collections.abc.Iterator,
    collections.abc.Generator,
)


@functools.lru_cache(maxsize=SIGNATURES_MAX)
def _signature(function: Callable[..., Any], is_method: bool) -> _Signature:
    name = function.__qualname__
    shape = inspect.signature(function)
    if is_method:
        shape = shape.replace(parameters=list(shape.parameters.values())[1:])
    try:
        hints = typing.get_type_hints(function)
    except NameError as exc:
        raise TypeError(
            f"the type hints of {name}() cannot be resolved: {exc}. Import what they name at run "
            "time, not only for type checkers"
        ) from exc
    reads = {
        parameter.name: _reads_parameter(name, parameter, hints[parameter.name])
        for parameter in shape.parameters.values()
        if parameter.name in hints
    }
    result = hints.get("return", Any)
    if (typing.get_origin(result) or result) in _STREAMS:
        result = (typing.get_args(result) or (Any,))[0]
    plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in shape.parameters.values())
    counted = tuple((p.name, p.default is not p.empty) for p in shape.parameters.values())
    return _Signature(name, shape, reads, result, counted if plain else None)


def _reads_parameter(name: str, parameter: inspect.Parameter, hint: Any) -> Callable[[Any], Any]:
    try:
        read = reader_of(hint)
    except Exception as exc:
        raise TypeError(
            f"{name}(): JSON cannot carry the type of parameter {parameter.name!r}: {exc}"
        ) from exc

    def read_one(value: Any) -> Any:
        return read(value, hint)

    def read_rest(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(read_part(read, v, hint, f"[{i}]") for i, v in enumerate(values))

    def read_named(values: dict[str, Any]) -> dict[str, Any]:
        return {k: read_part(read, v, hint, f"[{k!r}]") for k, v in values.items()}

    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return read_rest
    return read_named if parameter.kind is inspect.Parameter.VAR_KEYWORD else read_one


__all__ = [
    "SIGNATURES_MAX",
    "json_dumps",
    "json_loads",
    "result_type",
    "structure",
    "structure_arguments",
]
