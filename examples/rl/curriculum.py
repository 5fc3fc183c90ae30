"""The curriculum: which lesson to play, from what was reported. An actor, in plain Python."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from examples.rl.reports import Outcome, OutcomeFile, ReportLog, RolloutReport
from examples.rl.stats import LessonStats, Stats, TrainingReport, WorkerStats

if TYPE_CHECKING:
    from examples.rl.config import Lesson, RLConfig
    from examples.rl.rollouts import RolloutId

PROMOTION_EPISODES = 20
"""A lesson's last results that decide whether it is learnt."""

GOAL_EVERY = 4
"""Every so many-th rollout plays the goal, so that progress on it is known from the start."""


def choose_lesson(
    lessons: Sequence[Lesson], results: Mapping[str, Sequence[float]], turn: int
) -> Lesson:
    """Picks what to play next.

    Lessons are learnt in order: the first one whose last `PROMOTION_EPISODES` results do not reach
    its `promote_at` is practised; every `GOAL_EVERY`-th turn, and when all others are learnt, it
    is the goal, the last lesson.

    Args:
        lessons: In the order in which they unlock.
        results: For each lesson's name, its returns, oldest first.
        turn: How many lessons were picked before.
    """
    goal = lessons[-1]
    if turn % GOAL_EVERY == 0:
        return goal
    for lesson in lessons[:-1]:
        last = list(results[lesson.name])[-PROMOTION_EPISODES:]
        learnt = len(last) == PROMOTION_EPISODES and sum(last) / len(last) >= lesson.promote_at
        if not learnt:
            return lesson
    return goal


@dataclass(slots=True)
class _LessonRecord:
    recent: deque[float]
    episodes: int = 0


@dataclass(slots=True)
class _WorkerRecord:
    last_sequence: dict[str, int] = field(default_factory=dict[str, int])
    episodes: int = 0
    frames: int = 0
    lesson: str = ""
    policy_step: int = 0
    heard_at: float = field(default_factory=time.monotonic)


class CurriculumActor:
    """Chooses lessons, collects results, and knows when the run is over.

    Called by all workers, one call at a time. What was
    reported to an earlier incarnation is read back from the storage.

    Args:
        config: The run's.
    """

    def __init__(self, config: RLConfig) -> None:
        self._lessons = config.lessons
        self._log = ReportLog(config.report_path)
        self._outcome_file = OutcomeFile(config.output)
        self._records = {
            lesson.name: _LessonRecord(deque(maxlen=config.window)) for lesson in config.lessons
        }
        self._workers: dict[int, _WorkerRecord] = {}
        self._step = 0
        self._training: TrainingReport | None = None
        self._train_attempts: dict[str, int] = {}
        self._outcome = self._outcome_file.read()
        reports = self._log.read()
        for report in reports:
            self._count(report)
        self._turn = len(reports)

    def is_over(self) -> bool:
        """Whether there is nothing more to play: what a worker asks that cannot play yet."""
        return self._outcome is not None

    def get_lesson(self) -> Lesson | None:
        """What to play next; None: nothing more, the run is over."""
        if self._outcome is not None:
            return None
        results = {name: record.recent for name, record in self._records.items()}
        lesson = choose_lesson(self._lessons, results, self._turn)
        self._turn += 1
        return lesson

    def report_result(
        self, lesson_name: str, rewards: Sequence[float], rollout: RolloutId, frames: int
    ) -> None:
        """Takes the results of one rollout. Reporting it again changes nothing.

        Args:
            lesson_name: What was played.
            rewards: The returns of the episodes that ended in this rollout; maybe none did.
            rollout: Which rollout; a worker's attempt reports its rollouts in order.
            frames: Environment steps in it.

        Raises:
            KeyError: There is no such lesson.
        """
        if lesson_name not in self._records:
            raise KeyError(f"no lesson {lesson_name!r}; there are {', '.join(self._records)}")
        worker = self._workers.get(rollout.worker)
        if worker and worker.last_sequence.get(rollout.attempt, -1) >= rollout.sequence:
            return
        returns = tuple(float(reward) for reward in rewards)
        report = RolloutReport(rollout, lesson_name, frames, returns, at=time.time())
        self._log.append(report)
        self._count(report)

    def report_step(self, training: TrainingReport) -> Stats:
        """Takes the train worker's report of one step; returns what `get_stats` would."""
        self._step = max(self._step, training.step)
        self._training = training
        self._train_attempts[training.attempt] = training.step
        return self.get_stats()

    def finish(self, outcome: Outcome) -> None:
        """Ends the run: from now on nobody is given a lesson. The first outcome stands."""
        if self._outcome is None:
            self._outcome_file.write(outcome)
            self._outcome = outcome

    def get_stats(self) -> Stats:
        """Everything known, at this moment."""
        now = time.monotonic()
        return Stats(
            step=self._step,
            frames=sum(worker.frames for worker in self._workers.values()),
            episodes=sum(record.episodes for record in self._records.values()),
            lessons=tuple(
                LessonStats(name, record.episodes, len(record.recent), _mean(record.recent))
                for name, record in self._records.items()
            ),
            workers=tuple(
                WorkerStats(
                    worker=number,
                    attempts=len(record.last_sequence),
                    episodes=record.episodes,
                    frames=record.frames,
                    lesson=record.lesson,
                    policy_step=record.policy_step,
                    silent_s=now - record.heard_at,
                )
                for number, record in sorted(self._workers.items())
            ),
            training=self._training,
            train_attempts=len(self._train_attempts),
            outcome=self._outcome,
        )

    def _count(self, report: RolloutReport) -> None:
        lesson = self._records[report.lesson]
        lesson.recent.extend(report.returns)
        lesson.episodes += len(report.returns)
        worker = self._workers.setdefault(report.rollout.worker, _WorkerRecord())
        worker.last_sequence[report.rollout.attempt] = report.rollout.sequence
        worker.episodes += len(report.returns)
        worker.frames += report.frames
        worker.lesson = report.lesson
        worker.policy_step = report.rollout.policy_step
        worker.heard_at = time.monotonic()
        self._step = max(self._step, report.rollout.policy_step)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
