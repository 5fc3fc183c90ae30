"""Typed values from plain JSON values, strictly, and with the path of whatever is wrong.

No type is coerced but integers to floats; objects have all of their required fields and no other;
an array is never read from a string. cattrs does the classes and unions, the readers here do what
it is lenient about. It is imported when the first reader is asked for, since that takes 0.1 s.
"""

from __future__ import annotations

import base64
import binascii
import collections.abc
import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from cattrs import Converter

    from fray.runtime.transport import Buffer

PROBLEMS_MAX = 5
"""How many of a value's faults one message names."""

Hook = Callable[[Any, Any], Any]
"""Makes a value of a type from a JSON value, as cattrs calls it: ``hook(value, type)``."""


# ---- what is wrong


class _WrongError(ValueError):
    """A value does not fit its type.

    Attributes:
        problems: What is wrong: pairs of the path from here, and a sentence.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__(problems)
        self.problems = problems


def _expected(what: str, value: object) -> _WrongError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    got = (
        "null" if value is None else f"{_JSON_NAMES.get(type(value), type(value).__name__)} {shown}"
    )
    return _WrongError([("", f"expected {what}, got {got}")])


_JSON_NAMES: Mapping[type, str] = {
    dict: "object",
    list: "array",
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
}


def _problems(exc: BaseException) -> list[tuple[str, str]]:
    """What is wrong, however cattrs or a class's own checks have put it."""
    from cattrs import ClassValidationError, ForbiddenExtraKeysError

    if isinstance(exc, _WrongError):
        return exc.problems
    if isinstance(exc, ClassValidationError):
        of_fields, of_all = exc.group_exceptions()
        found = [
            (f".{note.name}{path}", text)
            for inner, note in of_fields
            for path, text in ([("", "missing")] if _is_missing(inner) else _problems(inner))
        ]
        return found + [problem for inner in of_all for problem in _problems(inner)]
    if isinstance(exc, ForbiddenExtraKeysError):
        return [("", f"has no field {name!r}") for name in sorted(exc.extra_fields)]
    text = str(exc)
    return [("", text if isinstance(exc, ValueError) and text else f"{type(exc).__name__}: {text}")]


def _is_missing(exc: BaseException) -> bool:
    return type(exc) is KeyError


def message_of(exc: BaseException, what: str) -> str:
    """Says what is wrong with a value, with the path of each fault.

    Args:
        exc: What a reader raised.
        what: What the value is; begins each path.
    """
    problems = _problems(exc)
    shown = [f"{what}{path}: {text}" for path, text in problems[:PROBLEMS_MAX]]
    if len(problems) > PROBLEMS_MAX:
        shown.append(f"and {len(problems) - PROBLEMS_MAX} more")
    return "; ".join(shown)


# ---- the readers


def reader_of(kind: Any) -> Hook:
    """What reads a type: called with a plain JSON value and the type.

    Args:
        kind: The type; None means its own type, as in hints.

    Raises:
        Exception: No value of this type can be read from JSON (cattrs says why).
    """
    return _converter().get_structure_hook(types.NoneType if kind is None else kind)


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter
    from cattrs.strategies import configure_union_passthrough

    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(bool, _read_bool)
    converter.register_structure_hook(int, _read_int)
    converter.register_structure_hook(float, _read_float)
    converter.register_structure_hook(str, _read_str)
    converter.register_structure_hook(bytes, _read_bytes)
    converter.register_structure_hook(types.NoneType, _read_none)
    configure_union_passthrough(str | bool | int | float | None, converter)
    converter.register_structure_hook_factory(_is_enum, _enum_reader)
    converter.register_structure_hook_factory(dataclasses.is_dataclass, _object_reader)
    converter.register_structure_hook_factory(_is_kinds, _kinds_reader)
    converter.register_structure_hook_factory(_is_array, _array_reader)
    converter.register_structure_hook_factory(_is_tuple_of_fields, _fields_reader)
    converter.register_structure_hook_factory(_is_mapping, _mapping_reader)
    return converter


def _read_bool(value: Any, kind: Any) -> bool:
    if type(value) is bool:
        return value
    raise _expected("bool", value)


def _read_int(value: Any, kind: Any) -> Any:
    if kind is not int and _is_enum(kind):  # cattrs takes it for an integer
        return _read_enum(value, kind)
    if type(value) is int:
        return value
    raise _expected("int", value)


