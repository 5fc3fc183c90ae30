"""All hosts by kind, and for each shape the kinds that have room for it, best first.

What a host has left changes with each placement, and with it its kind. A ranking is not kept up to
date meanwhile: its entries are checked when they are used, and what has come since is added then.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fray.cluster.scheduling.feasible import Refusal, ask
from fray.cluster.scheduling.kinds import HostKind, Rank, kind_of

if TYPE_CHECKING:
    from fray.cluster.scheduling.hosts import Host, Place
    from fray.cluster.scheduling.view import Shape
    from fray.ids import WorkerId


class Entry(NamedTuple):
    """Hosts of one kind, as one shape sees them.

    Attributes:
        rank: How good a choice; the lower the better.
        first: The first of them by name, when this was written.
        number: Of the entry: kinds cannot be compared.
        kind: Which.
    """

    rank: Rank
    first: WorkerId
    number: int
    kind: HostKind


@dataclass(slots=True)
class _Ranking:
    """Kinds that had room for a shape, best first; an entry may be out of date."""

    heap: list[Entry]
    seen: int


class Roll:
    """Hosts by kind.

    Args:
        hosts: All of them, sorted by id.
    """

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._members: dict[HostKind, list[WorkerId]] = {}
        self._moves: list[HostKind] = []
        self._rankings: dict[tuple[Shape, Place | None], _Ranking] = {}
        self._number = 0
        for host in hosts:
            self._members.setdefault(kind_of(host), []).append(host.worker_id)

    def move(self, before: Host, after: Host) -> None:
        """Takes note that a host has changed.

        Args:
            before: As it was.
            after: As it is.
        """
        worker_id, old, new = after.worker_id, kind_of(before), kind_of(after)
        if old is new:
            return
        ids = self._members[old]
        del ids[bisect_left(ids, worker_id)]
        if not ids:
            del self._members[old]
        ids = self._members.setdefault(new, [])
        insort(ids, worker_id)
        if ids[0] == worker_id:
            self._moves.append(new)

    def kinds(self) -> Iterator[tuple[HostKind, Sequence[WorkerId]]]:
        """The kinds of hosts that there are, and the hosts of each, by its first host."""
        there = [(ids[0], kind) for kind, ids in self._members.items() if ids]
        for _, kind in sorted(there, key=lambda pair: pair[0]):
            yield kind, self._members[kind]

    def ranked(self, shape: Shape, place: Place | None) -> Iterator[Sequence[WorkerId]]:
        """The hosts that have room for a shape, kind by kind, best first.

        Args:
            shape: What is to be placed.
            place: Where; None is anywhere.
        """
        heap = self._ranking(shape, place).heap
        passed: list[Entry] = []
        try:
            while heap:
                entry = heap[0]
                ids = self._members.get(entry.kind)
                if ids is None:
                    heapq.heappop(heap)
                elif ids[0] != entry.first:
                    heapq.heapreplace(heap, entry._replace(first=ids[0]))
                else:
                    passed.append(heapq.heappop(heap))
                    yield ids
        finally:
            for entry in passed:
                heapq.heappush(heap, entry)

    def _ranking(self, shape: Shape, place: Place | None) -> _Ranking:
        key = (shape, place)
        ranking = self._rankings.get(key)
        if ranking is None:
            entries = (self._entry(kind, shape, place) for kind in self._members)
            heap = [entry for entry in entries if entry is not None]
            heapq.heapify(heap)
            ranking = self._rankings[key] = _Ranking(heap, len(self._moves))
        for kind in dict.fromkeys(self._moves[ranking.seen :]):
            entry = self._entry(kind, shape, place) if kind in self._members else None
            if entry is not None:
                heapq.heappush(ranking.heap, entry)
        ranking.seen = len(self._moves)
        return ranking

    def _entry(self, kind: HostKind, shape: Shape, place: Place | None) -> Entry | None:
        if place is not None and not kind.host.is_in(place):
            return None
        answer, rank = ask(kind, shape)
        if isinstance(answer, Refusal):
            return None
        self._number += 1
        return Entry(rank, self._members[kind][0], self._number, kind)


__all__ = ["Roll"]
