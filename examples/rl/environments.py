"""A few CartPoles stepped together, each lesson with its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import gymnasium
import numpy as np

from examples.rl.rollouts import Rollout

if TYPE_CHECKING:
    from examples.rl.config import Lesson

Act = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Observations ``(envs, 4)`` to actions ``(envs,)`` and their log-probabilities ``(envs,)``."""


class LessonEnvironments:
    """The environments of one lesson. Episodes go on from one rollout to the next.

    They are not a gymnasium vector environment because a lesson sets how episodes start
    (``reset(options=…)``), which the vectors' automatic reset does not pass on.

    Args:
        lesson: How episodes start and when they are cut off.
        count: How many environments.
        seed: Environment ``i`` is seeded with ``seed + i``.
    """

    def __init__(self, lesson: Lesson, count: int, seed: int) -> None:
        self._environments = [
            gymnasium.make(
                "CartPole-v1", max_episode_steps=lesson.max_steps, disable_env_checker=True
            )
            for _ in range(count)
        ]
        self._start = {"low": -lesson.start_spread, "high": lesson.start_spread}
        self._observations = np.stack(
            [
                environment.reset(seed=seed + index, options=self._start)[0]
                for index, environment in enumerate(self._environments)
            ]
        )
        self._returns = [0.0] * count

    def play(self, act: Act, steps: int) -> tuple[Rollout, list[float]]:
        """Steps every environment `steps` times.

        Args:
            act: Chooses the actions.
            steps: At least 1.

        Returns:
            What happened, and the returns of the episodes that ended, in the order of their ends.
        """
        count = len(self._environments)
        rollout = Rollout(
            observations=np.empty((steps, count, 4), np.float32),
            next_observations=np.empty((steps, count, 4), np.float32),
            actions=np.empty((steps, count), np.int8),
            log_probs=np.empty((steps, count), np.float32),
            rewards=np.empty((steps, count), np.float32),
            terminated=np.zeros((steps, count), bool),
            truncated=np.zeros((steps, count), bool),
        )
        finished: list[float] = []
        for step in range(steps):
            rollout.observations[step] = self._observations
            actions, log_probs = act(self._observations)
            rollout.actions[step] = actions
            rollout.log_probs[step] = log_probs
            for index, action in enumerate(actions.tolist()):
                self._step_one(rollout, step, index, action, finished)
        return rollout, finished

    def _step_one(
        self, rollout: Rollout, step: int, index: int, action: int, finished: list[float]
    ) -> None:
        environment = self._environments[index]
        observation, reward, terminated, truncated, _ = environment.step(action)
        rollout.next_observations[step, index] = observation
        rollout.rewards[step, index] = reward
        rollout.terminated[step, index] = terminated
        # A pole that falls on the last step allowed has fallen.
        rollout.truncated[step, index] = truncated and not terminated
        self._returns[index] += float(reward)
        if terminated or truncated:
            finished.append(self._returns[index])
            self._returns[index] = 0.0
            observation, _ = environment.reset(options=self._start)
        self._observations[index] = observation
