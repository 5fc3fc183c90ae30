"""The steps of a stage: operations as a planner makes them for a worker, which sees one shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zephyr.operations import ReduceOp, StreamOp

Batch = list[Any]
"""Items that move together."""


@dataclass(frozen=True)
class LocalReduceOp:
    """The first half of `ReduceOp`, of one shard."""

    operation: ReduceOp

    def __str__(self) -> str:
        return f"{self.operation}, of each shard"


@dataclass(frozen=True)
class GlobalReduceOp:
    """The second half of `ReduceOp`."""

    operation: ReduceOp

    def __str__(self) -> str:
        return f"{self.operation}, of all"


@dataclass(frozen=True)
class JoinOp:
    """`SortedMergeJoinOp`, with a number in place of the other dataset."""

    left_key: Callable[[Any], Any]
    right_key: Callable[[Any], Any]
    combiner: Callable[[Any, Any], Any]
    how: str
    number: int

    def __str__(self) -> str:
        return f"sorted_merge_join({self.how})"


StepOp = StreamOp | LocalReduceOp | GlobalReduceOp | JoinOp


__all__ = ["Batch", "GlobalReduceOp", "JoinOp", "LocalReduceOp", "StepOp"]
