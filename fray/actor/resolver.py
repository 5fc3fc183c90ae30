"""Resolvers: finding actors by name, and giving them names.

`Resolver` is the interface of the seed, synchronous. On an event loop's thread its blocking methods
refuse; each has an asynchronous twin (``lookup_async`` …) on `SystemResolver`. `lookup` itself also
works on the loop: it gives the handle at once, and a name that nobody has is told by awaiting it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fray.actor.blocking import refuse_to_block
from fray.actor.current import current_system
from fray.actor.directory import ActorKey, Endpoint, Registration
from fray.actor.handle import ActorHandle
from fray.ids import ActorId, JobId, Namespace

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem


@dataclass
class ActorEndpoint:
    """Endpoint information for a registered actor.

    Attributes:
        actor_id: The actor.
        address: ``host:port`` of its process.
        job_id: The job that it belongs to; empty for none.
        metadata: What it was registered with, and under ``fray.*`` what fray adds.
    """

    actor_id: ActorId
    address: str
    job_id: JobId
    metadata: dict[str, str] = field(default_factory=dict[str, str])


class Resolver(Protocol):
    """Actor discovery and resolution service.

    Maps actor names to endpoints within one namespace.
    """

    def lookup(self, name: str) -> ActorHandle[Any]:
        """Looks an actor up by name.

        Under a name that several actors have, the handle balances its calls over them: to the one
        with the fewest calls outstanding, round robin among equals.

        Args:
            name: Actor name, unique within the namespace.

        Returns:
            A handle, which finds the actor again when it restarts or moves.

        Raises:
            ValueError: The name is empty, or no string.
            ActorNotFoundError: Nobody has this name. Inside a job the look-up first waits for it
                for ``lookup_timeout_s`` (30 s), since members of a group start together.
        """
        ...

    def lookup_all(self, name: str) -> list[ActorHandle[Any]]:
        """Looks all actors up whose name matches a pattern.

        Args:
            name: Actor name, or a glob (``inference_*``).

        Returns:
            A handle to each, sorted by name and actor id; empty where there is none.
        """
        ...

    def register(self, name: str, endpoint: ActorEndpoint, ttl_seconds: int = 60) -> None:
        """Registers an actor endpoint.

        Args:
            name: Actor name for lookup.
            endpoint: Where the actor is.
            ttl_seconds: How long the registration lasts unless renewed; this process renews it
                until it is unregistered or the process ends.
        """
        ...

    def unregister(self, name: str, actor_id: ActorId) -> None:
        """Removes an actor's registration; does nothing if another actor has the name by now.

        Args:
            name: Actor name.
            actor_id: The actor.
        """
        ...

    def list_actors(self, prefix: str = "") -> list[ActorEndpoint]:
        """Lists registered actors.

        Args:
            prefix: Only names that begin so.

        Returns:
            One endpoint for each registration, sorted by name.
        """
        ...


class SystemResolver:
    """The resolver of an actor system: what ``fray_resolver()`` gives.

    Args:
        system: The system; None for the current one, at each use.
        namespace: Where names are; None for the system's.
    """

    def __init__(self, system: ActorSystem | None = None, namespace: str | None = None) -> None:
        self._system = system
        self._namespace = namespace

    def __repr__(self) -> str:
        return f"<Resolver namespace={self._namespace or 'of the connection'}>"

    @property
    def system(self) -> ActorSystem:
        """The actor system that it uses.

        Raises:
            ClusterClosed: It was made for one that was closed.
        """
        if self._system is None:
            return current_system()
        self._system.check_open()
        return self._system

    @property
    def namespace(self) -> Namespace:
        """The namespace of its names."""
        return Namespace(self._namespace or self.system.namespace)

    # ---- as in the seed

    def lookup(self, name: str) -> ActorHandle[Any]:
        """See `Resolver.lookup`."""
        system = self.system
        handle = self._by_name(system, name)
        if not system.process.on_loop:
            refuse_to_block("resolver.lookup(…)", "await resolver.lookup_async(…)")
            system.run(lambda: handle.route.resolve(anew=True))
        return handle

    def lookup_all(self, name: str) -> list[ActorHandle[Any]]:
        """See `Resolver.lookup_all`."""
        return self._blocking("lookup_all", lambda: self.lookup_all_async(name))

    def register(self, name: str, endpoint: ActorEndpoint, ttl_seconds: int = 60) -> None:
        """See `Resolver.register`."""
        self._blocking("register", lambda: self.register_async(name, endpoint, ttl_seconds))

    def unregister(self, name: str, actor_id: ActorId) -> None:
        """See `Resolver.unregister`."""
        self._blocking("unregister", lambda: self.unregister_async(name, actor_id))

    def list_actors(self, prefix: str = "") -> list[ActorEndpoint]:
        """See `Resolver.list_actors`."""
        return self._blocking("list_actors", lambda: self.list_actors_async(prefix))

    # ---- asynchronous

    async def lookup_async(self, name: str) -> ActorHandle[Any]:
        """The asynchronous `lookup`: waits until the name is known."""
        return await self._by_name(self.system, name)

    async def lookup_all_async(self, name: str) -> list[ActorHandle[Any]]:
        """The asynchronous `lookup_all`."""
        from fnmatch import fnmatchcase

        system = self.system
        check_name(name)
        found = await system.directory.list(self.namespace, _literal_prefix(name))
        handles = {
            endpoint.actor_id: ActorHandle[Any](
                ActorKey(self.namespace, actor_id=endpoint.actor_id), key, None, system
            )
            for key, endpoint in found
            if fnmatchcase(key, name)
        }
        return list(handles.values())

    async def register_async(
        self, name: str, endpoint: ActorEndpoint, ttl_seconds: int = 60
    ) -> None:
        """The asynchronous `register`."""
        check_name(name)
        if not isinstance(endpoint, ActorEndpoint):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"endpoint is an ActorEndpoint, not {endpoint!r}")
        if ttl_seconds <= 0:
            raise ValueError(f"ttl_seconds must be positive, not {ttl_seconds}")
        await self.system.directory.register(
            Registration(
                self.namespace, name, _from_public(endpoint), slot=name, ttl_s=float(ttl_seconds)
            )
        )

    async def unregister_async(self, name: str, actor_id: ActorId) -> None:
        """The asynchronous `unregister`."""
        await self.system.directory.unregister(self.namespace, name, actor_id)

    async def list_actors_async(self, prefix: str = "") -> list[ActorEndpoint]:
        """The asynchronous `list_actors`."""
        if not isinstance(prefix, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"prefix is a string, not {prefix!r}")
        found = await self.system.directory.list(self.namespace, prefix)
        return [_to_public(name, endpoint) for name, endpoint in found]

    # ---- inside

    def _by_name(self, system: ActorSystem, name: str) -> ActorHandle[Any]:
        check_name(name)
        return ActorHandle(ActorKey(self.namespace, name=name), name, None, system)

    def _blocking(self, what: str, make: Callable[[], Any]) -> Any:
        refuse_to_block(f"resolver.{what}(…)", f"await resolver.{what}_async(…)")
        return self.system.run(make)


def check_name(name: str, *, what: str = "an actor's name") -> None:
    """Checks a name.

    Args:
        name: The name.
        what: What it names, for the error.

    Raises:
        ValueError: It is empty, or no string.
    """
    if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{what} is a string that is not empty, not {name!r}")


def _literal_prefix(pattern: str) -> str:
    """The part of a glob before its first special character."""
    for position, character in enumerate(pattern):
        if character in "*?[":
            return pattern[:position]
    return pattern


METADATA_PREFIX = "fray."


def _to_public(name: str, endpoint: Endpoint) -> ActorEndpoint:
    metadata = dict(endpoint.metadata)
    metadata["fray.name"] = name
    metadata["fray.process_id"] = endpoint.process_id
    metadata["fray.incarnation"] = str(endpoint.incarnation)
    return ActorEndpoint(
        ActorId(endpoint.actor_id), endpoint.address, JobId(endpoint.job_id), metadata
    )


def _from_public(endpoint: ActorEndpoint) -> Endpoint:
    metadata: Mapping[str, str] = endpoint.metadata
    return Endpoint(
        actor_id=endpoint.actor_id,
        incarnation=int(metadata.get("fray.incarnation", "1")),
        process_id=metadata.get("fray.process_id", ""),
        address=endpoint.address,
        job_id=endpoint.job_id,
        metadata={k: v for k, v in metadata.items() if not k.startswith(METADATA_PREFIX)},
    )


def fray_resolver(namespace: Namespace | None = None) -> SystemResolver:
    """The resolver of the current cluster connection, or of the job that runs here.

    Args:
        namespace: Where names are looked up; None for ``FRAY_NAMESPACE``, else the connection's
            own, which everything that it launches inherits.
    """
    if namespace is not None:
        check_name(namespace, what="a namespace")
    return SystemResolver(None, namespace)


__all__ = ["ActorEndpoint", "Resolver", "SystemResolver", "check_name", "fray_resolver"]
