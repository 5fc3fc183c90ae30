"""The process of an actor of fray's on Ray; made by Ray."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.cluster.rayimport import import_ray
from fray.cluster.worker import exits
from fray.errors import DeathCause, DeathKind

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem
    from fray.cluster.worker.taskfile import HostedActor
    from fray.runtime.cell import Cell


BEGIN_S = 10.0
"""From an actor's registration until its host knows that it runs; milliseconds, as a rule."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an actor's process is.

    Attributes:
        node_id: Ray's node.
        host: Its address.
        pid: The process there.
    """

    node_id: str
    host: str
    pid: int


class ActorHost:
    """Hosts one incarnation of an actor of fray's, on this process's own connection.

    None of its methods is asynchronous, or Ray would run them all on one loop.

    Args:
        actor: Which.
        payload: The packed class and arguments.
        variables: Environment variables that say who it is.

    Attributes:
        actor: Which.
        payload: The packed class and arguments.
        cell: What runs it, once it is made.
        begun: Set then.
    """

    def __init__(self, actor: HostedActor, payload: bytes, variables: Mapping[str, str]) -> None:
        os.environ.update(variables)
        self.actor = actor
        self.payload = payload
        self.cell: Cell | None = None
        self.begun = threading.Event()
        self._system: ActorSystem | None = None

    def place(self) -> Place:
        """Where it is."""
        ray = import_ray()
        node_id: str = ray.get_runtime_context().get_node_id()
        return Place(node_id, ray.util.get_node_ip_address(), os.getpid())

    def run(self, incarnation: int) -> DeathCause:
        """Hosts the actor until it ends.

        Args:
            incarnation: Which life of it this is, from 1.

        Returns:
            Why it has ended.
        """
        from fray.cluster.current import close_connections, current_cluster
        from fray.cluster.ray import RayCluster

        cluster = current_cluster()
        assert isinstance(cluster, RayCluster), "the variables say so"
        system = self._system = cluster.system
        try:
            return system.run(lambda: _serve(self, system, incarnation))
        except BaseException as exc:
            return exits.raised(exc) or DeathCause(DeathKind.STOPPED, "it exited with code 0")
        finally:
            close_connections()

    def stop(self, why: str, grace_s: float) -> None:
        """Ends the actor.

        Args:
            why: For those who wait for it.
            grace_s: How long its present calls may take, in seconds.
        """
        if not self.begun.wait(BEGIN_S):
            return  # its process is killed in a while
        system, cell = self._system, self.cell
        assert system is not None, "it has begun"
        assert cell is not None, "it has begun"
        cause = DeathCause(DeathKind.STOPPED, why)
        system.run(lambda: cell.stop(cause, grace_s=grace_s))


async def _serve(host: ActorHost, system: ActorSystem, incarnation: int) -> DeathCause:
    from fray.cluster.worker.hosting import host_actor

    cell = host.cell = await host_actor(system, host.actor, incarnation, host.payload)
    host.begun.set()
    cause = await cell.stopped
    if cell.failure is not None:
        raise cell.failure
    return cause


__all__ = ["ActorHost", "Place"]
