"""Stories that are told as prose, and compared with how they were told before.

``python -m tests.sim.golden_stories --update`` writes the files anew. A difference is no failure of
itself: it is read, and if what it says is right, it is the new story. Lines say when (virtual
seconds), who and what, and nothing that changes with unrelated code.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import fray
from fray.cluster import Entrypoint, JobRequest, ResourceConfig
from fray.errors import FrayError
from fray.testing import SimCluster, Simulation, simulate
from tests.sim.actors import Counter

FOLDER = Path(__file__).parent / "golden"


class Teller:
    """Writes down what a story says.

    Args:
        cluster: In which it happens.
    """

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.lines: list[str] = []

    def say(self, what: str) -> None:
        """One line, with the time: not so exactly that it changed with each seed."""
        now = self.cluster.now
        about = round(now) if now < 10 else 5 * round(now / 5)
        self.lines.append(f"{about:5} s  {what}")

    async def ask(self, question: str, call: Any) -> None:
        """Awaits a call and says what came of it."""
        try:
            answer = await call
        except FrayError as exc:
            started = getattr(exc, "started", None)
            ran = f", started: {started}" if started is not None else ""
            cause = getattr(exc, "cause", None)
            why = f" ({cause.kind})" if cause is not None else ""
            self.say(f"{question} -> {type(exc).__name__}{why}{ran}")
        else:
            self.say(f"{question} -> {answer}")

    def where(self, actor: Any, name: str) -> None:
        """Says where an actor is."""
        places = [process.host.name for process in self.cluster.processes_of(actor)]
        self.say(f"{name} is on {' and '.join(places) or 'no host'}")


@fray.actor
class Asker:
    async def ask(self, other: Any) -> int:
        return await other.add.remote(1)


async def a_call_between_hosts(tell: Teller, cluster: SimCluster) -> None:
    await cluster.add_hosts(1, cpus=1)
    counter = await Counter.options(name="counter").remote()
    await cluster.add_hosts(1, cpus=1)
    asker = await Asker.options(name="asker").remote()
    tell.where(counter, "counter")
    tell.where(asker, "asker")
    await tell.ask("the test asks asker, which asks counter", asker.ask.remote(counter))
    await tell.ask("and counter itself", counter.plain.remote())


async def an_actor_outlives_its_host(tell: Teller, cluster: SimCluster) -> None:
    [first] = await cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    await cluster.add_hosts(1)
    tell.where(counter, "counter")
    await tell.ask("add 1", counter.add.remote(1))
    call = counter.sleep.remote(1000)
    await asyncio.sleep(1)
    cluster.crash(first)
    tell.say("host-1 loses its power while a call runs there")
    await tell.ask("that call", call)
    await tell.ask("add 1, to the same handle", counter.add.remote(1))
    tell.where(counter, "counter")


async def a_process_is_killed_once_too_often(tell: Teller, cluster: SimCluster) -> None:
    await cluster.add_hosts(1)
    counter = await Counter.options(name="counter", max_restarts=1).remote()
    for _ in range(2):
        await tell.ask("add 1", counter.add.remote(1))
        cluster.crash(cluster.process_of(counter))
        tell.say("kill -9 of counter's process")
        await asyncio.sleep(10)
    await tell.ask("add 1", counter.add.remote(1))


async def a_name_after_a_partition(tell: Teller, cluster: SimCluster) -> None:
    [first] = await cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    await cluster.add_hosts(1)
    cut = cluster.partition(first, "controller")
    tell.say("host-1 is cut off from the controller")
    await asyncio.sleep(50)
    await tell.ask("the test still reaches counter: add 1", counter.add.remote(1))
    await cluster.until(lambda: not first.processes or len(first.processes) == 1)
    tell.say("host-1 ends its tasks: it has not heard the controller for a minute")
    await asyncio.sleep(1)  # not to a process that is about to end
    await tell.ask("add 1, to the same handle", counter.add.remote(1))
    tell.where(counter, "counter")
    cut.remove()
    tell.say("the partition heals")
    await asyncio.sleep(30)
    found = await cluster.resolver.lookup_async("counter")
    await tell.ask("add 1, to whoever has the name", found.add.remote(1))
    tell.where(counter, "counter")


async def a_controller_is_started_again(tell: Teller, cluster: SimCluster) -> None:
    await cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    call = counter.sleep.remote(100)
    await asyncio.sleep(1)
    cluster.crash_controller()
    tell.say("kill -9 of the controller")
    await asyncio.sleep(60)
    cluster.restart_controller()
    tell.say("it is started again")
    found = await cluster.resolver.lookup_async("counter")
    tell.say("counter is found by its name")
    await tell.ask("a call that ran all the time", call)
    await tell.ask("add 1", found.add.remote(1))


async def a_host_is_preempted(tell: Teller, cluster: SimCluster) -> None:
    [first] = await cluster.add_hosts(1, preemptible=True)
    counter = await Counter.options(name="counter").remote()  # it may never be restarted
    await cluster.add_hosts(1)
    call = counter.sleep.remote(1000)
    await asyncio.sleep(1)
    cluster.preempt(first, notice_s=60)
    tell.say("the cloud takes host-1 back, in a minute")
    await tell.ask("the call that runs there", call)
    await tell.ask("add 1: a preemption is no failure", counter.add.remote(1))
    tell.where(counter, "counter")


async def a_gang_falls_and_rises(tell: Teller, cluster: SimCluster) -> None:
    await cluster.add_hosts(2, slice="v4-16")

    async def work() -> None:
        await asyncio.sleep(500)

    request = JobRequest(
        "train", Entrypoint.from_callable(work), resources=ResourceConfig.with_tpu("v4-16")
    )
    job = await cluster.launch(request)
    await cluster.until(lambda: len(cluster.processes_of(job)) == 2)
    before = sorted(process.host.name for process in cluster.processes_of(job))
    tell.say(f"train runs on {' and '.join(before)}")
    cluster.crash(cluster.processes_of(job)[1])
    tell.say("kill -9 of one of its two processes")
    info = await cluster.wait(job)
    tell.say(f"train has {info.status.value}: it may not fail")
    again = await cluster.launch(request)
    await cluster.until(lambda: len(cluster.processes_of(again)) == 2)
    lost = cluster.processes_of(again)[0].host
    cluster.crash(lost)
    tell.say("train again; one of its hosts loses its power")
    await cluster.until(
        lambda: (
            len(found := cluster.processes_of(again)) == 2
            and lost not in [process.host for process in found]
        )
    )
    tell.say("both of its processes run on the other slice")
    info = await cluster.wait(again)
    tell.say(f"train has {info.status.value}")


async def a_driver_dies(tell: Teller, cluster: SimCluster) -> None:
    await cluster.add_hosts(1)

    async def main(connection: Any) -> None:
        await Counter.options(name="mine").remote()
        await Counter.options(name="kept", lifetime="detached").remote()
        await asyncio.Event().wait()

    driver = cluster.start_driver(main)
    await asyncio.sleep(5)
    cluster.crash(driver)
    tell.say("kill -9 of the driver that made `mine` and, detached, `kept`")
    for wait_s in (30, 60):
        await asyncio.sleep(wait_s)
        for name in ("mine", "kept"):
            await tell.ask(f"who is {name}", _add(cluster, name))


async def _add(cluster: SimCluster, name: str) -> str:
    found = await cluster.resolver.lookup_async(name)
    await found.add.remote(1)
    return "it answers"


async def a_frozen_host_wakes_up(tell: Teller, cluster: SimCluster) -> None:
    [first] = await cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    await cluster.add_hosts(1)
    cluster.freeze(first)
    tell.say("host-1 stands still")
    await tell.ask("add 1", counter.add.remote(1))
    await cluster.until(lambda: len(cluster.processes_of(counter)) == 2)
    await tell.ask("add 1", counter.add.remote(1))
    cluster.thaw(first)
    tell.say("host-1 goes on as if nothing had happened")
    await asyncio.sleep(5)
    tell.where(counter, "counter")
    await tell.ask("add 1", counter.add.remote(1))


async def a_stream_is_left(tell: Teller, cluster: SimCluster) -> None:
    await cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    async for number in counter.numbers.remote(1000):
        tell.say(f"number {number}")
        if number == 2:
            break
    await asyncio.sleep(1)
    tell.say("the loop is left, and the generator closed")
    await tell.ask("counter is free: add 1", counter.add.remote(1))


STORIES = [
    a_call_between_hosts,
    an_actor_outlives_its_host,
    a_process_is_killed_once_too_often,
    a_name_after_a_partition,
    a_controller_is_started_again,
    a_host_is_preempted,
    a_gang_falls_and_rises,
    a_driver_dies,
    a_frozen_host_wakes_up,
    a_stream_is_left,
]


def told(story: Callable[[Teller, SimCluster], Coroutine[Any, Any, None]]) -> str:
    """Tells a story, with seed 1.

    Args:
        story: Which.
    """

    async def main(sim: Simulation) -> str:
        async with SimCluster(sim) as cluster:
            tell = Teller(cluster)
            await story(tell, cluster)
        title = story.__name__.replace("_", " ")
        return "\n".join([title.capitalize(), "", *tell.lines, ""])

    return simulate(1, main)


def file_of(story: Callable[..., object]) -> Path:
    """Where a story is written down.

    Args:
        story: Which.
    """
    return FOLDER / f"{story.__name__}.txt"


if __name__ == "__main__":
    logging.disable()
    FOLDER.mkdir(exist_ok=True)
    for each in STORIES:
        text = told(each)
        print(text)
        if "--update" in sys.argv[1:]:
            file_of(each).write_text(text)
