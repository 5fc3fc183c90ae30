"""From a dataset to stages: what is done to each shard in one go, between shuffles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr.operations import (
    DeduplicateOp,
    GroupByOp,
    LoadOp,
    Operation,
    ReduceOp,
    ReshardOp,
    SelectOp,
    SortedMergeJoinOp,
    WriteOp,
)
from zephyr.steps import GlobalReduceOp, JoinOp, LocalReduceOp, StepOp
from zephyr.writers import path_of

if TYPE_CHECKING:
    from zephyr.dataset import Dataset

OUTPUT_SHARDS_MOST = 256
"""Of `group_by` and `deduplicate` where the user gives no number."""


@dataclass(frozen=True)
class FromSource:
    """Each shard is an item of the source."""

    def __str__(self) -> str:
        return "source"


@dataclass(frozen=True)
class Grouped:
    """Each shard is a partition of a shuffle."""

    operation: GroupByOp | DeduplicateOp

    def __str__(self) -> str:
        return str(self.operation)


@dataclass(frozen=True)
class Spread:
    """The items of all shards, evenly over the shards of this stage."""

    def __str__(self) -> str:
        return "even shards"


@dataclass(frozen=True)
class Gathered:
    """One shard has the items of all."""

    def __str__(self) -> str:
        return "all shards"


@dataclass(frozen=True)
class Collect:
    """The items of each shard stay together."""

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True)
class Shuffle:
    """The items of each shard go where their keys belong, sorted."""

    operation: GroupByOp | DeduplicateOp
    num_partitions: int

    def __str__(self) -> str:
        return f"shuffle to {_shards(self.num_partitions)}"


@dataclass(frozen=True)
class StageCode:
    """What a worker needs to know of a stage, whatever the shard.

    Attributes:
        number: Of the stage, unique within a run.
        total: Shards of the stage.
        begin: Where items come from.
        steps: What is done to them.
        end: Where they go.
    """

    number: int
    total: int
    begin: FromSource | Grouped | Spread | Gathered
    steps: tuple[StepOp, ...]
    end: Collect | Shuffle

    def __str__(self) -> str:
        words = [str(self.begin), *map(str, self.steps), str(self.end)]
        return " → ".join(word for word in words if word)


@dataclass(frozen=True)
class Stage:
    """A stage, and the plans of what it is joined with."""

    code: StageCode
    rights: tuple[Plan, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All stages of a dataset, in order; the first one reads the source."""

    source: tuple[Any, ...]
    stages: tuple[Stage, ...]

    @property
    def num_shards(self) -> int:
        """Of the result."""
        return self.stages[-1].code.total

    def describe(self, indent: str = "") -> str:
        """The plan for people, a line for each stage.

        Args:
            indent: Before each line.
        """
        lines: list[str] = []
        for stage in self.stages:
            for number, right in enumerate(stage.rights):
                lines.append(f"{indent}  joined with, as side {number}:")
                lines.append(right.describe(indent + "    "))
            code = stage.code
            lines.append(f"{indent}stage {code.number}, {_shards(code.total)}: {code}")
        return "\n".join(lines)


class _Planner:
    def __init__(self) -> None:
        self._next = 0

    def plan(self, dataset: Dataset[Any]) -> Plan:
        source = tuple(dataset.source)
        build = _Building(self, len(source))
        for operation in _fused(dataset.operations):
            build.add(operation)
        return Plan(source, build.finish())

    def number(self) -> int:
        self._next += 1
        return self._next - 1


class _Building:
    """The stages of one dataset while they are made."""

    def __init__(self, planner: _Planner, total: int) -> None:
        self._planner = planner
        self._stages: list[Stage] = []
        self._begin: FromSource | Grouped | Spread | Gathered = FromSource()
        self._total = total
        self._steps: list[StepOp] = []
        self._rights: list[Plan] = []

    def add(self, operation: Operation) -> None:
        if isinstance(operation, GroupByOp | DeduplicateOp):
            total = operation.num_output_shards
            if total is None:
                total = min(self._total, OUTPUT_SHARDS_MOST)
            self._cut(Shuffle(operation, total), Grouped(operation), total)
        elif isinstance(operation, ReshardOp):
            self._cut(Collect(), Spread(), operation.num_shards)
        elif isinstance(operation, ReduceOp):
            self._steps.append(LocalReduceOp(operation))
            self._cut(Collect(), Gathered(), 1)
            self._steps.append(GlobalReduceOp(operation))
        elif isinstance(operation, SortedMergeJoinOp):
            self._join(operation)
        else:
            if isinstance(operation, WriteOp):
                _check_paths(operation, self._total)
            self._steps.append(operation)

    def _join(self, operation: SortedMergeJoinOp) -> None:
        right = self._planner.plan(operation.right)
        if right.num_shards != self._total:
            raise ValueError(
                "sorted_merge_join joins shards of the same number: the left side has "
                f"{_shards(self._total)}, the right one {_shards(right.num_shards)}; give both the "
                "same num_output_shards"
            )
        self._steps.append(
            JoinOp(
                operation.left_key,
                operation.right_key,
                operation.combiner,
                operation.how,
                len(self._rights),
            )
        )
        self._rights.append(right)

    def _cut(self, end: Collect | Shuffle, begin: Grouped | Spread | Gathered, total: int) -> None:
        code = StageCode(self._planner.number(), self._total, self._begin, tuple(self._steps), end)
        self._stages.append(Stage(code, tuple(self._rights)))
        self._begin, self._total, self._steps, self._rights = begin, total, [], []

    def finish(self) -> tuple[Stage, ...]:
        self._cut(Collect(), Gathered(), 1)
        return tuple(self._stages)


def make_plan(dataset: Dataset[Any]) -> Plan:
    """The stages of a dataset. Its source is read here, if it is an iterator.

    Args:
        dataset: The dataset.

    Raises:
        ValueError: Two shards would be written to the same file, or the sides of a join have
            different numbers of shards.
    """
    return _Planner().plan(dataset)


def _fused(operations: Sequence[Operation]) -> list[Operation]:
    """With `select` done by the `load_…` before it, which need not make what is not kept."""
    fused: list[Operation] = []
    for operation in operations:
        before = fused[-1] if fused else None
        if isinstance(operation, SelectOp) and isinstance(before, LoadOp):
            kept = before.columns
            columns = tuple(c for c in operation.columns if kept is None or c in kept)
            fused[-1] = LoadOp(before.format, columns)
        else:
            fused.append(operation)
    return fused


def _check_paths(operation: WriteOp, total: int) -> None:
    paths: dict[str, int] = {}
    for shard in range(total):
        path = path_of(operation, shard, total)
        other = paths.setdefault(path, shard)
        if other != shard:
            raise ValueError(
                f"{operation}: shards {other} and {shard} would both be written to {path}; put "
                "{shard:05d} into the pattern, or reshard(1) before"
            )


def _shards(number: int) -> str:
    return "1 shard" if number == 1 else f"{number} shards"


__all__ = [
    "Collect",
    "FromSource",
    "Gathered",
    "Grouped",
    "Plan",
    "Shuffle",
    "Spread",
    "Stage",
    "StageCode",
    "make_plan",
]