def _read_float(value: Any, kind: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise _expected("float", value)


def _read_str(value: Any, kind: Any) -> Any:
    if kind is not str and _is_enum(kind):
        return _read_enum(value, kind)
    if type(value) is str:
        return value
    raise _expected("str", value)


BESIDE_KEY = "$beside"
"""Of what stands in JSON for bytes that travel beside it: its value is their index there."""

_BESIDE: ContextVar[Sequence[Buffer]] = ContextVar("fray_json_beside", default=())


@contextmanager
def reading_beside(buffers: Sequence[Buffer]) -> Generator[None]:
    """Lets readers find the bytes that came beside the JSON.

    Args:
        buffers: In the order in which they were written.
    """
    token = _BESIDE.set(buffers)
    try:
        yield
    finally:
        _BESIDE.reset(token)


def _read_bytes(value: Any, kind: Any) -> bytes:
    found = _bytes_beside(value)
    if found is not None:
        return found
    if type(value) is str:
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            pass
    raise _expected("bytes in base64", value)


def _bytes_beside(value: Any) -> bytes | None:
    buffers = _BESIDE.get()
    index = cast("dict[str, Any]", value).get(BESIDE_KEY) if type(value) is dict else None
    return bytes(buffers[index]) if type(index) is int and 0 <= index < len(buffers) else None


def _read_none(value: Any, kind: Any) -> None:
    if value is not None:
        raise _expected("null", value)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _read_enum(value: Any, kind: type[enum.Enum]) -> enum.Enum:
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(repr(member.value) for member in kind)
        raise _expected(f"one of {choices}", value) from None


def _enum_reader(kind: Any) -> Hook:
    return _read_enum


@functools.cache  # cattrs prepares a class anew for each class that has it in a field
def _object_reader(kind: Any) -> Hook:
    read = _converter().gen_structure_attrs_fromdict(kind)

    def read_object(value: Any, _: Any) -> Any:
        fields = cast("dict[str, Any]", value)
        if type(value) is not dict:
            raise _expected(f"an object ({kind.__name__})", fields)
        return read(fields, kind)

    return read_object


def _kinds(union: Any) -> dict[str, type]:
    """The classes of a union of dataclasses, by the defaults of their field ``kind``; else none."""
    classes = typing.get_args(union) if typing.get_origin(union) in _UNIONS else ()
    found: dict[str, type] = {}
    for cls in classes:
        if not dataclasses.is_dataclass(cls):
            return {}
        default = next((f.default for f in dataclasses.fields(cls) if f.name == "kind"), None)
        if not isinstance(default, str):
            return {}
        found[default] = cast("type", cls)
    return found if len(found) == len(classes) else {}


def _is_kinds(kind: Any) -> bool:
    return bool(_kinds(kind))


def _kinds_reader(kind: Any) -> Hook:
    classes = _kinds(kind)  # prepared when one comes: most of a large union never do

    def read_kind(value: Any, _: Any) -> Any:
        fields = cast("dict[str, Any]", value)
        name = fields.get("kind") if type(value) is dict else None
        if not isinstance(name, str) or name not in classes:
            raise _expected(f"an object whose kind is one of {', '.join(classes)}", fields)
        return _object_reader(classes[name])(fields, kind)

    return read_kind


_UNIONS = (typing.Union, types.UnionType)

_ARRAYS: Mapping[Any, Callable[[Iterable[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: tuple,
    collections.abc.Collection: tuple,
    collections.abc.Iterable: tuple,
    collections.abc.Set: frozenset,
}
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def _is_tuple_of_fields(kind: Any) -> bool:
    parameters = typing.get_args(kind)
    return _origin(kind) is tuple and bool(parameters) and parameters[-1] is not Ellipsis


def _is_array(kind: Any) -> bool:
    return _origin(kind) in tuple(_ARRAYS) and not _is_tuple_of_fields(kind)


def _is_mapping(kind: Any) -> bool:
    return _origin(kind) in _MAPPINGS


def _late_reader(kind: Any) -> Hook:
    """The reader of a part's type, which may be the very type that is being prepared."""
    try:
        return reader_of(kind)
    except RecursionError:
        return lambda value, kind: reader_of(kind)(value, kind)


def read_part(read: Hook, value: Any, kind: Any, step: str) -> Any:
    """Reads a part of a value.

    Args:
        read: Its type's reader.
        value: What JSON gave for it.
        kind: Its type.
        step: Leads to it, in the path of what is wrong: ``[3]``.

    Raises:
        ValueError: It is not of that type; `message_of` says more.
    """
    try:
        return read(value, kind)
    except Exception as exc:
        raise _WrongError([(step + path, text) for path, text in _problems(exc)]) from exc


def _array_reader(kind: Any) -> Hook:
    build = _ARRAYS[_origin(kind)]
    part: Any = (typing.get_args(kind) or (Any,))[0]
    read = _late_reader(part)

    def read_array(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise _expected("an array", value)
        items = cast("list[Any]", value)
        return build(read_part(read, item, part, f"[{i}]") for i, item in enumerate(items))

    return read_array


def _fields_reader(kind: Any) -> Hook:
    parts = typing.get_args(kind)
    reads = [_late_reader(part) for part in parts]

    def read_fields(value: Any, _: Any) -> Any:
        items = cast("list[Any]", value)
        if type(value) is not list or len(items) != len(parts):
            raise _expected(f"an array of {len(parts)}", items)
        return tuple(
            read_part(read, item, part, f"[{i}]")
            for i, (read, item, part) in enumerate(zip(reads, items, parts, strict=True))
        )

    return read_fields


def _mapping_reader(kind: Any) -> Hook:
    key, part = cast("tuple[Any, Any]", typing.get_args(kind) or (Any, Any))
    read_key = _read_integer_key if _is_integer(key) else _late_reader(key)
    read = _late_reader(part)

    def read_mapping(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise _expected("an object", value)
        items = cast("dict[str, Any]", value).items()
        return {
            read_part(read_key, k, key, f"[{k!r}] (key)"): read_part(read, v, part, f"[{k!r}]")
            for k, v in items
        }

    return read_mapping


def _is_integer(kind: Any) -> bool:
    while isinstance(kind, typing.NewType):
        kind = kind.__supertype__
    return kind is int


def _read_integer_key(value: Any, kind: Any) -> int:
    text = str(value)
    if text.removeprefix("-").isdecimal() and text.isascii():  # JSON has no other keys than strings
        return int(text)
    raise _expected("an integer", value)


__all__ = [
    "BESIDE_KEY",
    "PROBLEMS_MAX",
    "Hook",
    "message_of",
    "read_part",
    "reader_of",
    "reading_beside",
]
