"""Datasets: a source and what is to be done to its items, done by a backend."""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, Literal, TypeVar, cast

from zephyr.files import glob
from zephyr.operations import (
    DeduplicateOp,
    FilterOp,
    FlatMapOp,
    Format,
    GroupByOp,
    LoadOp,
    MapOp,
    MapShardOp,
    Operation,
    ReduceOp,
    ReshardOp,
    SelectOp,
    SortedMergeJoinOp,
    TakePerShardOp,
    WindowOp,
    WriteOp,
)

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


class Dataset(Generic[T]):
    """Items in shards, and what is to be done to them. Nothing is done before `Backend.execute`.

    Each item of the source is a shard. Methods return new datasets; none changes one. Items keep
    their order within a shard.

    Args:
        source: The items; an iterator is read when the dataset is executed first.
        operations: What is done to them, in order.
    """

    def __init__(self, source: Iterable[Any], operations: Sequence[Operation] = ()) -> None:
        self.source = source
        self.operations: tuple[Operation, ...] = tuple(operations)

    def __repr__(self) -> str:
        steps = "".join(f".{operation}" for operation in self.operations)
        size = len(self.source) if isinstance(self.source, Sequence) else "…"
        return f"Dataset[{size}]{steps}"

    # ---- sources

    @staticmethod
    def from_list(items: list[S]) -> Dataset[S]:
        """A dataset of the items of a list, each a shard.

        Args:
            items: The list.
        """
        return Dataset(items)

    @staticmethod
    def from_iterable(iterable: Iterable[S]) -> Dataset[S]:
        """A dataset of the items of any iterable, each a shard.

        Args:
            iterable: Read when the dataset is executed.
        """
        once = cast("Iterator[S]", iterable)
        return Dataset(_Kept(once) if iter(once) is once else iterable)

    @staticmethod
    def from_files(pattern: str, empty_glob_ok: bool = False) -> Dataset[str]:
        """A dataset of the paths that match a pattern, sorted, each a shard.

        Args:
            pattern: A path or URL with ``*``, ``**``, ``?``, ``[…]`` and ``{a,b}``.
            empty_glob_ok: Whether there may be none.

        Raises:
            FileNotFoundError: No file matches.
        """
        paths = glob(pattern)
        if not paths and not empty_glob_ok:
            raise FileNotFoundError(f"No files found matching pattern: {pattern}")
        return Dataset(paths)

    # ---- of each item

    def map(self, fn: Callable[[T], R]) -> Dataset[R]:
        """Applies a function to each item.

        Args:
            fn: The function.
        """
        return self._then(MapOp(_callable(fn, "map")))

    def filter(self, predicate: Callable[[T], Any]) -> Dataset[T]:
        """Keeps the items of which a function says so.

        Args:
            predicate: The function.
        """
        return self._then(FilterOp(_callable(predicate, "filter")))

    def select(self, *columns: str) -> Dataset[dict[str, Any]]:
        """Keeps some fields of items that are dicts; parquet is then read for those only.

        Args:
            *columns: Their names. A field that an item lacks, it lacks afterwards.
        """
        if not columns or not all(isinstance(one, str) for one in columns):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"select takes names of fields, not {columns!r}")
        return self._then(SelectOp(columns))

    def flat_map(self, fn: Callable[[T], Iterable[R]]) -> Dataset[R]:
        """Puts the items that a function returns or yields in the place of each item.

        Args:
            fn: The function.
        """
        return self._then(FlatMapOp(_callable(fn, "flat_map")))

    def load_file(self, columns: Sequence[str] | None = None) -> Dataset[dict[str, Any]]:
        """Puts the records of each file in the place of its path, by its suffix.

        Args:
            columns: Fields to read; None for all. What a file lacks, its records lack.
        """
        return self._load("auto", columns)

    def load_jsonl(self, columns: Sequence[str] | None = None) -> Dataset[dict[str, Any]]:
        """Puts the values of each file's lines in the place of its path.

        Args:
            columns: Fields to keep; None for all. What a file lacks, its records lack.
        """
        return self._load("jsonl", columns)

    def load_parquet(self, columns: Sequence[str] | None = None) -> Dataset[dict[str, Any]]:
        """Puts the rows of each parquet file in the place of its path.

        Args:
            columns: Fields to read; None for all. What a file lacks, its records lack.
        """
        return self._load("parquet", columns)

    # ---- of each shard

    def map_shard(self, fn: Callable[[Iterator[T]], Iterable[R]]) -> Dataset[R]:
        """Puts what a function makes of the iterator over a shard's items in their place.

        Args:
            fn: The function; a generator reads as it is read.
        """
        return self._then(MapShardOp(_callable(fn, "map_shard")))

    def take_per_shard(self, n: int) -> Dataset[T]:
        """Keeps the first items of each shard; no further ones are computed.

        Args:
            n: How many, ≥ 0.
        """
        return self._then(TakePerShardOp(_at_least(0, n, "n")))

    def window(self, size: int) -> Dataset[list[T]]:
        """Makes lists of consecutive items of a shard.

        Args:
            size: Of each list but the last, ≥ 1.
        """
        size = _at_least(1, size, "size")

        def fits(count: int, _item: Any) -> tuple[bool, int]:
            return count < size, count + 1

        return self._then(WindowOp(fits, 0, size))

    def window_by(
        self, folder_fn: Callable[[Any, T], tuple[bool, Any]], initial_state: Any = None
    ) -> Dataset[list[T]]:
        """Makes lists of consecutive items of a shard; a function says where one ends.

        Args:
            folder_fn: ``(state, item) -> (goes on, new state)``. Where it does not go on, the item
                begins the next list, and the function is asked again with the initial state.
            initial_state: The state at the beginning of a list.
        """
        return self._then(WindowOp(_callable(folder_fn, "window_by"), initial_state))

    # ---- of all

    def reshard(self, num_shards: int | None) -> Dataset[T]:
        """Spreads the items evenly over another number of shards; their order stays.

        Args:
            num_shards: How many, ≥ 1; None changes nothing.

        Raises:
            ValueError: ``num_shards`` is not positive.
        """
        if num_shards is None:
            return self
        if num_shards <= 0:
            raise ValueError(f"num_shards must be positive, got {num_shards}")
        return self._then(ReshardOp(operator.index(num_shards)))

    def group_by(
        self,
        key: Callable[[T], Any],
        reducer: Callable[[Any, Iterator[T]], R],
        num_output_shards: int | None = None,
    ) -> Dataset[R]:
        """Brings the items of each key together, whatever their shards.

        Groups are sorted by key within a shard. The items of a group come in the order of their
        shards, and of their places there. However large a group is, its items are not in memory
        together.

        Args:
            key: Of an item: None, a number, a string, bytes, a date, a UUID, or a tuple of those.
            reducer: ``(key, iterator of items) -> item``; of a generator, each item it yields.
            num_output_shards: Shards of the result, ≥ 1; None for as many as before, 256 at most.
        """
        return self._then(
            GroupByOp(
                _callable(key, "group_by"),
                _callable(reducer, "group_by"),
                _shards(num_output_shards),
            )
        )

    def deduplicate(
        self, key: Callable[[T], Any], num_output_shards: int | None = None
    ) -> Dataset[T]:
        """Keeps the first item of each key, whatever their shards; sorted by key within a shard.

        Args:
            key: See `group_by`.
            num_output_shards: See `group_by`.
        """
        operation = DeduplicateOp(_callable(key, "deduplicate"), _shards(num_output_shards))
        return self._then(operation)

    def reduce(
        self,
        local_reducer: Callable[[Iterator[T]], R],
        global_reducer: Callable[[Iterator[R]], R] | None = None,
    ) -> Dataset[R]:
        """Makes one item of all.

        Args:
            local_reducer: Makes one of the items of a shard. It is not called for a shard without
                items; of no item at all the result is none.
            global_reducer: Makes one of what the other one made; None for the same function.
        """
        local = _callable(local_reducer, "reduce")
        whole = local if global_reducer is None else _callable(global_reducer, "reduce")
        return self._then(ReduceOp(local, whole))

    def count(self) -> Dataset[int]:
        """Counts all items; 0 where there is none."""
        return self._then(ReduceOp(_length, sum, if_empty=(0,)))

    def sorted_merge_join(
        self,
        right: Dataset[R],
        left_key: Callable[[T], Any],
        right_key: Callable[[R], Any],
        combiner: Callable[[Any, Any], S] | None = None,
        how: Literal["inner", "left"] = "inner",
    ) -> Dataset[S]:
        """Joins each shard with the shard of the same number of another dataset.

        Both have the same number of shards, the items of a key are in shards of the same number,
        and each shard is sorted by key: so come the results of `group_by` with the same keys and
        ``num_output_shards``. Nothing is shuffled. A shard that is not sorted is refused. All items
        there that have one key are in memory together; those here stream.

        Args:
            right: The other dataset.
            left_key: Of an item here; as in `group_by`.
            right_key: Of an item there.
            combiner: ``(item here, item there) -> item``, for each pair; with ``how="left"`` the
                item there may be None. By default, the fields of both; those there win.
            how: ``"inner"`` for pairs only, ``"left"`` also for items here without a pair.

        Raises:
            ValueError: There is no such ``how``.
        """
        if how not in ("inner", "left"):
            raise ValueError(f"sorted_merge_join knows how='inner' and how='left', not {how!r}")
        if not isinstance(right, Dataset):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"sorted_merge_join joins with a Dataset, not {right!r}")
        return self._then(
            SortedMergeJoinOp(
                _callable(left_key, "sorted_merge_join"),
                _callable(right_key, "sorted_merge_join"),
                right,
                merge_fields if combiner is None else _callable(combiner, "sorted_merge_join"),
                how,
            )
        )

    # ---- to files

    def write_jsonl(
        self, output_pattern: str | Callable[[int, int], str], skip_existing: bool = False
    ) -> Dataset[str]:
        """Writes each shard to a file with one JSON value a line; the items are the paths then.

        A file appears whole or not at all. ``.gz`` and ``.zst`` are compressed.

        Args:
            output_pattern: With ``{shard:05d}`` and ``{total:05d}``; or a function of both.
            skip_existing: Leave a shard alone whose file is there.
        """
        return self._write(WriteOp(output_pattern, "jsonl", skip_existing))

    def write_parquet(
        self,
        output_pattern: str | Callable[[int, int], str],
        schema: Any = None,
        batch_size: int = 1000,
        skip_existing: bool = False,
    ) -> Dataset[str]:
        """Writes each shard to a parquet file; the items are the paths then.

        Args:
            output_pattern: See `write_jsonl`.
            schema: A ``pyarrow.Schema``; None to infer it from the first rows.
            batch_size: Rows of a row group, ≥ 1.
            skip_existing: Leave a shard alone whose file is there.
        """
        rows = _at_least(1, batch_size, "batch_size")
        return self._write(WriteOp(output_pattern, "parquet", skip_existing, schema, rows))

    def write_binary(
        self, output_pattern: str | Callable[[int, int], str], skip_existing: bool = False
    ) -> Dataset[str]:
        """Writes the items of each shard, which are bytes, to a file one after the other.

        Args:
            output_pattern: See `write_jsonl`.
            skip_existing: Leave a shard alone whose file is there.
        """
        return self._write(WriteOp(output_pattern, "binary", skip_existing))

    def _then(self, operation: Operation) -> Dataset[Any]:
        return Dataset(self.source, (*self.operations, operation))

    def _write(self, operation: WriteOp) -> Dataset[str]:
        pattern = operation.pattern
        if isinstance(pattern, os.PathLike):
            pattern = os.fspath(cast("os.PathLike[str]", pattern))
            operation = replace(operation, pattern=pattern)
        if isinstance(pattern, str):
            try:
                pattern.format(shard=0, total=1, basename="shard_0")
            except (KeyError, IndexError, ValueError) as exc:
                raise ValueError(
                    f"a pattern of paths knows {{shard}}, {{total}} and {{basename}}, as in "
                    f"out/data-{{shard:05d}}.jsonl.gz: {pattern!r} ({type(exc).__name__}: {exc})"
                ) from None
        elif not callable(pattern):
            raise TypeError(f"a pattern of paths is a string or a function, not {pattern!r}")
        return self._then(operation)

    def _load(self, kind: Format, columns: Sequence[str] | None) -> Dataset[dict[str, Any]]:
        if isinstance(columns, str):
            raise TypeError(f"columns is a list of names, not {columns!r}")
        return self._then(LoadOp(kind, None if columns is None else tuple(columns)))


def merge_fields(left: Any, right: Any) -> Any:
    """The fields of both; those of the right one win.

    Args:
        left: A dict.
        right: A dict, or None for no fields.
    """
    return dict(left) if right is None else {**left, **right}


class _Kept(Generic[T]):
    """What an iterator gives, however often it is asked for."""

    def __init__(self, iterator: Iterator[T]) -> None:
        self._iterator = iterator
        self._lock = threading.Lock()
        self._items: list[T] = []

    def __iter__(self) -> Iterator[T]:
        with self._lock:
            self._items.extend(self._iterator)
        return iter(self._items)


def _length(items: Iterator[Any]) -> int:
    return sum(1 for _ in items)


def _callable(fn: Any, what: str) -> Callable[..., Any]:
    if not callable(fn):
        raise TypeError(f"{what} takes a function, not {fn!r}")
    return cast("Callable[..., Any]", fn)


def _at_least(least: int, value: Any, what: str) -> int:
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{what} must be at least {least}, not {number}")
    return number


def _shards(num_output_shards: int | None) -> int | None:
    if num_output_shards is None:
        return None
    return _at_least(1, num_output_shards, "num_output_shards")


__all__ = ["Dataset", "merge_fields"]
