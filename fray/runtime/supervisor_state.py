"""Where a supervisor is in its life, and what it tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fray.runtime.slots import ChildStatistics


class SupervisorState(Enum):
    """Where a supervisor is in its life."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class SupervisorStatistics:
    """What a supervisor does at a moment.

    Attributes:
        state: Its state.
        children: Its children in their order.
        recent_restarts: Restarts that count against its intensity, as of the last failure.
        preemptions: Preemptions of its children in its whole life.
    """

    state: SupervisorState
    children: tuple[ChildStatistics, ...]
    recent_restarts: int
    preemptions: int


__all__ = ["SupervisorState", "SupervisorStatistics"]
