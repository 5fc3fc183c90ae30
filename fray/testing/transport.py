"""The simulated side of the network seam: one `SimTransport` for each simulated process.

It does for `fray.testing.network` what a websocket transport does for sockets: opens doors, dials,
says who may come in. Both sides pass one conformance suite.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
from typing import TYPE_CHECKING

from fray.errors import ConnectionRefused
from fray.runtime.transport import Principal
from fray.testing.faults import PacketKind
from fray.testing.lanes import LANE
from fray.testing.links import Item, SimLink
from fray.testing.network import LOOPBACK, PORT_MAX, WILDCARD, NetworkHost, SimNetwork

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from fray.runtime.auth import Authenticator
    from fray.runtime.transport import Accept
    from fray.testing.lanes import Lane

CONNECT_TIMEOUT_S = 10.0
"""From the start of a dial to the open link."""

FIRST_RETRY_S = 1.0
"""When a connection attempt that nobody answers is repeated; doubles each time, as TCP's does."""


class SimListener:
    """An open door; see `fray.runtime.transport.Listener`.

    Attributes:
        accept: Gives the handlers of links.
        context: In which it is called.
        transport: Whose door it is.
        loopback: Whether only processes of the same host can come.
    """

    def __init__(
        self, transport: SimTransport, host: NetworkHost, bound: str, port: int, accept: Accept
    ) -> None:
        self.transport = transport
        self.accept = accept
        self.context = transport.context()
        self.loopback = bound in LOOPBACK
        self._host = host
        self._port = port
        self._address = f"[{bound}]:{port}" if ":" in bound else f"{bound or '0.0.0.0'}:{port}"

    @property
    def address(self) -> str:
        """See `Listener.address`. The host is what was asked for."""
        return self._address

    @property
    def process_name(self) -> str:
        """Its process, for people."""
        return self.transport.process_name

    async def close(self) -> None:
        """See `Listener.close`."""
        if self._host.doors.get(self._port) is self:
            del self._host.doors[self._port]
        self.transport.door_closed(self)


