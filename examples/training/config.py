"""What a run is to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A run. What it computes depends on nothing else, not on how many processes do it.

    Attributes:
        output: Folder for checkpoints and the picture (fsspec), reached by all processes.
        seed: Of parameters and batches.
        processes: How many train, ≥ 1; a divisor of ``batch``.
        steps: How many to make, ≥ 1.
        batch: Sequences in a step, over all processes.
        context: Bytes that the model sees.
        width: Of the model's state.
        layers: Of the model.
        heads: Of each layer's attention; a divisor of ``width``.
        learning_rate: At its highest.
        report_every: Steps between two reports.
        checkpoint_every: Steps between two checkpoints; a multiple of ``report_every``.
    """

    output: str
    seed: int = 0
    processes: int = 2
    steps: int = 300
    batch: int = 32
    context: int = 96
    width: int = 96
    layers: int = 2
    heads: int = 4
    learning_rate: float = 3e-3
    report_every: int = 10
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        if self.processes < 1 or self.batch % self.processes:
            raise ValueError(
                f"a batch of {self.batch} sequences cannot be shared by {self.processes} processes"
            )
        if self.checkpoint_every % self.report_every:
            raise ValueError("checkpoint_every must be a multiple of report_every")

    @property
    def checkpoint_path(self) -> str:
        """Where checkpoints are."""
        return f"{self.output}/checkpoints"
