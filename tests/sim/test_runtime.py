"""The production runtime on simulated hosts: every call has one outcome, whatever happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.errors import CallError
from fray.testing import simulate
from tests.sim.callers import call, hosting, running

if TYPE_CHECKING:
    from fray.testing import SimProcess, Simulation


class Journal:
    """An actor that remembers the order in which it was called."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def add(self, number: int) -> int:
        self.seen.append(number)
        return number

    async def add_slowly(self, number: int) -> int:
        await asyncio.sleep(0.001)
        self.seen.append(number)
        return number

    def all(self) -> list[int]:
        return self.seen


async def test_calls_of_one_caller_run_in_order(sim: Simulation):
    sim.process("a", hosting(Journal))
    await asyncio.sleep(1)
    async with running(sim.driver) as me:
        methods = ("add", "add_slowly")
        calls = [call(me, "a:7000", "actor", methods[i % 2], i) for i in range(200)]
        assert await asyncio.gather(*calls) == list(range(200))
        assert await call(me, "a:7000", "actor", "all") == list(range(200))


@pytest.mark.parametrize("what", ["a/program", "a"])
async def test_calls_to_a_crashed_process_end_and_to_its_successor_work(sim: Simulation, what: str):
    sim.process("a", hosting(Journal))
    await asyncio.sleep(1)
    async with running(sim.driver) as me:
        assert await call(me, "a:7000", "actor", "add", 1) == 1
        pending = call(me, "a:7000", "actor", "add_slowly", 2)
        sim.crash(what)
        await asyncio.sleep(30)
        if what == "a":
            sim.restart("a")
        sim.process("a", hosting(Journal))
        async with asyncio.timeout(100):
            assert isinstance(await pending, CallError)
        assert await call(me, "a:7000", "actor", "all") == []


def test_two_processes_that_dial_each_other_at_once_use_one_link_and_lose_no_call():
    async def main(sim: Simulation) -> tuple[list[object], int]:
        outcomes: list[object] = []

        async def program(process: SimProcess) -> None:
            other = "b" if process.host.name == "a" else "a"
            async with running(process, 7000) as made:
                await made.host("actor", label="actor").start(Journal)
                await process.clock.sleep(1)
                for number in range(3):
                    outcomes.append(await call(made, f"{other}:7000", "actor", "add", number))
                await asyncio.Event().wait()

        for name in "ab":
            sim.process(name, program)
        await asyncio.sleep(30)
        return outcomes, sim.network.snapshot().count("link ")

    for seed in range(30):
        outcomes, links = simulate(seed, main)
        failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert (failures, links) == ([], 1), f"seed {seed}"


@given(
    seed=st.integers(0, 2**32),
    faults=st.lists(
        st.tuples(
            st.floats(0, 5), st.sampled_from(["partition", "heal", "restart", "reset", "freeze"])
        ),
        max_size=6,
    ),
)
def test_whatever_the_faults_every_call_ends_once_and_none_runs_twice(seed, faults):
    async def main(sim: Simulation) -> None:
        ran: list[int] = []

        class Witness:
            def add(self, number: int) -> int:
                ran.append(number)
                return number

        def act(kind: str) -> None:
            if kind == "partition":
                sim.partition("a")
            elif kind == "heal":
                sim.heal()
            elif kind == "reset":
                sim.network.reset_links("a", "test")
            elif kind == "freeze":
                sim.freeze("a")
                sim.loop.call_later(1, sim.thaw, "a")
            else:
                sim.crash("a/program")
                sim.process("a", hosting(Witness), name="program")

        sim.process("a", hosting(Witness), name="program")
        async with running(sim.driver) as me:
            for at, kind in faults:
                sim.loop.call_later(at, act, kind)
            calls = []
            for number in range(30):
                calls.append(call(me, "a:7000", "actor", "add", number))
                await asyncio.sleep(sim.clock.random.random() / 3)
            await asyncio.sleep(6)  # virtual: the last fault may come after the last call
            sim.heal()
            async with asyncio.timeout(300):
                outcomes = await asyncio.gather(*calls)
        for number, outcome in enumerate(outcomes):
            assert outcome == number or isinstance(outcome, CallError)
        assert ran == sorted(set(ran))

    simulate(seed, main)
