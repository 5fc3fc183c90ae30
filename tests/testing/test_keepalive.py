"""Kernels give up links on which nobody answers: idle ones sooner than busy ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fray.testing.keepalive import BUSY_S, IDLE_S, Keepalive
from tests.testing.talk import Echo, dial, server

if TYPE_CHECKING:
    from fray.testing import Simulation


@pytest.fixture
async def near(sim: Simulation):
    sim.network.keepalive = Keepalive(sim.loop)
    sim.process("a", server(Echo), name="server")
    await asyncio.sleep(1)
    return await dial(sim.transport, "a")


@pytest.mark.parametrize("cause", ["crash", "partition", "one way"])
async def test_idle_link_ends_when_its_other_end_is_silent_for_long(sim: Simulation, near, cause):
    since = sim.loop.time()
    if cause == "crash":
        sim.crash("a")
    else:
        sim.partition("a", "test", one_way=cause == "one way")
    assert isinstance(await near.until_lost(), TimeoutError)
    assert sim.loop.time() - since == pytest.approx(IDLE_S)


async def test_link_with_something_under_way_is_given_up_later(sim: Simulation, near):
    since = sim.loop.time()
    sim.crash("a")
    near.link.send([b"hello?"])
    assert isinstance(await near.until_lost(), TimeoutError)
    assert sim.loop.time() - since == pytest.approx(BUSY_S)


async def test_both_ends_of_a_link_that_is_cut_find_out_by_themselves(sim: Simulation):
    sim.network.keepalive = Keepalive(sim.loop)
    ears: list[Echo] = []
    sim.process("a", server(Echo, ears), name="server")
    await asyncio.sleep(1)
    near = await dial(sim.transport, "a")
    sim.partition("a", "test")
    await asyncio.gather(near.until_lost(), ears[0].until_lost())
    assert [type(ear.lost[0]) for ear in (near, ears[0])] == [TimeoutError, TimeoutError]


async def test_link_outlives_cuts_that_are_short_however_many(sim: Simulation, near):
    for _ in range(5):
        with sim.partition("a", "test"):
            near.link.send([b"x"])
            await asyncio.sleep(IDLE_S - 1)
        await asyncio.sleep(5)
    assert near.heard == [b"x"] * 5
    assert not near.lost


async def test_process_that_has_died_meanwhile_is_told_nothing(sim: Simulation, near):
    sim.partition("a", "test")
    sim.crash("a/server")
    await asyncio.sleep(2 * IDLE_S)
    assert isinstance(near.lost[0], TimeoutError)
