"""Exceptions as data: the account of one that survives whatever the exception itself does.

The exception is the user's, and so are the methods that describing it runs. Nothing here raises for
what they do, and everything is bounded; what was left out or could not be had is said in its place.
This room knows neither pickle nor the wire.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from itertools import islice
from types import TracebackType
from typing import Any, cast

from fray.errors import ErrorData
from fray.runtime.guarded import TEXT_CHARS_MAX, describe, guarded, is_a, plain_text, type_name

Json = dict[str, Any]

EXCEPTIONS_MAX = 64
"""Exceptions told of in one tree, the outermost first; chains of causes are rarely above 5."""

NOTES_MAX = 16
NOTE_CHARS_MAX = 4 << 10
TRACEBACK_CHARS_MAX = 32 << 10
TREE_CHARS_MAX = 512 << 10
"""All texts of one tree together."""

REMARK_CHARS_MAX = 100
"""What a remark about something left out may add to a text's bound."""

FRAMES_FIRST = 30
"""Outermost frames kept of a long traceback."""

FRAMES_LAST = 70
"""Innermost frames kept of a long traceback."""


# ---- the account


class Budget:
    """What may still be told of one tree of exceptions.

    Attributes:
        exceptions_left: Exceptions that may still be told of.
        chars_left: Characters that may still be told, in all.
    """

    def __init__(self) -> None:
        self.exceptions_left = EXCEPTIONS_MAX
        self.chars_left = TREE_CHARS_MAX
        self._told: dict[int, BaseException] = {}  # held, so that no address is used twice

    def text(self, value: object, chars_max: int) -> str:
        """``str(value)`` within what is left.

        Args:
            value: What is told.
            chars_max: Its own bound.
        """
        text = plain_text(value, min(chars_max, self.chars_left))
        self.chars_left = max(0, self.chars_left - len(text))
        return text

    def admit(self, exc: BaseException) -> bool:
        """Whether this exception may be told of: there is room, and it has not been told yet.

        Args:
            exc: The exception.
        """
        if self.exceptions_left <= 0 or id(exc) in self._told:
            return False
        self.exceptions_left -= 1
        self._told[id(exc)] = exc
        return True

    def why_not(self, exc: BaseException) -> str:
        """Why `admit` said no, as a remark.

        Args:
            exc: The exception.
        """
        known = id(exc) in self._told
        return "is told above already" if known else f"is left out: over {EXCEPTIONS_MAX} of them"


def data_of(exc: BaseException, budget: Budget | None = None) -> ErrorData:
    """Describes an exception with its causes, group members and notes. Never raises.

    Like Python's own report it tells of the ``__cause__``, else of an unsuppressed ``__context__``;
    every exception is told once, which also ends cycles.

    Args:
        exc: The exception.
        budget: What may be told; the whole of a tree's by default.
    """
    budget = budget or Budget()
    budget.admit(exc)
    return _describe(exc, budget)


def _describe(exc: BaseException, budget: Budget) -> ErrorData:
    data, failure = guarded(lambda: _describe_tree(exc, budget))
    if data is not None:
        return data
    reason = f"(it could not be described: {describe(failure)})"  # too little stack left, say
    return ErrorData(type_name(type(exc)), reason)


def _describe_tree(exc: BaseException, budget: Budget) -> ErrorData:
    message = budget.text(exc, TEXT_CHARS_MAX)
    notes = _notes(exc, budget)
    cause = _cause_of(exc)
    members = _members_of(exc)
    is_single = cause is None and not members
    trace, failure = guarded(lambda: _format_traceback(exc, message, is_single=is_single))
    told_trace = budget.text(trace or "", TRACEBACK_CHARS_MAX)  # before its causes use it all up
    if failure is not None:
        notes.append(f"[its traceback cannot be formatted: {describe(failure)}]")
    described_cause = None
    if cause is not None:
        if budget.admit(cause):
            described_cause = _describe(cause, budget)
        else:
            notes.append(f"[its cause {type_name(type(cause))} {budget.why_not(cause)}]")
    described_members: list[ErrorData] = []
    for number, member in enumerate(members, 1):
        if budget.admit(member):
            described_members.append(_describe(member, budget))
        else:
            notes.append(f"[member {number} of {len(members)} {budget.why_not(member)}]")
            break
    return ErrorData(
        type_name=type_name(type(exc)),
        message=message,
        traceback=told_trace,
        notes=tuple(notes),
        cause=described_cause,
        group=tuple(described_members),
    )


def _base(exc: BaseException, attribute: str) -> Any:
    """An attribute of `BaseException` itself, which the exception's class may hide."""
    return BaseException.__dict__[attribute].__get__(exc)


def _cause_of(exc: BaseException) -> BaseException | None:
    cause: BaseException | None = _base(exc, "__cause__")
    if cause is None and not _base(exc, "__suppress_context__"):
        cause = _base(exc, "__context__")
    return cause


