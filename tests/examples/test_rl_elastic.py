"""How many rollout workers there should be, and that they come and go."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

import fray
from examples.rl.crew import Crew
from examples.rl.elastic import GROW_STEPS, SHRINK_STEPS, Bounds, workers_wanted

LONG = GROW_STEPS + SHRINK_STEPS


def test_a_learner_that_waits_gets_one_more_worker_and_one_that_never_waits_one_fewer():
    bounds = Bounds(1, 4)
    assert workers_wanted(2, 0.8, LONG, bounds) == 3
    assert workers_wanted(2, 0.1, LONG, bounds) == 2
    assert workers_wanted(2, 0.0, LONG, bounds) == 1


def test_nothing_changes_before_the_last_change_has_shown_what_it_does():
    bounds = Bounds(1, 4)
    assert workers_wanted(2, 0.8, GROW_STEPS - 1, bounds) == 2
    assert workers_wanted(2, 0.0, SHRINK_STEPS - 1, bounds) == 2


def test_there_is_room_for_the_fewest_on_every_cluster():
    assert Bounds(2, 8).within(3) == Bounds(2, 3)
    assert Bounds(2, 8).within(0) == Bounds(2, 2)
    assert Bounds(2, 8).within(100) == Bounds(2, 8)


@given(
    st.integers(1, 9), st.floats(0, 1), st.integers(0, 100), st.integers(1, 5), st.integers(0, 5)
)
def test_a_step_never_leaves_the_bounds_nor_changes_more_than_one_within_them(
    workers: int, waited: float, steps: int, least: int, more: int
):
    bounds = Bounds(least, least + more)
    wanted = workers_wanted(workers, waited, steps, bounds)
    assert bounds.least <= wanted <= bounds.most
    if bounds.least <= workers <= bounds.most:
        assert abs(wanted - workers) <= 1


@fray.actor
class Player:
    """Plays until it is told to leave."""

    def __init__(self) -> None:
        self._leaving = asyncio.Event()

    async def play(self) -> None:
        await self._leaving.wait()

    @fray.method(concurrent=True)
    async def leave(self) -> None:
        self._leaving.set()

    @fray.method(concurrent=True)
    async def pid(self) -> int:
        return 0


def stats(crew: Crew, step: int, waited: float) -> SimpleNamespace:
    return SimpleNamespace(
        training=SimpleNamespace(step=step, waited=waited),
        workers=[SimpleNamespace(worker=number) for number in crew.workers],
    )


async def test_workers_come_go_and_come_back_while_the_run_goes_on(sim_cluster):
    await sim_cluster.add_hosts(3, cpus=1)
    events = []

    async def until(crew, what, workers, waited=0.1):
        """Looks as the run does, until something has happened."""
        step = 0
        while (events[-1].what, events[-1].workers) != (what, workers):
            crew.adapt(stats(crew, step, waited))
            step += 1
            await asyncio.sleep(0.25)

    async with fray.Supervisor(backoff_min_s=0.1) as tree, asyncio.TaskGroup() as tasks:
        crew = Crew(
            tree,
            lambda number: fray.ChildSpec(f"rollout-{number}", Player, shutdown_s=0.0),
            Bounds(1, 2),
            tasks,
            events.append,
        )
        await crew.start()
        await until(crew, "added", 2, waited=0.9)
        sim_cluster.crash(sim_cluster.host_of(crew.workers[0]))
        await until(crew, "back", 2)
        await until(crew, "removed", 1, waited=0.0)
        assert list(crew.workers) == [0]
        assert [child.name for child in await tree.which_children()] == ["rollout-0"]
        await crew.workers[0].leave.remote()
    assert [e.what for e in events] == ["started", "added", "lost", "back", "removed"]


async def test_a_worker_for_whom_there_is_no_place_keeps_nobody_waiting(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    events = []
    async with fray.Supervisor() as tree, asyncio.TaskGroup() as tasks:
        crew = Crew(
            tree,
            lambda number: fray.ChildSpec(f"rollout-{number}", Player, shutdown_s=0.0),
            Bounds(1, 2),
            tasks,
            events.append,
        )
        await crew.start()
        for step in range(20):
            crew.adapt(stats(crew, step, 0.9))
            await asyncio.sleep(0.25)
        assert [e.what for e in events] == ["started"]
        await crew.workers[0].leave.remote()
        crew.close()
