"""Programs and ports of a host's attempts: none of them keeps those of others waiting."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fray.cluster.control import ExecRequest
from fray.cluster.worker import channels as module
from fray.cluster.worker.channels import Channels
from fray.cluster.worker.entering import write_environ
from fray.cluster.worker.hosted import HostedAttempt
from fray.errors import InvalidRequestError
from fray.ids import AttemptId
from fray.runtime.clock import SystemClock
from fray.runtime.tasks import Scope

ATTEMPT = AttemptId("u/j/0#0")
SLEEP = ExecRequest(ATTEMPT, ("sleep", "600"))


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose program accepts nobody, and whose queue is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for queued in (first, second):
            queued.setblocking(False)
            queued.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
async def scope() -> AsyncIterator[Scope]:
    scope = Scope("channels of a test")
    yield scope
    await scope.close()


@pytest.fixture
def attempt(deaf_port: int) -> HostedAttempt:
    attempt = HostedAttempt(None, ATTEMPT)
    attempt.ports["web"] = deaf_port
    attempt.running = SimpleNamespace()  # type: ignore[assignment]
    return attempt


@pytest.fixture
def channels(scope: Scope, attempt: HostedAttempt, tmp_path: Path) -> Channels:
    """Those of a host with one attempt, whose main process is this one."""
    write_environ(tmp_path, os.environ)
    roster: Any = SimpleNamespace(
        attempts={ATTEMPT: attempt}, main_process=lambda attempt_id: (os.getpid(), tmp_path)
    )
    return Channels(roster, SystemClock(), scope)


async def test_a_port_that_accepts_nobody_keeps_no_other_waiting(channels: Channels, scope: Scope):
    opening = scope.spawn(channels.open_port("port", ATTEMPT, "web"))
    await asyncio.sleep(0)
    await channels.open_exec("exec", ExecRequest(ATTEMPT, ("echo", "hi")))
    assert not opening.done()
    piece = await channels.read("exec", 1, 0, 100, 60.0)
    assert piece.data == b"hi\n"
    await channels.close("exec")


async def test_a_port_that_accepts_nobody_is_told_as_such(
    channels: Channels, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "CONNECT_S", 0.1)
    with pytest.raises(InvalidRequestError, match=r"'web' .* has accepted no connection for 0.1 s"):
        await channels.open_port("port", ATTEMPT, "web")


async def test_a_question_that_comes_twice_opens_one_program(channels: Channels):
    await asyncio.gather(*(channels.open_exec("exec", SLEEP) for _ in range(3)))
    assert repr(channels) == "<Channels 1>"
    await channels.close("exec")


async def test_a_closed_channel_leaves_nothing_that_runs(channels: Channels, scope: Scope):
    for _ in range(3):
        await channels.open_exec("exec", SLEEP)
        await asyncio.sleep(0)  # what it has begun has begun
        await channels.close("exec")
    assert len(scope) == 1  # who looks for silent clients, once


async def test_a_program_ends_with_its_attempt(channels: Channels, attempt: HostedAttempt):
    await channels.open_exec("exec", SLEEP)
    attempt.ended.set()
    piece = await channels.read("exec", 1, 0, 100, 60.0)
    assert piece.exit_code == 137
    await channels.close("exec")


async def test_a_program_that_no_signal_ends_keeps_nobody_waiting(
    channels: Channels, monkeypatch: pytest.MonkeyPatch
):
    pids: list[int] = []
    monkeypatch.setattr(module, "KILL_S", 0.05)
    with monkeypatch.context() as deaf:  # as one that hangs in a driver
        deaf.setattr(os, "killpg", lambda pid, _number: pids.append(pid))
        await channels.open_exec("exec", SLEEP)
        async with asyncio.timeout(20):
            await channels.close("exec")
    os.kill(pids[0], signal.SIGKILL)
    assert repr(channels) == "<Channels 0>"
