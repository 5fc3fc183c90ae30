"""What goes wrong in a pipeline."""

from __future__ import annotations


class PipelineError(Exception):
    """A pipeline cannot go on, for a reason that is not an exception of its functions."""


class ShardLostError(PipelineError):
    """The workers of a shard died again and again."""


class ScratchError(PipelineError):
    """A worker cannot read what other processes have written for it."""


class WorkerDied(PipelineError):
    """A worker process of this machine has ended."""


class WorkerTraceback(Exception):
    """Where an exception was raised in a worker: the cause of what is raised here."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


class StoppedError(Exception):
    """Nobody wants the result of this task any more."""


__all__ = [
    "PipelineError",
    "ScratchError",
    "ShardLostError",
    "StoppedError",
    "WorkerDied",
    "WorkerTraceback",
]
