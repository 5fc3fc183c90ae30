"""The first thing that each side says: who it is, and which protocol it speaks.

Plain data and its JSON form, and the rule by which two sides agree. The form of HELLO itself never
changes, whatever the protocol version: unknown keys are ignored, so that either side may be newer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import orjson

from fray.errors import LocalProtocolError, RemoteProtocolError

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

HELLO_BYTES_MAX = 4096
"""Ten short strings need under 1 KiB; what is longer is not a HELLO. It is parsed before anything
is known of the peer's protocol, so it is kept small."""

HELLO_STRING_BYTES_MAX = 1024

RESUME = "resume"
"""The feature of acknowledging deliveries, so that a session can go on over another link."""

FEATURES_MAX = 64

WINDOW_BYTES_MIN = 4096
"""A window that is smaller would cost more in headers and credit than it carries."""

_INT_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one side accepts from the other; said in HELLO, as HTTP/2's SETTINGS are.

    Attributes:
        payload_bytes_max: Of one payload, data and buffers together.
        announced_bytes_max: Of all transfers that were announced and have not arrived.
        transfers_max: Transfers under way at once, ≥ 1.
        window_bytes: Bulk on its way on the connection, ≥ `WINDOW_BYTES_MIN`.
        transfer_window_bytes: Bulk on its way in one transfer, ≥ `WINDOW_BYTES_MIN`.
        calls_in_flight_max: Calls without an outcome, ≥ 1.
    """

    payload_bytes_max: int
    announced_bytes_max: int
    transfers_max: int
    window_bytes: int
    transfer_window_bytes: int
    calls_in_flight_max: int


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a process is.

    Attributes:
        process_id: Of this incarnation of the process; not empty.
        boot_id: Of this boot of its host or container; not empty.
        address: ``host:port`` of its own door; empty where it has none.
        session: Identifies a conversation that outlives connections; empty for none.
        resume: How many deliveries of the session its sender has got, where it goes on with one;
            None where it begins it anew.
        python_version: For people, and for whoever unpickles.
        fray_version: For people.
        features: Names of optional parts of the protocol that it knows, at most `FEATURES_MAX`.
        protocol_min: Oldest protocol version that it speaks, ≥ 0.
        protocol_max: Newest one.
    """

    process_id: str
    boot_id: str
    address: str = ""
    session: str = ""
    python_version: str = ""
    fray_version: str = ""
    features: tuple[str, ...] = ()
    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX
    resume: int | None = None


_STRINGS = {
    "process": "process_id",
    "boot": "boot_id",
    "address": "address",
    "session": "session",
    "python": "python_version",
    "fray": "fray_version",
}
_NOT_EMPTY = ("process", "boot")
_ALLOWANCES = {
    "payload_bytes_max": 1,
    "announced_bytes_max": 1,
    "transfers_max": 1,
    "window_bytes": WINDOW_BYTES_MIN,
    "transfer_window_bytes": WINDOW_BYTES_MIN,
    "calls_in_flight_max": 1,
}


def encode_hello(hello: Hello, allowance: Allowance) -> bytes:
    """Makes the body of a HELLO.

    Args:
        hello: Who we are.
        allowance: What we accept.

    Raises:
        LocalProtocolError: The other side would refuse it: a field of the wrong type, an empty
            id, a range that is none, or too long.
    """
    body: dict[str, object] = {key: getattr(hello, field) for key, field in _STRINGS.items()}
    body["protocol"] = [hello.protocol_min, hello.protocol_max]
    body["features"] = list(hello.features)
    body["resume"] = hello.resume
    body["limits"] = {key: getattr(allowance, key) for key in _ALLOWANCES}
    try:
        raw = orjson.dumps(body)
        decode_hello(raw)
    except (TypeError, RemoteProtocolError) as exc:
        raise LocalProtocolError(f"our own HELLO is not valid: {exc}") from exc
    return raw


def decode_hello(raw: bytes) -> tuple[Hello, Allowance]:
    """Reads the body of a HELLO.

    Args:
        raw: Any bytes.

    Raises:
        RemoteProtocolError: It is not a HELLO; says which field is wrong.
    """
    if len(raw) > HELLO_BYTES_MAX:
        raise RemoteProtocolError(f"HELLO has {len(raw)} bytes; at most {HELLO_BYTES_MAX} are read")
    try:
        body: object = orjson.loads(raw)
    except ValueError as exc:
        raise RemoteProtocolError(f"HELLO is not JSON: {exc}") from None
    fields = _object(body, "HELLO")
    low, high = _protocol(fields)
    return (
        Hello(
            **{field: _string(fields, key) for key, field in _STRINGS.items()},
            features=_features(fields),
            protocol_min=low,
            protocol_max=high,
            resume=_resume(fields),
        ),
        _allowance(fields),
    )