class SimTransport:
    """Opens links for one simulated process; see `fray.runtime.transport.Transport`.

    Args:
        network: Which network.
        lane: The lane of the process; all callbacks run in it.
        host_name: The host of the process.
        process_name: The process, for people and rules.
        authenticator: Judges the tokens of those who dial; without one everybody may come in, as
            the local administrator.
        token: What this process shows to those whom it dials; a function is asked each time.
    """

    def __init__(
        self,
        network: SimNetwork,
        lane: Lane,
        *,
        host_name: str,
        process_name: str,
        authenticator: Authenticator | None = None,
        token: str | Callable[[str], str] = "",
    ) -> None:
        self._network = network
        self._lane = lane
        self._host_name = host_name
        self._process_name = process_name
        self._authenticator = authenticator
        self._token = token
        self._links: dict[SimLink, None] = {}
        self._doors: dict[SimListener, None] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<SimTransport of {self._process_name}, {len(self._links)} links>"

    @property
    def lane(self) -> Lane:
        """The lane of the process."""
        return self._lane

    @property
    def host_name(self) -> str:
        """The host of the process."""
        return self._host_name

    @property
    def process_name(self) -> str:
        """The process, for people and rules."""
        return self._process_name

    # ---- Transport

    async def listen(self, host: str, port: int, accept: Accept) -> SimListener:
        """See `Transport.listen`.

        Args:
            host: This host's name; a loopback address, to be reached from this host only; or
                ``0.0.0.0``, which is the same as the name.
            port: Port to bind, 0 for any.
            accept: Called with each authenticated link; gives its handler.

        Raises:
            OSError: The address cannot be bound.
        """
        self._check_open()
        here = self._network.hosts[self._host_name]
        if host not in LOOPBACK and host not in WILDCARD and host != self._host_name:
            raise OSError(
                errno.EADDRNOTAVAIL, f"{host!r} is not an address of host {self._host_name}"
            )
        if not 0 <= port <= PORT_MAX:
            raise OSError(errno.EINVAL, f"no such port: {port}")
        port = port or here.free_port()
        if port in here.doors:
            raise OSError(errno.EADDRINUSE, f"port {port} of {self._host_name} is in use")
        door = here.doors[port] = SimListener(self, here, host, port, accept)
        self._doors[door] = None
        self._network.note(f"{self._process_name} listens at {door.address}")
        return door

    async def dial(self, address: str, accept: Accept) -> SimLink:
        """See `Transport.dial`.

        Args:
            address: ``host:port``.
            accept: Called once with the open link; gives its handler.

        Raises:
            ConnectionRefused: The other side does not let us in.
            OSError: Nobody answers there; `TimeoutError` after `CONNECT_TIMEOUT_S`.
        """
        self._check_open()
        name, port = _parse(address)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                door = await self._reach(name, port)
                return await self._enter(door, address, accept)
        except TimeoutError:
            self._network.note(f"{self._process_name} gets no answer from {address}")
            raise TimeoutError(
                errno.ETIMEDOUT, f"{address} did not answer within {CONNECT_TIMEOUT_S:g} s"
            ) from None

    async def close(self) -> None:
        """See `Transport.close`. The handlers have been told when it returns."""
        self._closed = True
        for door in list(self._doors):
            await door.close()
        self._doors.clear()
        for link in list(self._links):
            link.abort()
        # What abort() scheduled in our lane stands before what comes after this.
        told = self._network.loop.create_future()
        self._network.loop.call_soon(_settle, told, context=self.context())
        await told

    # ---- dialling

    async def _reach(self, name: str, port: int) -> SimListener:
        """Finds who listens, after the time that this takes."""
        network = self._network
        there = network.resolve(name, self._host_name)
        retry_s = FIRST_RETRY_S
        while not await network.knock(self._host_name, there):
            await asyncio.sleep(retry_s)
            retry_s *= 2
        door = there.doors.get(port)
        if door is None or (door.loopback and there.name != self._host_name):
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens at {name}:{port}")
        return door

    async def _enter(self, door: SimListener, address: str, accept: Accept) -> SimLink:
        """Asks to be let in."""
        self._check_open()
        network = self._network
        answer: asyncio.Future[Exception | None] = network.loop.create_future()
        token = self._token(address) if callable(self._token) else self._token

        def answered(link: SimLink, item: Item) -> None:
            problem = item.refusal
            if item.kind is PacketKind.RESET and problem is None:
                problem = ConnectionResetError(errno.ECONNRESET, f"{address} reset the connection")
            if problem is None and not answer.done():
                link.granted = link.peer.granted
                problem = link.open(accept)
            if not answer.done():
                answer.set_result(problem)
            if problem is not None:
                link.end(None)

        link = self._connect(door, address, token, answered)
        try:
            problem = await answer
        except asyncio.CancelledError:
            link.abort()
            raise
        if problem is not None:
            raise problem
        return link

    def _connect(
        self,
        door: SimListener,
        address: str,
        token: str,
        answered: Callable[[SimLink, Item], None],
    ) -> SimLink:
        """Makes both ends of a link and sends the request for it."""
        network, other = self._network, door.transport
        number = network.next_link_number()
        local = f"{self._host_name}:{network.hosts[self._host_name].free_port()}"
        mine = self._end(number, address, self.context(), answered)
        theirs = other._end(
            number,
            local,
            door.context.copy(),
            lambda link, item: other._asked(door, link, item, token),
        )
        mine.peer, theirs.peer = theirs, mine
        network.link_made(mine)
        network.note(f"link {number}: {self._process_name} dials {door.process_name} at {address}")
        network.transmit(mine, Item(PacketKind.CONNECT))
        return mine

    def _asked(self, door: SimListener, link: SimLink, item: Item, token: str) -> None:
        """Somebody asks to be let in through one of our doors."""
        if item.kind is PacketKind.RESET:
            return
        refusal = self._judge(door, link, token)
        self._network.transmit(link, Item(PacketKind.CONNECT, refusal=refusal))
        if refusal is not None:
            self._network.note(f"link {link.number} refused by {self._process_name}: {refusal}")
            link.end(None)
        else:
            problem = link.open(door.accept)
            if problem is not None:
                self._network.loop.call_exception_handler(
                    {"message": f"{link.label} could not be accepted", "exception": problem}
                )

    def _judge(self, door: SimListener, link: SimLink, token: str) -> Exception | None:
        if door not in self._doors:
            return ConnectionRefusedError(errno.ECONNREFUSED, f"{door.address} has closed")
        if self._authenticator is None:
            return None
        principal = self._authenticator.verify(token) if token else None
        if principal is None:
            return ConnectionRefused(
                f"{door.address} refuses the link: the token is not valid there", status=401
            )
        link.granted = principal
        return None

    def _end(
        self,
        number: int,
        remote: str,
        context: Context,
        on_connect: Callable[[SimLink, Item], None],
    ) -> SimLink:
        link = SimLink(
            self._network,
            self,
            number=number,
            remote=remote,
            principal=Principal(),
            context=context,
            on_connect=on_connect,
        )
        self._links[link] = None
        return link

    # ---- inside

    def die(self) -> None:
        """The process is dead: doors and links go, and nobody here is told."""
        self._closed = True
        here = self._network.hosts[self._host_name]
        for port in [port for port, door in here.doors.items() if door.transport is self]:
            del here.doors[port]
        self._doors.clear()
        self._network.process_died(list(self._links))
        self._links.clear()

    def door_closed(self, door: SimListener) -> None:
        """Nobody may come in through a door any more.

        Args:
            door: Which.
        """
        self._doors.pop(door, None)

    def link_ended(self, link: SimLink) -> None:
        """See `Owner.link_ended`."""
        self._links.pop(link, None)
        self._network.link_ended(link)

    def context(self) -> Context:
        """A context for callbacks: that of the caller, if it is the process itself."""
        if LANE.get(self._network.loop.main_lane) is self._lane:
            return contextvars.copy_context()
        return self._lane.context.copy()

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the transport is closed")


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _parse(address: str) -> tuple[str, int]:
    name, _, port = address.rpartition(":")
    if not name or not port.isdecimal():
        raise OSError(errno.EINVAL, f"not an address: {address!r}; it is host:port")
    return name.removeprefix("[").removesuffix("]"), int(port)


__all__ = ["CONNECT_TIMEOUT_S", "SimListener", "SimTransport"]
