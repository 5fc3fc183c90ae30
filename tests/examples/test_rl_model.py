"""The network in NumPy."""

import pytest

np = pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")

from examples.rl import model  # noqa: E402


def test_the_initial_policy_is_nearly_uniform():
    params = model.init_params(seed=1, hidden=64)
    observations = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    probabilities = np.exp(model.log_softmax(model.forward(params["policy"], observations)))
    np.testing.assert_allclose(probabilities, 0.5, atol=0.02)


def test_hidden_layers_are_orthogonal():
    weights = model.init_params(seed=1, hidden=64)["policy"][1]["w"]
    np.testing.assert_allclose(weights @ weights.T, 2.0 * np.eye(64), atol=1e-4)


def test_actions_are_drawn_with_the_probabilities_that_are_told():
    params = model.init_params(seed=1, hidden=8)
    params["policy"][-1]["b"] = np.array([0.0, np.log(3.0)], np.float32)  # 1 : 3
    observations = np.zeros((20_000, 4), np.float32)
    actions, log_probs = model.sample_actions(
        params["policy"], observations, np.random.default_rng(0)
    )
    assert abs(actions.mean() - 0.75) < 0.02
    np.testing.assert_allclose(np.exp(log_probs[actions == 1]), 0.75, atol=1e-4)
    np.testing.assert_allclose(np.exp(log_probs[actions == 0]), 0.25, atol=1e-4)


def test_flattening_is_reversible():
    params = model.init_params(seed=5, hidden=8)
    again = model.unflatten(model.flatten(params))
    assert list(again) == ["policy", "critic"]
    for net, layers in params.items():
        for index, layer in enumerate(layers):
            for kind, array in layer.items():
                np.testing.assert_array_equal(again[net][index][kind], array)
