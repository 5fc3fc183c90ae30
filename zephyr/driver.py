"""Runs the stages of a plan, one after the other, by an executor."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from zephyr.errors import ShardLostError
from zephyr.executors import Ended, Executor, Key, StageRef
from zephyr.files import join, remove_tree, write_bytes
from zephyr.operations import name_of
from zephyr.plan import Gathered, Grouped, Plan, Spread, Stage, StageCode
from zephyr.schedule import Launch, SchedulePolicy, StageSchedule
from zephyr.scratch import PREFIX, claim, remove_abandoned
from zephyr.spill import Packer, Segment, items_of, packer, spill_path
from zephyr.task import ShardOutput, ShardWork, Task, TaskResult, forget_files

if TYPE_CHECKING:
    from zephyr.progress import Progress

SCRATCH_VARIABLE = "ZEPHYR_SCRATCH"
TASKS_MOST = 2048
"""Of a stage: more shards than that go together."""
TICK_S = 0.5
"""How often to look for stragglers, and to show progress."""


@dataclass(frozen=True)
class Settings:
    """How a plan is run.

    Attributes:
        scratch: Where what stages need of each other is stored.
        memory_bytes: How much sorting may hold in each task.
        chunk_size: Items of a stored file.
        compress: Whether what is stored is compressed.
        policy: Of retries and stragglers.
    """

    scratch: str
    memory_bytes: int
    chunk_size: int
    compress: bool
    policy: SchedulePolicy = field(default_factory=SchedulePolicy)


@dataclass
class RunStats:
    """What a run has cost, for whoever asks.

    Attributes:
        tasks: Tasks that have their result.
        lost: Attempts whose workers died.
        speculative: Attempts at tasks that ran already.
        peak_bytes: The most memory that any worker has held.
    """

    tasks: int = 0
    lost: int = 0
    speculative: int = 0
    peak_bytes: int = 0


def default_scratch() -> str:
    """Where stages store what others need, if nobody says otherwise."""
    return os.environ.get(SCRATCH_VARIABLE) or tempfile.gettempdir()


class Run:
    """One execution of a plan.

    Args:
        executor: Who runs tasks.
        settings: How.
        progress: Who is told.
        now: The time, in seconds.
    """

    def __init__(
        self,
        executor: Executor,
        settings: Settings,
        progress: Progress,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._settings = settings
        self._progress = progress
        self._now = now
        self._id = uuid.uuid4().hex[:12]
        self._scratch = join(settings.scratch, PREFIX + self._id)
        self._pack = packer()
        self._open: dict[tuple[int, Key], tuple[StageCode, Task]] = {}
        self.stats = RunStats()

    def execute(self, plan: Plan) -> list[Any]:
        """All items of the result, in the order of shards.

        Args:
            plan: What to do.
        """
        try:
            remove_abandoned(self._settings.scratch)
            claim(self._scratch)
            outputs = self._plan(plan)
            segments = chain.from_iterable(outputs[shard].segments for shard in sorted(outputs))
            return [item for segment in segments for batch in items_of(segment) for item in batch]
        finally:
            self._executor.close()
            for code, task in self._open.values():  # nobody works at them any more
                forget_files(code, task)
            remove_tree(self._scratch)

    def _plan(self, plan: Plan) -> dict[int, ShardOutput]:
        works: list[ShardWork] = _source_works(plan.source, self._pack)
        outputs: dict[int, ShardOutput] = {}
        for number, stage in enumerate(plan.stages):
            if number:
                works = _next_works(stage.code, outputs)
            rights = [self._plan(right) for right in stage.rights]
            outputs = self._stage(stage, [_joined(work, rights) for work in works])
            if number:
                self._forget(plan.stages[number - 1].code)
            for right in stage.rights:
                self._forget(right.stages[-1].code)
        return outputs

    def _forget(self, code: StageCode) -> None:
        """What a stage has stored was read by the one after it."""
        remove_tree(spill_path(self._scratch, code.number, "").rstrip("/"))

    def _stage(self, stage: Stage, works: Sequence[ShardWork]) -> dict[int, ShardOutput]:
        if not works:
            return {}
        groups = _in_groups(works)
        ref = self._publish(stage.code)
        schedule = StageSchedule(len(groups), self._policy())
        outputs: dict[int, ShardOutput] = {}
        self._executor.begin(len(groups))
        with self._progress.stage(stage.code, len(works)) as shown:
            while not schedule.finished:
                while self._executor.room > 0:
                    launch = schedule.next(self._now())
                    if launch is None:
                        break
                    self.stats.speculative += launch.is_second
                    task = self._task(launch, groups[launch.task])
                    key = (launch.task, launch.attempt)
                    self._open[stage.code.number, key] = (stage.code, task)
                    self._executor.start(key, ref, task)
                for ended in self._executor.wait(TICK_S):
                    result = self._judge(schedule, ended, groups[ended.key[0]])
                    if result is not None:
                        del self._open[stage.code.number, ended.key]
                        outputs.update({each.shard: each for each in result.outputs})
                        shown.advance(len(groups[ended.key[0]]), result.items)
                shown.tick(schedule.num_running)
        return outputs

    def _policy(self) -> SchedulePolicy:
        policy = self._settings.policy
        return replace(
            policy,
            attempts_max=1 if self._executor.retries else policy.attempts_max,
            speculate=policy.speculate and self._executor.speculates,
        )

    def _publish(self, code: StageCode) -> StageRef:
        if self._executor.in_process:
            return StageRef(code, "")
        path = join(self._scratch, f"code-{code.number}")
        write_bytes(path, self._pack(code))
        return StageRef(code, path)

    def _task(self, launch: Launch, works: tuple[ShardWork, ...]) -> Task:
        settings = self._settings
        return Task(
            self._id,
            launch.task,
            launch.attempt,
            launch.lost,
            works,
            self._scratch,
            settings.memory_bytes,
            settings.chunk_size,
            settings.compress,
        )

    def _judge(
        self, schedule: StageSchedule, ended: Ended, works: tuple[ShardWork, ...]
    ) -> TaskResult | None:
        number, attempt = ended.key
        if ended.lost:
            self.stats.lost += 1
            if not ended.started:
                schedule.returned(number, attempt)
                return None
            if not schedule.lost(number, attempt):
                shards = ", ".join(
                    f"{work.shard} ({work.source})" if work.source else str(work.shard)
                    for work in works[:5]
                )
                deaths = self._policy().attempts_max
                died = "its worker died" if deaths == 1 else f"{deaths} workers died, the last one"
                raise ShardLostError(
                    f"shard {shards} is lost: {died}: {ended.error}"
                ) from ended.error
            return None
        if ended.error is not None:
            raise ended.error
        others = schedule.done(number, attempt, self._now())
        if others is None or ended.result is None:
            return None
        for other in others:
            self._executor.abandon((number, other))
        self.stats.tasks += 1
        self.stats.peak_bytes = max(self.stats.peak_bytes, ended.result.peak_bytes)
        return ended.result


def _source_works(source: Sequence[Any], pack: Packer) -> list[ShardWork]:
    works: list[ShardWork] = []
    for shard, item in enumerate(source):
        try:
            packed = pack(item)
        except Exception as exc:
            exc.add_note(f"zephyr: item {shard} of the source cannot be copied for its worker")
            raise
        title = item if isinstance(item, str) and len(item) < 200 else ""
        works.append(ShardWork(shard, packed, title))
    return works


def _next_works(code: StageCode, outputs: dict[int, ShardOutput]) -> list[ShardWork]:
    ordered = [outputs[shard] for shard in sorted(outputs)]
    if isinstance(code.begin, Grouped):
        runs: dict[int, list[Segment]] = {}
        for output in ordered:
            for partition, segments in (output.partitions or {}).items():
                runs.setdefault(partition, []).extend(segments)
        key = name_of(code.begin.operation.key)
        return [
            ShardWork(shard, None, f"partition {shard} by {key}", tuple(runs.get(shard, ())))
            for shard in range(code.total)
        ]
    segments = [segment for output in ordered for segment in output.segments]
    if isinstance(code.begin, Spread):
        parts = _spread(segments, code.total)
        return [ShardWork(shard, segments=part) for shard, part in enumerate(parts)]
    assert isinstance(code.begin, Gathered)
    return [ShardWork(0, segments=tuple(segments))]


def _spread(segments: Sequence[Segment], total: int) -> list[tuple[Segment, ...]]:
    """Parts of equal numbers of items, or one more, in order."""
    left = list(reversed(segments))
    count = sum(segment.meant for segment in segments)
    parts: list[tuple[Segment, ...]] = []
    for shard in range(total):
        wanted = count * (shard + 1) // total - count * shard // total
        part: list[Segment] = []
        while wanted:
            segment = left.pop()
            taken = min(wanted, segment.meant)
            if taken < segment.meant:
                left.append(segment.part(taken, segment.meant - taken))
            if taken:
                part.append(segment.part(0, taken))
            wanted -= taken
        parts.append(tuple(part))
    return parts


def _joined(work: ShardWork, rights: Sequence[dict[int, ShardOutput]]) -> ShardWork:
    if not rights:
        return work
    sides = tuple(right[work.shard].segments for right in rights)
    return ShardWork(work.shard, work.item, work.source, work.segments, sides)


def _in_groups(works: Sequence[ShardWork]) -> list[tuple[ShardWork, ...]]:
    size = -(-len(works) // TASKS_MOST)
    return [tuple(works[at : at + size]) for at in range(0, len(works), size)]


__all__ = ["SCRATCH_VARIABLE", "Run", "RunStats", "Settings", "default_scratch"]
