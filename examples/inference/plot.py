"""What the pool has served over time, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from examples.storage import Folder

if TYPE_CHECKING:
    from examples.inference.load import Load

FILE_NAME = "throughput.png"
BIN_S = 1.0


def draw_load(output: str, load: Load, events: Sequence[tuple[float, str]]) -> str:
    """Draws bytes per second and waits over time, and publishes the picture.

    Args:
        output: The folder (fsspec).
        load: What was gone through.
        events: When something was done to the pool, and what.

    Returns:
        The picture's path.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    speed, waits = figure.subplots(2, sharex=True)
    written = [0.0] * (int(load.now_s() / BIN_S) + 1)
    for each in load.served:  # spread evenly over the time that it took
        first, last = int(each.began_s / BIN_S), int(each.ended_s / BIN_S)
        for at in range(first, last + 1):
            written[at] += each.length / (last + 1 - first)
    speed.step([at * BIN_S for at in range(len(written))], written, where="post")
    speed.set(ylabel="bytes per second", title="An inference pool under load", ylim=(0, None))
    waits.semilogy(
        [each.began_s for each in load.served],
        [each.first_s * 1000 for each in load.served],
        ".",
        markersize=3,
    )
    moved = [each for each in load.served if each.retried]
    if moved:
        waits.semilogy(
            [each.began_s for each in moved],
            [each.first_s * 1000 for each in moved],
            "o",
            color="tab:red",
            fillstyle="none",
            label="taken over by another server",
        )
        waits.legend()
    waits.set(xlabel="seconds", ylabel="ms to the first byte")
    for axes in (speed, waits):
        axes.grid(alpha=0.25)
        for at, _ in events:
            axes.axvline(at, color="gray", linestyle="--")
    for at, what in events:
        speed.annotate(
            what, (at, 0.02), xycoords=("data", "axes fraction"), rotation=90, fontsize=8
        )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    Folder(output).write(FILE_NAME, picture.getvalue())
    return f"{output}/{FILE_NAME}"
