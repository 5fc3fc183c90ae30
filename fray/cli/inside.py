"""A program inside a running task, at this terminal; and a task's port at one of this machine's."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import sys
import termios
import tty
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fray.cluster.control import ChannelsApi, ExecRequest
from fray.cluster.controlcalls import control
from fray.errors import FrayError, InvalidRequestError, JobNotFoundError
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.reports import AttemptPlace

READ_WAIT_S = 20.0
PIECE_BYTES = 64 << 10


class RemoteChannel:
    """One channel, from its client's side.

    Args:
        api: The host's channels.
        channel_id: Which.
    """

    def __init__(self, api: ChannelsApi, channel_id: str) -> None:
        self._api = api
        self._id = channel_id
        self._written = 0

    async def read_all(self, stream: int, take: Callable[[bytes], Awaitable[None]]) -> int:
        """Reads a stream to its end; gives the exit code.

        Args:
            stream: Which.
            take: Gets the bytes.
        """
        offset = 0
        while True:
            piece = await self._api.read(self._id, stream, offset, PIECE_BYTES, wait_s=READ_WAIT_S)
            offset = piece.next_offset
            if piece.data:
                await take(piece.data)
            if piece.end:
                return piece.exit_code or 0

    async def write_all(self, give: Callable[[], Awaitable[bytes]]) -> None:
        """Writes what comes until nothing does.

        Args:
            give: Gives bytes; none at the end.
        """
        while True:
            data = await give()
            end = not data
            self._written = await self._api.write(self._id, self._written, data, end)
            if end:
                return

    async def resize(self, rows: int, columns: int) -> None:
        """The terminal here has another size."""
        await self._api.resize(self._id, rows, columns)

    async def signal(self, number: int) -> None:
        """Passes a signal on."""
        await self._api.signal(self._id, number)

    async def close(self) -> None:
        """Ends it; a host that does not answer ends it by itself."""
        try:
            await self._api.close(self._id)
        except FrayError:
            return


def channels_of(cluster: AsyncFrayCluster, address: str) -> ChannelsApi:
    """The channels of a host.

    Args:
        cluster: Whose.
        address: The host's agent.
    """
    return control(ChannelsApi, cluster.system, address, "channels")


# ---- a program


async def run_inside(cluster: AsyncFrayCluster, place: AttemptPlace, argv: tuple[str, ...]) -> int:
    """Runs a program inside an attempt; gives its exit code.

    Args:
        cluster: Where the attempt is.
        place: The attempt.
        argv: The program and its arguments.

    Raises:
        FrayError: It cannot be started, or its host is gone.
    """
    api = channels_of(cluster, place.agent_address)
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    rows, columns = _size() if has_terminal else (24, 80)
    request = ExecRequest(
        place.attempt_id, argv, has_terminal, rows, columns, os.environ.get("TERM", "")
    )
    channel_id = f"x-{cluster.system.process.clock.token(8)}"
    channel = RemoteChannel(api, channel_id)
    await api.open_exec(channel_id, request)
    try:
        with _raw(has_terminal):
            return await _connect_terminal(channel, has_terminal)
    finally:
        await channel.close()


async def _connect_terminal(channel: RemoteChannel, has_terminal: bool) -> int:
    loop = asyncio.get_running_loop()
    async with Scope("exec", _told_below) as scope:
        # A terminal in raw mode sends Ctrl-C as a key.
        other = signal.SIGHUP if has_terminal else signal.SIGINT
        passed = (signal.SIGTERM, other)
        for number in passed:
            loop.add_signal_handler(
                number, lambda n: scope.spawn(_ignoring(channel.signal(n))), number
            )
        if has_terminal:
            loop.add_signal_handler(
                signal.SIGWINCH, lambda: scope.spawn(_ignoring(channel.resize(*_size())))
            )
        try:
            scope.spawn(channel.write_all(_stdin()), name="in")
            outputs = [scope.spawn(channel.read_all(1, _writer(1)), name="out")]
            if not has_terminal:
                outputs.append(scope.spawn(channel.read_all(2, _writer(2)), name="err"))
            await asyncio.gather(*outputs)
            return outputs[0].result()
        finally:
            for number in passed:
                loop.remove_signal_handler(number)
            if has_terminal:
                loop.remove_signal_handler(signal.SIGWINCH)


def _stdin() -> Callable[[], Awaitable[bytes]]:
    loop = asyncio.get_running_loop()
    fd = sys.stdin.fileno()

    async def give() -> bytes:
        ready = asyncio.Event()
        try:
            loop.add_reader(fd, ready.set)
        except (OSError, ValueError):  # an ordinary file is always ready
            return os.read(fd, PIECE_BYTES)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(fd)
        return os.read(fd, PIECE_BYTES)

    return give


def _writer(fd: int) -> Callable[[bytes], Awaitable[None]]:
    async def take(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await asyncio.to_thread(os.write, fd, view) :]

    return take


async def _ignoring(doing: Awaitable[None]) -> None:
    """What comes too late for a program that has ended is no error."""
    try:
        await doing
    except (JobNotFoundError, InvalidRequestError):
        return


@contextmanager
def _raw(wanted: bool) -> Generator[None]:
    """The terminal as full-screen programs want it: each key goes to the other side."""
    if not wanted:
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _size() -> tuple[int, int]:
    raw = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
    rows, columns, _, _ = struct.unpack("HHHH", raw)
    return rows or 24, columns or 80


def _told_below(name: str, exc: BaseException) -> None:
    """A pump failed: whoever awaits it raises that."""


# ---- a port


class Forwarding:
    """A port of this machine that leads to one of a task.

    Args:
        cluster: Where the task is.
        place: Its attempt.
        port_name: Its port.
        tell: Told what goes wrong with single connections.
    """

    def __init__(
        self,
        cluster: AsyncFrayCluster,
        place: AttemptPlace,
        port_name: str,
        tell: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._api = channels_of(cluster, place.agent_address)
        self._place = place
        self._port_name = port_name
        self._tell = tell

    async def open(self, host: str, port: int) -> asyncio.Server:
        """Listens.

        Args:
            host: Address to bind.
            port: Port to bind; 0 for any.

        Raises:
            OSError: It is taken.
        """
        return await asyncio.start_server(self._serve, host, port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel_id = f"p-{self._cluster.system.process.clock.token(8)}"
        channel = RemoteChannel(self._api, channel_id)

        async def take(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            await self._api.open_port(channel_id, self._place.attempt_id, self._port_name)
            async with Scope("forward", _told_below) as scope:
                scope.spawn(channel.write_all(lambda: reader.read(PIECE_BYTES)), name="in")
                await channel.read_all(1, take)
        except FrayError as exc:
            self._tell(str(exc))
        except OSError:
            pass  # the client here has gone
        finally:
            writer.close()
            await channel.close()


__all__ = ["Forwarding", "RemoteChannel", "channels_of", "run_inside"]
