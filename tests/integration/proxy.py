"""A TCP proxy that makes connections slow, stalls them, and drops them, as a test orders it.

It runs on the test's own loop. Connections arrive by a detour of iptables (`netns.Network.detour`)
and go on to where they were meant to go; or all go to one upstream address.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

MARK = 0x66
"""On the proxy's own connections, so that they take no detour."""

PIECE_BYTES = 64 << 10
BACKLOG_BYTES = 256 << 10
"""What a direction holds at most, beside what the kernel does: then it reads no more."""

_ORIGINAL_DESTINATION = 80  # SO_ORIGINAL_DST of <linux/netfilter_ipv4.h>
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing sends RST


@dataclass
class Way:
    """How one direction is treated; a change counts from the next piece on.

    Attributes:
        delay_s: How late everything arrives.
        jitter_s: What is added to or taken from that, at random; order is kept.
        bytes_per_s: How much gets through; None for all.
        flows: Set while anything gets through.
    """

    flows: asyncio.Event
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None

    def stall(self) -> None:
        """Nothing gets through any more; what is sent piles up at the sender."""
        self.flows.clear()

    def resume(self) -> None:
        """Goes on where it was stalled."""
        self.flows.set()


class _Pump:
    """One direction of one connection."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, way: Way, dice: random.Random
    ) -> None:
        self._source = source
        self._sink = sink
        self._way = way
        self._dice = dice
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self._changed = asyncio.Event()
        self.passed_bytes = 0

    async def run(self) -> None:
        """Until the source has ended, and all of it has been passed on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._write())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            while self._held_bytes >= BACKLOG_BYTES:
                self._changed.clear()
                await self._changed.wait()
            data = await loop.sock_recv(self._source, PIECE_BYTES)
            way = self._way
            delay_s = way.delay_s + self._dice.uniform(-way.jitter_s, way.jitter_s)
            due = max(due, loop.time() + max(delay_s, 0.0))  # what comes later arrives later
            self._pieces.append((due, data))
            self._held_bytes += len(data)
            self._changed.set()
            if not data:
                return

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._pieces:
                self._changed.clear()
                await self._changed.wait()
            due, data = self._pieces.popleft()
            await asyncio.sleep(max(due - loop.time(), 0.0))
            await self._way.flows.wait()
            if not data:
                with contextlib.suppress(OSError):  # it has gone first
                    self._sink.shutdown(socket.SHUT_WR)
                return
            if self._way.bytes_per_s is not None:
                await asyncio.sleep(len(data) / self._way.bytes_per_s)
            await loop.sock_sendall(self._sink, data)
            self.passed_bytes += len(data)
            self._held_bytes -= len(data)
            self._changed.set()


class Dropped(Exception):
    """A test has ended a connection."""


class Connection:
    """One connection through the proxy.

    Attributes:
        number: Counts them, from 0.
        up: What whoever connected sends.
        down: What it gets.
    """

    def __init__(
        self,
        number: int,
        near: socket.socket,
        far: socket.socket,
        proxy: Proxy,
        dice: random.Random,
    ) -> None:
        self.number = number
        self._near = near
        self._far = far
        self.up = _Pump(near, far, proxy.up, dice)
        self.down = _Pump(far, near, proxy.down, dice)
        self._dropped = asyncio.Event()
        self._forgotten = asyncio.Event()
        self._half_open = False

    async def run(self) -> None:
        """Until both directions have ended, or it is dropped."""
        reset = True
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._until_dropped())
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self.up.run())
                    pumps.create_task(self.down.run())
                watching.cancel()
                reset = False
        except* (Dropped, OSError):
            if self._half_open:
                _close(self._near, reset=True)
                await self._forgotten.wait()
        finally:
            _close(self._near, reset=reset)
            _close(self._far, reset=reset)

    async def _until_dropped(self) -> None:
        await self._dropped.wait()
        raise Dropped

    def drop(self, *, half_open: bool = False) -> None:
        """Ends it at once, with a reset; what was under way is lost.

        Args:
            half_open: Only whoever connected hears of it; to the other side it stays open, in
                silence, until it is dropped again.
        """
        self._half_open = half_open
        self._dropped.set()
        if not half_open:
            self._forgotten.set()


def _close(sock: socket.socket, *, reset: bool) -> None:
    if sock.fileno() >= 0:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()


class Proxy:
    """See the module.

    Args:
        upstream: ``host:port`` to which all connections go; None for where each was meant to go.
        seed: Of jitter.
        accepts: Told of each connection's number; False drops it at once.

    Attributes:
        up: How what clients send is treated.
        down: How what they get is treated.
        connections: Those that are open.
        accepted: How many there ever were.
        port: Where it listens.
    """

    def __init__(
        self,
        upstream: str | None = None,
        *,
        seed: int = 0,
        accepts: Callable[[int], bool] = lambda number: True,
    ) -> None:
        self._upstream = upstream
        self._dice = random.Random(seed)
        self._accepts = accepts
        self.up = Way(_set_event())
        self.down = Way(_set_event())
        self.connections: list[Connection] = []
        self.accepted = 0
        self.port = 0

    async def serve(self, listener: socket.socket) -> None:
        """Takes connections until it is cancelled, which ends them all.

        Args:
            listener: Where they come in.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                near, _ = await loop.sock_accept(listener)
                near.setblocking(False)
                number, self.accepted = self.accepted, self.accepted + 1
                if self._accepts(number):
                    group.create_task(self._pass_on(number, near))
                else:
                    _close(near, reset=True)

    async def _pass_on(self, number: int, near: socket.socket) -> None:
        far = socket.socket()
        far.setblocking(False)
        try:
            if self._upstream is None:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            await asyncio.get_running_loop().sock_connect(far, self._destination(near))
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException as exc:
            _close(near, reset=True)
            _close(far, reset=True)
            if isinstance(exc, OSError):  # there is nobody
                return
            raise
        connection = Connection(number, near, far, self, self._dice)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)

    def _destination(self, near: socket.socket) -> tuple[str, int]:
        if self._upstream is not None:
            host, _, port = self._upstream.rpartition(":")
            return host, int(port)
        raw = near.getsockopt(socket.SOL_IP, _ORIGINAL_DESTINATION, 16)
        port, address = struct.unpack("!2xH4s8x", raw)
        return socket.inet_ntoa(address), port

    def drop_all(self, *, half_open: bool = False) -> None:
        """Ends all connections at once.

        Args:
            half_open: See `Connection.drop`.
        """
        for connection in list(self.connections):
            connection.drop(half_open=half_open)


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@asynccontextmanager
async def proxying(
    upstream: str | None = None,
    *,
    seed: int = 0,
    accepts: Callable[[int], bool] = lambda number: True,
) -> AsyncGenerator[Proxy]:
    """A proxy on a port of the loopback, of whatever namespace this thread is in.

    Args:
        upstream: See `Proxy`.
        seed: See `Proxy`.
        accepts: See `Proxy`.
    """
    proxy = Proxy(upstream, seed=seed, accepts=accepts)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    proxy.port = listener.getsockname()[1]
    serving = asyncio.ensure_future(proxy.serve(listener))
    try:
        yield proxy
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        listener.close()
        if not serving.cancelled():
            serving.result()
