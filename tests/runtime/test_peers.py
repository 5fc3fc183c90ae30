"""Dialling: who waits for a link, and in which order what waited leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.runtime.peers import _Dial
from tests.sim.callers import call, hosting, running

if TYPE_CHECKING:
    import pytest

    from fray.runtime.peer import Peer
    from fray.testing import Simulation


class Journal:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def add(self, number: int) -> None:
        self.seen.append(number)

    def all(self) -> list[int]:
        return self.seen


async def test_calls_made_while_a_link_opens_leave_before_those_made_when_it_is_open(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch
):
    sim.process("a", hosting(Journal))
    await asyncio.sleep(1)
    calls: list[asyncio.Future[object]] = []
    async with running(sim.driver) as me:

        def send_one(steps_left: int) -> None:
            calls.append(call(me, "a:7000", "actor", "add", len(calls)))
            if steps_left:
                asyncio.get_running_loop().call_soon(send_one, steps_left - 1)

        settle = me.peers.settle

        def settled(peer: Peer) -> str | None:
            asyncio.get_running_loop().call_soon(send_one, 20)  # in each step from now on
            return settle(peer)

        monkeypatch.setattr(me.peers, "settle", settled)
        for _ in range(5):
            send_one(0)
        await asyncio.gather(*calls)
        await asyncio.sleep(1)
        assert await call(me, "a:7000", "actor", "all") == list(range(26))


async def test_a_dial_that_fails_when_nobody_waits_for_it_any_more_is_no_failure_unseen(
    sim: Simulation,
):
    async with running(sim.driver) as me:
        dial = _Dial("", "a:7000")
        dial.ready.set_exception(ConnectionError("it ended before HELLO"))  # as in `_lost_early`
        me.peers._end_dial(dial)  # whoever waited was cancelled at the same moment
    # The simulation fails the test for what nobody has seen.
