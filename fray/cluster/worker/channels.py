"""Streams of bytes into this host, over the links that are there anyway: programs and ports.

A *channel* is a program that was started inside an attempt (`fray task exec`), or a connection to
one of its ports (`fray port-forward`). Its client reads and writes by offsets, so each call may be
repeated. What nobody reads is not read from the program either, so that memory stays bounded; a
channel whose client is silent is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from fray.cluster.control import ChannelPiece, ExecRequest
from fray.cluster.worker.entering import InsideProgram
from fray.errors import InvalidRequestError, JobNotFoundError
from fray.ids import AttemptId
from fray.runtime.calls import CURRENT_INVOCATION

if TYPE_CHECKING:
    from fray.cluster.worker.roster import HostedAttempt, Roster
    from fray.runtime.clock import Clock
    from fray.runtime.tasks import Scope

log = logging.getLogger(__name__)

CHANNELS_MAX = 64
"""Open at once on one host."""

BUFFER_BYTES = 256 << 10
"""What is kept of each stream until its client has it."""

IDLE_S = 60.0
"""A client that says nothing for so long is gone."""

LOOK_S = 5.0

CONNECT_S = 5.0
"""A task whose port takes no connection for so long is not listening to anybody."""

KILL_S = 2.0
"""How long a program that was killed is waited for."""

PIECE_BYTES = 64 << 10


class Ends(Protocol):
    """What a channel leads to."""

    async def read(self, stream: int) -> bytes:
        """What comes out of a stream; nothing at its end."""
        ...

    async def write(self, data: bytes) -> None:
        """Puts bytes in; waits while there is no room."""
        ...

    async def end_input(self) -> None:
        """Nothing more comes in."""
        ...

    async def wait(self) -> int:
        """Waits for the end; gives the exit code."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """The client's terminal has another size."""
        ...

    def signal(self, number: int) -> None:
        """Passes a signal on."""
        ...

    def abort(self) -> None:
        """Ends it at once."""
        ...

    def close(self) -> None:
        """Ends it, and frees what it holds; nothing of it is used any more. Does not block."""
        ...


