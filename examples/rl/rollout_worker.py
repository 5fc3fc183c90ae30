"""A rollout worker: plays lessons with the newest weights. Knows nothing of fray or JAX."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from examples.rl import model
from examples.rl.checkpoint import load_weights
from examples.rl.environments import LessonEnvironments
from examples.rl.rollouts import Rollout, RolloutId, RolloutQueue

if TYPE_CHECKING:
    from examples.rl.config import Lesson, RLConfig
    from examples.rl.curriculum import CurriculumActor
    from examples.rl.weight_coordinator import WeightCoordinator

logger = logging.getLogger(__name__)


class RolloutWorker:
    """A policy, and the environments in which it plays.

    Args:
        config: The run's.
        worker_id: This worker's number, from 0.
    """

    def __init__(self, config: RLConfig, worker_id: int) -> None:
        self._config = config
        self._worker_id = worker_id
        self._attempt = os.urandom(4).hex()
        self._sequence = 0
        self._queue = RolloutQueue.of(config.rollout_storage_path, worker_id)
        self._queue.discard_unfinished()
        # The attempt is part of the seed: an attempt that started after a crash must not play
        # again what the one before it played.
        entropy = (config.seed, worker_id, int(self._attempt, 16))
        self._rng = np.random.default_rng(entropy)
        self._environments: dict[str, LessonEnvironments] = {}
        self._policy: model.Layers = []
        self.policy_step = -1

    def load_checkpoint(self, step: int, path: str) -> None:
        """Acts with these weights from now on.

        Raises:
            FileNotFoundError: They were removed meanwhile: there are newer ones.
        """
        self._policy = load_weights(path)["policy"]
        self.policy_step = step

    def is_ahead(self) -> bool:
        """Whether the train worker has enough to learn from, so that more would only grow old."""
        return len(self._queue.waiting()) >= self._config.rollouts_waiting_max

    def generate_rollout(self, lesson: Lesson) -> tuple[RolloutId, Rollout, list[float]]:
        """Plays for a while.

        Args:
            lesson: What to play. Its unfinished episodes are taken up where they were left.

        Returns:
            The rollout's id, what happened, and the returns of the episodes that ended.
        """
        environments = self._environments.get(lesson.name)
        if environments is None:
            seed = int(self._rng.integers(2**31))
            environments = LessonEnvironments(lesson, self._config.envs_per_worker, seed)
            self._environments[lesson.name] = environments
        rollout, returns = environments.play(self._act, self._config.rollout_steps)
        rollout_id = RolloutId(self.policy_step, self._worker_id, self._attempt, self._sequence)
        self._sequence += 1
        return rollout_id, rollout, returns

    def write_rollout(self, rollout_id: RolloutId, rollout: Rollout) -> None:
        """Hands a rollout to the train worker."""
        self._queue.put(rollout_id, rollout)

    def _act(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return model.sample_actions(self._policy, observations, self._rng)


def play(
    config: RLConfig,
    worker_id: int,
    curriculum: CurriculumActor,
    weights: WeightCoordinator,
    is_leaving: Callable[[], bool] = lambda: False,
) -> None:
    """Plays until the curriculum has no more lessons.

    Args:
        config: The run's.
        worker_id: This worker's number, from 0.
        curriculum: The actor, or a handle with its methods.
        weights: Likewise.
        is_leaving: Whether this worker is to come to its end before that, asked before each
            rollout.
    """
    worker = RolloutWorker(config, worker_id)
    while not is_leaving():
        if not _refresh(worker, weights) or worker.is_ahead():
            if curriculum.is_over():
                return
            time.sleep(config.poll_s)
            continue
        lesson = curriculum.get_lesson()
        if lesson is None:
            return
        rollout_id, rollout, returns = worker.generate_rollout(lesson)
        worker.write_rollout(rollout_id, rollout)
        curriculum.report_result(lesson.name, returns, rollout_id, config.rollout_frames)


def _refresh(worker: RolloutWorker, weights: WeightCoordinator) -> bool:
    """Loads newer weights where there are any; False while there are none at all."""
    step, path = weights.get_latest_checkpoint()
    if path is not None and step > worker.policy_step:
        try:
            worker.load_checkpoint(step, path)
        except FileNotFoundError:
            logger.info("checkpoint %d is gone already, asking for a newer one", step)
    return worker.policy_step >= 0