def common_version(ours: Hello, theirs: Hello) -> int | None:
    """The newest protocol version that both sides speak, or None.

    Args:
        ours: What we said.
        theirs: What they said.
    """
    version = min(ours.protocol_max, theirs.protocol_max)
    return version if version >= max(ours.protocol_min, theirs.protocol_min) else None


def common_features(ours: Hello, theirs: Hello) -> tuple[str, ...]:
    """The features that both sides know, sorted.

    Args:
        ours: What we said.
        theirs: What they said.
    """
    return tuple(sorted(name for name in dict.fromkeys(ours.features) if name in theirs.features))


def no_common_version(ours: Hello, theirs: Hello) -> str:
    """Tells a person what to do where `common_version` finds none.

    Args:
        ours: What we said.
        theirs: What they said.
    """
    older = "this side" if ours.protocol_max < theirs.protocol_min else "the other side"
    return (
        f"no common protocol version: {ours.process_id} (fray {ours.fray_version or '?'}) speaks "
        f"{ours.protocol_min} to {ours.protocol_max}, {theirs.process_id} (fray "
        f"{theirs.fray_version or '?'}) speaks {theirs.protocol_min} to {theirs.protocol_max}; "
        f"upgrade fray on {older} ({(ours if older == 'this side' else theirs).process_id})"
    )


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"{what} must be an object, not {_kind(value)}")
    return cast("dict[str, object]", value)


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _string(fields: dict[str, object], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"HELLO's {key!r} must be a string, not {_kind(value)}")
    if len(value.encode()) > HELLO_STRING_BYTES_MAX:
        raise RemoteProtocolError(f"HELLO's {key!r} is longer than {HELLO_STRING_BYTES_MAX} bytes")
    if not value and key in _NOT_EMPTY:
        raise RemoteProtocolError(f"HELLO's {key!r} is empty")
    return value


def _protocol(fields: dict[str, object]) -> tuple[int, int]:
    value = fields.get("protocol")
    if isinstance(value, list):
        match cast("list[Any]", value):
            case [low, high] if _is_int(low) and _is_int(high) and 0 <= low <= high <= _INT_MAX:
                return low, high
            case _:
                pass
    raise RemoteProtocolError(
        f"HELLO's 'protocol' must be [oldest, newest] of version numbers, not {value!r:.60}"
    )


def _resume(fields: dict[str, object]) -> int | None:
    value = fields.get("resume")
    if value is None or (_is_int(value) and 0 <= value <= _INT_MAX):
        return value
    raise RemoteProtocolError(f"HELLO's 'resume' must be a number or null, not {value!r:.60}")


def _features(fields: dict[str, object]) -> tuple[str, ...]:
    value = fields.get("features")
    if not isinstance(value, list):
        raise RemoteProtocolError(f"HELLO's 'features' must be a list, not {_kind(value)}")
    names = cast("list[object]", value)
    if len(names) > FEATURES_MAX:
        raise RemoteProtocolError(f"HELLO names {len(names)} features; at most {FEATURES_MAX}")
    features = tuple(name for name in names if isinstance(name, str))
    if len(features) != len(names):
        raise RemoteProtocolError("HELLO's 'features' must be strings")
    return features


def _allowance(fields: dict[str, object]) -> Allowance:
    limits = _object(fields.get("limits"), "HELLO's 'limits'")
    numbers: dict[str, int] = {}
    for key, least in _ALLOWANCES.items():
        value = limits.get(key)
        if not _is_int(value) or not least <= value <= _INT_MAX:
            raise RemoteProtocolError(
                f"HELLO's limit {key!r} must be a number from {least} on, not {value!r:.60}"
            )
        numbers[key] = value
    return Allowance(**numbers)


__all__ = [
    "FEATURES_MAX",
    "HELLO_BYTES_MAX",
    "HELLO_STRING_BYTES_MAX",
    "PROTOCOL_MAX",
    "PROTOCOL_MIN",
    "RESUME",
    "WINDOW_BYTES_MIN",
    "Allowance",
    "Hello",
    "common_features",
    "common_version",
    "decode_hello",
    "encode_hello",
    "no_common_version",
]
