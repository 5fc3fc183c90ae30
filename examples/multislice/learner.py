"""One slice's part of a step: gradients of its rows, and the step that all slices make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax

from examples.training import model
from examples.training.learner import Learner

if TYPE_CHECKING:
    from examples.multislice.config import SliceConfig

Arrays = list[np.ndarray]
"""The leaves of something shaped like the parameters, in JAX's order."""

Gradients = tuple[float, Arrays]
"""The loss of some rows, and its gradients: means over them."""


class SliceLearner(Learner):
    """A learner whose gradients go through the hands of the leader.

    All hosts of a slice do the same, each with its rows; JAX's collectives bring them together.

    Args:
        config: The run's.
    """

    def __init__(self, config: SliceConfig) -> None:
        super().__init__(config)
        everywhere = self._everywhere
        self._gradients = jax.jit(self._differentiate, out_shardings=everywhere)
        self._apply = jax.jit(self._update, donate_argnums=0, out_shardings=everywhere)

    def gradients(self, rows: np.ndarray) -> Gradients:
        """The loss of a shard, and its gradients. Changes nothing.

        Args:
            rows: This host's share of the shard.
        """
        batch = jax.make_array_from_process_local_data(self._shared_out, rows)
        loss, gradients = self._gradients(self._state[0], batch)
        return float(loss), [np.asarray(leaf) for leaf in jax.tree.leaves(gradients)]

    def apply(self, gradients: Arrays) -> None:
        """Makes a step.

        Args:
            gradients: Their mean over the whole batch.
        """
        shape = jax.tree.structure(self._state[0])
        mean = self._put(jax.tree.unflatten(shape, gradients))
        self._state = self._apply(self._state, mean)

    def warm_up(self) -> None:
        """Has the step compiled; the next state is that of the run's beginning."""
        state = self.pack()
        self.apply([np.zeros_like(leaf) for leaf in jax.tree.leaves(self.params())])
        self.unpack(state)

    def _differentiate(self, params: model.Params, batch: jax.Array) -> tuple[jax.Array, Any]:
        return jax.value_and_grad(model.loss)(params, batch, self._config.heads)

    def _update(self, state: Any, gradients: Any) -> Any:
        params, optimizer_state = state
        updates, optimizer_state = self._optimizer.update(gradients, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state


def mean_of(shards: list[Gradients]) -> Gradients:
    """The mean over a whole batch.

    Args:
        shards: Of all its shards, in their order: so the result depends on nothing else.
    """
    count = len(shards)
    sums = [np.copy(leaf) for leaf in shards[0][1]]
    for _, leaves in shards[1:]:
        for total, leaf in zip(sums, leaves, strict=True):
            total += leaf
    return sum(loss for loss, _ in shards) / count, [total / np.float32(count) for total in sums]
