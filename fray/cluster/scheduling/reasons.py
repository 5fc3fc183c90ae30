"""Why candidates would not do, put into few words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fray.cluster.resources import Resources, format_bytes, format_milli
from fray.cluster.scheduling.plan import Reason
from fray.wording import and_others, counted

if TYPE_CHECKING:
    from fray.ids import WorkerId

REASONS_MAX = 16
"""Different reasons told per unit; the others are counted."""


def told(text: str, groups: Sequence[Sequence[WorkerId]]) -> Reason:
    """One reason for many hosts: the first by name, and how many others.

    Args:
        text: The reason.
        groups: The hosts that it is about.
    """
    first = min(ids[0] for ids in groups)
    return Reason(and_others(first, sum(len(ids) for ids in groups) - 1), text)


def needs(what: str, wanted: int, show: Callable[[int], str]) -> str:
    """What somebody needs, as in ``needs 4 cpus`` or ``needs 8GiB memory``.

    Args:
        what: What one of it is called; of bytes, what they are of.
        wanted: How much.
        show: Says how much that is.
    """
    return f"needs {counted(show(wanted), what, what if show is format_bytes else None)}"


def lack(need: Resources, free: Resources) -> str:
    """What there is too little of; "" where the sums would do.

    Args:
        need: What is wanted.
        free: What there is.
    """
    for family, chips in need.tpus.items():
        if chips > free.tpus.get(family, 0):
            return f"needs {counted(chips, f'{family} chip')}, has {free.tpus.get(family, 0)} free"
    gpus = sum(need.gpus.values()), sum(free.gpus.values())
    if gpus[0] > gpus[1]:
        return f"needs {counted(format_milli(gpus[0]), 'gpu')}, has {format_milli(gpus[1])} free"
    if need.cpu_milli > free.cpu_milli:
        wanted, there = format_milli(need.cpu_milli), format_milli(free.cpu_milli)
        return f"needs {counted(wanted, 'cpu')}, has {there} free"
    return ""


def cut(reasons: list[Reason]) -> list[Reason]:
    """The first of many reasons, and how many others there are.

    Args:
        reasons: All of them.
    """
    if len(reasons) <= REASONS_MAX:
        return reasons
    left = len(reasons) - REASONS_MAX
    return [*reasons[:REASONS_MAX], Reason("", f"and {counted(left, 'other candidate')}")]


__all__ = ["REASONS_MAX", "cut", "lack", "needs", "told"]
