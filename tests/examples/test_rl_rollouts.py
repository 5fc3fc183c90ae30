"""The queue of rollouts in the storage."""

import pytest

np = pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from examples.rl.rollouts import Rollout, RolloutId, RolloutQueue  # noqa: E402


def rollout(envs: int = 2, fill: float = 1.0) -> Rollout:
    steps = 3
    return Rollout(
        observations=np.full((steps, envs, 4), fill, np.float32),
        next_observations=np.full((steps, envs, 4), fill + 1, np.float32),
        actions=np.ones((steps, envs), np.int8),
        log_probs=np.full((steps, envs), -0.5, np.float32),
        rewards=np.ones((steps, envs), np.float32),
        terminated=np.zeros((steps, envs), bool),
        truncated=np.zeros((steps, envs), bool),
    )


@given(
    step=st.integers(0, 10**7 - 1),
    worker=st.integers(0, 999),
    attempt=st.text("0123456789abcdef", min_size=8, max_size=8),
    sequence=st.integers(0, 10**7 - 1),
)
def test_a_name_says_which_rollout_it_is(step, worker, attempt, sequence):
    rollout_id = RolloutId(step, worker, attempt, sequence)
    assert RolloutId.parse(rollout_id.name + ".npz") == rollout_id


def test_what_is_put_is_got_unchanged_and_stays_until_removed(tmp_path):
    queue = RolloutQueue(str(tmp_path))
    rollout_id = RolloutId(0, 1, "aaaaaaaa", 0)
    queue.put(rollout_id, rollout(fill=7.0))
    got = RolloutQueue(str(tmp_path)).get(rollout_id)
    np.testing.assert_array_equal(got.observations, rollout(fill=7.0).observations)
    assert got.terminated.dtype == bool
    assert queue.waiting() == [rollout_id]
    queue.remove(rollout_id)
    assert queue.waiting() == []


def test_the_oldest_policy_comes_first(tmp_path):
    queue = RolloutQueue(str(tmp_path))
    ids = [RolloutId(step, worker, "aaaaaaaa", 0) for step in (10, 2, 7) for worker in (1, 0)]
    for rollout_id in ids:
        queue.put(rollout_id, rollout())
    assert queue.waiting() == sorted(ids)


def test_a_worker_number_that_is_used_again_does_not_overwrite(tmp_path):
    queue = RolloutQueue(str(tmp_path))
    first, second = RolloutId(0, 0, "aaaaaaaa", 0), RolloutId(0, 0, "bbbbbbbb", 0)
    queue.put(first, rollout(fill=1.0))
    queue.put(second, rollout(fill=2.0))
    assert queue.get(first).observations[0, 0, 0] == 1.0
    assert queue.get(second).observations[0, 0, 0] == 2.0


def test_joining_puts_environments_side_by_side():
    joined = Rollout.join([rollout(envs=2, fill=1.0), rollout(envs=3, fill=5.0)])
    assert joined.observations.shape == (3, 5, 4)
    assert joined.rewards.shape == (3, 5)
    assert joined.observations[0, :, 0].tolist() == [1.0, 1.0, 5.0, 5.0, 5.0]
