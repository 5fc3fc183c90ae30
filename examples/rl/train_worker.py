"""The train worker: takes rollouts, learns, publishes checkpoints. Knows nothing of fray."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from examples.rl.checkpoint import CheckpointStore
from examples.rl.learner import Learner
from examples.rl.reports import Outcome
from examples.rl.rollouts import Rollout, RolloutId, RolloutQueue
from examples.rl.stats import WAITED_STEPS, Stats, TrainingReport

if TYPE_CHECKING:
    from examples.rl.config import RLConfig
    from examples.rl.curriculum import CurriculumActor
    from examples.rl.weight_coordinator import WeightCoordinator

logger = logging.getLogger(__name__)

LOG_EVERY_STEPS = 10


class TrainWorker:
    """The learner with its storage. Continues from the newest checkpoint where there is one.

    Args:
        config: The run's.
    """

    def __init__(self, config: RLConfig) -> None:
        self._config = config
        self._attempt = os.urandom(4).hex()
        self._learner = Learner(config.ppo, config.seed)
        self._store = CheckpointStore(config.checkpoint_path)
        self._queue = RolloutQueue(config.rollout_storage_path)
        self._history: list[tuple[int, float]] = []
        self._is_warm = False  # the first step is mostly JAX compiling
        self._times: deque[tuple[float, float]] = deque(maxlen=WAITED_STEPS)
        self._discarded = 0
        self._frames = 0
        self.step = 0
        found = self._store.latest()
        if found:
            self.step, path = found
            params, state, meta = self._store.load_trainer(self.step)
            self._learner.restore(params, state)
            self._history = meta["history"]
            logger.info("continuing from step %d (%s)", self.step, path)

    def fetch_rollouts(self) -> list[tuple[RolloutId, Rollout]]:
        """Takes one batch of rollouts; empty while too few are waiting.

        Rollouts of policies that are too old are thrown away on the way.
        """
        waiting: list[RolloutId] = []
        for rollout_id in self._queue.waiting():
            if self.step - rollout_id.policy_step > self._config.policy_lag_max:
                self._queue.remove(rollout_id)
                self._discarded += 1
            else:
                waiting.append(rollout_id)
        if len(waiting) < self._config.rollouts_per_update:
            return []
        batch = waiting[: self._config.rollouts_per_update]
        rollouts = [(rollout_id, self._queue.get(rollout_id)) for rollout_id in batch]
        for rollout_id in batch:
            self._queue.remove(rollout_id)
        return rollouts

    def train_step(
        self, rollouts: list[tuple[RolloutId, Rollout]], waited_s: float = 0.0
    ) -> TrainingReport:
        """Learns from one batch.

        Args:
            rollouts: As `fetch_rollouts` gave them; not empty.
            waited_s: How long they were waited for, in seconds.
        """
        began = time.monotonic()
        lag = sum(self.step - rollout_id.policy_step for rollout_id, _ in rollouts)
        batch = Rollout.join([rollout for _, rollout in rollouts])
        metrics = self._learner.update(batch)
        self.step += 1
        self._frames += batch.rewards.size
        if self._is_warm:
            self._times.append((waited_s, time.monotonic() - began))
        self._is_warm = True
        return TrainingReport(
            step=self.step,
            attempt=self._attempt,
            policy_lag=lag / len(rollouts),
            discarded=self._discarded,
            frames=self._frames,
            waited=self._waited(),
            **metrics,
        )

    def _waited(self) -> float:
        waited_s = sum(waited for waited, _ in self._times)
        learnt_s = sum(learnt for _, learnt in self._times)
        return waited_s / (waited_s + learnt_s) if self._times else 0.0

    def save_checkpoint(self) -> str:
        """Publishes a checkpoint and removes old ones.

        Returns:
            Its path.
        """
        self._history.append((self.step, time.time()))
        meta: dict[str, Any] = {"history": self._history}
        path = self._store.save(self.step, self._learner.params, self._learner.state(), meta)
        self._store.prune(self._config.checkpoints_kept)
        return path


def train(config: RLConfig, curriculum: CurriculumActor, weights: WeightCoordinator) -> Outcome:
    """Trains until the target is reached.

    Args:
        config: The run's.
        curriculum: The actor, or a handle with its methods.
        weights: Likewise.

    Returns:
        How it ended; the curriculum was told.
    """
    worker = TrainWorker(config)
    stats = curriculum.get_stats()
    while stats.outcome is None:
        path = worker.save_checkpoint()
        weights.publish_checkpoint(worker.step, path)
        if stats.reaches(config.target_return, config.window):
            outcome = _solved(stats, worker.step)
            curriculum.finish(outcome)
            return outcome
        began = time.monotonic()
        rollouts = _wait_for_rollouts(worker, config)
        report = worker.train_step(rollouts, time.monotonic() - began)
        stats = curriculum.report_step(report)
        if report.step % LOG_EVERY_STEPS == 0:
            _log(report, stats)
    return stats.outcome


def _wait_for_rollouts(worker: TrainWorker, config: RLConfig) -> list[tuple[RolloutId, Rollout]]:
    while not (rollouts := worker.fetch_rollouts()):
        time.sleep(config.poll_s)
    return rollouts


def _solved(stats: Stats, step: int) -> Outcome:
    return Outcome(
        solved=True,
        mean_return=stats.goal.mean_return,
        episodes=stats.goal.recent,
        step=step,
        frames=stats.frames,
    )


def _log(report: TrainingReport, stats: Stats) -> None:
    logger.info(
        "step %d: return %.1f over %d episodes, entropy %.3f, value loss %.2g, divergence %.4f, "
        "policy lag %.1f",
        report.step,
        stats.goal.mean_return,
        stats.goal.recent,
        report.entropy,
        report.value_loss,
        report.divergence,
        report.policy_lag,
    )
