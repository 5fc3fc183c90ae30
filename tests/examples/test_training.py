"""The training example: whoever trains, and however often it is interrupted, the result is one."""

import math

import pytest

np = pytest.importorskip("numpy", reason="the training example needs NumPy")
pytest.importorskip("jax", reason="the training example needs JAX (fray-actors[examples])")
pytest.importorskip("optax", reason="the training example needs optax (fray-actors[examples])")

from examples.training.checkpoint import KEPT, Checkpoints  # noqa: E402
from examples.training.config import TrainConfig  # noqa: E402
from examples.training.corpus import Corpus  # noqa: E402
from examples.training.job import Run  # noqa: E402
from examples.training.learner import Learner  # noqa: E402
from examples.training.plot import draw_loss  # noqa: E402
from examples.training.worker import Report, TrainWorker  # noqa: E402


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    return TrainConfig(
        str(tmp_path), processes=1, steps=8, batch=4, context=16, width=16, heads=2,
        report_every=2, checkpoint_every=4,
    )  # fmt: skip


def whole_batch(config: TrainConfig, step: int) -> np.ndarray:
    return Corpus().batch(config.seed, step, range(config.batch), config.context)


def test_processes_share_a_batch_as_one_would_have_it_alone(config):
    corpus, context = Corpus(), config.context
    parts = [corpus.batch(7, 3, rows, context) for rows in (range(0, 2), range(2, 5), range(5, 6))]
    assert np.array_equal(np.concatenate(parts), corpus.batch(7, 3, range(6), context))
    assert not np.array_equal(corpus.batch(7, 4, range(6), context), np.concatenate(parts))


def test_a_model_that_knows_nothing_is_as_surprised_as_it_should_be(config):
    assert Learner(config).loss(whole_batch(config, 0)) == pytest.approx(math.log(256), rel=0.05)


def test_a_learner_goes_on_exactly_where_it_was_packed(config):
    learner, other = Learner(config), Learner(config)
    for step in range(3):
        learner.step(whole_batch(config, step))
    other.unpack(learner.pack())
    for step in range(3, 6):
        assert float(learner.step(whole_batch(config, step))) == float(
            other.step(whole_batch(config, step))
        )
    assert learner.pack() == other.pack()


def test_a_run_learns_reports_and_goes_on_after_the_newest_checkpoint(config):
    reports = list(TrainWorker(config, 0).train("nowhere: it is alone"))
    assert [each.step for each in reports] == [0, 2, 4, 6, 8]
    assert [each.held_back is not None for each in reports] == [False, False, True, False, True]
    losses = [each.loss for each in reports[1:]]
    assert losses[-1] < losses[0]
    again = list(TrainWorker(config, 0).train("nowhere"))
    assert again == [Report(8)]
    Checkpoints(config.checkpoint_path)._folder.remove("step-00000008.npz")
    [start, *rest] = TrainWorker(config, 0).train("nowhere")
    assert start == Report(4)
    assert [each.loss for each in rest] == losses[2:]


def test_a_picture_is_drawn_of_a_run_that_was_interrupted(config, tmp_path):
    reports = [Report(0), Report(2, 5.0), Report(4, 4.5, 4.6), Report(4), Report(6, 4.0)]
    path = draw_loss(config, Run(reports, [0, 4], 3.0))
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert path == f"{config.output}/loss.png"


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(str(tmp_path / "c"))
    assert checkpoints.latest() is None
    for step in (5, 10, 15, 20):
        checkpoints.save(step, b"%d" % step)
    assert checkpoints.latest() == (20, b"20")
    assert len(list((tmp_path / "c").iterdir())) == KEPT


@pytest.mark.parametrize(
    "wrong", [{"processes": 3}, {"processes": 0}, {"checkpoint_every": 15, "report_every": 10}]
)
def test_a_run_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"cannot be shared|must be a multiple"):
        TrainConfig("x", **wrong)
