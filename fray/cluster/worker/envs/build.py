"""Running the commands of a build: their output line by line, their end, and what it means.

A failure is the project's, and will be the same anywhere, or of the moment or the host (a network,
a disk): only the latter is tried again, here and then elsewhere.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fray.cluster.worker.envs.shelf import note_builder
from fray.errors import ClusterError

if TYPE_CHECKING:
    from fray.cluster.worker.accounts import Account
    from fray.cluster.worker.envs.steps import Step
    from fray.runtime.clock import Clock

BUILD_TIMEOUT_S = 1800.0
"""For all commands of one build."""

RETRY_PAUSES_S = (2.0, 8.0)
"""Before what failed for want of a network is tried again."""

TOLD_LINES = 12
"""Of what a command printed last: they are searched for its error."""

LINE_CHARS_MAX = 2000

_SECRET_CHARS_MIN = 6

_NETWORK = re.compile(
    r"error sending request|connection (refused|reset|closed|error)|timed? ?out|dns error"
    r"|name resolution|are you offline|failed to (fetch|download).*(request|connect|body)"
    r"|\b(429|500|502|503|504)\b.*(status|server|gateway|requests|unavailable)"
    r"|network is unreachable|tls handshake|cannot connect to the docker daemon",
    re.IGNORECASE,
)
_HOST = re.compile(
    r"no space left|disk quota|read-only file system|too many open files"
    r"|os error (5|12|24|28|30|122)\b",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"://[^/@\s]*?:([^/@\s]+)@")
_ERROR = re.compile(r"\s*(×|error\b)", re.IGNORECASE)
_DRAWN = re.compile(r"^[\s×╰─▶│├→*]+")

_LEFT_OUT = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")

Say = Callable[[str], None]
"""Takes a line of a build's log."""


class BuildFailed(ClusterError):
    """An environment could not be built.

    Args:
        message: Why, in one sentence.
        of_moment: Whether it may go well elsewhere or later.
    """

    def __init__(self, message: str, *, of_moment: bool = False) -> None:
        super().__init__(message)
        self.of_moment = of_moment


class Commands:
    """Runs the commands of one build.

    Args:
        folder: The build's; who works in it is written down there. None where nothing is made.
        cwd: Where they run.
        environ: The agent's variables.
        variables: The job's, for uv: some may be secret.
        clock: The host's.
        say: Takes what they print.
        account: Under which they run; None for the agent's own.
        cache: Where uv keeps what it has fetched for that account.
    """

    def __init__(
        self,
        folder: Path | None,
        cwd: Path,
        *,
        environ: Mapping[str, str],
        variables: Mapping[str, str],
        clock: Clock,
        say: Say,
        account: Account | None = None,
        cache: Path | None = None,
    ) -> None:
        self._account = account
        self._folder = folder
        self._cwd = cwd
        self._clock = clock
        self._say = say
        kept = {
            k: v for k, v in environ.items() if k not in _LEFT_OUT and not k.startswith("FRAY_")
        }
        self._env = {**kept, "NO_COLOR": "1", "UV_NO_PROGRESS": "1", **variables}
        if account is not None:
            self._env |= {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
            self._env |= {"UV_CACHE_DIR": str(cache)}
        self._secrets = _secrets(variables)

    async def run(self, steps: Sequence[Step]) -> None:
        """Runs them one after the other; those that a network has failed, again.

        Args:
            steps: The commands.

        Raises:
            BuildFailed: One failed.
            OSError: One cannot be started.
        """
        for step in steps:
            for pause_s in (*RETRY_PAUSES_S, None):
                try:
                    await self._run(step)
                except BuildFailed as exc:
                    if pause_s is None or not exc.of_moment or _HOST.search(str(exc)):
                        raise
                    self._say(f"trying again in {pause_s:g} s")
                    await self._clock.sleep(pause_s)
                else:
                    break

    async def _run(self, step: Step) -> None:
        process = await self._start(step)
        tail: deque[str] = deque(maxlen=TOLD_LINES)
        try:
            if self._folder is not None:
                note_builder(self._folder, process.pid)
            stream = process.stderr if step.output else process.stdout
            assert stream is not None
            async for line in _lines(stream):
                told = self._masked(line)
                self._say(told)
                if told.strip():
                    tail.append(told)
            code = await process.wait()
        finally:
            await _end(process)
        if code != 0:
            raise _failure(step, code, list(tail))

    async def _start(self, step: Step) -> asyncio.subprocess.Process:
        with contextlib.ExitStack() as stack:
            output: IO[bytes] | int = asyncio.subprocess.PIPE
            if step.output:
                assert self._folder is not None
                output = stack.enter_context((self._folder / step.output).open("wb"))
            return await asyncio.create_subprocess_exec(
                *_as_account(step.argv, self._account),
                cwd=self._cwd,
                env={**self._env, **step.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.PIPE if step.output else asyncio.subprocess.STDOUT,
                start_new_session=True,
            )

    def _masked(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line


_CHANGE = (
    "import os, sys; uid, gid, groups, *argv = sys.argv[1:]; "
    "os.setgroups([int(group) for group in groups.split(',')]); "
    "os.setgid(int(gid)); os.setuid(int(uid)); os.execvp(argv[0], argv)"
)
"""A process becomes an account's, then the command: uvloop's processes cannot be told whose."""


def _as_account(argv: Sequence[str], account: Account | None) -> Sequence[str]:
    if account is None:
        return argv
    groups = ",".join(map(str, os.getgrouplist(account.name, account.gid)))
    change = (sys.executable, "-I", "-S", "-c", _CHANGE)
    return [*change, str(account.uid), str(account.gid), groups, *argv]


def _secrets(variables: Mapping[str, str]) -> list[str]:
    """What must not be seen, the longest first: values, and passwords in those that are addresses.

    Short ones are words like ``true``; hiding them would only spoil the log.
    """
    parts = [found for value in variables.values() for found in _PASSWORD.findall(value)]
    found = {text for text in (*variables.values(), *parts) if len(text) >= _SECRET_CHARS_MIN}
    return sorted(found, key=lambda text: (-len(text), text))


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """What a command prints, whatever its lines are like."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while data := await stream.read(1 << 16):
        *whole, rest = (rest + decoder.decode(data)).split("\n")
        for line in whole:
            yield line.rstrip()[:LINE_CHARS_MAX]
        while len(rest) > LINE_CHARS_MAX:
            yield rest[:LINE_CHARS_MAX]
            rest = rest[LINE_CHARS_MAX:]
    rest += decoder.decode(b"", True)
    if rest:
        yield rest.rstrip()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of it is left: what it has started is in its session, and in its group mostly."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # all have ended
    await asyncio.shield(process.wait())


def _failure(step: Step, code: int, tail: Sequence[str]) -> BuildFailed:
    begins = [i for i, line in enumerate(tail) if _ERROR.match(line)]
    told = tail[begins[-1] :] if begins else tail
    said = " ".join(_DRAWN.sub("", line).strip() for line in told) or "it printed nothing"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    of_moment = bool(_NETWORK.search(said) or _HOST.search(said)) or code in (-9, -15)
    return BuildFailed(f"{step.why} ({how}): {said}", of_moment=of_moment)


__all__ = ["BUILD_TIMEOUT_S", "BuildFailed", "Commands", "Say"]
