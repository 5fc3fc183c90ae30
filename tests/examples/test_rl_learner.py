"""One PPO update."""

import pytest

np = pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")
pytest.importorskip("jax", reason="the learner needs JAX (fray-actors[examples])")
pytest.importorskip("optax", reason="the learner needs optax (fray-actors[examples])")

import jax.numpy as jnp  # noqa: E402

from examples.rl import model  # noqa: E402
from examples.rl.config import Hyperparameters  # noqa: E402
from examples.rl.learner import Learner  # noqa: E402
from examples.rl.rollouts import Rollout  # noqa: E402

PPO = Hyperparameters(hidden=16, minibatch=64, epochs=4, entropy_bonus=0.0, learning_rate=5e-3)


def rollout(params, *, seed: int = 0, good_action: int = 1) -> Rollout:
    """A bandit: each step is an episode, and one action pays."""
    rng = np.random.default_rng(seed)
    steps, envs = 16, 16
    observations = rng.normal(size=(steps, envs, 4)).astype(np.float32)
    actions, log_probs = model.sample_actions(params["policy"], observations.reshape(-1, 4), rng)
    actions = actions.reshape(steps, envs)
    return Rollout(
        observations=observations,
        next_observations=observations,
        actions=actions,
        log_probs=log_probs.reshape(steps, envs),
        rewards=(actions == good_action).astype(np.float32),
        terminated=np.ones((steps, envs), bool),
        truncated=np.zeros((steps, envs), bool),
    )


def probability_of_one(params) -> float:
    logits = model.forward(params["policy"], np.zeros((1, 4), np.float32))
    return float(np.exp(model.log_softmax(logits))[0, 1])


def same(left, right) -> bool:
    flat_left, flat_right = model.flatten(left), model.flatten(right)
    return all(np.array_equal(flat_left[name], flat_right[name]) for name in flat_left)


def test_numpy_and_jax_compute_the_same_network():
    params = model.init_params(seed=2, hidden=64)
    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    for layers in params.values():
        np.testing.assert_allclose(
            model.forward(layers, x), np.asarray(model.forward(layers, jnp.asarray(x), jnp)),
            rtol=1e-4, atol=1e-5,
        )  # fmt: skip


def test_the_action_that_pays_becomes_likelier():
    learner = Learner(PPO, seed=0)
    before = probability_of_one(learner.params)
    for seed in range(5):
        metrics = learner.update(rollout(learner.params, seed=seed))
    assert probability_of_one(learner.params) > before + 0.05
    assert set(metrics) == {"policy_loss", "value_loss", "entropy", "divergence"}
    assert 0.0 < metrics["entropy"] <= np.log(2.0) + 1e-3


def test_one_update_stays_near_the_policy_that_acted():
    learner = Learner(PPO, seed=0)
    batch = rollout(learner.params)
    for _ in range(10):  # the same batch again and again, as a stale one would be
        metrics = learner.update(batch)
    assert 0.3 < probability_of_one(learner.params) < 0.8
    assert metrics["divergence"] < 0.1


def test_a_restored_learner_continues_exactly():
    batches = [rollout(model.init_params(0, PPO.hidden), seed=seed) for seed in range(4)]
    learner = Learner(PPO, seed=0)
    learner.update(batches[0])
    learner.update(batches[1])
    restored = Learner(PPO, seed=99)
    restored.restore(learner.params, learner.state())
    assert same(restored.params, learner.params)
    for batch in batches[2:]:
        learner.update(batch)
        restored.update(batch)
    assert same(restored.params, learner.params)


def test_a_checkpoint_of_another_network_is_refused():
    other = Learner(Hyperparameters(hidden=8, minibatch=64), seed=0)
    with pytest.raises(ValueError, match="network"):
        Learner(PPO, seed=0).restore(other.params, other.state())
