"""Starting a program inside a running attempt: with its variables, folder, account and limits.

The program is a child of the agent's, not of the attempt's: it ends with its channel, and when the
attempt has ended. `fray.cluster.worker.shim.enter` makes the change, in a process of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fray.cluster.worker import shim
from fray.cluster.worker.shim import procfs, records
from fray.errors import InvalidRequestError

if TYPE_CHECKING:
    from fray.cluster.control import ExecRequest

STDOUT, STDERR = 1, 2

PIECE_BYTES = 64 << 10

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from shim import enter; "
    "del sys.path[0]; enter.main(int(sys.argv[2]))"
)


class Pipe:
    """A descriptor that is read or written without blocking, on the running loop.

    Args:
        fd: Becomes non-blocking. Stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = asyncio.get_running_loop()

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        while True:
            try:
                return os.read(self._fd, PIECE_BYTES)
            except BlockingIOError:
                await self._until(self._loop.add_reader, self._loop.remove_reader)
            except OSError:  # EIO: nobody has the terminal open any more
                return b""

    async def write(self, data: bytes) -> None:
        """Writes all of it, unless nobody reads any more."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._until(self._loop.add_writer, self._loop.remove_writer)
            except OSError:
                return

    async def _until(
        self, add: Callable[[int, Callable[[], None]], object], remove: Callable[[int], object]
    ) -> None:
        ready = asyncio.Event()
        add(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            remove(self._fd)


class InsideProgram:
    """A program inside an attempt; see `fray.cluster.worker.channels.Ends`.

    Args:
        process: It.
        master: The terminal's other side, where it has one; else None. Is closed with it.
    """

    def __init__(self, process: subprocess.Popen[bytes], master: int | None) -> None:
        self._process = process
        self._master = master
        self.streams = (STDOUT,) if master is not None else (STDOUT, STDERR)
        if master is not None:
            # Two descriptors, for a loop watches one for reading or for writing.
            self._output_end = os.dup(master)
            self._outputs = {STDOUT: Pipe(self._output_end)}
            self._input = Pipe(master)
        else:
            stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
            assert stdin is not None and stdout is not None and stderr is not None  # noqa: PT018
            self._outputs = {STDOUT: Pipe(stdout.fileno()), STDERR: Pipe(stderr.fileno())}
            self._input = Pipe(stdin.fileno())

    def __repr__(self) -> str:
        return f"<InsideProgram {self._process.pid}>"

    @classmethod
    async def start(cls, pid: int, run_dir: Path, request: ExecRequest) -> InsideProgram:
        """Starts one.

        Args:
            pid: The main process of the attempt.
            run_dir: The attempt's run directory.
            request: What to start.

        Raises:
            InvalidRequestError: It cannot be started; the message says why.
        """
        if not request.argv:
            raise InvalidRequestError("there is no program to run")
        order = json.dumps(_order(pid, run_dir, request)).encode()
        return cls(*await asyncio.to_thread(cls._start, order, request))

    @staticmethod
    def _start(order: bytes, request: ExecRequest) -> tuple[subprocess.Popen[bytes], int | None]:
        order_end, ours = os.pipe()
        master = slave = None
        if request.tty:
            master, slave = pty.openpty()
            _set_size(master, request.rows, request.columns)
        package = Path(shim.__file__).parent.parent
        std = subprocess.PIPE if slave is None else slave
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(package), str(order_end)],
                stdin=std,
                stdout=std,
                stderr=std,
                pass_fds=(order_end,),
                start_new_session=True,
                cwd="/",
            )
        except OSError as exc:
            os.close(ours)
            if master is not None:
                os.close(master)
            raise InvalidRequestError(f"nothing can be started here: {exc.strerror}") from exc
        finally:
            os.close(order_end)
            if slave is not None:
                os.close(slave)
        try:
            with open(ours, "wb") as pipe:
                pipe.write(order)
        except BrokenPipeError:
            pass  # it has ended already: its exit code is told
        return process, master

    async def read(self, stream: int) -> bytes:
        """See `Ends.read`."""
        return await self._outputs[stream].read()

    async def write(self, data: bytes) -> None:
        """See `Ends.write`."""
        if not self._is_closed:
            await self._input.write(data)

    @property
    def _is_closed(self) -> bool:
        return self._process.stdin is not None and self._process.stdin.closed

    async def end_input(self) -> None:
        """See `Ends.end_input`."""
        if self._process.stdin is None:
            await self._input.write(b"\x04")
        else:
            self._process.stdin.close()

    async def wait(self) -> int:
        """See `Ends.wait`."""
        pidfd = os.pidfd_open(self._process.pid)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def resize(self, rows: int, columns: int) -> None:
        """See `Ends.resize`."""
        if self._master is not None and self._process.poll() is None:
            _set_size(self._master, rows, columns)

    def signal(self, number: int) -> None:
        """See `Ends.signal`."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def abort(self) -> None:
        """See `Ends.abort`. The process is reaped by whoever waits for it."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # it has ended, or is another's by now

    def close(self) -> None:
        """See `Ends.close`."""
        self.abort()
        self._process.poll()  # what has not ended by now hangs in the kernel; see `subprocess`
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        if self._master is not None:
            os.close(self._master)
            os.close(self._output_end)


def write_environ(run_dir: Path, variables: Mapping[str, str]) -> None:
    """Keeps an attempt's variables for programs that are started inside it later.

    ``/proc`` does not tell them of a process that was forked for its task in place of a new one.

    Args:
        run_dir: The attempt's; its owner alone can read what is in it.
        variables: All of them.

    Raises:
        OSError: They cannot be written.
    """
    fd = os.open(
        run_dir / records.ENVIRON, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
    )
    with open(fd, "wb") as file:
        file.write(b"".join(os.fsencode(f"{n}={v}") + b"\0" for n, v in variables.items()))


def _order(pid: int, run_dir: Path, request: ExecRequest) -> dict[str, Any]:
    """What the program gets: the attempt's variables, and the rest as its main process has it."""
    try:
        raw = (run_dir / records.ENVIRON).read_bytes()
        cwd = os.readlink(f"/proc/{pid}/cwd")
        owner = os.stat(f"/proc/{pid}")
    except OSError as exc:
        raise InvalidRequestError(
            f"its main process {pid} cannot be looked at ({exc.strerror}): it has ended, or "
            "belongs to another account"
        ) from exc
    pairs = [pair.partition(b"=") for pair in raw.split(b"\0") if pair]
    env = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    if request.tty:
        env["TERM"] = request.term or env.get("TERM", "xterm")
    groups = [
        int(each)
        for line in procfs.read_text(f"/proc/{pid}/status").splitlines()
        if line.startswith("Groups:")
        for each in line.split()[1:]
    ]
    is_another = owner.st_uid != os.geteuid()
    return {
        "argv": list(request.argv),
        "env": env,
        "cwd": cwd,
        "pid": pid,
        "account": [owner.st_uid, owner.st_gid, groups] if is_another else None,
        "tty": request.tty,
    }


def _set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


__all__ = ["STDERR", "STDOUT", "InsideProgram"]
