"""The simulated transport passes the suite that the websocket transport passes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from fray.runtime.auth import TokenAuthenticator
from fray.runtime.transport import Principal
from tests.runtime.transport_conformance import Pair, TransportConformance

if TYPE_CHECKING:
    from fray.testing import Simulation

ALICE = Principal(user="Alice Ω/1", role="user")


async def serve(process) -> None:
    await process.clock.sleep(1e9)


def make_pair(sim: Simulation, one: str, other: str, host: str) -> Pair:
    ends = []
    for name in (one, other):
        process = sim.process(name, serve)
        ends.append(process.make_transport(authenticator=TokenAuthenticator("x", ALICE), token="x"))
    # Some tests let handlers fail, which they alone shall know.
    sim.loop.set_exception_handler(lambda loop, context: None)
    return Pair(*ends, host)


class TestConformanceBetweenHosts(TransportConformance):
    @pytest.fixture
    async def pair(self, sim: Simulation) -> AsyncIterator[Pair]:
        pair = make_pair(sim, "a", "b", "a")
        yield pair
        await pair.dialler.close()
        await pair.acceptor.close()
        assert sim.network.snapshot().count("link ") == 0


class TestConformanceOnOneHost(TransportConformance):
    @pytest.fixture
    async def pair(self, sim: Simulation) -> AsyncIterator[Pair]:
        pair = make_pair(sim, "a", "a", "127.0.0.1")
        yield pair
        await pair.dialler.close()
        await pair.acceptor.close()


class TestConformanceOverABadNetwork(TransportConformance):
    @pytest.fixture
    async def pair(self, sim: Simulation) -> AsyncIterator[Pair]:
        pair = make_pair(sim, "a", "b", "0.0.0.0")
        pair.host = "a"
        sim.lose("a", "b", 0.2)
        sim.delay("a", None, 0.0, 0.3)
        yield pair
        await pair.dialler.close()
        await pair.acceptor.close()
