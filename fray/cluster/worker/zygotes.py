"""The agent's side of the fork servers from which supervisors, and some tasks, are forked."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.worker import shim
from fray.cluster.worker.shim import records

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

WARM_MAX = 4
"""Pre-started interpreters that are kept, each of an environment: some 50 MB each."""

MARKER_BYTES = 1024
"""Room in a pre-started interpreter's variables for the markers of its attempts."""

_ZYGOTE_EXIT_TIMEOUT_S = 5.0
_ZYGOTE_LOOK_S = 0.002

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from shim import zygote; "
    "del sys.path[0]; zygote.main(int(sys.argv[2]))"
)

_READ_AT_START = (
    *("PYTHON", "LD_", "GLIBC_", "MALLOC_", "LC_", "LANG", "GCONV_", "LOCPATH"),
    *("SSL", "OPENSSL_", "AIOHTTP_"),
)
"""Variables that an interpreter, the C library, or a library that fray imports reads when it
starts, begin so; others of the latter end so:"""

_READ_AT_IMPORT = "_NO_EXTENSIONS"

_SET_LATER = ("PYTHONPATH",)


class Zygote:
    """The agent's side of a fork server; see `fray.cluster.worker.shim.zygote`.

    Args:
        command: Its command line; a descriptor's number follows.
        env: Its environment variables; None for those of this process.
        disposable: Whether it is not started again once it has ended, and is ended by force: it may
            still be importing, and does not listen then.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        disposable: bool = False,
    ) -> None:
        self._command = command
        self._env = env
        self._disposable = disposable
        self._is_ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def send(self, fd: int) -> None:
        """Has a supervisor forked that gets a copy of a descriptor. Does not wait for it.

        Args:
            fd: The supervisor's end of a socket pair.

        Raises:
            OSError: No process can be started.
        """
        for attempt in (1, 2):
            if self._socket is None:
                self.open()
            assert self._socket is not None
            try:
                socket.send_fds(self._socket, [b"l"], [fd])
            except (BrokenPipeError, ConnectionResetError):
                # Somebody killed it; the byte was not read, so there is no second supervisor.
                self.close()
                if attempt == 2 or self._disposable:
                    raise
            else:
                return

    def close(self) -> None:
        """Ends it, and waits until it has. Supervisors are not touched. May be called again."""
        process = self._let_go()
        if process is not None:
            try:
                process.wait(_ZYGOTE_EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_ZYGOTE_EXIT_TIMEOUT_S)

    async def end(self, clock: Clock) -> None:
        """The asynchronous `close`. It needs no thread: a dying interpreter starts none any more.

        Args:
            clock: For waiting.
        """
        process = self._let_go()
        if process is None:
            return
        deadline = clock.monotonic() + _ZYGOTE_EXIT_TIMEOUT_S
        while process.poll() is None:
            if clock.monotonic() > deadline:
                process.kill()
            await clock.sleep(_ZYGOTE_LOOK_S)

    def _let_go(self) -> subprocess.Popen[bytes] | None:
        """Closes the connection, at which it ends; gives its process, if there is one."""
        process, connection = self._process, self._socket
        self._process = self._socket = None
        if connection is not None:
            connection.close()
        if process is not None and self._disposable:
            process.kill()
        return process

    def is_ready(self) -> bool:
        """Whether it has said that it has imported all it needs."""
        if not self._is_ready and self._socket is not None:
            try:
                self._is_ready = bool(self._socket.recv(1, socket.MSG_DONTWAIT))
            except (BlockingIOError, ConnectionResetError):
                return False
            if not self._is_ready:  # it has ended: it cannot be started, or was killed
                self.close()
        return self._is_ready and self._socket is not None

    @property
    def is_open(self) -> bool:
        """Whether it was started and has not ended, as far as is known."""
        return self._socket is not None

    def open(self) -> None:
        """Starts it. Does not wait until it is ready.

        Raises:
            OSError: No process can be started.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*self._command, str(theirs.fileno())],
                    env=self._env,
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                )
        except BaseException:
            ours.close()
            raise
        self._socket = ours


def cold_zygote() -> Zygote:
    """The one that forks supervisors and has nothing but what these need."""
    package = Path(shim.__file__).parent.parent
    return Zygote([sys.executable, "-I", "-S", "-c", _BOOT, str(package)])


class WarmZygotes:
    """Interpreters that have imported fray's task module and have run nothing of anybody's.

    One per environment, of those that were used last. A task is a fork of one, and never of another
    task: nothing that a user's code has done is in it.

    Args:
        base_env: The variables that all attempts have in common.
        eager: Whether one is started when its interpreter is used for the first time; else for the
            second, since many a small cluster starts one process only.
    """

    def __init__(self, base_env: Mapping[str, str], *, eager: bool = True) -> None:
        self._eager = eager
        self._used: set[str] = set()
        room = "x" * MARKER_BYTES
        self._env = {
            **base_env,
            "PYTHONUNBUFFERED": "1",
            records.MARKER_ATTEMPT: room,
            records.MARKER_RUN_DIR: room,
        }
        self._zygotes: OrderedDict[str, Zygote] = OrderedDict()

    def open(self, python: str) -> None:
        """Starts one, in the background; the one that was used least ends if there are too many.

        Args:
            python: Its interpreter.

        Raises:
            OSError: No process can be started.
        """
        command = [python, "-m", "fray.cluster.worker.warm"]
        zygote = self._zygotes[python] = Zygote(command, self._env, disposable=True)
        while len(self._zygotes) > WARM_MAX:
            self._zygotes.popitem(last=False)[1].close()
        zygote.open()

    def ready(self, python: str, env: Mapping[str, str]) -> Zygote | None:
        """One that can be used now; else one is started for the next time.

        Args:
            python: The interpreter.
            env: All variables of the attempt. Some can only be given to a new process.
        """
        if not self._fits(env):
            return None
        zygote = self._zygotes.get(python)
        if zygote is None or not zygote.is_open:
            if self._eager or python in self._used:
                self.open(python)
            self._used.add(python)
            return None
        self._zygotes.move_to_end(python)
        return zygote if zygote.is_ready() else None

    def _fits(self, env: Mapping[str, str]) -> bool:
        return all(
            env.get(name) == self._env.get(name)
            for name in {*env, *self._env}
            if name not in _SET_LATER
            and (name.startswith(_READ_AT_START) or name.endswith(_READ_AT_IMPORT))
        )

    async def end(self, clock: Clock) -> None:
        """Ends them all. Tasks are not touched.

        Args:
            clock: For waiting.
        """
        while self._zygotes:
            await self._zygotes.popitem()[1].end(clock)


__all__ = ["MARKER_BYTES", "WARM_MAX", "WarmZygotes", "Zygote", "cold_zygote"]
