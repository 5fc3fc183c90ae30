"""Payloads within calls: values that travel apart from the pickle around them."""

from __future__ import annotations

from collections.abc import Sequence
from pickle import PickleBuffer
from typing import Any, cast

from fray.runtime.payload import Payload
from fray.runtime.serialization import OUT_OF_BAND_BYTES_MIN

INLINE_BYTES_MAX = 64 << 10
"""A result of at most so many bytes goes to the driver; a larger one stays where it was made."""

Parts = tuple[Any, Sequence[Any]]
"""The data of a payload and its buffers."""


def parts_of(payload: Payload) -> Parts:
    """A payload as an argument or a result of a call.

    Args:
        payload: The payload.
    """
    data = payload.data
    if len(data) >= OUT_OF_BAND_BYTES_MIN:
        data = PickleBuffer(data)
    elif not isinstance(data, bytes):
        data = bytes(data)
    return data, [PickleBuffer(_base(buffer)) for buffer in payload.buffers]


def _base(buffer: Any) -> Any:
    """What a view is of. The garbage collector of CPython 3.11 crashes over views of views."""
    if not isinstance(buffer, memoryview):
        return buffer
    view = cast("memoryview[int]", buffer)
    base: object = view.obj
    whole = isinstance(base, bytes | bytearray) and len(base) == view.nbytes
    return base if whole else bytearray(view)


def payload_of(parts: Parts) -> Payload:
    """The payload again, on the other side.

    Args:
        parts: What `parts_of` gave.
    """
    return Payload(parts[0], parts[1])


def shared(payload: Payload) -> Payload:
    """A payload that many read: its buffers are read-only.

    Args:
        payload: The payload.
    """
    return Payload(payload.data, [memoryview(b).toreadonly() for b in payload.buffers])


def own(payload: Payload) -> Payload:
    """A copy of a payload whose buffers may become the memory of a value.

    Args:
        payload: The payload.
    """
    return Payload(payload.data, [bytearray(b) for b in payload.buffers])


def taken(payload: Payload) -> Payload:
    """A payload that nobody else has; what of it cannot be written is copied.

    Args:
        payload: The payload.
    """
    buffers = [bytearray(b) if memoryview(b).readonly else b for b in payload.buffers]
    return Payload(payload.data, buffers)


__all__ = ["INLINE_BYTES_MAX", "Parts", "own", "parts_of", "payload_of", "shared", "taken"]
