"""The external shuffle: each task sorts what it has for each partition, each partition is merged.

Memory is bounded on both sides: what is collected is sorted and written when it is large enough,
and merging holds one block of each run. Sorting and merging are left to `list.sort`, which finds
runs that are sorted and merges them in C.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, groupby, repeat
from operator import add, itemgetter
from pickle import loads
from typing import Any

from zephyr.keys import encoded_of, partition_of, stand_in
from zephyr.spill import BLOCK_BYTES, Segment, SpillFile, blocks_of, packer

Pair = tuple[bytes, bytes]
"""An item on its way: its key and itself, as bytes."""

ITEM_BYTES = 64
"""What an item takes besides its bytes: the head of an object, its place in a list."""

KEY_BYTES = 320
"""What a key takes besides its bytes: two objects, its place in a dict, the list of its items."""

RUN_BYTES = 1 << 19
"""What merging holds of each run: a block, and what was read ahead."""

FAN_IN_LEAST, FAN_IN_MOST = 8, 256

_KEY: Callable[[tuple[bytes, Any]], bytes] = itemgetter(0)
_ITEM: Callable[[Pair], bytes] = itemgetter(1)


class Scatter:
    """Collects the items of a task for each partition, sorted by key.

    Items are collected by key, so that what is done for a key (its bytes, its partition, its place
    in the order) is done once for all items that have it.

    Args:
        key: Of an item.
        num_partitions: How many there are.
        first_only: Only the first item of each key is wanted.
        memory_bytes: How much may be collected before it is written.
        new_file: Makes another file.
    """

    def __init__(
        self,
        key: Callable[[Any], Any],
        num_partitions: int,
        first_only: bool,
        memory_bytes: int,
        new_file: Callable[[], SpillFile],
    ) -> None:
        self._key = key
        self._num_partitions = num_partitions
        self._first_only = first_only
        self._memory_bytes = memory_bytes
        self._new_file = new_file
        self._pack = packer()
        self._held: dict[str | bytes, list[bytes]] = {}
        self._held_bytes = 0
        self._runs: dict[int, list[Segment]] = {}

    def add(self, items: Iterator[Any]) -> None:
        """Takes some items.

        Args:
            items: The items; what is wrong with a key is raised with the iterator at that item.
        """
        key, pack, held, first_only = self._key, self._pack, self._held, self._first_only
        size = 0
        for item in items:
            name = key(item)
            if type(name) is not str:
                name = stand_in(name)
            group = held.get(name)
            if group is None:
                group = held[name] = []
                size += len(name) + KEY_BYTES
            elif first_only:
                continue
            packed = pack(item)
            size += len(packed) + ITEM_BYTES
            group.append(packed)
        self._held_bytes += size
        if self._held_bytes > self._memory_bytes:
            self._spill()

    def finish(self) -> dict[int, tuple[Segment, ...]]:
        """Writes what is left.

        Returns:
            The sorted runs of each partition that has any, in the order of their items.
        """
        if self._held:
            self._spill()
        return {partition: tuple(runs) for partition, runs in sorted(self._runs.items())}

    def _spill(self) -> None:
        parts: defaultdict[int, list[tuple[bytes, list[bytes]]]] = defaultdict(list)
        while self._held:
            name, group = self._held.popitem()
            encoded = encoded_of(name)
            parts[partition_of(encoded, self._num_partitions)].append((encoded, group))
        self._held_bytes = 0
        partitions = sorted(parts)
        file = self._new_file()
        try:
            for partition in partitions:
                found = sorted(parts.pop(partition), key=_KEY)
                keys = chain.from_iterable(repeat(key, len(group)) for key, group in found)
                items = chain.from_iterable(group for _, group in found)
                _write(file, list(keys), list(items))
                file.cut()
            segments = file.close()
        except BaseException:
            file.discard()
            raise
        for partition, segment in zip(partitions, segments, strict=True):
            self._runs.setdefault(partition, []).append(segment)


def write_sorted(file: SpillFile, batches: Iterator[list[Pair]]) -> None:
    """Writes sorted pairs as one segment.

    Args:
        file: Where.
        batches: The pairs.
    """
    for pairs in batches:
        if pairs:
            _write(file, [key for key, _ in pairs], [item for _, item in pairs])
    file.cut()


def _write(file: SpillFile, keys: list[bytes], items: list[bytes]) -> None:
    """Writes pairs in blocks of a bounded size; a key that is one object once in each."""
    sizes = map(add, map(len, keys), map(len, items))
    ends = list(accumulate(map(ITEM_BYTES.__add__, sizes)))
    begin = 0
    while begin < len(items):
        size = ends[begin - 1] if begin else 0
        end = max(begin + 1, bisect_right(ends, size + BLOCK_BYTES))
        file.add([keys[begin:end], items[begin:end]], end - begin)
        begin = end


class _Run:
    """A sorted segment that is being read: its present block and the place in it."""

    def __init__(self, segment: Segment) -> None:
        self._blocks = blocks_of(segment)
        self.keys: Sequence[bytes] = ()
        self.items: Sequence[bytes] = ()
        self.at = 0

    def load(self) -> bool:
        """Whether there is an item, which is in the present block then."""
        while self.at >= len(self.keys):
            block = next(self._blocks, None)
            if block is None:
                return False
            (self.keys, self.items), self.at = block, 0
        return True

    def take(self, end: int) -> list[Pair]:
        begin, self.at = self.at, end
        return list(zip(self.keys[begin:end], self.items[begin:end], strict=True))


def merge(segments: Sequence[Segment]) -> Iterator[list[Pair]]:
    """Merges sorted runs; of equal keys, those of an earlier run come first.

    Each round looks at the run whose block ends first: what all others have before that end can be
    sorted now. Items with the key of the end itself are taken run by run, however many blocks they
    fill.

    Args:
        segments: The runs, in the order of their items.
    """
    runs = [_Run(segment) for segment in segments]
    while runs := [run for run in runs if run.load()]:
        if len(runs) == 1:
            yield runs[0].take(len(runs[0].keys))
            continue
        end = min(run.keys[-1] for run in runs)
        batch: list[Pair] = []
        for run in runs:
            batch += run.take(bisect_left(run.keys, end, run.at))
        if batch:
            batch.sort(key=_KEY)
            yield batch
        for run in runs:
            while run.load() and run.keys[run.at] == end:
                yield run.take(bisect_right(run.keys, end, run.at))


def merged(
    segments: Sequence[Segment], memory_bytes: int, new_file: Callable[[], SpillFile]
) -> Iterator[list[Pair]]:
    """Merges any number of sorted runs in bounded memory: in several passes if need be.

    Args:
        segments: The runs, in the order of their items.
        memory_bytes: How much merging may hold.
        new_file: Makes another file.
    """
    fan_in = max(FAN_IN_LEAST, min(FAN_IN_MOST, memory_bytes // RUN_BYTES))
    runs = list(segments)
    while len(runs) > fan_in:  # no more than must be: each merge writes its runs once more
        count = min(fan_in, len(runs) - fan_in + 1)
        at = _lightest(runs, count)
        runs[at : at + count] = [_merged_to_file(runs[at : at + count], new_file())]
    return merge(runs)


def _lightest(runs: Sequence[Segment], count: int) -> int:
    """Where so many consecutive runs begin that are shortest together."""
    ends = [0, *accumulate(run.length for run in runs)]
    return min(range(len(runs) - count + 1), key=lambda at: ends[at + count] - ends[at])


def _merged_to_file(segments: Sequence[Segment], file: SpillFile) -> Segment:
    try:
        write_sorted(file, merge(segments))
        return file.close()[0]
    except BaseException:
        file.discard()
        raise


def groups(batches: Iterator[list[Pair]]) -> Iterator[Iterator[Any]]:
    """The items of each key of sorted pairs, one key after the other.

    Args:
        batches: The pairs.
    """
    for _, pairs in groupby(chain.from_iterable(batches), _KEY):
        yield map(loads, map(_ITEM, pairs))


__all__ = ["Pair", "Scatter", "groups", "merge", "merged", "write_sorted"]
