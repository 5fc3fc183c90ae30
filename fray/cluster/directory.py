"""A cluster as an actor system's directory: names, creation, causes of death."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from fray.cluster.actor_resources import resources_of
from fray.cluster.blobs import pack
from fray.cluster.control import (
    ACTORS_NAMESPACE,
    ActorsApi,
    AgentApi,
    BlobsApi,
    FleetApi,
    JobsApi,
    NameClaim,
    NamesApi,
)
from fray.cluster.controlcalls import control
from fray.cluster.controller.commands import SubmitJobs
from fray.cluster.controller.specs import ActorRole, Environment, JobSpec, Program
from fray.cluster.types import UNLIMITED
from fray.cluster.worker.stopping import stop_s
from fray.cluster.worker.taskfile import HostedActor
from fray.errors import (
    ClusterError,
    DeathCause,
    FrayError,
    NameTakenError,
    UnsupportedError,
)
from fray.ids import ActorId, AttemptId, JobId, Namespace
from fray.runtime.jsoncodec import json_dumps
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem
    from fray.cluster.identity import Identity
    from fray.runtime.peer import Peer

log = logging.getLogger(__name__)

RENEW_S = 5.0
"""How often a process renews its names, all in one call; at once where the link to the controller
was lost, for a controller that was started again knows no names."""

STOP_S_MAX = 30 * 24 * 3600.0
"""An actor that may take as long as it likes to stop is killed after a month."""

RENEW_TASK_S = 300.0
"""How often a task does so once it has been heard: its host's agent says that it lives, and the
kernel, which probes the link every few seconds, that the controller is still the same."""

OBITUARY_WAIT_S = 3.0
"""How long an agent may take to learn why a process of its host is gone."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the actors of a connection find around them.

    Attributes:
        environment: As the ledger keeps it.
        hints: Where modules and the project are on the connection's own machine.
        needs_process: Whether an actor can have it only in a process of its own.
        virtual: Whether slices are virtual: each of their hosts is any place.
    """

    environment: Environment = field(default_factory=Environment)
    hints: Mapping[str, str] = field(default_factory=dict[str, str])
    needs_process: bool = False
    virtual: bool = False


class ClusterDirectory:
    """Finds and makes actors through a cluster's controller. See `Directory`.

    Args:
        identity: Who connects.
        names: The controller's names.
        actors: What becomes of the controller's actors.
        jobs: The controller's jobs.
        blobs: The controller's blobs.
        fleet: The controller's hosts.
        cluster_address: The controller's ``host:port``.
        isolate: Whether actors get processes of their own unless they say otherwise.
        surroundings: Gives what actors find around them.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        names: NamesApi,
        actors: ActorsApi,
        jobs: JobsApi,
        blobs: BlobsApi,
        fleet: FleetApi,
        cluster_address: str,
        isolate: bool,
        surroundings: Callable[[], Awaitable[Surroundings]],
    ) -> None:
        self._identity = identity
        self._names = names
        self._actors = actors
        self._jobs = jobs
        self._blobs = blobs
        self._fleet = fleet
        self._cluster_address = cluster_address
        self._isolate = isolate
        self._surroundings = surroundings
        self._system: ActorSystem | None = None
        self._claims: dict[tuple[str, str, str], NameClaim] = {}
        self._controller_lost = asyncio.Event()
        self._agents: dict[str, AgentApi] = {}
        self._scope = Scope("names")

    def attach(self, system: ActorSystem) -> None:
        """Says which system it serves; begins to renew names. On the loop.

        Args:
            system: The system.
        """
        self._system = system
        system.process.peers.on_lost.append(self._on_lost)
        self._scope.spawn(self._renew(), name="renew")

    def _on_lost(self, peer: Peer) -> None:
        if peer.link.remote == self._cluster_address:
            self._controller_lost.set()

    async def close(self) -> None:
        """Stops renewing, and gives up what this process has registered."""
        if self._system is not None:
            self._system.process.peers.on_lost.remove(self._on_lost)
        await self._scope.close()
        claims, self._claims = list(self._claims.values()), {}
        for claim in claims:
            await self._disclaim(claim)

    async def _renew(self) -> None:
        assert self._system is not None
        process = self._system.process
        heard = False
        while True:
            period_s = RENEW_TASK_S if heard and self._identity.attempt_id else RENEW_S
            try:
                async with asyncio.timeout(period_s):
                    await self._controller_lost.wait()
            except TimeoutError:
                pass  # it is time to renew anyway
            self._controller_lost.clear()
            heard = False
            if self._claims:
                try:
                    await self._names.renew(process.process_id, list(self._claims.values()))
                except FrayError as exc:  # the controller is away: the next round tells it all
                    log.debug("names were not renewed: %s", exc)
                else:
                    heard = True

    def agent(self, address: str) -> AgentApi:
        """A host's agent.

        Args:
            address: Its ``host:port``.
        """
        assert self._system is not None
        found = self._agents.get(address)
        if found is None:
            found = control(AgentApi, self._system, address, "agent", timeout_s=OBITUARY_WAIT_S)
            self._agents[address] = found
        return found

    # ---- Directory

    async def locate(self, key: ActorKey, *, wait_s: float) -> Located:
        """See `Directory.locate`."""
        if not key.name:
            key = replace(key, namespace=ACTORS_NAMESPACE)
        return await self._names.locate(key, wait_s=wait_s)

    async def obituary(self, endpoint: Endpoint) -> DeathCause | None:
        """See `Directory.obituary`."""
        if not endpoint.agent_address or not endpoint.attempt_id:
            return None
        agent = self.agent(endpoint.agent_address)
        try:
            return await agent.obituary(AttemptId(endpoint.attempt_id), wait_s=OBITUARY_WAIT_S)
        except ClusterError:  # the agent is gone too, or knows nothing
            return await self._word_of_the_fleet(endpoint)

    async def _word_of_the_fleet(self, endpoint: Endpoint) -> DeathCause | None:
        try:
            gone = await self._names.departed([endpoint], wait_s=0.0)
        except ClusterError:  # so nobody knows
            return None
        return gone[0].cause if gone else None

    async def departed(
        self, endpoints: Sequence[Endpoint], *, wait_s: float
    ) -> Sequence[Departure]:
        """See `Directory.departed`."""
        return await self._names.departed(list(endpoints), wait_s=wait_s)

    async def register(self, registration: Registration) -> None:
        """See `Directory.register`."""
        me = self._identity
        assert self._system is not None
        holder = f"{me.job_id}/{me.task_index}" if me.is_task else self._system.process.process_id
        endpoint = registration.endpoint
        if endpoint.process_id == self._system.process.process_id:
            endpoint = replace(
                endpoint,
                job_id=me.job_id,
                attempt_id=me.attempt_id,
                agent_address=me.agent_address,
            )
        claim = NameClaim(
            registration.namespace,
            registration.name,
            endpoint,
            registration.exclusive,
            f"{holder}/{registration.slot or registration.name}",
            me.incarnation,
            registration.ttl_s,
        )
        await self._names.register(claim)
        self._claims[claim.namespace, claim.name, endpoint.actor_id] = claim

    async def unregister(self, namespace: str, name: str, actor_id: str) -> None:
        """See `Directory.unregister`."""
        claim = self._claims.pop((namespace, name, actor_id), None)
        if claim is None:  # somebody else's, or nobody's
            await self._names.unregister(namespace, name, actor_id)
        else:
            await self._disclaim(claim)

    async def _disclaim(self, claim: NameClaim) -> None:
        await self._names.unregister(
            claim.namespace, claim.name, claim.endpoint.actor_id, claim.incarnation
        )

    async def list(self, namespace: str, prefix: str = "") -> list[tuple[str, Endpoint]]:
        """See `Directory.list`."""
        found = await self._names.list(namespace, prefix)
        return [(named.name, named.endpoint) for named in found]

    async def cpus(self) -> float:
        """See `Directory.cpus`."""
        return await self._fleet.cpus()

    async def create(self, spec: ActorSpec) -> str:
        """See `Directory.create`."""
        submission = SubmitJobs(submission_id=spec.actor_id, jobs=(await self._job_of(spec),))
        while True:
            try:
                await self._jobs.submit(submission)
                return spec.actor_id
            except NameTakenError:  # for submissions too this is where races are decided
                if not spec.options.get_if_exists:
                    raise
                holder = await self._holder(spec)
                if holder is not None:
                    return holder

    async def _holder(self, spec: ActorSpec) -> str | None:
        """Who has the name that somebody wants, ready or not; None if they have just died."""
        holders = await self._names.actor_ids(ActorKey(spec.namespace, name=spec.label))
        if not holders:
            return None
        lives = await self._actors.lives([Watched(holders[0])], wait_s=0.0)
        return None if any(life.over for life in lives) else holders[0]

    async def _job_of(self, spec: ActorSpec) -> JobSpec:
        me, options = self._identity, spec.options
        hosted = HostedActor.of(spec.actor_id, spec.label, spec.namespace, options)
        around = await self._surroundings()
        isolate = self._isolate or around.needs_process
        isolated = options.process == "own" or (options.process == "auto" and isolate)
        return JobSpec(
            job_id=JobId(f"{me.user}/{job_name(spec.label)}"),
            name=job_name(spec.label),
            user=me.user,
            namespace=Namespace(spec.namespace),
            program=Program(blob=await self._blobs.put(pack(spec.payload))),
            environment=around.environment,
            resources=resources_of(options),
            max_retries_failure=UNLIMITED if spec.supervised else options.max_restarts,
            max_retries_preemption=UNLIMITED if spec.supervised else options.max_preemptions,
            evictable=options.preemptible,
            slice_host=None if around.virtual else options.slice_host,
            parent=JobId(me.job_id) if me.is_task else None,
            detached=options.lifetime == "detached",
            actor=ActorRole(
                ActorId(spec.actor_id),
                me.session_id,
                supervised=spec.supervised,
                owner_attempt=me.attempt_id if spec.supervised else "",
                held=spec.held,
                name=options.name or "",
            ),
            hints={
                "actor": json_dumps(hosted).decode(),
                "isolation": "process" if isolated else "thread",
                **around.hints,
            },
        )

    async def stop(self, key: ActorKey, *, grace_s: float, kill: bool) -> None:
        """See `Directory.stop`."""
        if not key.name:
            key = replace(key, namespace=ACTORS_NAMESPACE)
        grace_s = 0.0 if kill else max(grace_s, 0.1)
        if not await self._names.stop_actor(key, grace_s=stop_s(grace_s)):
            raise UnsupportedError(
                f"actor {key} is hosted by a FrayActorServer (or has ended): unregister it there"
            )

    async def actor_ids(self, key: ActorKey) -> Sequence[str]:
        """See `Directory.actor_ids`."""
        return await self._names.actor_ids(key)

    async def lives(self, watched: Sequence[Watched], *, wait_s: float) -> Sequence[Life]:
        """See `Directory.lives`."""
        return await self._actors.lives(list(watched), wait_s=wait_s)

    async def start_again(self, actor_id: str, incarnation: int) -> None:
        """See `Directory.start_again`."""
        await self._actors.start(actor_id, incarnation)

    async def start_together(
        self, group_id: str, name: str, incarnations: Mapping[str, int]
    ) -> None:
        """See `Directory.start_together`."""
        await self._actors.start_together(group_id, job_name(name), dict(incarnations))

    async def halt(self, actor_id: str, reason: str, *, grace_s: float, down: bool) -> None:
        """See `Directory.halt`."""
        await self._actors.halt(actor_id, reason, min(stop_s(grace_s), STOP_S_MAX), down)

    async def end(self, actor_id: str, cause: DeathCause) -> None:
        """See `Directory.end`."""
        await self._actors.end(actor_id, cause)

    def report_checkpoint(self) -> None:
        """Tells the agent of this host that this attempt has saved its work. Any thread."""
        system, me = self._system, self._identity
        if system is None or not me.attempt_id or system.closed:
            return  # a driver's work is not the cluster's to preempt

        async def tell() -> None:
            try:
                await self.agent(me.agent_address).report_checkpoint(AttemptId(me.attempt_id))
            except ClusterError as exc:  # the next checkpoint is told again
                log.debug("a checkpoint was not reported: %s", exc)

        def begin() -> None:
            self._scope.spawn(tell(), name="checkpoint")

        system.process.post(begin)

    def environment(self) -> Mapping[str, Any]:
        """See `Directory.environment`."""
        return {"cluster_address": self._cluster_address}


def job_name(label: str) -> str:
    """A job's name made of an actor's: what job names do not allow becomes a dash.

    Args:
        label: The actor's name or class.
    """
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in label) or "actor"


def import_hints() -> dict[str, str]:
    """Where this process's modules come from: so that a task on the same files finds them.

    And which Python it is, for what it pickles.
    """
    paths = [p or os.getcwd() for p in sys.path if not p or (Path(p).is_dir() and not _own(p))]
    if os.getcwd() not in paths:
        paths.append(os.getcwd())
    return {
        "sys_path": json_dumps(paths).decode(),
        "cwd": os.getcwd(),
        "python": platform.python_version(),
    }


def _own(path: str) -> bool:
    """Whether a path is the interpreter's own: a task has its own interpreter's."""
    return any(Path(path).is_relative_to(prefix) for prefix in (sys.prefix, sys.base_prefix))


__all__ = [
    "OBITUARY_WAIT_S",
    "RENEW_S",
    "ClusterDirectory",
    "Surroundings",
    "import_hints",
    "job_name",
]
