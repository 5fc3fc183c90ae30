"""Asking objects that the user made about themselves, without suffering for it.

``str()`` of an exception runs the user's code. It may raise anything, ``SystemExit`` included, or
return gigabytes, or text that UTF-8 cannot carry. Nothing here raises for that: what could not be
had is said in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TEXT_CHARS_MAX = 16 << 10
"""What is kept of a text unless the caller says otherwise."""


def guarded(run: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """Runs a piece of the user's code and gives what it raises instead of raising it.

    `BaseException`, since an exception must not be able to end the process that tells of it.

    Args:
        run: The piece of code.

    Returns:
        What it returned and None, or None and what it raised.
    """
    try:
        return run(), None
    except BaseException as exc:
        return None, exc


def is_a(obj: object, kinds: type | tuple[type, ...]) -> bool:
    """``isinstance`` by the true class: the built-in one also asks the object itself.

    Args:
        obj: Anything.
        kinds: One class, or several of which one will do.
    """
    return issubclass(type(obj), kinds)


def clip(text: str, chars_max: int) -> str:
    """Shortens a text in its middle, with a remark.

    Args:
        text: The text.
        chars_max: How much of it is kept, about two thirds from its beginning.
    """
    length = str.__len__(text)
    if length <= chars_max:
        return text
    head = chars_max * 2 // 3
    tail = chars_max - head
    remark = f"[… {length - chars_max} characters left out …]"
    if tail <= 0:
        return remark
    # str's own slicing: the text may be of a subclass that has another one.
    return (
        f"{str.__getitem__(text, slice(head))}{remark}{str.__getitem__(text, slice(-tail, None))}"
    )


def plain_text(value: object, chars_max: int = TEXT_CHARS_MAX) -> str:
    """``str(value)`` as a bounded text that UTF-8 can carry. Never raises.

    Args:
        value: Anything, of any class.
        chars_max: How much of it is kept.
    """
    text, failure = guarded(lambda: clip(str(value), chars_max))
    if text is None:
        return f"(its str() raised {type_name(type(failure))})"
    # Lone surrogates (undecodable file names, mostly) have no UTF-8 form; escapes are readable.
    return str.encode(text, "utf-8", "backslashreplace").decode()


def type_name(cls: type) -> str:
    """``package.module.Class``; without the module for Python's own. Never raises.

    Args:
        cls: Any class.
    """
    module, _ = guarded(lambda: cls.__module__)
    name, _ = guarded(lambda: cls.__qualname__)
    readable = plain_text(name if isinstance(name, str) else "(unnamed class)", 300)
    if not isinstance(module, str) or module == "builtins":
        return readable
    return f"{plain_text(module, 300)}.{readable}"


def describe(exc: BaseException | None) -> str:
    """``Class: message`` on one short line. Never raises.

    Args:
        exc: Any exception.
    """
    message = " ".join(plain_text(exc, 500).split())
    return f"{type_name(type(exc))}: {message}" if message else type_name(type(exc))


__all__ = ["TEXT_CHARS_MAX", "clip", "describe", "guarded", "is_a", "plain_text", "type_name"]
