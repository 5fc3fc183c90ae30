"""A transformer over bytes, in plain JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from examples.training.config import TrainConfig

VOCABULARY = 256

Params = dict[str, Any]
"""Arrays by name; of shape (layers, …) where each layer has its own."""


def init_params(config: TrainConfig) -> Params:
    """New parameters, decided by the run's seed.

    Args:
        config: The run's.
    """
    dice = np.random.default_rng(config.seed)
    width, layers = config.width, config.layers

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (dice.standard_normal(shape) * scale).astype(np.float32)

    inner = width**-0.5
    return {
        "bytes": normal(VOCABULARY, width, scale=0.02),
        "places": normal(config.context, width, scale=0.02),
        "qkv": normal(layers, width, 3 * width, scale=inner),
        "mix": normal(layers, width, width, scale=inner * (2 * layers) ** -0.5),
        "up": normal(layers, width, 4 * width, scale=inner),
        "down": normal(layers, 4 * width, width, scale=(4 * width) ** -0.5 * (2 * layers) ** -0.5),
        "scales": np.ones((layers, 2, width), np.float32),
        "last_scale": np.ones(width, np.float32),
    }


def logits(params: Params, seen: jax.Array, heads: int) -> jax.Array:
    """What each byte may be followed by.

    Args:
        params: The parameters.
        seen: Bytes, of shape (batch, length), length ≤ the context.
        heads: Of each layer's attention.

    Returns:
        Of shape (batch, length, 256).
    """
    state = params["bytes"][seen] + params["places"][: seen.shape[1]]
    names = ("qkv", "mix", "up", "down", "scales")
    state, _ = jax.lax.scan(
        lambda state, layer: (_layer(state, layer, heads), None),
        state,
        {name: params[name] for name in names},
    )
    return _norm(state, params["last_scale"]) @ params["bytes"].T


def loss(params: Params, batch: jax.Array, heads: int) -> jax.Array:
    """The mean surprise at each byte, in nats.

    Args:
        params: The parameters.
        batch: Of shape (batch, context + 1).
        heads: Of each layer's attention.
    """
    guesses = jax.nn.log_softmax(logits(params, batch[:, :-1], heads))
    return -jnp.take_along_axis(guesses, batch[:, 1:, None], axis=-1).mean()


def _layer(state: jax.Array, layer: Params, heads: int) -> jax.Array:
    batch, length, width = state.shape
    qkv = _norm(state, layer["scales"][0]) @ layer["qkv"]
    queries, keys, values = (
        part.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)
        for part in jnp.split(qkv, 3, axis=-1)
    )
    scores = queries @ keys.transpose(0, 1, 3, 2) * (width // heads) ** -0.5
    past = jnp.tril(jnp.ones((length, length), bool))
    mixed = jax.nn.softmax(jnp.where(past, scores, -jnp.inf)) @ values
    state = state + mixed.transpose(0, 2, 1, 3).reshape(batch, length, width) @ layer["mix"]
    return state + jax.nn.gelu(_norm(state, layer["scales"][1]) @ layer["up"]) @ layer["down"]


def _norm(state: jax.Array, scale: jax.Array) -> jax.Array:
    return state * jax.lax.rsqrt((state * state).mean(-1, keepdims=True) + 1e-6) * scale
