"""What stream operations do to the items of a shard, batch by batch.

Items move in lists: the loop over them is Python's fastest, and where one fails, its place in the
list is known. Batches begin with one item and double, so that little is computed in vain where not
all is wanted, and shrink where items are large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from operator import length_hint
from typing import Any

from zephyr import writers
from zephyr.batching import BATCH_ITEMS, Counted, rebatch, split, stoppable
from zephyr.files import exists, forget_unfinished
from zephyr.grouping import joined
from zephyr.operations import (
    FilterOp,
    FlatMapOp,
    LoadOp,
    MapOp,
    MapShardOp,
    SelectOp,
    TakePerShardOp,
    WindowOp,
    WriteOp,
)
from zephyr.place import Place, locate
from zephyr.readers import batches_of
from zephyr.steps import Batch, GlobalReduceOp, JoinOp, LocalReduceOp, StepOp


def flow(batches: Iterator[Batch], operations: Iterable[StepOp], place: Place) -> Iterator[Batch]:
    """What operations make of a shard, lazily.

    Args:
        batches: The items of the shard.
        operations: In order.
        place: Where.
    """
    steps = list(operations)
    last_take = max(
        (at for at, op in enumerate(steps) if isinstance(op, TakePerShardOp)), default=-1
    )
    if last_take >= 0:
        batches = split(batches, 1)
    for at, step in enumerate(steps):
        # Before a take, one by one: what is not taken is not computed either.
        limit = 1 if at < last_take else BATCH_ITEMS
        batches = _STEPS[type(step)](_watched(batches, place), step, place, limit)
    return batches


def _watched(batches: Iterator[Batch], place: Place) -> Iterator[Batch]:
    for batch in batches:
        place.check()
        yield batch


def _position(done: int, batch: Batch, items: Iterator[Any]) -> int:
    """Of the item that was taken last."""
    return done + len(batch) - length_hint(items) - 1


def _map(batches: Iterator[Batch], step: MapOp, place: Place, limit: int) -> Iterator[Batch]:
    fn, done = step.fn, 0
    for batch in batches:
        items = iter(batch)
        try:
            out = [fn(item) for item in items]
        except Exception as exc:
            locate(exc, place, step, _position(done, batch, items))
            raise
        done += len(batch)
        yield out


def _filter(batches: Iterator[Batch], step: FilterOp, place: Place, limit: int) -> Iterator[Batch]:
    keep, done = step.predicate, 0
    for batch in batches:
        items = iter(batch)
        try:
            out = [item for item in items if keep(item)]
        except Exception as exc:
            locate(exc, place, step, _position(done, batch, items))
            raise
        done += len(batch)
        if out:
            yield out


def _select(batches: Iterator[Batch], step: SelectOp, place: Place, limit: int) -> Iterator[Batch]:
    columns = step.columns

    def select(item: Any) -> dict[str, Any]:
        return {name: item[name] for name in columns if name in item}

    return _map(batches, MapOp(select), place, limit)


def _flat_map(
    batches: Iterator[Batch], step: FlatMapOp, place: Place, limit: int
) -> Iterator[Batch]:
    def items() -> Iterator[Any]:
        done = 0
        for batch in batches:
            for item in batch:
                try:
                    yield from step.fn(item)
                except Exception as exc:
                    locate(exc, place, step, done)
                    raise
                done += 1

    return stoppable(rebatch(items(), limit), place)


def _load(batches: Iterator[Batch], step: LoadOp, place: Place, limit: int) -> Iterator[Batch]:
    done = 0
    for batch in batches:
        for path in batch:
            try:
                for records in batches_of(path, step.format, step.columns):
                    place.check()
                    if len(records) <= limit:
                        yield records
                    else:
                        yield from split(iter((records,)), limit)
            except Exception as exc:
                locate(exc, place, step, done)
                raise
            done += 1


def _map_shard(
    batches: Iterator[Batch], step: MapShardOp, place: Place, limit: int
) -> Iterator[Batch]:
    def items() -> Iterator[Any]:
        consumed = 0

        def counted() -> Iterator[Any]:
            nonlocal consumed
            for item in chain.from_iterable(batches):
                consumed += 1
                yield item

        try:
            yield from step.fn(counted())
        except Exception as exc:
            locate(exc, place, step, max(consumed - 1, 0))
            raise

    return stoppable(rebatch(items(), limit), place)


def _take(
    batches: Iterator[Batch], step: TakePerShardOp, place: Place, limit: int
) -> Iterator[Batch]:
    left = step.n
    while left:
        batch = next(batches, None)
        if batch is None:
            return
        taken = batch[:left]
        left -= len(taken)
        yield taken


def _window(batches: Iterator[Batch], step: WindowOp, place: Place, limit: int) -> Iterator[Batch]:
    if step.size is not None:
        items = chain.from_iterable(batches)
        size = step.size

        def windows() -> Iterator[Batch]:
            while window := list(islice(items, size)):
                yield window

        return rebatch(windows(), limit)
    return rebatch(_windows_by(batches, step, place), limit)


def _windows_by(batches: Iterator[Batch], step: WindowOp, place: Place) -> Iterator[Batch]:
    window: Batch = []
    state = step.initial_state
    for position, item in enumerate(chain.from_iterable(batches)):
        try:
            goes_on, state = step.folder_fn(state, item)
            if not goes_on and window:
                yield window
                window = []
                _, state = step.folder_fn(step.initial_state, item)
        except Exception as exc:
            locate(exc, place, step, position)
            raise
        window.append(item)
    if window:
        yield window


def _write(batches: Iterator[Batch], step: WriteOp, place: Place, limit: int) -> Iterator[Batch]:
    path = writers.path_of(step, place.shard, place.total)
    for tag in place.lost_tags:
        forget_unfinished(path, tag)
    if not (step.skip_existing and exists(path)):
        counted = Counted(batches)
        try:
            writers.write_shard(step, path, counted, place.tag, place.check)
        except Exception as exc:
            locate(exc, place, step, max(counted.items - 1, 0))
            raise
    yield [path]


def _local_reduce(
    batches: Iterator[Batch], step: LocalReduceOp, place: Place, limit: int
) -> Iterator[Batch]:
    return _reduced(batches, step, step.operation.local_reducer, (), place)


def _global_reduce(
    batches: Iterator[Batch], step: GlobalReduceOp, place: Place, limit: int
) -> Iterator[Batch]:
    operation = step.operation
    return _reduced(batches, step, operation.global_reducer, operation.if_empty, place)


def _reduced(
    batches: Iterator[Batch],
    step: StepOp,
    reducer: Callable[[Iterator[Any]], Any],
    if_empty: tuple[Any, ...],
    place: Place,
) -> Iterator[Batch]:
    first = next(batches, None)
    if first is None:
        if if_empty:
            yield list(if_empty)
        return
    counted = Counted(chain((first,), batches))
    try:
        yield [reducer(chain.from_iterable(counted))]
    except Exception as exc:
        locate(exc, place, step, max(counted.items - 1, 0))
        raise


_STEPS: dict[type, Callable[..., Iterator[Batch]]] = {
    MapOp: _map,
    FilterOp: _filter,
    SelectOp: _select,
    FlatMapOp: _flat_map,
    LoadOp: _load,
    MapShardOp: _map_shard,
    TakePerShardOp: _take,
    WindowOp: _window,
    WriteOp: _write,
    LocalReduceOp: _local_reduce,
    GlobalReduceOp: _global_reduce,
    JoinOp: joined,
}

__all__ = ["flow"]
