"""Where actors are, who makes them, and why they died: what the user's API needs of a cluster.

`Directory` is the seam between actors and whatever manages them. A cluster's client implements it;
so does the resolver of a process without a cluster. This room knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fray.actor.options import ActorOptions
from fray.errors import DeathCause
from fray.runtime.payload import Payload


@dataclass(frozen=True, slots=True)
class ActorKey:
    """What a handle points at: an actor by its id, or whoever is registered under a name.

    Attributes:
        namespace: Where the name is looked up.
        name: A name; empty if the actor is known by id only.
        actor_id: An id; empty if it is known by name only.
    """

    namespace: str
    name: str = ""
    actor_id: str = ""

    def __str__(self) -> str:
        return self.name or self.actor_id


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One living incarnation of an actor, and where it is.

    Attributes:
        actor_id: The actor.
        incarnation: Counts its restarts; frames for another incarnation are refused.
        process_id: The process that hosts it.
        address: ``host:port`` of that process.
        job_id: The job that it belongs to; empty for none.
        attempt_id: The attempt whose process it is; empty for a driver's.
        agent_address: Whom to ask what became of that process; empty for nobody.
        metadata: What it was registered with.
    """

    actor_id: str
    incarnation: int
    process_id: str
    address: str
    job_id: str = ""
    attempt_id: str = ""
    agent_address: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def target(self) -> str:
        """What frames address it by."""
        return f"{self.actor_id}/{self.incarnation}"


BEING_STARTED = "it is being started"
"""Why an actor is not ready that has its place: nothing is wrong, but its start may take long."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where an actor is.

    Attributes:
        endpoints: Its living incarnations: one, or several under the name of a pool.
        pending: Why there is none yet, where there will be one; empty otherwise.
    """

    endpoints: tuple[Endpoint, ...] = ()
    pending: str = ""


@dataclass(frozen=True, slots=True)
class Departure:
    """An incarnation is gone, whether or not anything on the wire says so.

    Attributes:
        target: Which: `Endpoint.target`.
        cause: Why.
    """

    target: str
    cause: DeathCause


@dataclass(frozen=True, slots=True)
class Ended:
    """An incarnation has ended.

    Attributes:
        incarnation: Which, from 1.
        cause: Why.
    """

    incarnation: int
    cause: DeathCause


