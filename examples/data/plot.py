"""How often words are found, by their rank, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from examples.storage import Folder

if TYPE_CHECKING:
    from examples.data.pipeline import Record

FILE_NAME = "words.png"
NAMED_FROM = 5
"""How often a word is found that is named."""
APART = 1.3
"""How many times the rank of the last word that is named the next one must have."""
LOOKS = {"word": ("lightgray", 8), "built-in": ("tab:green", 16), "keyword": ("tab:orange", 22)}
"""Of each kind: the colour, and the size of its points."""


def draw_words(output: str, words: Sequence[Record]) -> str:
    """Draws how often words are found over their ranks, and publishes the picture.

    Args:
        output: The folder (fsspec).
        words: By rank.

    Returns:
        The picture's path.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for kind, (colour, size) in LOOKS.items():
        those = [word for word in words if word["kind"] == kind]
        ranks, times = [word["rank"] for word in those], [word["times"] for word in those]
        label = f"{kind}s: {len(those):,}"
        axes.scatter(ranks, times, size, colour, label=label, zorder=3 if size > 8 else 2)
    middle = words[len(words) // 100]
    constant = middle["times"] * middle["rank"]
    ends = ([1, len(words)], [constant, constant / len(words)])
    axes.plot(*ends, color="gray", linestyle="--", zorder=1, label="rank × times is constant")
    last = 0.0
    for word in [each for each in words if each["kind"] != "word"]:
        if word["rank"] >= APART * last and word["times"] >= NAMED_FROM:
            at, last = (word["rank"], word["times"]), float(word["rank"])
            axes.annotate(word["word"], at, (4, 5), textcoords="offset points", fontsize=8)
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(0.7, None),
        xlabel="rank",
        ylabel="times",
        title="The words of Python's language reference",
    )
    axes.grid(alpha=0.25)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    Folder(output).write(FILE_NAME, picture.getvalue())
    return f"{output}/{FILE_NAME}"
