"""Generalised advantage estimation, against its definition."""

import pytest

np = pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from examples.rl.advantages import generalised_advantages  # noqa: E402


def slow_reference(rewards, values, next_values, terminated, truncated, discount, trace_decay):
    """The sum of discounted errors of equation 16 in arXiv:1506.02438, up to the episode's end."""
    steps, envs = rewards.shape
    advantages = np.zeros((steps, envs))
    for env in range(envs):
        for start in range(steps):
            weight = 1.0
            for step in range(start, steps):
                bootstrap = 0.0 if terminated[step, env] else next_values[step, env]
                error = rewards[step, env] + discount * bootstrap - values[step, env]
                advantages[start, env] += weight * error
                weight *= discount * trace_decay
                if terminated[step, env] or truncated[step, env]:
                    break
    return advantages


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 30),
    envs=st.integers(1, 4),
    discount=st.floats(0.0, 1.0),
    trace_decay=st.floats(0.0, 1.0),
)
def test_it_equals_the_slow_sum_over_each_episode(seed, steps, envs, discount, trace_decay):
    rng = np.random.default_rng(seed)
    shape = (steps, envs)
    rewards, values, next_values = rng.standard_normal((3, *shape)).astype(np.float32)
    ends = rng.random(shape)
    arguments = (rewards, values, next_values, ends < 0.15, ends > 0.85, discount, trace_decay)
    np.testing.assert_allclose(
        generalised_advantages(*arguments), slow_reference(*arguments), rtol=1e-3, atol=1e-4
    )


def one_step(terminated: bool, truncated: bool) -> float:
    def column(value, kind=np.float32):
        return np.array([[value]], dtype=kind)

    advantages = generalised_advantages(
        column(1.0), column(10.0), column(20.0), column(terminated, bool), column(truncated, bool),
        discount=0.5, trace_decay=0.9,
    )  # fmt: skip
    return float(advantages[0, 0])


def test_a_fallen_pole_is_worth_nothing_afterwards():
    assert one_step(terminated=True, truncated=False) == 1.0 - 10.0


def test_an_episode_cut_off_by_the_time_limit_counts_the_state_it_was_cut_off_in():
    assert one_step(terminated=False, truncated=True) == 1.0 + 0.5 * 20.0 - 10.0


def test_the_last_row_of_a_rollout_bootstraps():
    assert one_step(terminated=False, truncated=False) == 1.0 + 0.5 * 20.0 - 10.0


def test_nothing_leaks_from_the_next_episode_into_a_truncated_one():
    rewards = np.array([[1.0], [1000.0]], np.float32)
    zeros = np.zeros((2, 1), np.float32)
    never = np.zeros((2, 1), bool)
    cut = np.array([[True], [False]])
    advantages = generalised_advantages(rewards, zeros, zeros, never, cut, 0.99, 0.95)
    assert advantages[0, 0] == 1.0