@dataclass(frozen=True, slots=True)
class Watched:
    """An actor whose life somebody follows, and what they know of it.

    Attributes:
        actor_id: Which.
        started: The incarnation that they know to run; 0 for none.
        ended: The last incarnation that they know to have ended; 0 for none.
    """

    actor_id: str
    started: int = 0
    ended: int = 0


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of an actor's life.

    Attributes:
        actor_id: Which actor.
        started: The incarnation that runs and may be called; 0 while there is none.
        ends: The last incarnations that have ended, the earliest first.
        over: Why there will be no further incarnation; None while there may be one.
    """

    actor_id: str
    started: int = 0
    ends: tuple[Ended, ...] = ()
    over: DeathCause | None = None

    def is_news(self, watched: Watched) -> bool:
        """Whether it tells somebody anything.

        Args:
            watched: What they know.
        """
        ended = self.ends[-1].incarnation if self.ends else 0
        begun = self.started != 0 and self.started != watched.started
        return begun or ended > watched.ended or self.over is not None


@dataclass(frozen=True, slots=True)
class Registration:
    """A name given to a hosted actor.

    Attributes:
        namespace: Where the name is.
        name: The name.
        endpoint: The actor.
        exclusive: Whether nobody else may have the name.
        slot: Who holds it, over restarts: a later incarnation of a slot replaces the earlier.
        ttl_s: How long it lasts unless renewed, in seconds.
    """

    namespace: str
    name: str
    endpoint: Endpoint
    exclusive: bool = False
    slot: str = ""
    ttl_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """An actor to be made.

    Attributes:
        actor_id: Its id, made by its creator.
        label: Its name or class, for people.
        namespace: Where its name goes.
        options: What the user asked for.
        payload: The pickled ``(class, args, kwargs)``.
        supervised: Whether its creator's supervisor starts it again, and not the cluster.
        held: Whether it does not start, not the first time either, before its supervisor says so.
    """

    actor_id: str
    label: str
    namespace: str
    options: ActorOptions
    payload: Payload
    supervised: bool = False
    held: bool = False


class Directory(Protocol):
    """What manages actors. All methods are coroutines on the system's loop."""

    async def locate(self, key: ActorKey, *, wait_s: float) -> Located:
        """Where an actor is.

        Args:
            key: Which.
            wait_s: How long to wait for a name that nobody has yet, or an actor that is not
                ready, in seconds; 0 for not at all.

        Raises:
            ActorNotFoundError: Nobody has the name after ``wait_s``.
            ActorDied: The actor is known, and gone for good.
        """
        ...

    async def obituary(self, endpoint: Endpoint) -> DeathCause | None:
        """What became of an incarnation to which the connection was lost.

        Waits a little for the cause to be known.

        Args:
            endpoint: The incarnation.

        Returns:
            Why it is gone, or None where it is not known to be gone.
        """
        ...

    async def departed(
        self, endpoints: Sequence[Endpoint], *, wait_s: float
    ) -> Sequence[Departure]:
        """Which of some incarnations are gone, as the cluster knows it.

        Args:
            endpoints: Which are asked for.
            wait_s: How long to wait for one to go, in seconds.
        """
        ...

    async def register(self, registration: Registration) -> None:
        """Gives an actor a name, and keeps it until it is unregistered or the process ends.

        Raises:
            NameTakenError: An exclusive name belongs to somebody else.
        """
        ...

    async def unregister(self, namespace: str, name: str, actor_id: str) -> None:
        """Takes a name from an actor; does nothing where it does not have it."""
        ...

    async def list(self, namespace: str, prefix: str = "") -> list[tuple[str, Endpoint]]:
        """All registered (name, endpoint) whose name begins with a prefix, sorted by name."""
        ...

    async def cpus(self) -> float:
        """How many CPUs actors may have here altogether, those that are taken among them."""
        ...

    async def create(self, spec: ActorSpec) -> str:
        """Has an actor made. Returns when it is accepted, not when it is ready.

        Returns:
            The id of the actor: the spec's, or with ``get_if_exists`` perhaps an older one's.

        Raises:
            NameTakenError: Its exclusive name belongs to somebody else.
            InfeasibleError: No host could ever run it.
        """
        ...

    async def stop(self, key: ActorKey, *, grace_s: float, kill: bool) -> None:
        """Ends an actor for good.

        Args:
            key: Which.
            grace_s: How long its present calls may take, in seconds.
            kill: Do not wait, do not run its hooks.
        """
        ...

    async def actor_ids(self, key: ActorKey) -> Sequence[str]:
        """Who has a name, or had it last; nobody where nothing is known of it.

        Args:
            key: With a name.
        """
        ...

    async def lives(self, watched: Sequence[Watched], *, wait_s: float) -> Sequence[Life]:
        """What has happened to some actors, as soon as there is anything that is not known yet.

        Args:
            watched: Which actors, and what is known of them.
            wait_s: How long to wait for news, in seconds.
        """
        ...

    async def start_again(self, actor_id: str, incarnation: int) -> None:
        """Starts a supervised actor that is down; may be repeated.

        Args:
            actor_id: Which.
            incarnation: The one that begins: the last one's successor.

        Raises:
            InvalidRequestError: It has ended for good, or its last incarnation is still there.
        """
        ...

    async def start_together(
        self, group_id: str, name: str, incarnations: Mapping[str, int]
    ) -> None:
        """Starts supervised actors that are down, once there is room for all; may be repeated.

        Args:
            group_id: Of this life of theirs.
            name: What they are called together, for people.
            incarnations: Which actors, and the incarnation of each that begins.

        Raises:
            InvalidRequestError: One of them has ended for good, or is still there. None is started.
        """
        ...

    async def halt(self, actor_id: str, reason: str, *, grace_s: float, down: bool) -> None:
        """Stops a supervised actor, which may be started again. Does not wait for its end.

        Args:
            actor_id: Which.
            reason: For people.
            grace_s: How long its present calls may take, in seconds; as long again to clean up. 0
                kills it.
            down: Whether its callers are told meanwhile that it is down, rather than wait.
        """
        ...

    async def end(self, actor_id: str, cause: DeathCause) -> None:
        """Ends a supervised actor for good. Does not wait for its end.

        Args:
            actor_id: Which.
            cause: What its callers are told.
        """
        ...

    def environment(self) -> Mapping[str, Any]:
        """Facts for people and pickled handles: the cluster's address, for instance."""
        ...


__all__ = [
    "BEING_STARTED",
    "ActorKey",
    "ActorSpec",
    "Departure",
    "Directory",
    "Ended",
    "Endpoint",
    "Life",
    "Located",
    "Registration",
    "Watched",
]
