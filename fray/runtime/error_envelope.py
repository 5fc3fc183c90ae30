"""Exceptions to payloads and back, so that every failure is told whole and none does harm.

An envelope is JSON: ``{"v": 1, "error": …, "fray"?: …, "pickle"?: …, "unpicklable"?: …}``.

* ``error`` is the exception tree as data (`fray.errors.ErrorData`). Anybody may read it.
* ``fray`` stands for an error of fray's own: its class and attributes. It is rebuilt from that.
* ``pickle`` is the exception itself, pickled, in base64; ``unpicklable`` says why it is missing.
  Only a job's own processes look into it; the control plane neither writes nor reads it.

What may be hostile: the exception. Its ``__str__``, ``__reduce__``, notes or classes may raise
anything, return anything, or return a great deal. Encoding and decoding never raise for that; what
could not be had is said in its place. What is bounded, by the constants below: the number of
exceptions in a tree, every text, all texts together, the frames of a traceback, and the pickle.
Whatever is left out leaves a remark. This room knows neither actors nor the wire.
"""

from __future__ import annotations

import base64
import pickle
from typing import TYPE_CHECKING, Any, cast

import orjson

from fray import errors
from fray.errors import (
    ActorDied,
    CallError,
    ChildFailed,
    ConnectionRefused,
    DeathCause,
    DeathKind,
    ErrorData,
    FrayError,
    RemoteError,
    SliceLost,
    Started,
    SupervisorFailed,
)
from fray.runtime.error_data import data_from_json, data_of, data_to_json
from fray.runtime.error_pickle import dump_exception
from fray.runtime.guarded import describe, guarded, is_a, plain_text, type_name
from fray.runtime.payload import Codec, Payload

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
"""Of the envelope. A reader takes what it knows and ignores the rest."""

EXCEPTION_PICKLE_BYTES_MAX = 1 << 20
"""A pickled exception above this size is left out; its data still travels."""

Json = dict[str, Any]

_OWN: Mapping[str, type[FrayError]] = {
    name: cls
    for name in errors.__all__
    if isinstance(cls := getattr(errors, name), type) and issubclass(cls, FrayError)
}


def encode_error(exc: BaseException, *, pickled: bool = True) -> Payload:
    """Puts an exception into an envelope. Never raises, whatever the exception does.

    Args:
        exc: The exception, with its causes, group members, notes and traceback.
        pickled: Whether to add the pickled exception too; the control plane does not.
    """
    data, failure = guarded(lambda: _envelope_for(exc, pickled=pickled))
    if data is None:  # out of memory or of stack, say: then at least what kind of thing it was
        text = f"it could not be told in full: {describe(failure)}"
        error = {"type": type_name(type(exc)), "message": text}
        data = orjson.dumps({"v": VERSION, "error": error})
    return Payload(data, codec=Codec.JSON)


def _envelope_for(exc: BaseException, *, pickled: bool) -> bytes:
    envelope: Json = {"v": VERSION, "error": data_to_json(data_of(exc))}
    if type(exc) in _OWN.values():
        own, _ = guarded(lambda: orjson.dumps(_own_to_json(exc)))
        if own is not None:  # else somebody put strange things into its attributes
            envelope["fray"] = orjson.Fragment(own)
    elif pickled and _may_be_raised(exc):
        data, failure = guarded(lambda: _pickle(exc))
        if data is not None:
            envelope["pickle"] = base64.b64encode(data).decode("ascii")
        else:
            envelope["unpicklable"] = describe(failure)
    return orjson.dumps(envelope)


