"""The learning curve as a picture, drawn from what the storage holds of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from examples.rl.checkpoint import CheckpointStore
from examples.rl.reports import ReportLog, RolloutReport
from examples.rl.storage import Folder

if TYPE_CHECKING:
    from examples.rl.config import RLConfig

FILE_NAME = "learning_curve.png"


def draw_learning_curve(config: RLConfig) -> str:
    """Draws a run's episodes and publishes the picture in the run's folder.

    Args:
        config: The run's.

    Returns:
        The picture's path.
    """
    figure = _figure(config, ReportLog(config.report_path).read(), _checkpoints(config))
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    Folder(config.output).write(FILE_NAME, picture.getvalue())
    return f"{config.output}/{FILE_NAME}"


def running_mean(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of each run of `window` values; shorter by ``window - 1`` than the values."""
    if len(values) < window:
        return np.empty(0)
    return np.convolve(values, np.full(window, 1.0 / window), mode="valid")


def _checkpoints(config: RLConfig) -> list[int]:
    """The frame counts at which checkpoints were published."""
    store = CheckpointStore(config.checkpoint_path)
    found = store.latest()
    if found is None:
        return []
    _, _, meta = store.load_trainer(found[0])
    return [frames for _, frames in meta["history"]]


def _figure(config: RLConfig, reports: list[RolloutReport], checkpoints: list[int]) -> Figure:
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    episodes = _episodes(reports)
    for lesson in config.lessons:
        frames, returns = episodes.get(lesson.name, ([], []))
        if returns:
            label = f"{lesson.name}: episodes"
            axes.plot(frames, returns, ".", markersize=3, alpha=0.35, label=label)
    goal = config.lessons[-1].name
    frames, returns = episodes.get(goal, ([], []))
    means = running_mean(returns, config.window)
    if means.size:
        label = f"{goal}: mean of the last {config.window}"
        axes.plot(frames[config.window - 1 :], means, color="black", linewidth=2, label=label)
    axes.axhline(
        config.target_return,
        color="tab:red",
        linestyle="--",
        label=f"target {config.target_return:.0f}",
    )
    if checkpoints:
        height = np.full(len(checkpoints), -12.0)
        axes.plot(checkpoints, height, "|", color="gray", markersize=9, label="checkpoints")
    axes.set(
        xlabel="environment steps of all rollout workers",
        ylabel="return of an episode",
        title=f"CartPole-v1, PPO, {config.num_rollout_workers} rollout workers, seed {config.seed}",
        ylim=(-25, 525),
    )
    axes.set_xlim(left=0)
    axes.legend(loc="upper left", bbox_to_anchor=(0.01, 0.9), framealpha=0.9)
    axes.grid(alpha=0.25)
    return figure


def _episodes(reports: list[RolloutReport]) -> dict[str, tuple[list[int], list[float]]]:
    """For each lesson, the frames seen when its episodes were reported, and their returns."""
    episodes: dict[str, tuple[list[int], list[float]]] = {}
    total = 0
    for report in reports:
        total += report.frames
        frames, returns = episodes.setdefault(report.lesson, ([], []))
        frames.extend([total] * len(report.returns))
        returns.extend(report.returns)
    return episodes
