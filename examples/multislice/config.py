"""What a run is to be."""

from __future__ import annotations

from dataclasses import dataclass

from examples.training.config import TrainConfig
from fray.cluster import ResourceConfig


@dataclass(frozen=True, slots=True)
class SliceConfig(TrainConfig):
    """A run. What it computes does not depend on how many slices do it, or when they are there.

    A batch consists of shards. Whoever computes one comes to the same gradients, and they are added
    in the order of the shards: so the result is the same, bit for bit, for any slices.

    Attributes:
        tpu: What a slice is. Its hosts, ``processes`` of them, are one JAX program.
        slices: How many to have at the most, ≥ 1, and not more than there are shards.
        min_slices: With fewer it waits, ≥ 1.
        shards: Of a batch, which they divide; each a multiple of a slice's hosts.
    """

    batch: int = 24
    steps: int = 400
    report_every: int = 20
    checkpoint_every: int = 60
    tpu: str = "v4-16"
    slices: int = 3
    min_slices: int = 1
    shards: int = 6

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        if not 1 <= self.min_slices <= self.slices <= self.shards:
            raise ValueError(
                f"slices are from {self.min_slices} (1 at the least) to {self.shards}, one for "
                f"each shard of a batch, not {self.slices}"
            )
        if self.batch % (self.shards * self.processes):
            raise ValueError(
                f"a batch of {self.batch} sequences cannot be divided into {self.shards} shards "
                f"for {self.processes} hosts each"
            )
        hosts = self.resources(1).device.vm_count()  # pyright: ignore[reportAttributeAccessIssue]
        if self.processes != hosts:
            raise ValueError(f"a {self.tpu} slice has {hosts} hosts, not {self.processes}")

    def resources(self, slices: int) -> ResourceConfig:
        """What so many slices are, for a reservation.

        Args:
            slices: How many.
        """
        return ResourceConfig.with_tpu(self.tpu, slice_count=slices)

    def share(self, number: int, slices: int) -> range:
        """The shards that a slice computes.

        Args:
            number: Which of the slices that are there, from 0.
            slices: How many are there.
        """
        return range(self.shards * number // slices, self.shards * (number + 1) // slices)

    def rows(self, shard: int, host: int) -> range:
        """The sequences of a batch that a host has of a shard.

        Args:
            shard: Which.
            host: Of the slice that computes it.
        """
        size = self.batch // self.shards // self.processes
        first = (shard * self.processes + host) * size
        return range(first, first + size)
