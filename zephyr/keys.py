"""Keys of groups as bytes: the same in every process, in the order of the keys themselves.

Bytes compare and sort in C, hash alike whatever ``PYTHONHASHSEED`` is, and mix types that Python
itself does not compare. Equal keys have equal bytes (``1``, ``1.0`` and ``True``), others do not.
"""

from __future__ import annotations

import math
import numbers
import struct
import uuid
import zlib
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

_NONE, _NUMBER, _BYTES, _STR, _TUPLE, _LIST = b"\x01", b"\x02", b"\x04", b"\x05", b"\x06", b"\x07"
_DATE, _NAIVE, _AWARE, _UUID = b"\x08", b"\x09", b"\x0a", b"\x0b"
_MINUS_INFINITY, _BIG_NEGATIVE, _INT, _BIG, _INFINITY, _NAN = (
    b"\x00",
    b"\x3f",
    b"\x40",
    b"\x41",
    b"\xfe",
    b"\xff",
)
_HALF = 1 << 63
_MIX = 0x9E3779B1
_MICROSECOND = timedelta(microseconds=1)


def encode_key(key: Any) -> bytes:
    """The bytes of a key.

    Args:
        key: None, a bool, a number, a string, bytes, a date, a time, a UUID, or a tuple or list of
            those.

    Raises:
        TypeError: It is something else.
    """
    kind: type = type(key)  # pyright: ignore[reportUnknownVariableType]
    if kind is str:
        return _STR + key.encode("utf-8", "surrogatepass")
    if kind is int:
        return _NUMBER + _int(key) + b"\x00"
    if kind is bytes:
        return _BYTES + key
    return _encode(key)


def stand_in(key: Any) -> str | bytes:
    """What stands for a key in a dict: equal for equal keys, and for no others.

    Args:
        key: See `encode_key`.

    Raises:
        TypeError: It is something else.
    """
    encoded = encode_key(key)
    if encoded.startswith(_STR):  # of a class of its own, which has a say in what equals it
        return encoded[len(_STR) :].decode("utf-8", "surrogatepass")
    return encoded


def encoded_of(name: str | bytes) -> bytes:
    """The bytes of the key that something stands for.

    Args:
        name: What `stand_in` gave; or the key, if that is a string.
    """
    return encode_key(name) if isinstance(name, str) else name


def partition_of(encoded: bytes, num_partitions: int) -> int:
    """Where a key belongs.

    Args:
        encoded: What `encode_key` gave.
        num_partitions: How many there are, ≥ 1.

    Returns:
        Its partition, from 0.
    """
    return ((zlib.crc32(encoded) * _MIX & 0xFFFFFFFF) * num_partitions) >> 32


def _encode(key: Any) -> bytes:
    """As bytes that say by themselves where they end, unless the key is a string or bytes."""
    if key is None:
        return _NONE
    if isinstance(key, str):
        return _STR + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes | bytearray):
        return _BYTES + bytes(key)
    if isinstance(key, int):
        return _NUMBER + _int(int(key)) + b"\x00"
    if isinstance(key, float):
        return _NUMBER + _float(key)
    if isinstance(key, tuple | list):
        sign = _TUPLE if isinstance(key, tuple) else _LIST
        return sign + b"".join(map(_inside, cast("list[Any]", key))) + b"\x00"
    if isinstance(key, date):
        return _date(key)
    if isinstance(key, uuid.UUID):
        return _UUID + key.bytes
    if isinstance(key, numbers.Integral):  # numpy's, for one
        return _encode(int(key))
    if type(key).__module__ == "numpy" and hasattr(key, "item"):
        return _encode(key.item())
    raise TypeError(
        "a key is None, a bool, a number, a string, bytes, a date, a UUID or a tuple of those, "
        f"not a {type(key).__name__}: {key!r:.80}"
    )


def _inside(key: Any) -> bytes:
    """An element of a tuple: a longer string must not look like the next element."""
    encoded = _encode(key)
    if encoded[:1] in (_STR, _BYTES):
        return encoded.replace(b"\x00", b"\x00\xff") + b"\x00"
    return encoded


def _date(day: date) -> bytes:
    if not isinstance(day, datetime):
        return _DATE + _int(day.toordinal())
    if day.tzinfo is None:
        return _NAIVE + _int((day - datetime.min) // _MICROSECOND)
    return _AWARE + _int((day - datetime.min.replace(tzinfo=UTC)) // _MICROSECOND)


def _int(number: int) -> bytes:
    if -_HALF <= number < _HALF:
        return _INT + (number + _HALF).to_bytes(8, "big")
    size = (number.bit_length() + 7) // 8
    if number > 0:
        return _BIG + size.to_bytes(4, "big") + number.to_bytes(size, "big")
    size_left = (1 << 32) - 1 - size  # the longer, the smaller
    return (
        _BIG_NEGATIVE
        + size_left.to_bytes(4, "big")
        + (number + (1 << 8 * size)).to_bytes(size, "big")
    )


def _float(number: float) -> bytes:
    if math.isnan(number):
        return _NAN
    if math.isinf(number):
        return _INFINITY if number > 0 else _MINUS_INFINITY
    below = math.floor(number)
    if below == number:
        return _int(below) + b"\x00"
    (bits,) = struct.unpack(">q", struct.pack(">d", number))
    if bits < 0:
        bits ^= _HALF - 1
    return _int(below) + b"\x01" + (bits + _HALF).to_bytes(8, "big")


__all__ = ["encode_key", "encoded_of", "partition_of", "stand_in"]
