"""The text as bytes, some of which are held back, and the batches of each step."""

from __future__ import annotations

import numpy as np

from examples.corpus import documents

HELD_BACK = 0.05
"""The share of the text that is never trained on."""


class Corpus:
    """The text, and the batches of each step.

    Attributes:
        train: What is trained on.
        held_back: The rest.
    """

    def __init__(self) -> None:
        text = "\n".join(documents().values())
        data = np.frombuffer(text.encode(), np.uint8)
        border = int(len(data) * (1 - HELD_BACK))
        self.train, self.held_back = data[:border], data[border:]

    def batch(self, seed: int, step: int, rows: range, context: int) -> np.ndarray:
        """Some rows of a step's batch; whoever asks for a row gets the same.

        Args:
            seed: The run's.
            step: Which step.
            rows: Which of its sequences.
            context: Their length.

        Returns:
            Bytes, of shape (rows, context + 1): each is what follows the one before it.
        """
        dice = np.random.default_rng([seed, step])
        starts = dice.integers(0, len(self.train) - context - 1, size=rows.stop)[rows.start :]
        return self.train[starts[:, None] + np.arange(context + 1)].astype(np.int32)

    def held_back_batch(self, rows: int, context: int) -> np.ndarray:
        """Evenly spread sequences of what is not trained on, as `batch`.

        Args:
            rows: How many.
            context: Their length.
        """
        starts = np.linspace(0, len(self.held_back) - context - 1, rows).astype(int)
        return self.held_back[starts[:, None] + np.arange(context + 1)].astype(np.int32)
