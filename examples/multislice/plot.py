"""The loss over the steps, and who made them."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from examples.storage import Folder

if TYPE_CHECKING:
    from examples.multislice.config import SliceConfig
    from examples.multislice.leader import Run
    from fray.groups import SliceId

FILE_NAME = "loss.png"
COLORS = ("tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:cyan")


def draw_loss(config: SliceConfig, run: Run) -> str:
    """Draws a run and publishes the picture in the run's folder.

    Args:
        config: The run's.
        run: What is known of it.

    Returns:
        The picture's path.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    numbers = [each.number for each in run.steps]
    above.plot(numbers, [each.loss for each in run.steps], color="black", lw=1, label="training")
    held_back = [(each.number, each.held_back) for each in run.steps if each.held_back is not None]
    if held_back:
        above.plot(*zip(*held_back, strict=True), "s", color="tab:red", label="text held back")
    above.axhline(math.log(256), color="gray", linestyle=":", label="knowing nothing")
    for number, (step, _) in enumerate(run.losses):
        label = "a slice is lost" if number == 0 else None
        for axes in (above, below):
            axes.axvline(step, color="tab:red", linestyle="--", lw=1, label=label)
    above.set(
        ylabel="loss, nats per byte",
        ylim=(0, 6),
        title=f"A byte-level transformer on slices that come and go, seed {config.seed}",
    )
    above.legend()
    above.grid(alpha=0.25)
    spans = _spans(run)
    for who, first, last in spans:
        color = COLORS[who.number % len(COLORS)]
        below.barh(who.number, last - first + 1, 0.8, first - 0.5, color=color, ec="white")
        below.text(first, who.number, f" life {who.life}", va="center", color="white", size=8)
    there = sorted({who.number for who, _, _ in spans})
    below.set(xlabel="step", yticks=there, yticklabels=[f"slice {number}" for number in there])
    below.invert_yaxis()
    below.set_xlim(left=0)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    Folder(config.output).write(FILE_NAME, picture.getvalue())
    return f"{config.output}/{FILE_NAME}"


def _spans(run: Run) -> list[tuple[SliceId, int, int]]:
    """From which step to which each life of a slice was a member."""
    found: dict[SliceId, tuple[int, int]] = {}
    for step in run.steps:
        for who in step.slices:
            first, _ = found.get(who, (step.number, 0))
            found[who] = first, step.number
    return [(who, first, last) for who, (first, last) in sorted(found.items())]
