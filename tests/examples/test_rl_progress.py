"""What a person sees of a run."""

import io

import pytest

pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")

from rich.console import Console

from examples.rl.config import RLConfig
from examples.rl.display import create_display, line, render
from examples.rl.progress import RATE_OVER_S, Progress, sparkline
from examples.rl.stats import LessonStats, Stats, TrainingReport, WorkerStats


def stats(frames: int = 1000, mean_return: float = 100.0) -> Stats:
    return Stats(
        step=12,
        frames=frames,
        episodes=345,
        lessons=(
            LessonStats("easy", 245, 100, 150.0),
            LessonStats("standard", 100, 100, mean_return),
        ),
        workers=(
            WorkerStats(0, 1, 200, 600, "easy", 11, 0.1),
            WorkerStats(1, 3, 145, 400, "standard", 12, 0.1),
        ),
        training=TrainingReport(12, "aaaaaaaa", 1.5, 0, 49152, 0.4, 0.0, 0.0, 0.6, 0.0),
        train_attempts=2,
        outcome=None,
    )


@pytest.fixture
def progress() -> Progress:
    return Progress(RLConfig(output="anywhere"))


STATES = {"curriculum": "up", "learner": "up", "rollout-0": "up", "rollout-1": "starting"}


def test_frames_per_second_are_of_the_last_seconds(progress):
    progress.update(0.0, stats(frames=0), STATES)
    progress.update(1.0, stats(frames=1_000_000), STATES)
    for second in range(2, 10):
        progress.update(float(second), stats(frames=1_000_000 + 100 * second), STATES)
    assert progress.frames_per_s == pytest.approx(100.0)
    assert RATE_OVER_S < 8


def test_an_unanswered_question_keeps_what_is_known(progress):
    progress.update(1.0, stats(), STATES)
    progress.update(2.0, None, {"curriculum": "starting"})
    assert progress.stats == stats()
    assert progress.states == {"curriculum": "starting"}
    assert progress.elapsed_s == 2.0


def test_restarts_are_of_all_workers(progress):
    progress.update(1.0, stats(), STATES)
    assert progress.restarts == 3  # two of rollout worker 1, one of the train worker


def test_a_sparkline_rises_from_the_lowest_to_the_highest_bar():
    assert sparkline([0.0, 250.0, 475.0, 500.0], width=10, top=475.0) == "▁▄██"
    long = sparkline([float(i) for i in range(476)], width=8, top=475.0)
    assert len(long) == 8
    assert (long[0], long[-1]) == ("▁", "█")
    assert list(long) == sorted(long)
    assert sparkline([], width=8, top=475.0) == ""


def test_the_line_tells_all_that_matters(progress):
    progress.update(2.0, stats(), STATES)
    text = line(progress)
    for part in (
        "step   12",
        "return 100.0/475",
        "lag 1.5",
        "restarts 3",
        "episodes   345",
        "rollout workers 1",
    ):
        assert part in text
    assert "\n" not in text


def test_before_the_curriculum_answers_the_actors_states_are_shown(progress):
    progress.update(0.5, None, {"curriculum": "starting"})
    assert "curriculum starting" in line(progress)


def test_without_a_terminal_a_line_is_printed_only_now_and_then(progress):
    out = io.StringIO()
    with create_display(Console(file=out, width=200)) as display:
        for tenth in range(31):
            progress.update(tenth / 10, stats(), STATES)
            display.show(progress)
    assert len(out.getvalue().splitlines()) == 2


def test_the_table_shows_each_worker_with_its_restarts(progress):
    progress.update(2.0, stats(), STATES)
    out = io.StringIO()
    Console(file=out, width=140).print(render(progress))
    rows = [row for row in out.getvalue().splitlines() if "rollout-1" in row]
    assert len(rows) == 1
    assert rows[0].split()[-5:-1] == ["starting", "standard", "145", "2"]
