"""The whole cluster, for whoever needs to look at all of it: without keeping the loop.

What is quickly thought about a small cluster is long with thousands of hosts or tasks that wait;
then it is thought on a thread, about a view that does not change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from fray.runtime.turns import in_turns

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.state import Snapshot
    from fray.cluster.scheduling.view import ClusterView
    from fray.runtime.clock import Clock

T = TypeVar("T")

HERE_UNITS_MAX = 40
"""So many units that wait are looked at on the loop; more take long."""

HERE_HOSTS_MAX = 250
"""Likewise, of hosts."""

LOOKS_MAX = 8
"""A view is refreshed so often at the most, while so much changes that this takes many turns."""


async def look(book: Book, clock: Clock) -> Snapshot:
    """The cluster as it is, taken once little has changed since the last look.

    Args:
        book: The ledger.
        clock: The process's clock.
    """
    for _ in range(LOOKS_MAX):
        if not await in_turns(book.ledger.refresh(), clock):
            break
    return book.ledger.snapshot()


def is_long(snapshot: Snapshot) -> bool:
    """Whether looking at all of a cluster takes long.

    Args:
        snapshot: The cluster.
    """
    return len(snapshot.hosts) > HERE_HOSTS_MAX or sum(map(len, snapshot.units)) > HERE_UNITS_MAX


async def beside(snapshot: Snapshot, work: Callable[[ClusterView], T]) -> T:
    """Does something with a view of a cluster, on a thread if that may take long.

    Args:
        snapshot: The cluster.
        work: What to do; it reads the view and nothing else.

    Returns:
        What it returns; what it raises is raised.
    """
    if is_long(snapshot):
        return await asyncio.to_thread(lambda: work(snapshot.view()))
    return work(snapshot.view())


__all__ = ["HERE_HOSTS_MAX", "HERE_UNITS_MAX", "beside", "is_long", "look"]
