"""The loss as a picture."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from examples.storage import Folder

if TYPE_CHECKING:
    from examples.training.config import TrainConfig
    from examples.training.job import Run

FILE_NAME = "loss.png"


def draw_loss(config: TrainConfig, run: Run) -> str:
    """Draws a run's losses and publishes the picture in the run's folder.

    Args:
        config: The run's.
        run: What is known of it.

    Returns:
        The picture's path.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, life in enumerate(_lives(run)):
        steps, losses = zip(*life, strict=True) if life else ((), ())
        label = "training" if number == 0 else f"after start {number + 1}"
        axes.plot(steps, losses, marker=".", label=label)
    held_back = [(each.step, each.held_back) for each in run.reports if each.held_back is not None]
    if held_back:
        axes.plot(*zip(*held_back, strict=True), "s", color="black", label="text held back")
    for step in run.lives[1:]:
        axes.axvline(step, color="tab:red", linestyle="--", label=f"started again from step {step}")
    axes.axhline(math.log(256), color="gray", linestyle=":", label="knowing nothing")
    axes.set(
        xlabel="step",
        ylabel="loss, nats per byte",
        title=f"A byte-level transformer, {config.processes} processes, seed {config.seed}",
        ylim=(0, 6),
    )
    axes.set_xlim(left=0)
    axes.legend()
    axes.grid(alpha=0.25)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    Folder(config.output).write(FILE_NAME, picture.getvalue())
    return f"{config.output}/{FILE_NAME}"


def _lives(run: Run) -> list[list[tuple[int, float]]]:
    """The losses of each life of the gang; between a checkpoint and a death steps come twice."""
    lives: list[list[tuple[int, float]]] = []
    for report in run.reports:
        if report.loss is None:
            lives.append([])
        else:
            lives[-1].append((report.step, report.loss))
    return lives
