"""`SliceWorker`: one host of a slice that trains."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import fray
from examples.training import program
from examples.training.corpus import Corpus

if TYPE_CHECKING:
    from examples.multislice.config import SliceConfig
    from examples.multislice.learner import Arrays, Gradients, SliceLearner
    from fray.groups import Place

HELD_BACK_ROWS = 64


@fray.actor(process="own")
class SliceWorker:
    """Computes what its leader says, with the other hosts of its slice.

    They form one JAX program, which lives and dies with the slice; other slices are no part of it.

    Args:
        config: The run's.
        place: Which host of which slice it is.
    """

    def __init__(self, config: SliceConfig, place: Place) -> None:
        self._config = config
        self._place = place
        self._corpus = Corpus()
        self._learner: SliceLearner | None = None

    @fray.method(concurrent=True)
    async def pid(self) -> int:
        """Its process."""
        return os.getpid()

    def meeting_point(self) -> str:
        """Where this host awaits the others of its slice."""
        return program.meeting_point()

    def join(self, meeting_point: str) -> None:
        """Starts JAX with the other hosts of the slice, and compiles a step.

        Args:
            meeting_point: The first host's.
        """
        program.keep_compiled(f"{self._config.output}/compiled")
        program.join_program(meeting_point, self._place.hosts, self._place.host)
        from examples.multislice.learner import SliceLearner

        self._learner = SliceLearner(self._config)
        self.gradients(0, range(1))
        self._learner.warm_up()

    def gradients(self, step: int, shards: range) -> list[Gradients] | None:
        """Loss and gradients of some shards of a step's batch. Changes nothing.

        Args:
            step: Which step.
            shards: Those of this slice; this host has its rows of each.

        Returns:
            All hosts of a slice come to the same: only the first one tells it.
        """
        config, host = self._config, self._place.host
        found: list[Gradients] = []
        for shard in shards:
            rows = config.rows(shard, host)
            batch = self._corpus.batch(config.seed, step, rows, config.context)
            found.append(self._ready().gradients(batch))
        return found if host == 0 else None

    def apply(self, gradients: Arrays) -> None:
        """Makes a step.

        Args:
            gradients: Their mean over the whole batch.
        """
        self._ready().apply(gradients)

    def held_back(self) -> float:
        """The loss on text that is not trained on."""
        batch = self._corpus.held_back_batch(HELD_BACK_ROWS, self._config.context)
        return self._ready().loss(batch)

    def state(self) -> bytes:
        """All that another slice needs to go on here."""
        return self._ready().pack()

    def load(self, state: bytes) -> None:
        """Goes on where another slice is.

        Args:
            state: That one's.
        """
        self._ready().unpack(state)

    def _ready(self) -> SliceLearner:
        assert self._learner is not None, "it has joined the others of its slice"
        return self._learner
