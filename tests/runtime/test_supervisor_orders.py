"""Whatever happens to children, and whenever, they start in order and stop in reverse."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fray.errors import DeathCause, SupervisorFailed
from fray.runtime.restart import RestartType, Strategy
from fray.runtime.slots import ChildState
from fray.runtime.supervisor import Supervisor
from fray.runtime.supervisor_state import SupervisorState
from fray.testing import Simulation, simulate

from .troupe import AT_ONCE, BYE, FAILED, Troupe, raised_by

NAMES = "abcdef"
ENOUGH_S = 1e4
"""Longer than all that a script can make happen."""


@dataclass
class Script:
    """What happens to the children of one supervisor."""

    seed: int
    strategy: Strategy
    types: list[RestartType]
    backoff_s: float
    start_takes_s: dict[str, float]
    stop_takes_s: dict[str, float]
    refusals: dict[str, int]
    events: list[tuple[float, str, DeathCause]] = field(default_factory=list)

    @property
    def names(self) -> str:
        return NAMES[: len(self.types)]


def durations(names: str) -> st.SearchStrategy[dict[str, float]]:
    return st.dictionaries(st.sampled_from(names), st.sampled_from([0.1, 1.0, 3.0]))


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    types = draw(st.lists(st.sampled_from(list(RestartType)), min_size=1, max_size=len(NAMES)))
    names = NAMES[: len(types)]
    event = st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 2.5]),
        st.sampled_from(names),
        st.sampled_from([FAILED, BYE]),
    )
    return Script(
        seed=draw(st.integers(0, 1000)),
        strategy=draw(st.sampled_from(list(Strategy))),
        types=types,
        backoff_s=draw(st.sampled_from([0.0, 0.7, 2.0])),
        start_takes_s=draw(durations(names)),
        stop_takes_s=draw(durations(names)),
        refusals=draw(st.dictionaries(st.sampled_from(names), st.integers(1, 3))),
        events=draw(st.lists(event, max_size=12)),
    )


class Watched(Troupe):
    """Checks the order of children at each start and stop."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.supervisor: Any = None
        self.stops_all = False

    def living(self) -> str:
        return "".join(n for n in sorted(self.parts) if not self.parts[n].stopped.done())

    def check_start(self, name: str) -> None:
        assert name not in self.living()
        assert not self.stops_all
        if self.script.strategy is Strategy.GANG:  # all at once, but nobody of two lives
            children = self.supervisor.statistics().children
            assert all(child.state is not ChildState.STOPPING for child in children)
            return
        in_order = (
            self.script.strategy is not Strategy.ONE_FOR_ONE
            or self.supervisor.state is SupervisorState.STARTING
        )
        if in_order:
            for child in self.supervisor.statistics().children:
                if child.name < name:
                    assert child.state is ChildState.UP or not child.wanted
        if self.script.strategy is not Strategy.ONE_FOR_ONE:
            assert all(other < name for other in self.living())

    def check_stop(self, name: str) -> None:
        assert self.script.strategy is Strategy.GANG or all(n <= name for n in self.living())
        if self.script.strategy is Strategy.ONE_FOR_ONE:
            assert self.stops_all


class Log(list[str]):
    """A log that has each entry checked as it is written."""

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self.watched = watched

    def append(self, entry: str) -> None:
        if entry.startswith("+"):
            self.watched.check_start(entry[1:])
        elif entry.startswith(("stop ", "kill ")):
            self.watched.check_stop(entry[5:])
        super().append(entry)


async def play(sim: Simulation, script: Script) -> list[str]:
    troupe = Watched(script)
    troupe.log = Log(troupe)
    troupe.start_takes_s, troupe.stop_takes_s = script.start_takes_s, script.stop_takes_s
    troupe.refusals = {n: [ValueError("no")] * times for n, times in script.refusals.items()}
    policy = replace(
        AT_ONCE,
        strategy=script.strategy,
        backoff_min_s=script.backoff_s,
        backoff_max_s=script.backoff_s * 4,
    )
    specs = [
        troupe.spec(name, restart=restart, stop_grace_s=60)
        for name, restart in zip(script.names, script.types, strict=True)
    ]
    supervisor = troupe.supervisor = Supervisor("boss", specs, clock=sim.clock, policy=policy)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.start())
        for after_s, name, cause in script.events:
            await asyncio.sleep(after_s)
            if name in troupe.living():
                troupe.fail(name, cause)
        await asyncio.sleep(ENOUGH_S)
    assert supervisor.state is SupervisorState.RUNNING
    for child in supervisor.statistics().children:
        assert (child.state is ChildState.UP) is child.wanted
        assert child.name in troupe.living() or not child.wanted
    for name, restart in zip(script.names, script.types, strict=True):
        assert (name in troupe.living()) or restart is not RestartType.PERMANENT
    troupe.stops_all = True
    await supervisor.stop(BYE)
    assert troupe.living() == ""
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return troupe.log


@settings(max_examples=300)
@given(scripts())
def test_children_start_in_order_and_stop_in_reverse_whatever_happens(script: Script):
    simulate(script.seed, lambda sim: play(sim, script))


@settings(max_examples=30)
@given(scripts())
def test_the_same_seed_gives_the_same_story(script: Script):
    first, second = (simulate(script.seed, lambda sim: play(sim, script)) for _ in range(2))
    assert list(first) == list(second)


@settings(max_examples=100)
@given(scripts(), st.floats(0, 20), st.booleans())
def test_it_can_be_stopped_or_killed_at_any_moment(script: Script, when_s: float, kill: bool):
    async def main(sim: Simulation) -> None:
        async with asyncio.TaskGroup() as group:
            made: list[Supervisor] = []
            task = group.create_task(_play_until_it_ends(sim, script, made))
            await asyncio.sleep(when_s)
            if kill:
                made[0].kill(BYE)
            else:
                await made[0].stop(BYE)
            assert made[0].state is SupervisorState.STOPPED
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(script.seed, main)


async def _play_until_it_ends(sim: Simulation, script: Script, made: list[Supervisor]) -> None:
    troupe = Troupe()
    troupe.start_takes_s, troupe.stop_takes_s = script.start_takes_s, script.stop_takes_s
    troupe.refusals = {n: [ValueError("no")] * times for n, times in script.refusals.items()}
    delays = {"backoff_min_s": script.backoff_s, "backoff_max_s": script.backoff_s * 4}
    policy = replace(AT_ONCE, strategy=script.strategy, **delays)
    specs = [
        troupe.spec(name, restart=restart)
        for name, restart in zip(script.names, script.types, strict=True)
    ]
    made.append(Supervisor("boss", specs, clock=sim.clock, policy=policy))
    async with asyncio.TaskGroup() as group:
        start = group.create_task(raised_by(made[0].start()))
        for after_s, name, cause in script.events:
            await asyncio.sleep(after_s)
            if name in troupe.parts:
                troupe.fail(name, cause)
    await asyncio.shield(made[0].stopped)
    assert start.result() is None or isinstance(start.result(), SupervisorFailed)
    await asyncio.sleep(ENOUGH_S)
    assert all(part.stopped.done() for part in troupe.parts.values())
