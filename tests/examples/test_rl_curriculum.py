"""The two actors: lessons from results, and a memory that outlives the process."""

import pytest

pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")

from examples.rl.config import LESSONS, RLConfig
from examples.rl.curriculum import (
    GOAL_EVERY,
    PROMOTION_EPISODES,
    CurriculumActor,
    choose_lesson,
)
from examples.rl.model import init_params
from examples.rl.reports import Outcome
from examples.rl.rollouts import RolloutId
from examples.rl.stats import TrainingReport
from examples.rl.weight_coordinator import WeightCoordinator

EASY, WIDE, STANDARD = LESSONS
PRACTICE_TURN = 1
OUTCOME = Outcome(solved=True, mean_return=480.0, episodes=100, step=9, frames=5000)


def results(easy=(), wide=(), standard=()):
    return {EASY.name: list(easy), WIDE.name: list(wide), STANDARD.name: list(standard)}


def learnt(lesson):
    return [lesson.promote_at] * PROMOTION_EPISODES


@pytest.fixture
def config(tmp_path) -> RLConfig:
    return RLConfig(output=str(tmp_path), window=5)


def report(curriculum, returns, *, sequence, worker=0, attempt="aaaaaaaa", lesson="standard"):
    rollout = RolloutId(policy_step=3, worker=worker, attempt=attempt, sequence=sequence)
    curriculum.report_result(lesson, returns, rollout, frames=64)


def training(step: int, attempt: str = "cccccccc") -> TrainingReport:
    return TrainingReport(step, attempt, 1.0, 0, 4096, 0.5, 0.0, 0.0, 0.6, 0.0)


def test_the_first_lesson_is_practised_until_its_results_are_good_enough():
    assert choose_lesson(LESSONS, results(), PRACTICE_TURN) == EASY
    too_few = learnt(EASY)[:-1]
    assert choose_lesson(LESSONS, results(easy=too_few), PRACTICE_TURN) == EASY
    not_good = [EASY.promote_at - 1] * PROMOTION_EPISODES
    assert choose_lesson(LESSONS, results(easy=not_good), PRACTICE_TURN) == EASY
    assert choose_lesson(LESSONS, results(easy=learnt(EASY)), PRACTICE_TURN) == WIDE


def test_only_the_latest_results_decide():
    bad_start = [0.0] * 80 + learnt(EASY)
    assert choose_lesson(LESSONS, results(easy=bad_start), PRACTICE_TURN) == WIDE


def test_when_all_else_is_learnt_only_the_goal_is_played():
    known = results(easy=learnt(EASY), wide=learnt(WIDE))
    assert all(choose_lesson(LESSONS, known, turn) == STANDARD for turn in range(GOAL_EVERY))


def test_the_goal_is_played_now_and_then_from_the_start():
    played = [choose_lesson(LESSONS, results(), turn) for turn in range(2 * GOAL_EVERY)]
    assert played.count(STANDARD) == 2
    assert played.count(EASY) == 2 * GOAL_EVERY - 2


def test_reported_rewards_change_which_lesson_the_actor_gives(config):
    curriculum = CurriculumActor(RLConfig(output=config.output))
    curriculum.get_lesson()
    assert curriculum.get_lesson() == EASY
    report(curriculum, learnt(EASY), sequence=0, lesson="easy")
    assert curriculum.get_lesson() == WIDE


def test_the_mean_is_over_the_last_episodes_of_the_standard_lesson_alone(config):
    curriculum = CurriculumActor(config)
    report(curriculum, [500.0] * 50, sequence=0, lesson="easy")
    report(curriculum, [0.0, 0.0, 100.0], sequence=1)
    assert not curriculum.get_stats().reaches(1.0, config.window)  # too few episodes
    report(curriculum, [500.0, 500.0, 400.0, 500.0], sequence=2)
    stats = curriculum.get_stats()
    assert stats.goal.recent == 5
    assert stats.goal.mean_return == (100 + 500 + 500 + 400 + 500) / 5
    assert stats.reaches(400.0, config.window)
    assert not stats.reaches(400.1, config.window)
    assert stats.episodes == 57
    assert stats.frames == 3 * 64


def test_a_report_that_comes_twice_counts_once(config):
    curriculum = CurriculumActor(config)
    for _ in range(2):
        report(curriculum, [10.0], sequence=0)
        report(curriculum, [20.0], sequence=1)
    assert curriculum.get_stats().episodes == 2


def test_a_restarted_worker_is_counted_as_another_attempt_of_the_same(config):
    curriculum = CurriculumActor(config)
    report(curriculum, [10.0], sequence=0, attempt="aaaaaaaa")
    report(curriculum, [20.0], sequence=0, attempt="bbbbbbbb")
    (worker,) = curriculum.get_stats().workers
    assert (worker.worker, worker.attempts, worker.episodes, worker.frames) == (0, 2, 2, 128)


def test_an_unknown_lesson_is_refused(config):
    with pytest.raises(KeyError, match="swimming"):
        report(CurriculumActor(config), [1.0], sequence=0, lesson="swimming")


def test_a_restarted_coordinator_knows_what_was_reported_before(config):
    before = CurriculumActor(config)
    report(before, [float(i) for i in range(7)], sequence=0)
    report(before, [50.0], sequence=1, worker=1, lesson="easy")
    report(before, [], sequence=2, worker=1)
    after = CurriculumActor(config)
    assert after.get_stats().lessons == before.get_stats().lessons
    assert after.get_stats().step == before.get_stats().step == 3
    report(after, [50.0], sequence=1, worker=1, lesson="easy")  # repeated across the restart
    assert after.get_stats().episodes == 8
    report(after, [60.0], sequence=3, worker=1, lesson="easy")
    assert CurriculumActor(config).get_stats().episodes == 9


def test_when_it_is_over_nobody_is_given_a_lesson_not_even_after_a_restart(config):
    curriculum = CurriculumActor(config)
    assert not curriculum.is_over()
    curriculum.finish(OUTCOME)
    for actor in (curriculum, CurriculumActor(config)):
        assert actor.is_over()
        assert actor.get_lesson() is None
        assert actor.get_stats().outcome == OUTCOME


def test_the_first_outcome_stands(config):
    curriculum = CurriculumActor(config)
    curriculum.finish(OUTCOME)
    curriculum.finish(Outcome(solved=True, mean_return=1.0, episodes=1, step=1, frames=1))
    assert curriculum.get_stats().outcome == OUTCOME


def test_the_train_worker_is_told_how_things_stand(config):
    curriculum = CurriculumActor(config)
    report(curriculum, [10.0], sequence=0)
    stats = curriculum.report_step(training(7))
    assert stats.step == 7
    assert stats.frames == 64
    assert curriculum.report_step(training(8, attempt="dddddddd")).train_attempts == 2


def test_the_weight_coordinator_never_goes_back(tmp_path):
    weights = WeightCoordinator(str(tmp_path))
    assert weights.get_latest_checkpoint() == (-1, None)
    weights.publish_checkpoint(2, "two")
    weights.publish_checkpoint(1, "one")
    assert weights.get_latest_checkpoint() == (2, "two")


def test_a_restarted_weight_coordinator_finds_the_newest_checkpoint(tmp_path):
    from examples.rl.checkpoint import CheckpointStore

    store = CheckpointStore(str(tmp_path))
    for step in (1, 2):
        path = store.save(step, init_params(0, 8), {}, {})
    assert WeightCoordinator(str(tmp_path)).get_latest_checkpoint() == (2, path)
