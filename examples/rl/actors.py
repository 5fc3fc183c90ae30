"""The actors of a run: what the other files do, as classes that fray hosts and supervises.

JAX is imported by the learner's process alone and gymnasium by the rollout workers' alone: each
process starts as fast as it can.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any, cast

import fray
from examples.rl.crew import GONE
from examples.rl.curriculum import CurriculumActor
from examples.rl.patience import Patient
from examples.rl.weight_coordinator import WeightCoordinator

if TYPE_CHECKING:
    from examples.rl.config import RLConfig
    from examples.rl.reports import Outcome


@fray.actor(num_cpus=0)
class Curriculum(CurriculumActor):
    """See `CurriculumActor`. It waits, mostly."""


@fray.actor(num_cpus=0)
class Weights(WeightCoordinator):
    """See `WeightCoordinator`. It waits, mostly."""


@fray.actor
class Learner:
    """Trains, from the newest checkpoint on. See `train_worker`.

    Args:
        config: The run's.
        curriculum: The curriculum's handle.
        weights: The weight coordinator's.
    """

    def __init__(self, config: RLConfig, curriculum: Any, weights: Any) -> None:
        _log_to_stderr("learner")
        self._config = config
        self._curriculum = Patient(curriculum, GONE, config.patience_s)
        self._weights = Patient(weights, GONE, config.patience_s)

    def train(self) -> Outcome:
        """Trains until the target is reached; gives how it ended."""
        from examples.rl.train_worker import train

        outcome = train(
            self._config,
            cast(CurriculumActor, self._curriculum),
            cast(WeightCoordinator, self._weights),
        )
        logging.info("done: %s", outcome)
        return outcome


@fray.actor
class RolloutWorker:
    """Plays, until the run is over or it is told to leave. See `rollout_worker`.

    Args:
        config: The run's.
        number: The worker's; no other has it in this run.
        curriculum: The curriculum's handle.
        weights: The weight coordinator's.
    """

    def __init__(self, config: RLConfig, number: int, curriculum: Any, weights: Any) -> None:
        _log_to_stderr(f"rollout-{number}")
        self._config = config
        self._number = number
        self._curriculum = Patient(curriculum, GONE, config.patience_s)
        self._weights = Patient(weights, GONE, config.patience_s)
        self._leaving = threading.Event()

    def play(self) -> None:
        """Plays; returns after the rollout during which the run ended, or it was to leave."""
        from examples.rl.rollout_worker import play

        play(
            self._config,
            self._number,
            cast(CurriculumActor, self._curriculum),
            cast(WeightCoordinator, self._weights),
            self._leaving.is_set,
        )

    @fray.method(concurrent=True)
    async def leave(self) -> None:
        """Has `play` come to its end."""
        self._leaving.set()

    @fray.method(concurrent=True)
    async def pid(self) -> int:
        """Its process, for whoever wants to kill it."""
        return os.getpid()


def _log_to_stderr(who: str) -> None:
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {who}: %(message)s")
