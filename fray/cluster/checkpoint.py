"""Saying that work is saved, so that the scheduler knows what a preemption would lose."""

from __future__ import annotations

from fray.actor.current import current_system
from fray.cluster.directory import ClusterDirectory
from fray.errors import FrayError


def report_checkpoint() -> None:
    """Says that this task has saved its work: less is lost if it is preempted now.

    Call it whenever a checkpoint is complete. Where room has to be made for a more important job,
    those are stopped that lose the least work since they last said so (or since they started). It
    returns at once, from any thread or coroutine; outside of a job it does nothing.
    """
    try:
        directory = current_system(start=False).directory
    except FrayError:  # there is no cluster here, or it is gone
        return
    if isinstance(directory, ClusterDirectory):
        directory.report_checkpoint()


__all__ = ["report_checkpoint"]
