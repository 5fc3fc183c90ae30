"""PPO in JAX: one update of policy and critic from a batch of slightly stale rollouts.

The probability ratio is taken against the policy that *acted*, whose log-probabilities travel
with the rollouts. So a batch from a policy a few steps old is merely clipped sooner. Values and
advantages are computed here, with the current critic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from examples.rl import model
from examples.rl.advantages import generalised_advantages

if TYPE_CHECKING:
    from examples.rl.config import Hyperparameters
    from examples.rl.rollouts import Rollout


class Learner:
    """Parameters, optimiser and random key, and the step that changes them.

    Args:
        ppo: The numbers.
        seed: Decides initial parameters and the shuffling of batches.
    """

    def __init__(self, ppo: Hyperparameters, seed: int) -> None:
        self._ppo = ppo
        self._optimizer = optax.chain(
            optax.clip_by_global_norm(ppo.gradient_norm_max), optax.adam(ppo.learning_rate)
        )
        self._params: Any = jax.tree.map(jnp.asarray, model.init_params(seed, ppo.hidden))
        self._opt_state: Any = self._optimizer.init(self._params)
        self._key = jax.random.key(seed)
        self._values = jax.jit(_values)
        self._update = jax.jit(self._epochs, donate_argnums=(0, 1))

    @property
    def params(self) -> model.Params:
        """The current parameters, as NumPy arrays."""
        return jax.tree.map(np.asarray, self._params)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Learns from one batch.

        Args:
            rollout: Always of the same shape, else JAX compiles anew.

        Returns:
            ``policy_loss``, ``value_loss``, ``entropy``, ``divergence``, over the last epoch.
        """
        values = self._critic(rollout.observations)
        # Rewards are scaled so that values lie in 0..1 whatever the discount.
        advantages = generalised_advantages(
            rollout.rewards * (1.0 - self._ppo.discount),
            values,
            self._critic(rollout.next_observations),
            rollout.terminated,
            rollout.truncated,
            self._ppo.discount,
            self._ppo.trace_decay,
        )
        targets = advantages + values
        spread = advantages.std() + 1e-8
        frames = {
            "observations": rollout.observations.reshape(-1, model.OBSERVATION),
            "actions": rollout.actions.reshape(-1).astype(np.int32),
            "log_probs": rollout.log_probs.reshape(-1),
            "advantages": ((advantages - advantages.mean()) / spread).reshape(-1),
            "targets": targets.reshape(-1),
        }
        self._key, key = jax.random.split(self._key)
        self._params, self._opt_state, metrics = self._update(
            self._params, self._opt_state, key, frames
        )
        return {name: float(value) for name, value in metrics.items()}

    def state(self) -> dict[str, np.ndarray]:
        """What, besides the parameters, an exact continuation needs."""
        leaves = jax.tree.leaves(self._opt_state)
        state = {f"optimizer.{i:03d}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        return state | {"key": np.asarray(jax.random.key_data(self._key))}

    def restore(self, params: model.Params, state: dict[str, np.ndarray]) -> None:
        """Continues from a checkpoint.

        Args:
            params: As `params` gave them.
            state: As `state` gave it.

        Raises:
            ValueError: They belong to a network of another shape.
        """
        _check_shapes(self._params, params)
        leaves, structure = jax.tree.flatten(self._opt_state)
        restored = [jnp.asarray(state[f"optimizer.{i:03d}"]) for i in range(len(leaves))]
        self._params = jax.tree.map(jnp.asarray, params)
        self._opt_state = jax.tree.unflatten(structure, restored)
        self._key = jax.random.wrap_key_data(jnp.asarray(state["key"]))

    def _critic(self, observations: np.ndarray) -> np.ndarray:
        flat = observations.reshape(-1, model.OBSERVATION)
        values = self._values(self._params["critic"], flat)
        return np.asarray(values).reshape(observations.shape[:-1])

    def _epochs(self, params: Any, opt_state: Any, key: Any, frames: Any) -> Any:
        ppo = self._ppo
        size = frames["actions"].shape[0]

        def minibatch_step(carry: Any, indices: Any) -> Any:
            params, opt_state = carry
            batch = jax.tree.map(lambda x: x[indices], frames)
            gradients, metrics = jax.grad(_loss, has_aux=True)(params, batch, ppo)
            updates, opt_state = self._optimizer.update(gradients, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        def epoch(carry: Any, key: Any) -> Any:
            order = jax.random.permutation(key, size).reshape(-1, ppo.minibatch)
            return jax.lax.scan(minibatch_step, carry, order)

        keys = jax.random.split(key, ppo.epochs)
        (params, opt_state), metrics = jax.lax.scan(epoch, (params, opt_state), keys)
        return params, opt_state, jax.tree.map(lambda x: x[-1].mean(), metrics)


def _values(critic: Any, observations: Any) -> Any:
    return model.forward(critic, observations, jnp)[..., 0]


def _loss(params: Any, batch: Any, ppo: Hyperparameters) -> Any:
    log_probs = model.log_softmax(model.forward(params["policy"], batch["observations"], jnp), jnp)
    taken = jnp.take_along_axis(log_probs, batch["actions"][:, None], axis=1)[:, 0]
    log_ratio = taken - batch["log_probs"]
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - ppo.clip, 1.0 + ppo.clip)
    policy_loss = -jnp.minimum(ratio * batch["advantages"], clipped * batch["advantages"]).mean()
    value_error = _values(params["critic"], batch["observations"]) - batch["targets"]
    value_loss = jnp.square(value_error).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(axis=1).mean()
    metrics = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "divergence": ((ratio - 1.0) - log_ratio).mean(),
    }
    return policy_loss + value_loss - ppo.entropy_bonus * entropy, metrics


def _check_shapes(expected: model.Params, found: model.Params) -> None:
    want = {name: a.shape for name, a in model.flatten(expected).items()}
    have = {name: a.shape for name, a in model.flatten(found).items()}
    if want != have:
        raise ValueError(f"the checkpoint's network is {have}, this run's is {want}")
