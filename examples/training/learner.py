"""Parameters and optimiser on the devices of all processes, and the step that changes them."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from examples.training import model

if TYPE_CHECKING:
    from examples.training.config import TrainConfig


class Learner:
    """One process's part of it. All processes do the same, each with its share of a batch.

    Args:
        config: The run's.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        warm = min(20, config.steps // 4)
        rate = optax.warmup_cosine_decay_schedule(
            0.0, config.learning_rate, warm, config.steps, config.learning_rate / 10
        )
        self._optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate))
        mesh = Mesh(np.array(jax.devices()), ("data",))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._shared_out = NamedSharding(mesh, PartitionSpec("data"))
        params = model.init_params(config)
        self._state: Any = self._put((params, self._optimizer.init(params)))
        self._step = jax.jit(self._make_step, donate_argnums=0, out_shardings=self._everywhere)
        self._loss = jax.jit(partial(model.loss, heads=config.heads))

    def step(self, rows: np.ndarray) -> jax.Array:
        """Learns from a batch. The gradients' mean over all processes is a collective of JAX.

        Args:
            rows: This process's share of it.

        Returns:
            The loss before it, over the whole batch.
        """
        batch = jax.make_array_from_process_local_data(self._shared_out, rows)
        self._state, loss = self._step(self._state, batch)
        return loss

    def loss(self, batch: np.ndarray) -> float:
        """The loss on a batch of which every process has all.

        Args:
            batch: The batch.
        """
        return float(self._loss(self._state[0], self._put(batch)))

    def pack(self) -> bytes:
        """Everything that `unpack` needs to go on exactly here."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(self._state)]
        file = io.BytesIO()
        np.savez(file, *leaves)
        return file.getvalue()

    def unpack(self, data: bytes) -> None:
        """Goes back to where `pack` was called.

        Args:
            data: What it gave.
        """
        with np.load(io.BytesIO(data)) as file:
            leaves = [file[f"arr_{number}"] for number in range(len(file.files))]
        self._state = self._put(jax.tree.unflatten(jax.tree.structure(self._state), leaves))

    def params(self) -> model.Params:
        """The parameters, as NumPy arrays."""
        return jax.tree.map(np.asarray, self._state[0])

    def _put(self, tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(
                self._everywhere, np.asarray(leaf), np.shape(leaf)
            ),
            tree,
        )

    def _make_step(self, state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
        params, optimizer_state = state
        loss, gradients = jax.value_and_grad(model.loss)(params, batch, self._config.heads)
        updates, optimizer_state = self._optimizer.update(gradients, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state), loss