def decode_error(
    payload: Payload,
    *,
    actor: str = "",
    host: str = "",
    unpickle: bool,
    raised: bool | None = None,
) -> BaseException:
    """Takes an exception out of its envelope. Never raises, whatever the envelope holds.

    Gives, in this order: an error of fray's own as its own class with its attributes; the user's
    exception as its own class where it can be rebuilt and `unpickle` allows it; a `RemoteError`.
    What a method raised has a `RemoteError` as its ``__cause__`` (`fray.errors.remote_error`).
    What would do harm when it is raised here, such as ``KeyboardInterrupt``, ``SystemExit``,
    ``asyncio.CancelledError`` or ``StopIteration``, is only ever told, as a `RemoteError`.

    Args:
        payload: What `encode_error` gave, on whichever side.
        actor: Which actor sent it, for people.
        host: Where that actor is, for people.
        unpickle: Whether the sender may run code here: true within one job only.
        raised: Whether a method raised it, or fray itself said so on its own account (refused,
            died). An error of fray's own that a *method* raised speaks of another call, one that
            the method made, so that its ``started`` becomes unknown: this call has started. By
            default as `unpickle`, since fray's own word is never unpickled.
    """
    raised = unpickle if raised is None else raised
    envelope, failure = guarded(lambda: _envelope_of(payload))
    if envelope is None:
        text = f"the account of what was raised cannot be read: {describe(failure)}"
        return RemoteError(ErrorData("(unknown)", text), actor=actor, host=host)
    data = data_from_json(envelope.get("error"))
    account = RemoteError(data, actor=actor, host=host)
    # Guarded: a class that has grown a parameter since must not cost the caller its outcome.
    own, _ = guarded(lambda: _own_from_json(_json(envelope.get("fray")), raised=raised))
    if own is not None:
        _add_notes(own, account.data)
        if raised or data.traceback or data.cause is not None:
            _set_cause(own, account)
        return own
    return _users_from(envelope, account) if unpickle else account


# ---- the user's own exceptions


def _may_be_raised(exc: object) -> bool:
    """Whether it does no harm to raise this at a caller.

    What derives from `BaseException` directly stops loops, threads and tasks; the
    two others silently end whichever iterator they pass through, and futures refuse the first.
    """
    return is_a(exc, Exception) and not is_a(exc, (StopIteration, StopAsyncIteration))


class _TooLarge(Exception):
    """The pickle has outgrown its bound."""


