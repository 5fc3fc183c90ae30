"""The policy and the critic: two small networks, written once for NumPy and for JAX.

The rollout workers act with NumPy: for a batch of sixteen observations a compiled step costs more
in dispatch than in arithmetic, and a worker that need not import JAX starts in a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np

OBSERVATION = 4
ACTIONS = 2

Layers = list[dict[str, Any]]
"""Dense layers, each ``{"w": (inputs, outputs), "b": (outputs,)}``; tanh between them."""

Params = dict[str, Layers]
"""``{"policy": layers that end in ACTIONS logits, "critic": layers that end in one value}``."""


def init_params(seed: int, hidden: int) -> Params:
    """Orthogonal initial weights, with a nearly uniform initial policy (arXiv:2006.05990).

    Args:
        seed: Decides all of them.
        hidden: Width of both hidden layers.
    """
    rng = np.random.default_rng(seed)

    def layers(outputs: int, last_gain: float) -> Layers:
        sizes = (OBSERVATION, hidden, hidden, outputs)
        gains = (2**0.5, 2**0.5, last_gain)
        return [
            {"w": _orthogonal(rng, i, o) * np.float32(gain), "b": np.zeros(o, np.float32)}
            for i, o, gain in zip(sizes[:-1], sizes[1:], gains, strict=True)
        ]

    return {"policy": layers(ACTIONS, 0.01), "critic": layers(1, 1.0)}


def forward(layers: Layers, x: Any, xp: Any = np) -> Any:
    """Applies layers to a batch.

    Args:
        layers: The network.
        x: Shape ``(batch, inputs)``.
        xp: The array module: ``numpy`` or ``jax.numpy``.
    """
    for layer in layers[:-1]:
        x = xp.tanh(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def log_softmax(logits: Any, xp: Any = np) -> Any:
    """Log-probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))


def sample_actions(
    policy: Layers, observations: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one action for each observation.

    Args:
        policy: The policy's layers.
        observations: Shape ``(envs, OBSERVATION)``.
        rng: Where chance comes from.

    Returns:
        The actions, ``int8 (envs,)``, and the log-probability of each, ``float32 (envs,)``: what
        the learner needs to know of the policy that acted.
    """
    log_probs = log_softmax(forward(policy, observations))
    actions = (rng.random(len(log_probs)) > np.exp(log_probs[:, 0])).astype(np.int8)
    return actions, log_probs[np.arange(len(actions)), actions].astype(np.float32)


def flatten(params: Params) -> dict[str, np.ndarray]:
    """The parameters as named arrays: ``policy.0.w`` and so on."""
    return {
        f"{net}.{index}.{kind}": np.asarray(array)
        for net, layers in params.items()
        for index, layer in enumerate(layers)
        for kind, array in layer.items()
    }


def unflatten(arrays: dict[str, np.ndarray]) -> Params:
    """Reverses `flatten`."""
    params: Params = {}
    for name, array in arrays.items():
        net, index, kind = name.split(".")
        layers = params.setdefault(net, [])
        while len(layers) <= int(index):
            layers.append({})
        layers[int(index)][kind] = array
    return params


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    square = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(square)
    q = q * np.sign(np.diag(r))
    return np.ascontiguousarray(q if rows >= columns else q.T, dtype=np.float32)
