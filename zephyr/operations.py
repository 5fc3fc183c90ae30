"""The operations of a dataset, as data: what was asked for, before anybody does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Format = Literal["auto", "jsonl", "parquet", "binary"]


def name_of(fn: Any) -> str:
    """What to call a function in plans and errors.

    Args:
        fn: The function.
    """
    name = getattr(fn, "__name__", None) or type(fn).__name__
    return str(name)


@dataclass(frozen=True)
class MapOp:
    """Applies a function to each item."""

    fn: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"map({name_of(self.fn)})"


@dataclass(frozen=True)
class FilterOp:
    """Keeps the items of which a function says so."""

    predicate: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"filter({name_of(self.predicate)})"


@dataclass(frozen=True)
class SelectOp:
    """Keeps some fields of each item."""

    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"select({', '.join(self.columns)})"


@dataclass(frozen=True)
class FlatMapOp:
    """Puts any number of items in the place of each."""

    fn: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"flat_map({name_of(self.fn)})"


@dataclass(frozen=True)
class LoadOp:
    """Puts the records of a file in the place of its path."""

    format: Format
    columns: tuple[str, ...] | None = None

    def __str__(self) -> str:
        name = "load_file" if self.format == "auto" else f"load_{self.format}"
        return name if self.columns is None else f"{name}({', '.join(self.columns)})"


@dataclass(frozen=True)
class MapShardOp:
    """Puts what a function makes of all items of a shard in their place."""

    fn: Callable[[Iterator[Any]], Any]

    def __str__(self) -> str:
        return f"map_shard({name_of(self.fn)})"


@dataclass(frozen=True)
class TakePerShardOp:
    """Keeps the first items of each shard."""

    n: int

    def __str__(self) -> str:
        return f"take_per_shard({self.n})"


@dataclass(frozen=True)
class WindowOp:
    """Makes lists of consecutive items; a function says where one ends.

    Attributes:
        folder_fn: ``(state, item) -> (goes on, state)``.
        initial_state: The state at the beginning of a window.
        size: Of windows that are full with so many items, instead of the function.
    """

    folder_fn: Callable[[Any, Any], tuple[bool, Any]]
    initial_state: Any = None
    size: int | None = None

    def __str__(self) -> str:
        if self.size is not None:
            return f"window({self.size})"
        return f"window_by({name_of(self.folder_fn)})"


@dataclass(frozen=True)
class WriteOp:
    """Writes the items of each shard to a file, and puts its path in their place.

    Attributes:
        pattern: Of the paths, with ``{shard}`` and ``{total}``; or a function of both.
        format: How.
        skip_existing: Leave files that are there, and what leads to them, alone.
        schema: Of parquet; None to infer it.
        batch_size: Rows of a parquet row group.
    """

    pattern: str | Callable[[int, int], str]
    format: Format
    skip_existing: bool = False
    schema: Any = None
    batch_size: int = 1000

    def __str__(self) -> str:
        where = self.pattern if isinstance(self.pattern, str) else name_of(self.pattern)
        return f"write_{self.format}({where})"


@dataclass(frozen=True)
class ReshardOp:
    """Spreads the items evenly over another number of shards; their order stays."""

    num_shards: int

    def __str__(self) -> str:
        return f"reshard({self.num_shards})"


@dataclass(frozen=True)
class GroupByOp:
    """Brings the items of each key together, and puts what a function makes of them there."""

    key: Callable[[Any], Any]
    reducer: Callable[[Any, Iterator[Any]], Any]
    num_output_shards: int | None = None

    def __str__(self) -> str:
        return f"group_by({name_of(self.key)}, {name_of(self.reducer)})"


@dataclass(frozen=True)
class DeduplicateOp:
    """Keeps the first item of each key."""

    key: Callable[[Any], Any]
    num_output_shards: int | None = None

    def __str__(self) -> str:
        return f"deduplicate({name_of(self.key)})"


@dataclass(frozen=True)
class ReduceOp:
    """Makes one value of all items: of each shard first, then of those values.

    Attributes:
        local_reducer: Of the items of one shard; not called for a shard without items.
        global_reducer: Of the values of the shards.
        if_empty: The items of the result where there was no item at all.
    """

    local_reducer: Callable[[Iterator[Any]], Any]
    global_reducer: Callable[[Iterator[Any]], Any]
    if_empty: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"reduce({name_of(self.local_reducer)}, {name_of(self.global_reducer)})"


@dataclass(frozen=True)
class SortedMergeJoinOp:
    """Pairs each shard with the shard of the same number of another dataset, both sorted.

    Attributes:
        left_key: Of an item here.
        right_key: Of an item there.
        right: The other `zephyr.Dataset`.
        combiner: Makes an item of a pair.
        how: What becomes of items here without a pair.
    """

    left_key: Callable[[Any], Any]
    right_key: Callable[[Any], Any]
    right: Any
    combiner: Callable[[Any, Any], Any]
    how: Literal["inner", "left"]

    def __str__(self) -> str:
        return f"sorted_merge_join({name_of(self.left_key)}, {self.how})"


StreamOp = (
    MapOp
    | FilterOp
    | SelectOp
    | FlatMapOp
    | LoadOp
    | MapShardOp
    | TakePerShardOp
    | WindowOp
    | WriteOp
)
"""What is done to each shard by itself."""

Operation = StreamOp | ReshardOp | GroupByOp | DeduplicateOp | ReduceOp | SortedMergeJoinOp

__all__ = [
    "DeduplicateOp",
    "FilterOp",
    "FlatMapOp",
    "Format",
    "GroupByOp",
    "LoadOp",
    "MapOp",
    "MapShardOp",
    "Operation",
    "ReduceOp",
    "ReshardOp",
    "SelectOp",
    "SortedMergeJoinOp",
    "StreamOp",
    "TakePerShardOp",
    "WindowOp",
    "WriteOp",
    "name_of",
]