class Outbox:
    """What came out of one stream and is not known to have arrived."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._start = 0
        self.ended = False
        self.changed = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Takes bytes; waits while there are too many."""
        while len(self._data) >= BUFFER_BYTES:
            self.changed.clear()
            await self.changed.wait()
        self._data += data
        self.changed.set()

    def end(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self.changed.set()

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Bytes from an offset on; those before it have arrived.

        Raises:
            InvalidRequestError: They are not kept any more, or never were there.
        """
        if not self._start <= offset <= self._start + len(self._data):
            raise InvalidRequestError(f"offset {offset} of a channel is not kept")
        if offset > self._start:
            del self._data[: offset - self._start]
            self._start = offset
            self.changed.set()
        return bytes(self._data[:max_bytes])


class Channel:
    """One channel.

    Args:
        ends: What it leads to.
        streams: Which streams come out of it.
        scope: Owns its pumps.
        until: When set, what it leads to is ended.
    """

    def __init__(
        self,
        ends: Ends,
        streams: tuple[int, ...],
        scope: Scope,
        until: asyncio.Event | None = None,
    ) -> None:
        self.ends = ends
        self.outboxes = {stream: Outbox() for stream in streams}
        self.heard_at = 0.0
        self.exit_code: int | None = None
        self._written = 0
        self._writing = asyncio.Lock()
        self._end = scope.spawn(self._watch(), name="end")
        self._tasks = [
            *(scope.spawn(self._pump(s, box), name="out") for s, box in self.outboxes.items()),
            self._end,
        ]
        if until is not None:
            self._tasks.append(scope.spawn(self._end_with(until), name="ends with its attempt"))

    async def _pump(self, stream: int, outbox: Outbox) -> None:
        try:
            while data := await self.ends.read(stream):
                await outbox.put(data)
        finally:
            outbox.end()

    async def _watch(self) -> None:
        self.exit_code = await self.ends.wait()
        for outbox in self.outboxes.values():
            outbox.changed.set()

    async def _end_with(self, until: asyncio.Event) -> None:
        await until.wait()
        if self.exit_code is None:
            self.ends.abort()

    async def write(self, offset: int, data: bytes, end: bool) -> int:
        """See `ChannelsApi.write`."""
        async with self._writing:
            if offset > self._written:
                raise InvalidRequestError(f"input before offset {offset} of a channel is missing")
            fresh = data[self._written - offset :]
            if fresh:
                await self.ends.write(fresh)
                self._written += len(fresh)
            if end:
                await self.ends.end_input()
            return self._written

    async def read(self, stream: int, offset: int, max_bytes: int, wait_s: float) -> ChannelPiece:
        """See `ChannelsApi.read`."""
        outbox = self.outboxes.get(stream)
        if outbox is None:
            raise InvalidRequestError(f"a channel has no stream {stream}")
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    data = outbox.read(offset, max_bytes)
                    over = outbox.ended and not data and self.exit_code is not None
                    if data or over:
                        return ChannelPiece(data, offset + len(data), over, self.exit_code)
                    outbox.changed.clear()
                    await outbox.changed.wait()
        except TimeoutError:
            return ChannelPiece(b"", offset, False, None)

    async def close(self) -> None:
        """Ends it, and what it leads to."""
        self.ends.abort()
        await asyncio.wait([self._end], timeout=KILL_S)  # one that hangs in the kernel stays there
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.ends.close()


class Port:
    """A connection to a port of an attempt; see `Ends`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ended = asyncio.Event()

    async def read(self, stream: int) -> bytes:
        """See `Ends.read`."""
        try:
            data = await self._reader.read(PIECE_BYTES)
        except OSError:
            data = b""
        if not data:
            self._ended.set()
        return data

    async def write(self, data: bytes) -> None:
        """See `Ends.write`."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            self._ended.set()

    async def end_input(self) -> None:
        """See `Ends.end_input`."""
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    async def wait(self) -> int:
        """See `Ends.wait`."""
        await self._ended.wait()
        return 0

    def resize(self, rows: int, columns: int) -> None:
        """See `Ends.resize`. A port is no terminal."""

    def signal(self, number: int) -> None:
        """See `Ends.signal`. A port is no program."""

    def abort(self) -> None:
        """See `Ends.abort`."""
        self._writer.transport.abort()
        self._ended.set()

    def close(self) -> None:
        """See `Ends.close`."""
        self.abort()


class Channels:
    """The actor ``channels`` of an agent; see `ChannelsApi`.

    Args:
        roster: The host's attempts.
        clock: The host's.
        scope: Owns what channels do.
    """

    def __init__(self, roster: Roster, clock: Clock, scope: Scope) -> None:
        self._roster = roster
        self._clock = clock
        self._scope = scope
        self._channels: dict[str, Channel] = {}
        self._opening: dict[str, asyncio.Event] = {}  # set when it is open, or cannot be
        self._watching: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Channels {len(self._channels)}>"

    # ---- ChannelsApi

    async def open_exec(self, channel_id: str, request: ExecRequest) -> None:
        """See `ChannelsApi.open_exec`."""

        async def open_it() -> Channel:
            attempt = self._running(request.attempt_id)
            pid, run_dir = self._roster.main_process(request.attempt_id)
            program = await InsideProgram.start(pid, run_dir, request)
            # What was started inside an attempt ends with it.
            return Channel(program, program.streams, self._scope, until=attempt.ended)

        # The program alone is told: its arguments may hold secrets.
        await self._open(channel_id, f"exec {request.argv[:1]} in {request.attempt_id}", open_it)

    async def open_port(self, channel_id: str, attempt_id: AttemptId, port_name: str) -> None:
        """See `ChannelsApi.open_port`."""

        async def open_it() -> Channel:
            ports = self._running(attempt_id).ports
            port = ports.get(port_name)
            if port is None:
                known = ", ".join(sorted(ports)) or "none"
                raise InvalidRequestError(
                    f"attempt {attempt_id} has no port {port_name!r} (it has: {known})"
                )
            try:
                async with asyncio.timeout(CONNECT_S):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except TimeoutError as exc:
                raise InvalidRequestError(
                    f"what listens at port {port_name!r} ({port}) of {attempt_id} has accepted no "
                    f"connection for {CONNECT_S:g} s: it is busy, or stuck (see `fray stack`)"
                ) from exc
            except OSError as exc:
                raise InvalidRequestError(
                    f"nothing listens at port {port_name!r} ({port}) of {attempt_id} yet: "
                    f"{exc.strerror or exc}"
                ) from exc
            return Channel(Port(reader, writer), (1,), self._scope)

        await self._open(channel_id, f"port {port_name} of {attempt_id}", open_it)

    async def read(
        self, channel_id: str, stream: int, offset: int, max_bytes: int, wait_s: float
    ) -> ChannelPiece:
        """See `ChannelsApi.read`."""
        channel = self._channel(channel_id)
        piece = await channel.read(stream, offset, min(max_bytes, PIECE_BYTES), wait_s)
        channel.heard_at = self._clock.monotonic()
        return piece

    async def write(self, channel_id: str, offset: int, data: bytes, end: bool) -> int:
        """See `ChannelsApi.write`."""
        return await self._channel(channel_id).write(offset, data, end)

    async def resize(self, channel_id: str, rows: int, columns: int) -> None:
        """See `ChannelsApi.resize`."""
        self._channel(channel_id).ends.resize(rows, columns)

    async def signal(self, channel_id: str, number: int) -> None:
        """See `ChannelsApi.signal`."""
        self._channel(channel_id).ends.signal(number)

    async def close(self, channel_id: str) -> None:
        """See `ChannelsApi.close`."""
        channel = self._channels.pop(channel_id, None)
        if channel is not None:
            await channel.close()

    # ---- inside

    async def _watch(self) -> None:
        """Closes channels whose clients are gone, while there are any."""
        while self._channels:
            await self._clock.sleep(LOOK_S)
            now = self._clock.monotonic()
            for channel_id, channel in list(self._channels.items()):
                if now - channel.heard_at > IDLE_S:
                    log.info("channel %s is closed: its client is silent", channel_id)
                    await self.close(channel_id)

    async def _open(
        self, channel_id: str, what: str, open_it: Callable[[], Awaitable[Channel]]
    ) -> None:
        while (opening := self._opening.get(channel_id)) is not None:
            await opening.wait()  # the same question again waits for the first one's answer
        if channel_id in self._channels:
            return
        if len(self._channels) + len(self._opening) >= CHANNELS_MAX:
            raise InvalidRequestError(
                f"{CHANNELS_MAX} programs and ports are in use on this host already"
            )
        opened = self._opening[channel_id] = asyncio.Event()
        try:
            channel = self._channels[channel_id] = await open_it()
        finally:
            del self._opening[channel_id]
            opened.set()
        channel.heard_at = self._clock.monotonic()
        if self._watching is None or self._watching.done():
            self._watching = self._scope.spawn(self._watch(), name="channels")
        invocation = CURRENT_INVOCATION.get()
        caller = invocation.caller if invocation is not None else None
        log.info("%s, for %s", what, f"{caller.role} {caller.user}" if caller else "this process")

    def _running(self, attempt_id: AttemptId) -> HostedAttempt:
        attempt = self._roster.attempts.get(attempt_id)
        if attempt is None:
            raise JobNotFoundError(f"this host knows no attempt {attempt_id}")
        if attempt.ended.is_set() or attempt.running is None:
            raise InvalidRequestError(f"attempt {attempt_id} does not run: it is {attempt.state}")
        return attempt

    def _channel(self, channel_id: str) -> Channel:
        channel = self._channels.get(channel_id)
        if channel is None:
            raise JobNotFoundError(
                f"there is no channel {channel_id[:80]!r}: it was closed, or its agent restarted"
            )
        channel.heard_at = self._clock.monotonic()
        return channel


__all__ = ["Channel", "Channels", "Outbox", "Port"]
