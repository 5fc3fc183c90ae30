"""The learning curve."""

import pytest

np = pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")
pytest.importorskip("matplotlib", reason="the plot needs matplotlib (fray-actors[examples])")

from examples.rl.config import RLConfig  # noqa: E402
from examples.rl.crewlog import CrewEvent, CrewLog  # noqa: E402
from examples.rl.curriculum import CurriculumActor  # noqa: E402
from examples.rl.plot import draw_learning_curve, running_mean  # noqa: E402
from examples.rl.rollouts import RolloutId  # noqa: E402


def test_the_running_mean_is_over_full_windows_only():
    np.testing.assert_allclose(running_mean([1.0, 2.0, 3.0, 6.0], window=3), [2.0, 11 / 3])
    assert running_mean([1.0, 2.0], window=3).size == 0


def test_a_run_that_has_not_begun_can_be_drawn(tmp_path):
    path = draw_learning_curve(RLConfig(output=str(tmp_path)))
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert path == str(tmp_path / "learning_curve.png")


def test_a_run_is_drawn_from_its_reports(tmp_path):
    config = RLConfig(output=str(tmp_path), window=5)
    curriculum = CurriculumActor(config)
    for sequence in range(10):
        rollout = RolloutId(sequence, 0, "aaaaaaaa", sequence)
        curriculum.report_result("standard", [float(sequence * 50)] * 3, rollout, frames=100)
    log = CrewLog(config.output)
    events = [
        CrewEvent(1000.0 + number, number % 2, what, workers)
        for number, (what, workers) in enumerate([("started", 1), ("added", 2), ("lost", 1)])
    ]
    for event in events:
        log.append(event)
    assert CrewLog(config.output).read() == events
    draw_learning_curve(config)
    assert (tmp_path / "learning_curve.png").stat().st_size > 10_000
