"""What is done to items that are sorted by key: reducers, first ones, joins."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from zephyr.batching import BATCH_ITEMS, rebatch, stoppable
from zephyr.keys import encode_key
from zephyr.place import Place, locate
from zephyr.shuffle import groups

if TYPE_CHECKING:
    from zephyr.operations import GroupByOp
    from zephyr.steps import Batch, JoinOp


def grouped(pairs: Iterator[list[Any]], step: GroupByOp, place: Place) -> Iterator[Batch]:
    """What a reducer makes of each group of a partition.

    Args:
        pairs: The partition's items, sorted by key.
        step: The operation.
        place: Where.
    """

    def items() -> Iterator[Any]:
        for number, members in enumerate(groups(pairs)):
            first = next(members)
            try:
                made = step.reducer(step.key(first), chain((first,), members))
                if inspect.isgenerator(made):
                    yield from made
                else:
                    yield made
            except Exception as exc:
                locate(exc, place, step, number, "group")
                raise

    return stoppable(rebatch(items()), place)


def firsts(pairs: Iterator[list[Any]], place: Place) -> Iterator[Batch]:
    """The first item of each key of a partition.

    Args:
        pairs: The partition's items, sorted by key.
        place: Where.
    """
    return stoppable(rebatch(next(members) for members in groups(pairs)), place)


def joined(
    batches: Iterator[Batch], step: JoinOp, place: Place, limit: int = BATCH_ITEMS
) -> Iterator[Batch]:
    """The pairs of a shard with the other side's shard of the same number, both sorted by key.

    Args:
        batches: The shard.
        step: The operation.
        place: Where.
        limit: How many items a batch may have.
    """
    right = _Side(place.rights[step.number](), step.right_key, "right")
    left = _Side(batches, step.left_key, "left")

    def items() -> Iterator[Any]:
        matches: list[Any] = []
        matched: bytes | None = None
        try:
            while left.advance():
                if left.key != matched:
                    matched, matches = left.key, right.members(left.key)
                for match in matches:
                    yield step.combiner(left.item, match)
                if not matches and step.how == "left":
                    yield step.combiner(left.item, None)
        except Exception as exc:
            locate(exc, place, step, left.position)
            raise

    return stoppable(rebatch(items(), limit), place)


class _Side:
    """One side of a join: its present item and key."""

    def __init__(self, batches: Iterator[Batch], key: Callable[[Any], Any], name: str) -> None:
        self._items = chain.from_iterable(batches)
        self._key = key
        self._name = name
        self.item: Any = None
        self.key = b""
        self.position = -1
        self.ended = False

    def advance(self) -> bool:
        for item in self._items:
            key = encode_key(self._key(item))
            if key < self.key:
                raise ValueError(
                    f"the {self._name} side of sorted_merge_join is not sorted: "
                    f"{self._key(item)!r:.80} comes after {self._key(self.item)!r:.80}"
                )
            self.item, self.key, self.position = item, key, self.position + 1
            return True
        self.ended = True
        return False

    def members(self, key: bytes) -> list[Any]:
        """All items with a key that is not before those asked for so far."""
        if self.position < 0 and not self.ended:
            self.advance()
        while not self.ended and self.key < key:
            self.advance()
        found: list[Any] = []
        while not self.ended and self.key == key:
            found.append(self.item)
            self.advance()
        return found


__all__ = ["firsts", "grouped", "joined"]
