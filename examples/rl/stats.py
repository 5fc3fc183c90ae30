"""What is known of a run at one moment: plain values that cross processes."""

from __future__ import annotations

from dataclasses import dataclass

from examples.rl.reports import Outcome

WAITED_STEPS = 4
"""Enough that one lucky rollout does not matter, and few enough to follow what changes."""


@dataclass(frozen=True, slots=True)
class LessonStats:
    """Results of one lesson.

    Attributes:
        name: The lesson's.
        episodes: How many ended so far.
        recent: How many of them `mean_return` is over: the last ones, at most the window.
        mean_return: Of those; 0.0 where there are none.
    """

    name: str
    episodes: int
    recent: int
    mean_return: float


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """What one rollout worker did.

    Attributes:
        worker: Its number.
        attempts: Processes that reported under this number: restarts + 1.
        episodes: Episodes that ended, over all attempts and lessons.
        frames: Environment steps, likewise.
        lesson: What it played last.
        policy_step: The step of the policy that it played with last.
        silent_s: Seconds since its last report; 0.0 right after the curriculum's restart.
    """

    worker: int
    attempts: int
    episodes: int
    frames: int
    lesson: str
    policy_step: int
    silent_s: float


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What one step of the train worker was like.

    Attributes:
        step: Steps done, over all attempts.
        attempt: Drawn anew whenever the train worker's process starts.
        policy_lag: How many steps old the policies of the batch were, on average.
        discarded: Rollouts thrown away so far because they were too old.
        frames: Environment steps that this attempt learnt from.
        waited: Which part of the time of the last `WAITED_STEPS` steps went into waiting for
            rollouts, 0 to 1.
        policy_loss: The clipped surrogate.
        value_loss: Mean squared error, in units of the scaled return.
        entropy: The policy's, in nats.
        divergence: Estimated KL divergence from the policies that acted, in nats.
    """

    step: int
    attempt: str
    policy_lag: float
    discarded: int
    frames: int
    waited: float
    policy_loss: float
    value_loss: float
    entropy: float
    divergence: float


@dataclass(frozen=True, slots=True)
class Stats:
    """The curriculum's view of the run.

    Attributes:
        step: The train worker's last known step.
        frames: Environment steps reported, over all lessons.
        episodes: Episodes that ended, likewise.
        lessons: In the order in which they unlock.
        workers: By number.
        training: The train worker's last report, where it has made one.
        train_attempts: Train worker processes that reported since the curriculum started.
        outcome: Set once the run is over.
    """

    step: int
    frames: int
    episodes: int
    lessons: tuple[LessonStats, ...]
    workers: tuple[WorkerStats, ...]
    training: TrainingReport | None
    train_attempts: int
    outcome: Outcome | None

    @property
    def goal(self) -> LessonStats:
        """The lesson that decides: the last one."""
        return self.lessons[-1]

    def reaches(self, target_return: float, window: int) -> bool:
        """Whether the goal's last `window` episodes have at least this mean return."""
        return self.goal.recent >= window and self.goal.mean_return >= target_return