def _members_of(exc: BaseException) -> tuple[BaseException, ...]:
    if not is_a(exc, BaseExceptionGroup):
        return ()
    members: tuple[BaseException, ...] = BaseExceptionGroup.__dict__["exceptions"].__get__(exc)
    return members


def _notes(exc: BaseException, budget: Budget) -> list[str]:
    notes, _ = guarded(
        lambda: list(islice(_iterable(getattr(exc, "__notes__", ())), NOTES_MAX + 1))
    )
    told = [budget.text(note, NOTE_CHARS_MAX) for note in (notes or ())[:NOTES_MAX]]
    if notes is not None and len(notes) > NOTES_MAX:
        told.append("[further notes left out]")
    return told


def _iterable(notes: object) -> Iterable[object]:
    return cast("Iterable[object]", notes) if isinstance(notes, list | tuple) else (notes,)


def _format_traceback(exc: BaseException, message: str, *, is_single: bool) -> str:
    """Formats one exception's frames and its last line, as Python does, without its causes."""
    frames = _without_own_frames(_base(exc, "__traceback__"))
    lines = ["Traceback (most recent call last):\n", *_format_frames(frames)] if frames else []
    if not lines and not is_a(exc, SyntaxError):
        return ""  # then class and message, which travel anyway, are all there is
    if is_single and is_a(exc, (SyntaxError, NameError, AttributeError, ImportError)):
        # Python says more of these: the line that does not parse, "Did you mean" (from 3.12 on).
        # Only without causes, which it would describe all over again for each of the chain.
        report = traceback.TracebackException(type(exc), exc, frames, limit=0)
        return "".join([*lines, *report.format_exception_only()])
    name = type_name(type(exc))
    return "".join([*lines, f"{name}: {message}" if message else name])


def _without_own_frames(frames: TracebackType | None) -> TracebackType | None:
    """Drops the frames through which the runtime came to the user's code."""
    inner = frames
    while inner is not None:
        module = inner.tb_frame.f_globals.get("__name__")
        if not (isinstance(module, str) and module.startswith("fray.runtime.")):
            return inner
        inner = inner.tb_next
    return frames


def _format_frames(frames: TracebackType) -> list[str]:
    count = sum(1 for _ in traceback.walk_tb(frames))
    if count <= FRAMES_FIRST + FRAMES_LAST:
        return traceback.extract_tb(frames).format()
    return [
        *traceback.extract_tb(frames, limit=FRAMES_FIRST).format(),
        f"  [… {count - FRAMES_FIRST - FRAMES_LAST} frames left out …]\n",
        *traceback.extract_tb(frames, limit=-FRAMES_LAST).format(),
    ]


# ---- as JSON


def data_to_json(data: ErrorData) -> Json:
    """The account as JSON values; what is empty is left out.

    Args:
        data: The account. Its texts are made fit for UTF-8.
    """
    message = plain_text(data.message, TEXT_CHARS_MAX + REMARK_CHARS_MAX)
    plain: Json = {"type": plain_text(data.type_name), "message": message}
    if data.traceback:
        plain["traceback"] = plain_text(data.traceback, TRACEBACK_CHARS_MAX + REMARK_CHARS_MAX)
    if data.notes:
        plain["notes"] = [plain_text(n, NOTE_CHARS_MAX + REMARK_CHARS_MAX) for n in data.notes]
    if data.cause is not None:
        plain["cause"] = data_to_json(data.cause)
    if data.group:
        plain["group"] = [data_to_json(member) for member in data.group]
    return plain


def data_from_json(value: object, depth_max: int = EXCEPTIONS_MAX) -> ErrorData:
    """Reads an account that a peer wrote. Takes what is right of it, and never raises.

    Args:
        value: What JSON gave.
        depth_max: Causes and groups nested deeper than this are dropped.
    """
    plain = cast("Json", value) if isinstance(value, dict) else {}
    texts = {key: text for key, text in plain.items() if isinstance(text, str)}
    notes: object = plain.get("notes")
    group: object = plain.get("group")
    members = cast("list[object]", group) if isinstance(group, list) and depth_max > 0 else []
    has_cause = isinstance(plain.get("cause"), dict) and depth_max > 0
    return ErrorData(
        type_name=texts.get("type", "(unknown)"),
        message=texts.get("message", ""),
        traceback=texts.get("traceback", ""),
        notes=tuple(
            note
            for note in (cast("list[object]", notes) if isinstance(notes, list) else ())
            if isinstance(note, str)
        ),
        cause=data_from_json(plain["cause"], depth_max - 1) if has_cause else None,
        group=tuple(data_from_json(member, depth_max - 1) for member in members),
    )


__all__ = [
    "EXCEPTIONS_MAX",
    "NOTES_MAX",
    "NOTE_CHARS_MAX",
    "REMARK_CHARS_MAX",
    "TRACEBACK_CHARS_MAX",
    "TREE_CHARS_MAX",
    "Budget",
    "data_from_json",
    "data_of",
    "data_to_json",
]
