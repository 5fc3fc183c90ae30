"""What a worker does: one attempt at some consecutive shards of a stage."""

from __future__ import annotations

import itertools
import os
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import length_hint
from pickle import loads
from typing import TYPE_CHECKING

from zephyr.errors import ScratchError, StoppedError
from zephyr.files import filesystem, forget_unfinished, local_path
from zephyr.flow import flow
from zephyr.grouping import firsts, grouped
from zephyr.operations import DeduplicateOp, WriteOp
from zephyr.place import Place, keep_place, locate
from zephyr.plan import Grouped, Shuffle, StageCode
from zephyr.shuffle import Scatter, merged
from zephyr.spill import Segment, SpillFile, items_of, spill_path
from zephyr.writers import path_of

if TYPE_CHECKING:
    from zephyr.steps import Batch


@dataclass(frozen=True, slots=True)
class ShardWork:
    """One shard of a task.

    Attributes:
        shard: Its number, from 0.
        item: The item of the source, pickled.
        source: What it is made of, for people.
        segments: What other stages have stored for it.
        rights: What it is joined with.
    """

    shard: int
    item: bytes | None = None
    source: str = ""
    segments: tuple[Segment, ...] = ()
    rights: tuple[tuple[Segment, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """An attempt at some shards.

    Attributes:
        run: The run's id.
        number: The task's, within its stage.
        attempt: The attempt's, from 0.
        lost: Earlier attempts whose workers died.
        shards: The shards.
        scratch: Where to store what other stages need.
        memory_bytes: How much sorting may hold.
        chunk_size: Items of a stored file.
        compress: Whether what is stored is compressed.
    """

    run: str
    number: int
    attempt: int
    lost: tuple[int, ...]
    shards: tuple[ShardWork, ...]
    scratch: str
    memory_bytes: int
    chunk_size: int
    compress: bool

    def tag(self, attempt: int) -> str:
        """Names an attempt at this task.

        Args:
            attempt: Which.
        """
        return f"{self.run}-{self.number}-{attempt}"


@dataclass(frozen=True, slots=True)
class ShardOutput:
    """What became of a shard.

    Attributes:
        shard: Its number.
        segments: Its items, in order.
        partitions: For a shuffle, its sorted runs for each partition.
    """

    shard: int
    segments: tuple[Segment, ...] = ()
    partitions: dict[int, tuple[Segment, ...]] | None = None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task has made.

    Attributes:
        outputs: Of each shard; of a shuffle, one for all shards of the task.
        items: How many items came out.
        peak_bytes: The most memory that the process has ever held.
    """

    outputs: tuple[ShardOutput, ...]
    items: int
    peak_bytes: int


def run_task(
    code: StageCode, task: Task, stopped: Callable[[], bool] = lambda: False
) -> TaskResult:
    """Does what a task says.

    Args:
        code: The stage.
        task: The attempt.
        stopped: Whether nobody wants the result any more.
    """
    try:
        return _run(code, task, stopped)
    except RuntimeError as exc:  # in whose place a StopIteration may have come here
        keep_place(exc)
        raise


def _run(code: StageCode, task: Task, stopped: Callable[[], bool]) -> TaskResult:
    files = _Files(code, task)
    if isinstance(code.end, Shuffle):
        return _scatter(code, task, code.end, files, stopped)
    outputs: list[ShardOutput] = []
    count = 0
    for work in task.shards:
        place = _place(code, task, work, stopped)
        segments = _collect(_shard(code, task, work, files, place), task, files, place)
        count += sum(segment.count for segment in segments)
        outputs.append(ShardOutput(work.shard, tuple(segments)))
    return TaskResult(tuple(outputs), count, peak_bytes())


def forget_files(code: StageCode, task: Task) -> None:
    """Removes what an attempt that was killed has left beside the files that it was to write.

    Args:
        code: The stage.
        task: The attempt.
    """
    for step in code.steps:
        if isinstance(step, WriteOp):
            for work in task.shards:
                path = path_of(step, work.shard, code.total)
                forget_unfinished(path, task.tag(task.attempt))


class _Files:
    """Makes the files of an attempt.

    Their names are used once: a job context starts an attempt again whose process it takes for
    dead, and that process may live and go on writing.
    """

    def __init__(self, code: StageCode, task: Task) -> None:
        self._task, self._stage = task, code.number
        self._token = os.urandom(6).hex()
        self._numbers = itertools.count()

    def new(self) -> SpillFile:
        task = self._task
        name = f"{task.number}-{task.attempt}-{self._token}-{next(self._numbers)}"
        return SpillFile(spill_path(task.scratch, self._stage, name), task.compress)


def _place(code: StageCode, task: Task, work: ShardWork, stopped: Callable[[], bool]) -> Place:
    rights = tuple(partial(_items, side) for side in work.rights)
    return Place(
        work.shard,
        code.total,
        work.source,
        task.tag(task.attempt),
        tuple(map(task.tag, task.lost)),
        stopped,
        rights,
    )


def _shard(
    code: StageCode, task: Task, work: ShardWork, files: _Files, place: Place
) -> Iterator[Batch]:
    place.check()
    return flow(_begin(code, task, work, files, place), code.steps, place)


def _begin(
    code: StageCode, task: Task, work: ShardWork, files: _Files, place: Place
) -> Iterator[Batch]:
    if work.item is not None:
        return iter(([loads(work.item)],))
    if not isinstance(code.begin, Grouped):
        return _items(work.segments)
    pairs = merged(work.segments, task.memory_bytes, files.new)
    if isinstance(code.begin.operation, DeduplicateOp):
        return firsts(pairs, place)
    return grouped(pairs, code.begin.operation, place)


def _items(segments: tuple[Segment, ...]) -> Iterator[Batch]:
    return itertools.chain.from_iterable(map(items_of, segments))


def _collect(batches: Iterator[Batch], task: Task, files: _Files, place: Place) -> list[Segment]:
    """Stores what comes out of a shard."""
    store = _Store(files, task.chunk_size)
    done = 0
    try:
        for batch in batches:
            try:
                store.add(batch)
            except Exception as exc:
                locate(exc, place, "storing the result", done)
                raise
            done += len(batch)
        return store.finish()
    except BaseException:
        store.discard()
        raise


class _Store:
    """Items in files of so many items at most."""

    def __init__(self, files: _Files, size: int) -> None:
        self._files, self._size = files, size
        self._file: SpillFile | None = None
        self._room = 0
        self._stored: list[Segment] = []

    def add(self, batch: Batch) -> None:
        while batch:
            if self._file is None:
                self._file, self._room = self._files.new(), self._size
            self._file.add(batch[: self._room])
            batch, self._room = batch[self._room :], self._room - len(batch)
            if self._room <= 0:
                self.finish()

    def finish(self) -> list[Segment]:
        file, self._file = self._file, None
        if file is not None:
            file.cut()
            self._stored += file.close()
        return self._stored

    def discard(self) -> None:
        if self._file is not None:
            self._file.discard()


def _scatter(
    code: StageCode, task: Task, end: Shuffle, files: _Files, stopped: Callable[[], bool]
) -> TaskResult:
    operation = end.operation
    scatter = Scatter(
        operation.key,
        end.num_partitions,
        isinstance(operation, DeduplicateOp),
        task.memory_bytes,
        files.new,
    )
    count = 0
    for work in task.shards:
        place = _place(code, task, work, stopped)
        done = 0
        for batch in _shard(code, task, work, files, place):
            items = iter(batch)
            try:
                scatter.add(items)
            except Exception as exc:
                left = length_hint(items)
                locate(exc, place, operation, done + len(batch) - left - 1)
                raise
            done += len(batch)
        count += done
    output = ShardOutput(task.shards[0].shard, partitions=scatter.finish())
    return TaskResult((output,), count, peak_bytes())


def peak_bytes() -> int:
    """The most memory that this process has ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run_stored(stage_path: str, task: Task) -> TaskResult:
    """Does a task in another process, which reads the stage from storage.

    Args:
        stage_path: Where the stage is.
        task: The attempt.
    """
    return run_task(_load_stage(stage_path), task)


@lru_cache(maxsize=8)
def _load_stage(path: str) -> StageCode:
    try:
        content = _read(path)
    except OSError as exc:
        raise ScratchError(
            f"a worker cannot read {path} ({type(exc).__name__}: {exc}). Workers on other hosts "
            "need storage that all share: FrayBackend(scratch='gs://…'), or ZEPHYR_SCRATCH"
        ) from exc
    return loads(content)


def _read(path: str) -> bytes:
    local = local_path(path)
    if local is not None:
        with open(local, "rb") as file:
            return file.read()
    fs, within = filesystem(path)
    return fs.cat_file(within)


__all__ = [
    "ShardOutput",
    "ShardWork",
    "StoppedError",
    "Task",
    "TaskResult",
    "forget_files",
    "peak_bytes",
    "run_stored",
    "run_task",
]
