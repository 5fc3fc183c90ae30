"""What a dataset means: the same operations over plain lists, one list for each shard."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from zephyr.keys import encode_key, partition_of
from zephyr.operations import (
    DeduplicateOp,
    FilterOp,
    FlatMapOp,
    GroupByOp,
    MapOp,
    MapShardOp,
    Operation,
    ReduceOp,
    ReshardOp,
    SelectOp,
    SortedMergeJoinOp,
    TakePerShardOp,
    WindowOp,
)

if TYPE_CHECKING:
    from zephyr import Dataset

Shards = list[list[Any]]


def expected(dataset: Dataset[Any]) -> list[Any]:
    """What executing a dataset gives."""
    return [item for shard in shards_of(dataset) for item in shard]


def shards_of(dataset: Dataset[Any]) -> Shards:
    shards = [[item] for item in dataset.source]
    for operation in dataset.operations:
        shards = apply(operation, shards)
    return shards


def apply(  # noqa: C901 - one case for each operation
    operation: Operation, shards: Shards
) -> Shards:
    match operation:
        case MapOp(fn):
            return [[fn(item) for item in shard] for shard in shards]
        case FilterOp(predicate):
            return [[item for item in shard if predicate(item)] for shard in shards]
        case SelectOp(columns):
            return [[{c: i[c] for c in columns if c in i} for i in shard] for shard in shards]
        case FlatMapOp(fn):
            return [[out for item in shard for out in fn(item)] for shard in shards]
        case MapShardOp(fn):
            return [list(fn(iter(shard))) for shard in shards]
        case TakePerShardOp(n):
            return [shard[:n] for shard in shards]
        case WindowOp():
            return [list(windows(operation, shard)) for shard in shards]
        case ReshardOp(total):
            items = [item for shard in shards for item in shard]
            ends = [len(items) * k // total for k in range(total + 1)]
            return [items[ends[k] : ends[k + 1]] for k in range(total)]
        case GroupByOp(key, reducer):
            return [
                [out for k, group in groups for out in reduced(reducer, k, group)]
                for groups in grouped(key, operation.num_output_shards, shards)
            ]
        case DeduplicateOp(key):
            return [
                [group[0] for _, group in groups]
                for groups in grouped(key, operation.num_output_shards, shards)
            ]
        case ReduceOp(local, whole, if_empty):
            values = [local(iter(shard)) for shard in shards if shard]
            return [[whole(iter(values))] if values else list(if_empty)]
        case SortedMergeJoinOp():
            pairs = zip(shards, shards_of(operation.right), strict=True)
            return [list(joined(operation, left, right)) for left, right in pairs]
        case _:
            raise AssertionError(operation)


def reduced(reducer: Any, key: Any, group: list[Any]) -> list[Any]:
    made = reducer(key, iter(group))
    return list(made) if inspect.isgenerator(made) else [made]


def windows(operation: WindowOp, shard: list[Any]) -> Iterable[list[Any]]:
    if operation.size is not None:
        items = iter(shard)
        while window := list(islice(items, operation.size)):
            yield window
        return
    window, state = [], operation.initial_state
    for item in shard:
        goes_on, state = operation.folder_fn(state, item)
        if not goes_on and window:
            yield window
            window = []
            _, state = operation.folder_fn(operation.initial_state, item)
        window.append(item)
    if window:
        yield window


def grouped(key: Any, total: int | None, shards: Shards) -> list[list[tuple[Any, list[Any]]]]:
    """For each shard of the result its groups, sorted by key."""
    total = min(len(shards), 256) if total is None else total
    found: list[dict[Any, list[Any]]] = [{} for _ in range(total)]
    for shard in shards:
        for item in shard:
            partition = partition_of(encode_key(key(item)), total)
            found[partition].setdefault(key(item), []).append(item)
    return [sorted(groups.items(), key=lambda pair: encode_key(pair[0])) for groups in found]


def joined(operation: SortedMergeJoinOp, left: list[Any], right: list[Any]) -> Iterable[Any]:
    for item in left:
        key = operation.left_key(item)
        matches = [other for other in right if operation.right_key(other) == key]
        for other in matches:
            yield operation.combiner(item, other)
        if not matches and operation.how == "left":
            yield operation.combiner(item, None)
