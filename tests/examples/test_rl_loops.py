"""Both workers' loops together, without fray: threads and the bare actors."""

import threading

import pytest

np = pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")
pytest.importorskip("jax", reason="the train worker needs JAX (fray-actors[examples])")
pytest.importorskip("optax", reason="the train worker needs optax (fray-actors[examples])")
pytest.importorskip("gymnasium", reason="playing CartPole needs gymnasium (fray-actors[examples])")

from concurrent.futures import ThreadPoolExecutor  # noqa: E402

from examples.rl.checkpoint import CheckpointStore  # noqa: E402
from examples.rl.config import STANDARD, Hyperparameters, RLConfig  # noqa: E402
from examples.rl.curriculum import CurriculumActor  # noqa: E402
from examples.rl.reports import ReportLog  # noqa: E402
from examples.rl.rollout_worker import play  # noqa: E402
from examples.rl.rollouts import Rollout, RolloutId, RolloutQueue  # noqa: E402
from examples.rl.train_worker import TrainWorker, train  # noqa: E402
from examples.rl.weight_coordinator import WeightCoordinator  # noqa: E402


class OneAtATime:
    """What fray promises of an actor: one call at a time."""

    def __init__(self, actor) -> None:
        self._actor = actor
        self._lock = threading.Lock()

    def __getattr__(self, name):
        def call(*args):
            with self._lock:
                return getattr(self._actor, name)(*args)

        return call


@pytest.fixture
def config(tmp_path) -> RLConfig:
    return RLConfig(
        output=str(tmp_path),
        target_return=40.0,
        window=20,
        envs_per_worker=4,
        rollout_steps=64,
        rollouts_per_update=2,
        rollouts_waiting_max=3,
        lessons=(STANDARD,),
        ppo=Hyperparameters(hidden=16, minibatch=128, epochs=4),
    )


def run(config: RLConfig):
    curriculum = OneAtATime(CurriculumActor(config))
    weights = OneAtATime(WeightCoordinator(config.checkpoint_path))
    with ThreadPoolExecutor(max_workers=3) as threads:
        players = [threads.submit(play, config, i, curriculum, weights) for i in range(2)]
        outcome = threads.submit(train, config, curriculum, weights).result()
        for player in players:
            player.result()  # told that it is over, they end by themselves
    return outcome


@pytest.mark.slow
def test_it_learns_until_the_target_and_a_second_run_goes_on_from_there(config):
    first = run(config)
    assert first.solved
    assert first.mean_return >= 40.0
    assert first.episodes == 20
    found = CheckpointStore(config.checkpoint_path).latest()
    assert found is not None
    assert found[1].endswith(f"step-{first.step:08d}")

    # What the train worker said is what the rollout workers reported.
    returns = [value for report in ReportLog(config.report_path).read() for value in report.returns]
    means = [sum(returns[end - 20 : end]) / 20 for end in range(20, len(returns) + 1)]
    assert any(abs(mean - first.mean_return) < 1e-6 for mean in means)

    assert run(config) == first  # it is over, and stays so

    assert TrainWorker(config).step == first.step


@pytest.mark.slow
def test_rollouts_that_are_too_old_are_thrown_away_and_waiting_is_told(config):
    worker = TrainWorker(config)
    worker.step = 20
    queue = RolloutQueue(config.rollout_storage_path)
    shape = (config.rollout_steps, config.envs_per_worker)
    flags, numbers = np.zeros(shape, bool), np.zeros(shape, np.float32)
    states = np.zeros((*shape, 4), np.float32)
    content = Rollout(states, states, flags.astype(np.int8), numbers, numbers, flags, flags)
    for step in (2, 11, 12, 20):
        queue.put(RolloutId(step, 0, "aaaaaaaa", step), content)
    taken = worker.fetch_rollouts()
    assert [rollout_id.policy_step for rollout_id, _ in taken] == [12, 20]
    assert queue.waiting() == []
    report = worker.train_step(taken, waited_s=1000.0)
    assert report.discarded == 2
    assert report.policy_lag == 4.0
    assert report.waited == 0.0  # the first step is mostly JAX compiling, and says nothing
    assert worker.train_step(taken, waited_s=1000.0).waited > 0.9


def test_a_worker_that_is_to_leave_hands_its_last_rollout_over(config):
    curriculum = CurriculumActor(config)
    weights = WeightCoordinator(config.checkpoint_path)
    learner = TrainWorker(config)
    weights.publish_checkpoint(learner.step, learner.save_checkpoint())
    asked = iter([False, True])
    play(config, 0, curriculum, weights, lambda: next(asked))
    [rollout] = RolloutQueue(config.rollout_storage_path).waiting()
    [report] = ReportLog(config.report_path).read()
    assert report.rollout == rollout
    assert curriculum.get_stats().outcome is None
