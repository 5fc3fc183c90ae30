"""Text that a model makes up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from examples.training import model

if TYPE_CHECKING:
    from examples.training.config import TrainConfig


def continue_text(config: TrainConfig, params: model.Params, text: str, length: int) -> str:
    """Goes on with a text, byte by byte, always from a window of the run's context.

    Args:
        config: The run's.
        params: Of its model.
        text: What comes before; not empty.
        length: How many bytes to add.
    """
    guess = jax.jit(partial(_next, heads=config.heads, context=config.context))
    data = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    key = jax.random.key(config.seed)
    for number in range(length):
        window = np.zeros((1, config.context), np.int32)
        seen = data[-config.context :]
        window[0, : len(seen)] = seen
        following = guess(params, window, len(seen) - 1, jax.random.fold_in(key, number))
        data = np.append(data, np.int32(following))
    return data.astype(np.uint8).tobytes().decode(errors="replace")


def _next(
    params: model.Params, window: jax.Array, at: int, key: jax.Array, *, heads: int, context: int
) -> jax.Array:
    guesses = model.logits(params, window, heads)[0, at]
    return jax.random.categorical(key, jnp.asarray(guesses) / 0.6)
