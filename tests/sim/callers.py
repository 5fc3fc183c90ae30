"""fray processes on simulated hosts, and callers that write down what becomes of their calls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fray.runtime.calls import OutgoingCall
from fray.runtime.process import Process
from fray.runtime.serialization import dumps_arguments, loads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fray.testing import SimProcess


class Outcome:
    """The sink of one call: its terminal outcome, and that there is one only."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_result(self, payload) -> None:
        self.future.set_result(loads(payload))

    def on_error(self, payload) -> None:
        self.future.set_result(("error", payload))

    def on_failure(self, exc: BaseException) -> None:
        self.future.set_result(exc)

    def on_item(self, payload) -> None:
        raise AssertionError("a stream was not asked for")

    def on_end(self) -> None:
        raise AssertionError("a stream was not asked for")


def call(process: Process, address: str, target: str, method: str, *args: Any) -> asyncio.Future:
    """Sends a call. Its future has a result in any case: a value, or an exception as a value."""
    outcome = Outcome()
    sent = OutgoingCall(method, dumps_arguments(args, {}), outcome)
    process.send("", address, target, sent)
    return outcome.future


@asynccontextmanager
async def running(process: SimProcess, port: int = 0) -> AsyncIterator[Process]:
    """A fray process, as the composition root of a simulated one."""
    async with Process(
        clock=process.clock,
        transport=process.transport,
        threads=process.threads,
        host=process.host.name,
        port=port,
        label=process.name,
    ) as made:
        yield made


def hosting(factory: Callable[[], Any], *, port: int = 7000):
    """A program that hosts one actor with the target ``actor``."""

    async def program(process: SimProcess) -> None:
        async with running(process, port) as made:
            await made.host("actor", label="actor").start(factory)
            await asyncio.Event().wait()

    return program
