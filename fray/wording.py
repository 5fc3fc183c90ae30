"""How numbers and words stand together in what fray says to people."""

from __future__ import annotations


def counted(count: float | str, noun: str, plural: str | None = None) -> str:
    """A number of things for people, as in ``1 cpu``, ``2 cpus`` or ``0.5 cpus``.

    Args:
        count: How many; a text is a number that is written already.
        noun: What one of them is called.
        plural: What others are called; None for the noun with an ``s``.
    """
    told = f"{count:g}" if isinstance(count, float) else str(count)
    return f"{told} {noun if told == '1' else plural or noun + 's'}"


def and_others(names: str, others: int) -> str:
    """Names, and how many there are besides, as in ``a, b and 1 other``.

    Args:
        names: Those that are named.
        others: How many are not; at least 0.
    """
    return f"{names} and {counted(others, 'other')}" if others else names


__all__ = ["and_others", "counted"]
