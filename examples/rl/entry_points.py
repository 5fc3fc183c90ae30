"""What runs in the processes of a run on fray: one function for each kind of job.

They find the two actors by name and hand them to the loops, which know nothing of fray. JAX is
imported by the train worker alone and gymnasium by the rollout workers alone: each process starts
as fast as it can.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from examples.rl.coordinator import CURRICULUM, WEIGHT_COORDINATOR, Patient, create_actors
from examples.rl.curriculum import CurriculumActor
from examples.rl.weight_coordinator import WeightCoordinator
from fray.errors import ActorDied, ActorNotFoundError, ActorUnavailable
from fray.rpc import FrayActorServer, fray_resolver

if TYPE_CHECKING:
    from examples.rl.config import RLConfig

GONE = (ActorDied, ActorUnavailable, ActorNotFoundError)
"""What a call raises while an actor's process is being restarted."""


def coordinator_main(config: RLConfig, run_id: str) -> None:
    """Entry point of the coordinator: hosts the two actors until it is stopped."""
    _log_to_stderr(f"coordinator {run_id}")
    server = FrayActorServer(fray_resolver(), port=0)
    for name, actor in create_actors(config).items():
        server.register(name, actor)
    logging.info("coordinator ready at %s", server.address)
    server.serve()


def train_worker_main(config: RLConfig, run_id: str) -> None:
    """Entry point of the train worker: ends when the target is reached."""
    _log_to_stderr(f"train {run_id}")
    from examples.rl.train_worker import train

    curriculum, weights = _look_up_actors(config)
    outcome = train(config, curriculum, weights)
    logging.info("done: %s", outcome)


def rollout_worker_main(config: RLConfig, worker_id: int, run_id: str) -> None:
    """Entry point of a rollout worker: ends when the curriculum says that the run is over."""
    _log_to_stderr(f"rollout-{worker_id} {run_id}")
    from examples.rl.rollout_worker import play

    curriculum, weights = _look_up_actors(config)
    play(config, worker_id, curriculum, weights)
    logging.info("done: the run is over")


def _look_up_actors(config: RLConfig) -> tuple[CurriculumActor, WeightCoordinator]:
    resolver = fray_resolver()
    curriculum = Patient(resolver.lookup(CURRICULUM), GONE, config.patience_s)
    weights = Patient(resolver.lookup(WEIGHT_COORDINATOR), GONE, config.patience_s)
    return cast(CurriculumActor, curriculum), cast(WeightCoordinator, weights)


def _log_to_stderr(who: str) -> None:
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {who}: %(message)s")
