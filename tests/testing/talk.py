"""Programs and link handlers for the tests of the simulated network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.runtime.transport import Link, Transport
    from fray.testing import SimProcess

PORT = 80


class Ear:
    """Writes down what it is told."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.heard: list[bytes] = []
        self.drained = 0
        self.lost: list[Exception | None] = []
        self._told = asyncio.Event()

    def message_received(self, data: memoryview) -> None:
        self.heard.append(bytes(data))
        self._told.set()

    def writable(self) -> None:
        self.drained += 1
        self._told.set()

    def link_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self._told.set()

    async def until(self, condition: Callable[[Ear], object]) -> None:
        while not condition(self):
            self._told.clear()
            await self._told.wait()

    async def until_lost(self) -> Exception | None:
        await self.until(lambda ear: ear.lost)
        return self.lost[0]


class Echo(Ear):
    """Answers every message with itself."""

    def message_received(self, data: memoryview) -> None:
        super().message_received(data)
        self.link.send([self.heard[-1]])


def server(make: Callable[[Link], Ear] = Echo, ears: list[Ear] | None = None):
    """A program that listens at port 80; `ears` gets the handlers that it makes."""

    def accept(link: Link) -> Ear:
        ear = make(link)
        if ears is not None:
            ears.append(ear)
        return ear

    async def serve(process: SimProcess) -> None:
        await process.transport.listen(process.host.name, PORT, accept)
        await asyncio.Event().wait()

    return serve


async def idle(process: SimProcess) -> None:
    """A program that does nothing."""
    await asyncio.Event().wait()


async def dial(transport: Transport, host: str, make: Callable[[Link], Ear] = Ear) -> Ear:
    ears: list[Ear] = []

    def accept(link: Link) -> Ear:
        ears.append(make(link))
        return ears[0]

    await transport.dial(f"{host}:{PORT}", accept)
    return ears[0]
