from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fray.runtime.calls import (
    STREAM_BYTES_WINDOW,
    STREAM_ITEMS_WINDOW,
    Invocation,
    OutgoingCall,
)
from fray.runtime.serialization import dumps
from fray.testing import simulate

if TYPE_CHECKING:
    from fray.testing import Simulation


class Recorder:
    """A `Carrier`, and anything else that is told something."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def cancel(self, call: OutgoingCall) -> None:
        self.log.append(("cancel", call.method))

    def grant(self, call: OutgoingCall, items: int, nbytes: int) -> None:
        self.log.append(("grant", call.method, items, nbytes))


def outgoing(carrier: Recorder | None) -> OutgoingCall:
    call = OutgoingCall("run", dumps(()), Recorder())  # type: ignore[arg-type]
    call.carrier = carrier
    return call


def invocation() -> Invocation:
    return Invocation(0, "run", None, Recorder())  # type: ignore[arg-type]


def test_the_carrier_is_told_of_cancelling_and_of_credit():
    carrier = Recorder()
    call = outgoing(carrier)
    call.grant(3, 100)
    call.cancel()
    assert carrier.log == [("grant", "run", 3, 100), ("cancel", "run")]


@pytest.mark.parametrize("what", ["nobody carries it", "it has its outcome"])
def test_what_cannot_matter_any_more_is_not_told(what: str):
    carrier = Recorder()
    call = outgoing(carrier if what == "it has its outcome" else None)
    call.done = True
    call.grant(3, 100)
    call.cancel()
    assert carrier.log == []


async def test_credit_is_there_at_once_within_the_window(sim: Simulation):
    call = invocation()
    for _ in range(STREAM_ITEMS_WINDOW):
        await call.credit(10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await call.credit(10)
    call.grant(1, 10)  # whoever gave up has taken none of it
    await call.credit(10)


async def test_a_producer_waits_until_both_items_and_bytes_are_granted(sim: Simulation):
    call = invocation()
    for _ in range(STREAM_ITEMS_WINDOW - 1):
        await call.credit(0)
    await call.credit(STREAM_BYTES_WINDOW)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(call.credit(1))
        await asyncio.sleep(1)
        call.grant(5, 0)
        await asyncio.sleep(1)
        assert not waiting.done()
        call.grant(0, 1)


@settings(max_examples=50)
@given(
    st.integers(0, 100),
    st.lists(st.integers(0, STREAM_BYTES_WINDOW), min_size=1, max_size=200),
)
def test_a_consumer_that_gives_back_what_it_takes_gets_everything_within_the_window(
    seed: int, sizes: list[int]
):
    async def main(sim: Simulation) -> None:
        call = invocation()
        ahead: list[int] = []

        async def produce() -> None:
            for size in sizes:
                await call.credit(size)
                ahead.append(size)
                assert len(ahead) <= STREAM_ITEMS_WINDOW
                assert sum(ahead[:-1]) < STREAM_BYTES_WINDOW  # the last one may overshoot

        async with asyncio.TaskGroup() as group:
            producing = group.create_task(produce())
            taken = 0
            while taken < len(sizes):
                await asyncio.sleep(sim.clock.random.random())
                for _ in range(min(len(ahead), 1 + int(sim.clock.random.random() * 100))):
                    call.grant(1, ahead.pop(0))
                    taken += 1
            await producing

    simulate(seed, main)
