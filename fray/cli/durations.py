"""Durations as people write them. Pure."""

from __future__ import annotations

import re

from fray.cli.errors import UsageFailure

UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

LONGEST_S = 36_500 * UNITS_S["d"]
"""A century: whoever writes more has not meant it."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)", re.ASCII)


def span_of(text: str) -> float | None:
    """A duration in seconds; None where a text is none.

    Args:
        text: A number, which means seconds, or one with ``s``, ``m``, ``h`` or ``d``.
    """
    match = _DURATION.fullmatch(text.strip())
    return float(match[1]) * UNITS_S[match[2]] if match else None


def parse_duration(text: str | float) -> float:
    """A duration in seconds, above 0.

    Args:
        text: As for `span_of`; a number is in seconds.

    Raises:
        UsageFailure: It is none, it is nothing, or it is above a century.
    """
    span_s = _known_span(text)
    if span_s == 0:
        raise UsageFailure(f"{text!r} is no time at all: write it as 90, 10m, 12h or 30d")
    return span_s


def parse_grace(text: str | float) -> float:
    """Likewise, or 0.

    Args:
        text: See `parse_duration`.

    Raises:
        UsageFailure: It is none, or above a century.
    """
    return _known_span(text)


def _known_span(text: str | float) -> float:
    span_s = span_of(str(text))
    if span_s is None:
        raise UsageFailure(
            f"{text!r} is no duration: write it as 90, 10m, 12h or 30d (units: s, m, h, d; without"
            " one it is seconds)"
        )
    if span_s > LONGEST_S:
        raise UsageFailure(f"{text!r} is more than a century (36500d)")
    return span_s


__all__ = ["LONGEST_S", "UNITS_S", "parse_duration", "parse_grace", "span_of"]
