"""Identifiers: strings that a type checker keeps apart.

They carry no behaviour. Who makes them is said beside each; making them needs randomness, and
therefore a clock object (`fray.runtime.clock`), so none is made here.
"""

from typing import NewType

JobId = NewType("JobId", str)
"""Of a job: ``user/name-7f3a``; unique in a cluster for ever. Made by the controller."""

ActorId = NewType("ActorId", str)
"""Of an actor, the same over all its restarts. Made by whoever creates the actor."""

ReservationId = NewType("ReservationId", str)
"""Of a reservation. Made by the controller."""

Namespace = NewType("Namespace", str)
"""Within which actor names are unique. Made by a connection, inherited by all that it starts."""

ProcessId = NewType("ProcessId", str)
"""Of one incarnation of one operating-system process's runtime; never used again."""

WorkerId = NewType("WorkerId", str)
"""Of a host in a cluster, stable over restarts of its agent."""

AttemptId = NewType("AttemptId", str)
"""Of one try at running one task: ``<job id>/<task index>#<attempt>``."""

__all__ = [
    "ActorId",
    "AttemptId",
    "JobId",
    "Namespace",
    "ProcessId",
    "ReservationId",
    "WorkerId",
]
