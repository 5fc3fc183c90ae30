"""The learning curve as a picture, drawn from what the storage holds of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from examples.rl.checkpoint import CheckpointStore
from examples.rl.crewlog import CrewEvent, CrewLog
from examples.rl.reports import ReportLog, RolloutReport
from examples.storage import Folder

if TYPE_CHECKING:
    from examples.rl.config import RLConfig

FILE_NAME = "learning_curve.png"

_COLORS = {"added": "tab:green", "removed": "tab:gray", "lost": "tab:red", "back": "tab:blue"}


def draw_learning_curve(config: RLConfig) -> str:
    """Draws a run's episodes and publishes the picture in the run's folder.

    Args:
        config: The run's.

    Returns:
        The picture's path.
    """
    reports, events = ReportLog(config.report_path).read(), CrewLog(config.output).read()
    figure = _figure(config, reports, _checkpoints(config), events)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    Folder(config.output).write(FILE_NAME, picture.getvalue())
    return f"{config.output}/{FILE_NAME}"


def running_mean(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of each run of `window` values; shorter by ``window - 1`` than the values."""
    if len(values) < window:
        return np.empty(0)
    return np.convolve(values, np.full(window, 1.0 / window), mode="valid")


def _checkpoints(config: RLConfig) -> list[float]:
    """When checkpoints were published."""
    store = CheckpointStore(config.checkpoint_path)
    found = store.latest()
    if found is None:
        return []
    _, _, meta = store.load_trainer(found[0])
    return [at for _, at in meta["history"]]


def _figure(
    config: RLConfig,
    reports: list[RolloutReport],
    checkpoints: list[float],
    events: list[CrewEvent],
) -> Figure:
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=(5, 1))
    axes = figure.add_subplot(grid[0])
    below = figure.add_subplot(grid[1], sharex=axes)
    times = [*(each.at for each in reports), *(each.at for each in events), *checkpoints]
    began, ended = (min(times), max(times)) if times else (0.0, 1.0)
    _draw_returns(axes, config, reports, began)
    if checkpoints:
        height = np.full(len(checkpoints), -12.0)
        since = np.asarray(checkpoints) - began
        axes.plot(since, height, "|", color="gray", markersize=9, label="checkpoints")
    _draw_workers(axes, below, events, began, ended)
    axes.set(
        ylabel="return of an episode",
        title=f"CartPole-v1, PPO, seed {config.seed}",
        ylim=(-25, 525),
    )
    axes.set_xlim(0, ended - began)
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper left", bbox_to_anchor=(0.01, 0.9), framealpha=0.9)
    axes.grid(alpha=0.25)
    return figure


def _draw_returns(axes: Any, config: RLConfig, reports: list[RolloutReport], began: float) -> None:
    episodes = _episodes(reports, began)
    for lesson in config.lessons:
        times, returns = episodes.get(lesson.name, ([], []))
        if returns:
            label = f"{lesson.name}: episodes"
            axes.plot(times, returns, ".", markersize=3, alpha=0.35, label=label)
    goal = config.lessons[-1].name
    times, returns = episodes.get(goal, ([], []))
    means = running_mean(returns, config.window)
    if means.size:
        label = f"{goal}: mean of the last {config.window}"
        axes.plot(times[config.window - 1 :], means, color="black", linewidth=2, label=label)
    label = f"target {config.target_return:.0f}"
    axes.axhline(config.target_return, color="tab:red", linestyle="--", label=label)


def _draw_workers(
    axes: Any, below: Any, events: list[CrewEvent], began: float, ended: float
) -> None:
    """How many rollout workers there were, as a band, and what became of them, as lines."""
    times = [*(each.at - began for each in events), ended - began]
    numbers = [each.workers for each in events]
    if events:
        below.fill_between(times, [*numbers, numbers[-1]], step="post", alpha=0.35)
    for event in events:
        color = _COLORS.get(event.what)
        if color is None:
            continue
        since = event.at - began
        axes.axvline(since, color=color, linestyle=":", linewidth=1)
        below.axvline(since, color=color, linestyle=":", linewidth=1)
        axes.text(
            since,
            250,
            f"worker {event.worker} {event.what}",
            color=color,
            rotation=90,
            va="center",
            ha="right",
            fontsize="small",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
    below.set(xlabel="seconds since the first worker was there", ylabel="rollout\nworkers")
    below.set_ylim(0, max(numbers, default=1) + 0.5)
    below.yaxis.set_major_locator(MaxNLocator(integer=True))
    below.grid(alpha=0.25)


def _episodes(
    reports: list[RolloutReport], began: float
) -> dict[str, tuple[list[float], list[float]]]:
    """For each lesson, when its episodes were reported, and their returns."""
    episodes: dict[str, tuple[list[float], list[float]]] = {}
    for report in reports:
        times, returns = episodes.setdefault(report.lesson, ([], []))
        times.extend([report.at - began] * len(report.returns))
        returns.extend(report.returns)
    return episodes
