"""`FrayActorServer`: hosts objects as actors under names, in the process that makes it.

server = FrayActorServer(fray_resolver())
server.register("my_actor", MyActor(config))
server.serve()
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from fray.actor.blocking import refuse_to_block
from fray.actor.decorator import options_of
from fray.actor.directory import Endpoint, Registration
from fray.actor.resolver import SystemResolver, check_name
from fray.actor.system import ActorSystem, cell_options
from fray.errors import DeathCause, DeathKind, FrayError
from fray.ids import ActorId
from fray.runtime.blocking import wait

if TYPE_CHECKING:
    from fray.runtime.cell import Cell

CLOSED_CHECK_S = 0.5
"""How often a blocked `FrayActorServer.serve` looks whether its system has been closed."""


class FrayActorServer:
    """Server for hosting actors and handling calls.

    All actors of a process share its one door and its connections, so a server opens a socket of
    its own only where it is given a ``port``.

    Args:
        resolver: Where the actors' names go.
        host: Address to bind, where ``port`` is given. The default means the address on which the
            process is reached anyway: loopback on an embedded cluster.
        port: Port to bind besides the process's own; 0 for none of its own.
    """

    def __init__(self, resolver: SystemResolver, host: str = "0.0.0.0", port: int = 0) -> None:
        if not isinstance(resolver, SystemResolver):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"FrayActorServer needs the resolver of a cluster (fray_resolver()), not "
                f"{type(resolver).__name__}; with a LocalResolver use LocalActorServer"
            )
        self._resolver = resolver
        self._system: ActorSystem = resolver.system
        self._cells: dict[str, Cell] = {}
        self._stopped = threading.Event()
        self._own_address = ""
        if not 0 <= port < 65536:
            raise ValueError(f"port is between 0 and 65535, not {port}")
        if port:
            refuse_to_block("FrayActorServer(port=…)", "FrayActorServer(resolver)  # shared port")
            process = self._system.process
            self._own_address = process.run(lambda: process.listen(host, port))

    @property
    def address(self) -> str:
        """The server's bound address (``host:port``)."""
        return self._own_address or self._system.process.address

    def register(self, name: str, actor: Any, metadata: dict[str, str] | None = None) -> ActorId:
        """Hosts an object as an actor and registers it under a name.

        Additive: other processes may have actors under the same name (a pool); within this server
        a name is registered anew by registering it again. Calls may come in before this returns.

        Args:
            name: Name for resolver lookup.
            actor: Any object with callable methods; a class is instantiated without arguments.
            metadata: Optional metadata for discovery.

        Returns:
            Unique actor id.

        Raises:
            ValueError: The name is empty, or no string.
            TypeError: The metadata is something else than strings.
            NameTakenError: Somebody has the name exclusively.
            BaseException: What the class's constructor or ``on_start`` raised.
        """
        refuse_to_block("server.register(…)", "await server.register_async(…)")
        return self._system.run(lambda: self.register_async(name, actor, metadata))

    async def register_async(
        self, name: str, actor: Any, metadata: dict[str, str] | None = None
    ) -> ActorId:
        """The asynchronous `register`."""
        check_name(name)
        _check_metadata(metadata or {})
        system = self._system
        system.check_open()
        cls = cast("type", actor if inspect.isclass(actor) else type(actor))
        factory: Callable[[], Any] = actor if inspect.isclass(actor) else lambda: actor
        actor_id = ActorId(f"a-{system.process.clock.token(6)}")
        endpoint = Endpoint(
            actor_id=actor_id,
            incarnation=1,
            process_id=system.process.process_id,
            address=self.address,
            job_id=system.job_id,
            metadata=metadata or {},
        )
        await self.unregister_async(name)
        cell = system.host(endpoint.target, name, cell_options(options_of(cls)))
        await cell.start(factory)
        try:
            await system.directory.register(
                Registration(self._resolver.namespace, name, endpoint, slot=name)
            )
        except FrayError:
            cell.kill(DeathCause(DeathKind.STOPPED, "it could not be registered"))
            raise
        self._cells[name] = cell
        return actor_id

    def unregister(self, name: str) -> None:
        """Unregisters and stops an actor; its present calls may end first (5 s).

        Args:
            name: What it was registered under; unknown ones are ignored.
        """
        refuse_to_block("server.unregister(…)", "await server.unregister_async(…)")
        self._system.run(lambda: self.unregister_async(name))

    async def unregister_async(self, name: str, grace_s: float = 5.0) -> None:
        """The asynchronous `unregister`."""
        cell = self._cells.pop(name, None)
        if cell is not None:
            actor_id = cell.target.rpartition("/")[0]
            await self._system.directory.unregister(self._resolver.namespace, name, actor_id)
            await cell.stop(
                DeathCause(DeathKind.STOPPED, "its server unregistered it"), grace_s=grace_s
            )

    def serve(self) -> None:
        """Serves until `shutdown`, or until the job is told to stop. Blocks this thread.

        Calls are served from `register` on; this only keeps the thread.

        Raises:
            JobStopped: The job that runs in this thread was told to stop.
        """
        refuse_to_block("server.serve()", "await server.serve_async()")
        while not self._system.closed and not wait(self._stopped, CLOSED_CHECK_S):
            pass

    async def serve_async(self) -> None:
        """The asynchronous `serve`: returns when all its actors have stopped."""
        for cell in list(self._cells.values()):
            await asyncio.shield(cell.stopped)  # others wait for it too

    def serve_background(self) -> None:
        """Returns at once: actors are served from `register` on, whatever this thread does."""

    def shutdown(self, grace_period: float = 5.0) -> None:
        """Unregisters and stops all actors, and lets `serve` return.

        Args:
            grace_period: How long their present calls may take together, in seconds, ≥ 0.

        Raises:
            ValueError: It is negative.
        """
        refuse_to_block("server.shutdown()", "await server.shutdown_async()")
        if not self._system.closed:
            self._system.run(lambda: self.shutdown_async(grace_period))
        self._stopped.set()

    async def shutdown_async(self, grace_period: float = 5.0) -> None:
        """The asynchronous `shutdown`."""
        if grace_period < 0:
            raise ValueError(f"grace_period must be 0 or more, not {grace_period}")
        if self._system.closed:  # which has ended its actors
            self._cells.clear()
        clock = self._system.process.clock
        deadline = clock.monotonic() + grace_period
        for name in reversed(list(self._cells)):
            await self.unregister_async(name, max(deadline - clock.monotonic(), 0.0))
        self._stopped.set()


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(
        isinstance(text, str)
        for text in (*metadata, *metadata.values())  # pyright: ignore[reportUnknownVariableType]
    ):
        raise TypeError(f"metadata is a dict of strings, not {metadata!r}")


__all__ = ["FrayActorServer"]
