"""How a cell reads arguments and writes results.

Users' actors speak pickle. Actors of the control plane speak JSON: their arguments are structured
into the types that their methods are annotated with, and never unpickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from fray.runtime.jsoncodec import json_dumps, json_loads, structure_arguments
from fray.runtime.jsonreading import reading_beside
from fray.runtime.payload import Codec, Payload
from fray.runtime.serialization import dumps, loads


class ArgumentCodec(Protocol):
    """Reads arguments, writes results."""

    def decode(
        self, fn: Callable[..., Any], payload: Payload, *, take: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments of a call.

        Args:
            fn: The method.
            payload: Its arguments.
            take: Whether the payload's writable memory may become theirs.

        Raises:
            PayloadError: They cannot be rebuilt, or do not fit the function.
        """
        ...

    def encode(self, fn: Callable[..., Any], value: Any) -> Payload:
        """A result, or an item of a stream.

        Raises:
            PayloadError: It cannot be serialized.
        """
        ...


def json_payload(value: object) -> Payload:
    """A value of the control plane's, large bytes in it apart.

    Args:
        value: What `json_dumps` can write.

    Raises:
        PayloadError: It cannot be written as JSON.
    """
    beside: list[bytes] = []
    data = json_dumps(value, beside=beside)
    return Payload(data, beside, codec=Codec.JSON)


def read_json_payload(payload: Payload, kind: Any) -> Any:
    """What `json_payload` wrote.

    Args:
        payload: Of any content.
        kind: The value's type.

    Raises:
        PayloadError: It is not a value of that type.
    """
    with reading_beside(payload.buffers):
        return json_loads(payload.data, kind)


class PickleArguments:
    """For users' actors."""

    def decode(
        self, fn: Callable[..., Any], payload: Payload, *, take: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `ArgumentCodec.decode`."""
        args, kwargs = loads(payload, what="arguments", take=take)
        return args, kwargs

    def encode(self, fn: Callable[..., Any], value: Any) -> Payload:
        """See `ArgumentCodec.encode`."""
        return dumps(value, what="the result")


class JsonArguments:
    """For actors of the control plane."""

    def decode(
        self, fn: Callable[..., Any], payload: Payload, *, take: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `ArgumentCodec.decode`."""
        args, kwargs = json_loads(payload.data, tuple[list[Any], dict[str, Any]], what="arguments")
        with reading_beside(payload.buffers):
            return structure_arguments(fn, args, kwargs)

    def encode(self, fn: Callable[..., Any], value: Any) -> Payload:
        """See `ArgumentCodec.encode`."""
        return json_payload(value)


CODECS: Mapping[Codec, ArgumentCodec] = MappingProxyType(
    {Codec.PICKLE: PickleArguments(), Codec.JSON: JsonArguments()}
)


__all__ = [
    "CODECS",
    "ArgumentCodec",
    "JsonArguments",
    "PickleArguments",
    "json_payload",
    "read_json_payload",
]