class _Bounded:
    """A file that takes so many bytes and no more, before they are all made."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._left = EXCEPTION_PICKLE_BYTES_MAX

    def write(self, data: Any) -> None:
        piece = bytes(data)
        self._left -= len(piece)
        if self._left < 0:
            raise _TooLarge(f"it is larger than {EXCEPTION_PICKLE_BYTES_MAX} bytes")
        self.parts.append(piece)


def _pickle(exc: BaseException) -> bytes:
    file = _Bounded()
    dump_exception(exc, file)
    return b"".join(file.parts)


def _users_from(envelope: Json, account: RemoteError) -> BaseException:
    packed = envelope.get("pickle")
    if not isinstance(packed, str):
        reason = envelope.get("unpicklable")
        if isinstance(reason, str):
            account.add_note(f"It comes as data because it cannot be pickled there: {reason}")
        return account
    rebuilt: object
    rebuilt, failure = guarded(lambda: pickle.loads(base64.b64decode(packed)))
    if failure is not None:
        account.add_note(f"It comes as data because it cannot be rebuilt here: {describe(failure)}")
        return account
    if not _is_the_same(rebuilt, account.data):
        account.add_note("It comes as data because its pickle gives something else")
        return account
    exc = cast("BaseException", rebuilt)
    _set_cause(exc, account)
    if guarded(lambda: exc.__cause__)[0] is not account:
        account.add_note("It comes as data because its class hides its __cause__")
        return account
    # Notes are part of the pickled state, unless the class has a __reduce__ without it.
    notes, _ = guarded(lambda: list(getattr(exc, "__notes__", ())))
    if not notes:
        guarded(lambda: _add_notes(exc, account.data))
    return exc


def _is_the_same(rebuilt: object, data: ErrorData) -> bool:
    """Whether this is what was raised: a pickle may give anything."""
    return _may_be_raised(rebuilt) and type_name(type(rebuilt)) == data.type_name


def _add_notes(exc: BaseException, data: ErrorData) -> None:
    for note in data.notes:
        exc.add_note(note)


def _set_cause(exc: BaseException, cause: BaseException) -> None:
    # Past the class's own __setattr__, which a frozen dataclass, among others, makes raise.
    BaseException.__dict__["__cause__"].__set__(exc, cause)


# ---- fray's own errors


def _own_to_json(exc: BaseException) -> Json:
    own: Json = {"class": type(exc).__name__}
    if isinstance(exc, RemoteError):
        own["data"] = data_to_json(exc.data)
        own["actor"] = plain_text(exc.actor)
        own["host"] = plain_text(exc.host)
    elif isinstance(exc, ActorDied):
        own["actor"] = plain_text(exc.actor)
        own["cause"] = _cause_to_json(exc.cause)
    elif isinstance(exc, ChildFailed):
        own["child"] = plain_text(exc.child)
        own["cause"] = _cause_to_json(exc.cause)
    elif isinstance(exc, SupervisorFailed):
        own["supervisor"] = plain_text(exc.supervisor)
        own["cause"] = _cause_to_json(exc.cause)
    else:
        own["message"] = plain_text(exc.args[0] if exc.args else "")
    if isinstance(exc, SliceLost):
        own["epoch"] = exc.epoch
        own["lost"] = [
            {"slice": [int(number) for number in who], "cause": _cause_to_json(cause)}
            for who, cause in exc.lost.items()
        ]
    if isinstance(exc, CallError):
        own["started"] = exc.started.value
    if isinstance(exc, ConnectionRefused):
        own["status"] = exc.status
    return own


def _cause_to_json(cause: DeathCause) -> Json:
    return {
        "kind": cause.kind.value,
        "message": plain_text(cause.message),
        "exit_code": cause.exit_code,
        "signal": cause.signal,
        "host": None if cause.host is None else plain_text(cause.host),
    }


def _own_from_json(own: Json, *, raised: bool) -> FrayError | None:
    """Rebuilds an error of fray's own, or gives None for a class that a newer fray has."""
    cls = _OWN.get(_text(own, "class"))
    if cls is None:
        return None
    started = Started.NO if own.get("started") == Started.NO and not raised else Started.UNKNOWN
    if issubclass(cls, RemoteError):
        return cls(
            data_from_json(own.get("data")), actor=_text(own, "actor"), host=_text(own, "host")
        )
    if issubclass(cls, ActorDied):
        return cls(_text(own, "actor"), _death_cause(own.get("cause")), started=started)
    if issubclass(cls, ChildFailed):
        return cls(_text(own, "child"), _death_cause(own.get("cause")))
    if issubclass(cls, SupervisorFailed):
        return cls(_text(own, "supervisor"), _death_cause(own.get("cause")))
    if issubclass(cls, SliceLost):
        lost = _lost(own.get("lost"))
        epoch = _number(own, "epoch") or 0
        return cls(_text(own, "message"), epoch=epoch, lost=lost, started=started)
    if issubclass(cls, CallError):
        return cls(_text(own, "message"), started=started)
    if issubclass(cls, ConnectionRefused):
        return cls(_text(own, "message"), status=_number(own, "status") or 0)
    return cls(_text(own, "message"))


def _lost(value: object) -> dict[tuple[int, ...], DeathCause]:
    """Equal to what it was made of: a `fray.groups.SliceId` is a tuple of two numbers."""
    found: dict[tuple[int, ...], DeathCause] = {}
    for each in cast("list[object]", value) if isinstance(value, list) else ():
        who = _json(each).get("slice")
        if isinstance(who, list):
            numbers = [n for n in cast("list[object]", who) if isinstance(n, int)]
            found[tuple(numbers)] = _death_cause(_json(each).get("cause"))
    return found


def _death_cause(value: object) -> DeathCause:
    cause = _json(value)
    kind, _ = guarded(lambda: DeathKind(cause.get("kind")))  # a newer fray may know more of them
    host = cause.get("host")
    return DeathCause(
        kind=kind or DeathKind.UNKNOWN,
        message=_text(cause, "message"),
        exit_code=_number(cause, "exit_code"),
        signal=_number(cause, "signal"),
        host=host if isinstance(host, str) else None,
    )


# ---- reading what a peer wrote


def _envelope_of(payload: Payload) -> Json:
    if payload.codec is not Codec.JSON:
        raise ValueError(f"it is {payload.codec.name}, not JSON")
    return dict(orjson.loads(payload.data))


def _json(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _text(values: Json, key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _number(values: Json, key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) else None


__all__ = ["EXCEPTION_PICKLE_BYTES_MAX", "VERSION", "decode_error", "encode_error"]
