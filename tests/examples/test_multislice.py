"""The multi-slice example: a batch is shared by whoever is there, and the result is one."""

import dataclasses

import pytest
from rich.console import Console

np = pytest.importorskip("numpy", reason="the multi-slice example needs NumPy")
pytest.importorskip("jax", reason="the multi-slice example needs JAX (fray-actors[examples])")
pytest.importorskip("optax", reason="the multi-slice example needs optax (fray-actors[examples])")

from examples.command import EXIT_USAGE  # noqa: E402
from examples.multislice.__main__ import _tell, main  # noqa: E402
from examples.multislice.config import SliceConfig  # noqa: E402
from examples.multislice.leader import Leader, Run, Step  # noqa: E402
from examples.multislice.learner import mean_of  # noqa: E402
from examples.multislice.plot import draw_loss  # noqa: E402
from examples.multislice.story import Story  # noqa: E402
from examples.multislice.worker import SliceWorker  # noqa: E402
from examples.training.learner import Learner  # noqa: E402
from fray.groups import Member, Place, SliceId  # noqa: E402


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> SliceConfig:
    return SliceConfig(
        str(tmp_path_factory.mktemp("run")), tpu="v4-8", processes=1, steps=8, batch=8, shards=4,
        context=16, width=16, heads=2, report_every=2, checkpoint_every=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def worker(config) -> SliceWorker:
    """One for all tests: to compile its step is what takes time."""
    made = SliceWorker(config, Place(SliceId(0, 1), 0, 1))
    made.join("nowhere: it is alone")
    return made


@pytest.mark.parametrize("slices", [1, 2, 3, 4])
def test_whoever_is_there_shares_the_shards_of_a_batch(config, slices):
    shares = [config.share(number, slices) for number in range(slices)]
    assert [shard for share in shares for shard in share] == [0, 1, 2, 3]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_hosts_of_a_slice_share_the_rows_of_a_shard(tmp_path):
    config = SliceConfig(str(tmp_path), batch=24, shards=6)
    rows = [row for shard in range(6) for host in range(2) for row in config.rows(shard, host)]
    assert rows == list(range(24))


def test_slices_together_make_the_step_that_one_process_would_make(config, worker):
    beginning = worker.state()
    alone = Learner(config)
    assert alone.pack() == beginning, "to join, and to compile, changes nothing"
    for step in range(3):
        one = mean_of([*worker.gradients(step, range(3)), *worker.gradients(step, range(3, 4))])
        another = mean_of(worker.gradients(step, range(4)))
        assert one[0] == another[0]
        assert all(map(np.array_equal, one[1], another[1])), "bit for bit"
        whole = worker._corpus.batch(config.seed, step, range(config.batch), config.context)
        assert one[0] == pytest.approx(float(alone.step(whole)), rel=1e-5)
        worker.apply(one[1])
    batch = worker._corpus.held_back_batch(64, config.context)
    assert worker.held_back() == pytest.approx(alone.loss(batch), rel=1e-4)
    worker.load(beginning)


def test_a_slice_that_comes_later_goes_on_where_the_others_are(config, worker):
    beginning = worker.state()
    worker.apply(mean_of(worker.gradients(0, range(4)))[1])
    theirs, [(loss, gradients)] = worker.state(), worker.gradients(1, range(1))
    worker.load(beginning)
    worker.load(theirs)
    [(same, ours)] = worker.gradients(1, range(1))
    assert loss == same
    assert all(map(np.array_equal, ours, gradients))


async def test_a_run_that_loses_all_slices_before_a_checkpoint_begins_anew(tmp_path, config):
    class Newcomers:
        slices = (SliceId(0, 2),)
        members = (Member(Place(slices[0], 0, 1), 0, None),)

    leader = Leader(dataclasses.replace(config, output=str(tmp_path)), Newcomers(), Run())
    leader.step = 3
    await leader._welcome()
    assert leader.step == 0


async def test_a_story_happens_once_and_in_its_time():
    class Group:
        wanted, slices = 2, (SliceId(0, 1),)

        def resize(self, count: int) -> None:
            self.wanted = count

    told: list[str] = []
    story, group, run = Story(told.append, come_at=1, leave_at=2), Group(), Run()
    for wanted in (2, 3, 2, 2):
        await story(run, group)
        assert group.wanted == wanted
        run.steps.append(Step(1, 1.0, 1, (), 0.1))
    assert told == ["one more slice may be used", "one slice is taken back"]


def test_a_picture_is_drawn_of_slices_that_came_and_went(tmp_path):
    config = SliceConfig(str(tmp_path))
    there = [(SliceId(0, 1),), (SliceId(0, 1), SliceId(1, 1)), (SliceId(0, 2),)]
    steps = [Step(n + 1, 5.0 - n, n + 1, who, 0.1, 5.0) for n, who in enumerate(there)]
    path = draw_loss(config, Run(steps, [(2, "slice 1 (life 1): killed")]))
    assert path == f"{config.output}/loss.png"
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_ends_with_a_table_of_its_epochs(tmp_path, capsys):
    config = SliceConfig(str(tmp_path), steps=3)
    there = [(SliceId(0, 1), SliceId(1, 1)), (SliceId(0, 1),), (SliceId(0, 1),)]
    steps = [Step(n + 1, 5.0 - n, 1 + bool(n), who, 0.1) for n, who in enumerate(there)]
    _tell(config, Run(steps, [(1, "slice 1 (life 1): killed")]), Console(width=80))
    shown = capsys.readouterr().out
    assert "0.1, 1.1" in shown
    assert "2-3" in shown
    assert "lost after step 1: slice 1 (life 1): killed" in shown
    assert (tmp_path / "loss.png").exists()


def test_a_run_that_cannot_be_is_told_so_before_anything_starts(capsys):
    assert main(["--slices", "7"]) == EXIT_USAGE
    assert "one for each shard" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"slices": 7}, "one for each shard"),
        ({"min_slices": 0}, "at the least"),
        ({"shards": 5}, "cannot be divided"),
        ({"tpu": "v5litepod-16"}, "has 4 hosts, not 2"),
    ],
)
def test_a_run_that_cannot_be_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        SliceConfig("x", **wrong)
