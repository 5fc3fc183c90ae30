"""Routes: how handles find actors that are not ready yet, and calls that are sent again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fray
from fray.actor.resolver import ActorEndpoint
from fray.errors import ActorDied, ActorUnavailable, ClusterUnavailable, DeathCause, DeathKind
from fray.ids import ActorId, JobId

if TYPE_CHECKING:
    from fray.actor.directory import ActorKey, Located

GATE = threading.Event()


@fray.actor
class Late:
    """Its constructor takes until the test opens the gate."""

    def __init__(self) -> None:
        assert GATE.wait(30)

    def ping(self) -> str:
        return "pong"


@pytest.fixture
def gate() -> Generator[threading.Event]:
    GATE.clear()
    yield GATE
    GATE.set()


async def test_look_up_of_an_actor_that_is_being_made_asks_once_and_waits(gate: threading.Event):
    async with fray.connect("local") as cluster:
        directory: Any = cluster.system.directory
        locate = directory.locate
        asked: list[ActorKey] = []
        twice = asyncio.Event()

        async def counting(key: ActorKey, *, wait_s: float) -> Located:
            asked.append(key)
            if len(asked) == 2:
                twice.set()
            return await locate(key, wait_s=wait_s)

        directory.locate = counting
        made = Late.options(name="late").remote()
        await cluster.system.created(made.key)
        pong = cluster.resolver.lookup("late").ping.remote()
        await twice.wait()  # the first answer was that it is not ready
        for _ in range(10):
            await cluster.list_jobs()  # takes as long as another question would
        assert len(asked) == 2
        gate.set()
        assert await pong == "pong"


async def test_call_that_is_about_to_be_sent_again_ends_with_its_system():
    async with fray.connect("local") as cluster:
        nobody = ActorEndpoint(ActorId("a-nobody"), "127.0.0.1:1", JobId(""))
        await cluster.resolver.register_async("nobody", nobody)
        call = cluster.resolver.lookup("nobody").ping.remote()
        async with asyncio.timeout(30):
            while call.attempts < 3:  # from then on the pauses are longer than the end takes
                await cluster.list_jobs()
    assert call.done()
    with pytest.raises(ActorUnavailable, match="this connection to the cluster was closed"):
        await call


async def test_who_cannot_ask_where_an_actor_is_says_why_it_had_to_be_asked():
    async with fray.connect("local") as cluster:
        nobody = ActorEndpoint(ActorId("a-nobody"), "127.0.0.1:1", JobId(""))
        await cluster.resolver.register_async("nobody", nobody)
        call = cluster.resolver.lookup("nobody").ping.remote()
        async with asyncio.timeout(30):
            while call.attempts < 1:
                await cluster.list_jobs()

        async def halted(key: ActorKey, *, wait_s: float) -> Located:
            raise ClusterUnavailable("the controller does not answer")

        directory: Any = cluster.system.directory
        directory.locate = halted
        with pytest.raises(ClusterUnavailable, match="does not answer") as told:
            await call
    (note,) = told.value.__notes__
    assert note.startswith("it was asked where nobody is, since: ")
    assert "127.0.0.1:1" in note


@fray.actor(max_restarts=1)
class Spoiler:
    """Changes its argument, and tells what it was, in its second life only."""

    def __init__(self) -> None:
        ENTERED.append(threading.Event())

    @fray.method(idempotent=True)
    async def spoil(self, array: np.ndarray) -> float:
        total = float(array.sum())
        array[:] = 7.0
        if len(ENTERED) == 1:
            ENTERED[0].set()
            await asyncio.Event().wait()
        return total


ENTERED: list[threading.Event] = []


async def test_arguments_of_a_repeated_call_are_what_they_were_within_a_process_too():
    ENTERED.clear()
    async with fray.connect("local") as cluster:
        actor = Spoiler.remote()
        call = actor.spoil.options(retries=1).remote(np.ones(1 << 20))
        async with asyncio.timeout(30):
            while not ENTERED or not ENTERED[0].is_set():
                await cluster.list_jobs()
            [cell] = cluster.system.process.cells.values()
            cell.kill(DeathCause(DeathKind.APP_ERROR, "killed by the test", 1))
            assert await call == float(1 << 20)


@fray.actor
class Recorder:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def put(self, number: int) -> list[int]:
        self.seen.append(number)
        return self.seen


async def test_calls_made_while_an_earlier_one_is_sent_again_start_after_it():
    async with fray.connect("local") as cluster:
        resolver = cluster.resolver
        nobody = ActorEndpoint(ActorId("a-nobody"), "127.0.0.1:1", JobId(""))
        await resolver.register_async("moved", nobody)
        handle = resolver.lookup("moved")
        calls = [handle.put.remote(0)]
        async with asyncio.timeout(30):
            while calls[0].attempts < 4:  # the next pause is a long one
                await cluster.list_jobs()
        await Recorder.options(name="recorder").remote()
        [real] = await resolver.list_actors_async("recorder")
        await resolver.unregister_async("moved", nobody.actor_id)
        await resolver.register_async("moved", real)
        calls += [handle.put.remote(number) for number in range(1, 4)]
        assert (await asyncio.gather(*calls))[-1] == [0, 1, 2, 3]


async def test_actor_is_stopped_at_once_after_it_was_asked_for_and_may_be_stopped_again():
    async with fray.connect("local"):
        actor = Spoiler.remote()
        await actor.kill()
        await actor.stop()
        with pytest.raises(ActorDied, match="its handle stopped it"):
            await actor.spoil.remote(np.ones(1))


async def test_calls_on_their_way_when_their_process_closes_have_an_outcome_all_the_same():
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    calls: list[Any] = []
    async with fray.connect("local") as cluster:
        actor = await Recorder.remote()

        def call() -> None:
            calls.extend(actor.put.remote(number) for number in range(3))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()  # they are posted to this loop, which has not come to them
        await cluster.system.process.close()  # nobody has closed the system before
        async with asyncio.timeout(10):
            ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [ActorUnavailable] * 3
    assert told == []
