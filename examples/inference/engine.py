"""A model that writes several texts at once. Knows JAX; knows nothing of actors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from examples.training import model
from examples.training.checkpoint import Checkpoints
from examples.training.learner import Learner

if TYPE_CHECKING:
    from examples.inference.text import Text
    from examples.training.config import TrainConfig

TEMPERATURE = 0.6


class Engine:
    """Writes the next byte of several texts in one step.

    Which texts share a step changes nothing about any of them: a byte depends on its own text, its
    seed and its place.

    Args:
        config: Of the run that has trained the model.
        slots: How many texts may share a step.

    Raises:
        FileNotFoundError: That run has no checkpoint.
    """

    def __init__(self, config: TrainConfig, slots: int) -> None:
        found = Checkpoints(config.checkpoint_path).latest()
        if found is None:
            raise FileNotFoundError(f"there is no checkpoint in {config.checkpoint_path}")
        learner = Learner(config)
        learner.unpack(found[1])
        self.slots = slots
        self._context = config.context
        params = jax.tree.map(jnp.asarray, learner.params())
        self._step = jax.jit(partial(_next, params, config.heads))

    def step(self, texts: list[Text]) -> None:
        """Adds a byte to each.

        Args:
            texts: At most as many as there are slots, none of which is done.
        """
        windows = np.zeros((self.slots, self._context), np.int32)
        ends, seeds, places = (np.zeros(self.slots, np.int32) for _ in range(3))
        for row, text in enumerate(texts):
            seen = text.data[-self._context :]
            windows[row, : len(seen)] = seen
            ends[row], seeds[row], places[row] = len(seen) - 1, text.seed, len(text.data)
        following = np.asarray(self._step(windows, ends, seeds, places))
        for row, text in enumerate(texts):
            text.data.append(int(following[row]))


def _next(
    params: model.Params,
    heads: int,
    windows: jax.Array,
    ends: jax.Array,
    seeds: jax.Array,
    places: jax.Array,
) -> jax.Array:
    guesses = model.logits(params, windows, heads)[jnp.arange(windows.shape[0]), ends]
    keys = jax.vmap(lambda seed, place: jax.random.fold_in(jax.random.key(seed), place))(
        seeds, places
    )
    return jax.vmap(jax.random.categorical)(keys, guesses / TEMPERATURE)
