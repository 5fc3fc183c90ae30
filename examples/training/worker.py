"""`TrainWorker`: one process of the gang that trains."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import fray
from examples.training import program
from examples.training.checkpoint import Checkpoints
from examples.training.corpus import Corpus

if TYPE_CHECKING:
    from examples.training.config import TrainConfig
    from examples.training.learner import Learner

HELD_BACK_ROWS = 64

BROKEN_OFF = 70
"""How a process ends whose JAX program was broken off: it can never belong to another one. Its
supervisor starts it again with all others."""


@dataclass(frozen=True, slots=True)
class Report:
    """How it goes.

    Attributes:
        step: How many steps have been made.
        loss: In nats per byte, the mean since the last report; None right after a start.
        held_back: The loss on text that is not trained on; None but at checkpoints.
        bytes_per_s: Of text, by all processes together.
    """

    step: int
    loss: float | None = None
    held_back: float | None = None
    bytes_per_s: float = 0.0


@fray.actor(process="own")
class TrainWorker:
    """Trains with others, and goes on where the newest checkpoint is.

    The processes form one JAX program: each step's gradients are averaged by a collective inside
    of it, and none goes on without the others. So they are a gang: if one is lost, all start anew.

    Args:
        config: The run's.
        rank: Which process, from 0.
    """

    def __init__(self, config: TrainConfig, rank: int) -> None:
        self._config = config
        self._rank = rank
        self._joined = False

    @fray.method(concurrent=True)
    async def pid(self) -> int:
        """Its process."""
        return os.getpid()

    def meeting_point(self) -> str:
        """An address at which the first process can await the others."""
        return program.meeting_point()

    def train(self, meeting_point: str) -> Iterator[Report]:
        """Makes all steps that are still to be made. The first process saves checkpoints.

        Args:
            meeting_point: Where all processes meet.
        """
        import jax

        if self._joined:
            os._exit(BROKEN_OFF)
        self._joined = True
        try:
            yield from self._train(meeting_point)
        except jax.errors.JaxRuntimeError:  # as when another process is lost
            traceback.print_exc()
            os._exit(BROKEN_OFF)

    def _train(self, meeting_point: str) -> Iterator[Report]:
        learner = self._join(meeting_point)
        checkpoints = Checkpoints(self._config.checkpoint_path)
        done = 0
        if (found := checkpoints.latest()) is not None:
            done, state = found
            learner.unpack(state)
        yield Report(done)
        yield from self._steps(learner, checkpoints, done)
        program.leave_program(self._config.processes)

    def _steps(self, learner: Learner, checkpoints: Checkpoints, done: int) -> Iterator[Report]:
        config, corpus = self._config, Corpus()
        share = config.batch // config.processes
        rows = range(self._rank * share, (self._rank + 1) * share)
        losses, since = list[float](), time.perf_counter()
        for step in range(done, config.steps):
            losses.append(
                float(learner.step(corpus.batch(config.seed, step, rows, config.context)))
            )
            if (step + 1) % config.report_every and step + 1 < config.steps:
                continue
            held_back = None
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                held_back = learner.loss(corpus.held_back_batch(HELD_BACK_ROWS, config.context))
                if self._rank == 0:
                    checkpoints.save(step + 1, learner.pack())
            seen, now = len(losses) * config.batch * config.context, time.perf_counter()
            yield Report(step + 1, sum(losses) / len(losses), held_back, seen / (now - since))
            losses, since = [], now

    def _join(self, meeting_point: str) -> Learner:
        program.join_program(meeting_point, self._config.processes, self._rank)
        from examples.training.learner import Learner

        return Learner(self._config)
