"""CartPole as a lesson sets it."""

import pytest

np = pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")
pytest.importorskip("gymnasium", reason="playing CartPole needs gymnasium (fray-actors[examples])")

from examples.rl.config import STANDARD, Lesson  # noqa: E402
from examples.rl.environments import LessonEnvironments  # noqa: E402


def always(action: int):
    def act(observations):
        count = len(observations)
        return np.full(count, action, np.int8), np.zeros(count, np.float32)

    return act


def balance(observations):
    """A hand-written policy that holds the pole for a long time."""
    push_right = observations[:, 2] + 0.5 * observations[:, 3] > 0
    return push_right.astype(np.int8), np.zeros(len(observations), np.float32)


def test_a_policy_that_always_pushes_one_way_soon_falls_and_starts_again():
    environments = LessonEnvironments(STANDARD, count=3, seed=0)
    rollout, returns = environments.play(always(1), steps=60)
    assert rollout.terminated.sum() == len(returns) >= 9
    assert not rollout.truncated.any()
    assert all(8 <= value <= 12 for value in returns)


def test_returns_are_what_the_rewards_of_each_episode_add_up_to():
    environments = LessonEnvironments(STANDARD, count=1, seed=3)
    rollout, returns = environments.play(always(0), steps=200)
    ends = np.flatnonzero(rollout.terminated[:, 0])
    lengths = np.diff(np.concatenate([[-1], ends]))
    assert returns == lengths.tolist()


def test_the_state_after_a_step_is_the_one_before_the_reset():
    environments = LessonEnvironments(STANDARD, count=1, seed=0)
    rollout, _ = environments.play(always(1), steps=40)
    end = int(np.flatnonzero(rollout.terminated[:, 0])[0])
    fallen = np.abs(rollout.next_observations[end, 0])
    assert fallen[2] > 0.2  # the pole is out of bounds
    assert np.all(np.abs(rollout.observations[end + 1, 0]) <= STANDARD.start_spread)
    np.testing.assert_array_equal(rollout.next_observations[0], rollout.observations[1])


def test_the_time_limit_truncates_and_does_not_terminate():
    short = Lesson("short", start_spread=0.01, max_steps=30, promote_at=0.0)
    rollout, returns = LessonEnvironments(short, count=2, seed=0).play(balance, steps=60)
    assert returns == [30.0] * 4
    assert rollout.truncated.sum() == 4
    assert not rollout.terminated.any()
    assert rollout.truncated[29].all()


def test_an_episode_goes_on_in_the_next_rollout():
    environments = LessonEnvironments(STANDARD, count=1, seed=0)
    first, none_yet = environments.play(balance, steps=20)
    second, _ = environments.play(balance, steps=20)
    assert none_yet == []
    np.testing.assert_array_equal(first.next_observations[-1], second.observations[0])


def test_the_standard_lesson_is_cartpole_as_published():
    import gymnasium

    spec = gymnasium.spec("CartPole-v1")
    assert spec.max_episode_steps == STANDARD.max_steps
    assert spec.reward_threshold == 475.0
    published = gymnasium.make("CartPole-v1").reset(seed=11)[0]
    ours = LessonEnvironments(STANDARD, count=1, seed=11).play(always(0), steps=1)[0]
    np.testing.assert_array_equal(ours.observations[0, 0], published)


@pytest.mark.parametrize("spread", [0.02, 0.15])
def test_the_spread_of_the_lesson_is_where_episodes_start(spread):
    lesson = Lesson("wherever", start_spread=spread, max_steps=500, promote_at=0.0)
    rollout, _ = LessonEnvironments(lesson, count=200, seed=0).play(always(0), steps=1)
    starts = np.abs(rollout.observations[0])
    assert spread * 0.9 < starts.max() <= spread
