"""Items move in batches: neither too many at once, nor one by one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zephyr.place import Place
    from zephyr.steps import Batch

BATCH_ITEMS = 1024
BATCH_BYTES = 1 << 20
"""Roughly; of what a batch of items of unknown size may take."""


def rebatch(items: Iterator[Any], limit: int = BATCH_ITEMS) -> Iterator[Batch]:
    """Makes batches of items.

    Args:
        items: The items.
        limit: How many a batch may have.
    """
    size = 1
    while batch := list(islice(items, size)):
        yield batch
        if size < limit:
            size = min(2 * size, limit)
        room = BATCH_BYTES // weight(batch[-1])
        if size > room:
            size = max(1, room)


def split(batches: Iterator[Batch], limit: int) -> Iterator[Batch]:
    """Makes batches smaller where they are too large.

    Args:
        batches: The batches.
        limit: How many items a batch may have.
    """
    for batch in batches:
        if len(batch) <= limit:
            yield batch
        else:
            for at in range(0, len(batch), limit):
                yield batch[at : at + limit]


def weight(value: Any, depth: int = 2) -> int:
    """Roughly the memory that a value takes, in bytes; ≥ 1.

    Args:
        value: The value.
        depth: How deep to look.
    """
    size = getattr(value, "nbytes", 0) or sys.getsizeof(value, 64)
    if depth and isinstance(value, dict):
        size += sum(weight(each, depth - 1) for each in islice(value.values(), 64))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    elif depth and isinstance(value, list | tuple) and value:
        size += weight(value[0], depth - 1) * len(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return int(size)


def stoppable(batches: Iterator[Batch], place: Place) -> Iterator[Batch]:
    """Batches, until nobody wants them any more.

    Args:
        batches: The batches.
        place: Where they are made.
    """
    for batch in batches:
        yield batch
        place.check()


class Counted:
    """Batches, and how many items they had."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self.items = 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self.items += len(batch)
        return batch


__all__ = ["BATCH_ITEMS", "Counted", "rebatch", "split", "stoppable", "weight"]
