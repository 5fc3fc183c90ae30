"""Checks of what a user wrote, in the same words everywhere."""

from __future__ import annotations

from fray.errors import InvalidRequestError


def check_whole(what: str, value: object, least: int = 0) -> int:
    """Checks a whole number.

    Args:
        what: Its name, as the user wrote it.
        value: What the user wrote.
        least: The smallest that makes sense.

    Returns:
        The number.

    Raises:
        TypeError: It is something else; ``True`` is no number either.
        InvalidRequestError: It is smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is a whole number, not {value!r}")
    if value < least:
        raise InvalidRequestError(f"{what} must be at least {least}, not {value}")
    return value


__all__ = ["check_whole"]
