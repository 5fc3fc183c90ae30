"""A Ray cluster as an actor system's directory: its keeper knows the names, and has actors made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from fray.cluster.actor_resources import resources_of
from fray.cluster.blobs import pack
from fray.cluster.control import NameClaim
from fray.cluster.rayactors import RayActorSpec
from fray.cluster.raydeaths import Presence
from fray.cluster.rayoptions import actor_options
from fray.cluster.worker.taskfile import HostedActor
from fray.errors import DeathCause, FrayError, UnsupportedError
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.directory import (
        ActorKey,
        ActorSpec,
        Departure,
        Endpoint,
        Life,
        Located,
        Registration,
        Watched,
    )
    from fray.actor.system import ActorSystem
    from fray.cluster.identity import Identity
    from fray.cluster.raykeeper import Keeper

log = logging.getLogger(__name__)

RENEW_S = 4.0
"""How often a process says that it lives, and which names it has."""


class RayDirectory:
    """Finds and makes actors through the keeper of a Ray cluster. See `Directory`.

    Args:
        keeper: The way to it.
        identity: Who this process is.
    """

    def __init__(self, keeper: Keeper, identity: Identity) -> None:
        self._keeper = keeper
        self._identity = identity
        self._claims: dict[tuple[str, str, str], NameClaim] = {}
        self._presence = Presence("", "")
        self._system: ActorSystem | None = None
        self._scope = Scope("names")

    def attach(self, system: ActorSystem) -> None:
        """Says which system it serves; begins to renew names. On the loop.

        Args:
            system: The system.
        """
        process = system.process
        self._system = system
        self._presence = Presence(process.process_id, process.address, self._identity.attempt_id)
        self._scope.spawn(self._renew(), name="renew")

    async def close(self) -> None:
        """Gives up what this process has registered, and ends the actors that it made."""
        await self._scope.close()
        if not self._keeper.closed:
            await self._names("leave", self._presence)

    async def _renew(self) -> None:
        assert self._system is not None
        given_up: DeathCause | None = None
        while given_up is None:
            try:
                given_up = await self._names("renew", self._presence, list(self._claims.values()))
            except FrayError as exc:  # Ray starts the keeper again; it is told all of it then
                log.debug("names were not renewed: %s", exc)
            await self._system.process.clock.sleep(RENEW_S)
        if not self._system.closed:
            log.error(
                "this process was given up (%s): its names are gone, and the actors that it made "
                "are ended; start it again",
                given_up,
            )

    async def _names(self, method: str, *args: Any) -> Any:
        return await self._keeper.ask_async("names", method, *args)

    # ---- Directory

    async def locate(self, key: ActorKey, *, wait_s: float) -> Located:
        """See `Directory.locate`."""
        return await self._names("locate", key, wait_s)

    async def obituary(self, endpoint: Endpoint) -> DeathCause | None:
        """See `Directory.obituary`."""
        return await self._names("obituary", endpoint)

    async def departed(
        self, endpoints: Sequence[Endpoint], *, wait_s: float
    ) -> Sequence[Departure]:
        """See `Directory.departed`."""
        return await self._names("departed", list(endpoints), wait_s)

    async def register(self, registration: Registration) -> None:
        """See `Directory.register`."""
        me, endpoint = self._identity, registration.endpoint
        holder = f"{me.job_id}/{me.task_index}" if me.is_task else self._presence.process_id
        if endpoint.process_id == self._presence.process_id:
            endpoint = replace(endpoint, job_id=me.job_id, attempt_id=me.attempt_id)
        claim = NameClaim(
            registration.namespace,
            registration.name,
            endpoint,
            registration.exclusive,
            f"{holder}/{registration.slot or registration.name}",
            me.incarnation,
            registration.ttl_s,
        )
        await self._names("register", self._presence, claim)
        self._claims[claim.namespace, claim.name, endpoint.actor_id] = claim

    async def unregister(self, namespace: str, name: str, actor_id: str) -> None:
        """See `Directory.unregister`."""
        self._claims.pop((namespace, name, actor_id), None)
        await self._names("unregister", namespace, name, actor_id)

    async def list(self, namespace: str, prefix: str = "") -> list[tuple[str, Endpoint]]:
        """See `Directory.list`."""
        return await self._names("list", namespace, prefix)

    async def cpus(self) -> float:
        """See `Directory.cpus`."""
        return await asyncio.to_thread(self._keeper.cpus)

    async def create(self, spec: ActorSpec) -> str:
        """See `Directory.create`."""
        if spec.supervised:
            _no_supervisors()
        options = spec.options
        resources = resources_of(options)
        owner = "" if options.lifetime == "detached" else self._presence.process_id
        return await self._keeper.ask_async(
            "actors",
            "create",
            RayActorSpec(
                HostedActor.of(spec.actor_id, spec.label, spec.namespace, options),
                pack(spec.payload),
                self._identity.namespace,
                self._keeper.namespace,
                owner,
                actor_options(resources, what=f"actor {spec.label!r}"),
                options.max_restarts,
                options.max_preemptions,
                options.get_if_exists,
            ),
        )

    async def stop(self, key: ActorKey, *, grace_s: float, kill: bool) -> None:
        """See `Directory.stop`."""
        if not await self._keeper.ask_async("actors", "stop", key, grace_s, kill):
            raise UnsupportedError(
                f"actor {key} is hosted by a FrayActorServer (or has ended): unregister it there"
            )

    async def actor_ids(self, key: ActorKey) -> Sequence[str]:
        """See `Directory.actor_ids`."""
        return await self._names("actor_ids", key)

    async def lives(self, watched: Sequence[Watched], *, wait_s: float) -> Sequence[Life]:
        """See `Directory.lives`."""
        return await self._names("lives", list(watched), wait_s)

    async def start_again(self, actor_id: str, incarnation: int) -> None:
        """See `Directory.start_again`."""
        _no_supervisors()

    async def start_together(
        self, group_id: str, name: str, incarnations: Mapping[str, int]
    ) -> None:
        """See `Directory.start_together`."""
        _no_supervisors()

    async def halt(self, actor_id: str, reason: str, *, grace_s: float, down: bool) -> None:
        """See `Directory.halt`."""
        _no_supervisors()

    async def end(self, actor_id: str, cause: DeathCause) -> None:
        """See `Directory.end`."""
        _no_supervisors()

    def environment(self) -> Mapping[str, Any]:
        """See `Directory.environment`."""
        return {"cluster_address": f"ray?namespace={self._keeper.namespace}"}


def _no_supervisors() -> NoReturn:
    raise UnsupportedError(
        "fray.Supervisor and fray.group need a cluster of fray's own; on Ray an actor is started "
        "again by itself (max_restarts=…)"
    )


__all__ = ["RENEW_S", "RayDirectory"]
