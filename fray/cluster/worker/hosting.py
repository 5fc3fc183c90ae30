"""Hosting an actor that the cluster made: in a process of its own, or in the local driver's."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from fray.actor.directory import Endpoint, Registration
from fray.actor.system import instantiate
from fray.cluster.blobs import unpack
from fray.cluster.control import ACTORS_NAMESPACE
from fray.errors import ClusterUnavailable, DeathCause, DeathKind, FrayError

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem
    from fray.cluster.worker.taskfile import HostedActor
    from fray.runtime.cell import Cell

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Between two attempts to register while the controller is away."""

SLOT = "@actor"
"""The slot of a task's own actor among the names that the task holds."""


async def host_actor(
    system: ActorSystem, actor: HostedActor, incarnation: int, payload: bytes
) -> Cell:
    """Makes an actor and tells the cluster where it is. On the system's loop.

    Args:
        system: Where it is hosted.
        actor: Which actor.
        incarnation: Which life of it begins, from 1.
        payload: The packed class and arguments.

    Returns:
        Its cell, running and registered.

    Raises:
        BaseException: What its constructor or ``on_start`` raised.
        NameTakenError: Its name belongs to somebody else.
    """
    endpoint = Endpoint(
        actor_id=actor.actor_id,
        incarnation=incarnation,
        process_id=system.process.process_id,
        address=system.process.address,
    )
    cell = system.host(endpoint.target, actor.label, actor.cell_options())
    try:
        await cell.start(functools.partial(instantiate, unpack(payload)))
        # Its id comes last: an actor that can be called by its handle has its name.
        for namespace, name in ((actor.namespace, actor.name), (ACTORS_NAMESPACE, actor.actor_id)):
            if name:
                claim = Registration(namespace, name, endpoint, exclusive=True, slot=SLOT)
                await _register(system, claim)
    except FrayError as exc:
        cell.kill(DeathCause(DeathKind.APP_ERROR, f"it could not be registered: {exc}"))
        raise
    return cell


async def _register(system: ActorSystem, claim: Registration) -> None:
    """Registers, however long the controller is away: that is no failure of the actor's."""
    while True:
        try:
            await system.directory.register(claim)
            return
        except ClusterUnavailable as exc:
            log.info("%s waits for the controller: %s", claim.name, exc)
            await system.process.clock.sleep(RETRY_S)


__all__ = ["host_actor"]
