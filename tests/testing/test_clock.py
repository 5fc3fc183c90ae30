from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from fray.testing.clock import EPOCH_S, HostTime, SimClock

if TYPE_CHECKING:
    from fray.runtime.clock import Clock
    from fray.testing import SimProcess, Simulation


async def test_the_tests_own_clock_is_right(sim: Simulation):
    clock: Clock = sim.clock
    await clock.sleep(5)
    assert clock.monotonic() == 5
    assert clock.time() == EPOCH_S + 5


async def test_hosts_clocks_differ_by_skew_drift_and_zero(sim: Simulation):
    seen: dict[str, list[float]] = {}

    async def program(process: SimProcess) -> None:
        before = process.clock.monotonic()
        await process.clock.sleep(100)
        now = sim.loop.time()
        seen[process.host.name] = [
            round(now, 6),
            round(process.clock.time() - EPOCH_S, 6),
            round(process.clock.monotonic() - before, 6),
            before,
        ]

    sim.host("right", program)
    sim.host("ahead", program, clock_skew_s=30)
    sim.host("fast", program, clock_drift=0.25)
    await asyncio.sleep(101)
    assert seen["right"][:3] == [100, 100, 100]
    assert seen["ahead"][:3] == [100, 130, 100]
    assert seen["fast"][:3] == [80, 100, 100]
    assert len({values[3] for values in seen.values()}) == 3
    assert min(values[3] for values in seen.values()) >= 1000


def test_changing_a_drift_makes_no_clock_jump():
    now = 0.0
    clocks = HostTime(lambda: now)
    now = 100.0
    clocks.set_drift(1.0)
    assert clocks.monotonic() == 100
    now = 110.0
    assert clocks.monotonic() == 120
    clocks.set_drift(0.0)
    now = 120.0
    assert clocks.monotonic() == 130
    assert clocks.drift == 0.0
    with pytest.raises(ValueError, match="drift"):
        clocks.set_drift(-1.0)


def test_a_wall_clock_may_jump_back():
    clocks = HostTime(lambda: 50.0)
    clocks.set_skew(-3600)
    assert clocks.time() == EPOCH_S + 50 - 3600
    assert clocks.skew_s == -3600
    assert clocks.monotonic() == 50


def test_dice_and_tokens_depend_on_nothing_but_the_seed():
    one, same, other = (SimClock(HostTime(time.time), seed) for seed in ("s/a", "s/a", "s/b"))
    one.random.random()
    assert one.token() == same.token() != other.token()
    assert len(one.token(3)) == 6
    assert one.random.random() != same.random.random()


async def test_libraries_see_the_clock_of_the_host_whose_code_calls(sim: Simulation):
    seen: dict[str, float] = {}

    async def program(process: SimProcess) -> None:
        await asyncio.sleep(10)
        seen[process.host.name] = time.time()

    sim.host("ahead", program, clock_skew_s=30)
    sim.host("right", program)
    await asyncio.sleep(11)
    assert seen == {"ahead": EPOCH_S + 40, "right": EPOCH_S + 10}
    assert time.time() == EPOCH_S + 11
    assert time.time_ns() == int((EPOCH_S + 11) * 1e9)
    assert time.monotonic() == time.perf_counter() == 11
    assert time.monotonic_ns() == time.perf_counter_ns() == 11_000_000_000
