"""Links that are lost while calls are in flight: nobody notices, and nothing runs twice."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

import fray
from fray.errors import ActorDied, ActorUnavailable, MailboxFull, Started
from fray.runtime.peers import RESUME_GRACE_S
from fray.testing import Simulation, simulate
from tests.sim.callers import call, hosting, running

if TYPE_CHECKING:
    from fray.testing import SimCluster

BULK_BYTES = 300_000


class Journal:
    """An actor that remembers what it was called with, and how much came with it."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def add(self, number: int, extra: bytes) -> tuple[int, bytes]:
        self.seen.append(number)
        return number, extra[::-1]

    async def add_slowly(self, number: int, extra: bytes) -> tuple[int, bytes]:
        await asyncio.sleep(0.003)
        return self.add(number, extra)

    def all(self) -> list[int]:
        return self.seen


async def resetting(sim: Simulation, dice: random.Random, cuts: int) -> int:
    """Breaks every link between the two hosts, again and again; gives how many broke."""
    broken = 0
    for _ in range(cuts):
        await asyncio.sleep(dice.choice((0.0005, 0.002, 0.01, 0.2)))
        broken += sim.network.reset_links("test", "a")
    return broken


@pytest.mark.parametrize("seed", range(30))
def test_calls_run_once_and_in_order_however_often_their_link_is_lost(seed: int):
    simulate(seed, test_calls_go_on_over_another_link)


async def test_calls_go_on_over_another_link(sim: Simulation):
    dice = random.Random(f"resume {sim.seed}")
    sim.process("a", hosting(Journal))
    await asyncio.sleep(1)
    async with running(sim.driver) as me:
        await call(me, "a:7000", "actor", "all")
        async with asyncio.TaskGroup() as group:
            cutting = group.create_task(resetting(sim, dice, 12))
            calls: list[asyncio.Future[Any]] = []
            extras: list[bytes] = []
            for number in range(150):
                extras.append(dice.randbytes(dice.choice((0, 10, 1000, BULK_BYTES))))
                method = dice.choice(("add", "add_slowly"))
                calls.append(call(me, "a:7000", "actor", method, number, extras[-1]))
                if dice.random() < 0.3:
                    await asyncio.sleep(dice.random() * 0.02)
            answers = await asyncio.gather(*calls)
        assert answers == [(i, extra[::-1]) for i, extra in enumerate(extras)]
        assert await call(me, "a:7000", "actor", "all") == list(range(150))
        assert cutting.result() > 2
        for peer in me.peers.open_peers():
            assert len(peer._connection.log.entries) <= 2 * 64  # what is not acknowledged yet


@fray.actor
class Worker:
    def __init__(self) -> None:
        self.started = 0
        self.ended = 0

    async def count(self, to: int):
        self.started += 1
        try:
            for number in range(to):
                yield number, bytes(5_000)
        finally:
            self.ended += 1

    async def work(self, seconds: float) -> int:
        self.started += 1
        await asyncio.sleep(seconds)
        self.ended += 1
        return self.started

    async def wait(self) -> None:
        self.started += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1

    @fray.method(concurrent=True)
    def numbers(self) -> tuple[int, int]:
        return self.started, self.ended

    async def ask(self, other: Any, question: str) -> Any:
        return await getattr(other, question).remote()


def cut(sim_cluster: SimCluster) -> int:
    """Breaks all links between the test and the cluster's hosts."""
    network = sim_cluster.sim.network
    return sum(network.reset_links("test", name) for name in list(network.hosts) if name != "test")


async def test_a_stream_goes_on_where_its_link_was_lost(sim_cluster: SimCluster):
    await sim_cluster.add_hosts(1)
    worker: Any = await Worker.remote()  # type: ignore[attr-defined]
    seen: list[int] = []
    async for number, _ in worker.count.remote(400):
        seen.append(number)
        if number % 40 == 7:
            assert cut(sim_cluster)
    assert seen == list(range(400))
    assert await worker.numbers.remote() == (1, 1)


async def test_a_call_in_flight_is_not_disturbed_by_a_link_that_comes_back(
    sim_cluster: SimCluster,
):
    await sim_cluster.add_hosts(1)
    worker: Any = await Worker.remote()  # type: ignore[attr-defined]
    work = worker.work.remote(20)
    await asyncio.sleep(5)
    assert cut(sim_cluster)
    more = worker.numbers.remote()  # made while there is no link
    assert await more == (1, 0)
    assert await work == 1


async def test_what_is_cancelled_while_there_is_no_link_is_cancelled_when_there_is_one(
    sim_cluster: SimCluster,
):
    await sim_cluster.add_hosts(1)
    worker: Any = await Worker.remote()  # type: ignore[attr-defined]
    waiting = worker.wait.remote()
    await asyncio.sleep(1)
    assert cut(sim_cluster)
    await asyncio.sleep(0.001)
    waiting.cancel()
    await asyncio.sleep(5)
    assert await worker.numbers.remote() == (1, 1)


async def test_calls_of_the_side_that_did_not_dial_go_on_as_well(sim_cluster: SimCluster):
    await sim_cluster.add_hosts(2, cpus=1)
    worker: Any = await Worker.remote()  # type: ignore[attr-defined]
    other: Any = await Worker.remote()  # type: ignore[attr-defined]
    waiting = worker.ask.remote(other, "wait")
    await asyncio.sleep(1)
    a, b = (sim_cluster.host_of(each).name for each in (worker, other))
    assert a != b
    assert sim_cluster.sim.network.reset_links(a, b)
    await asyncio.sleep(1)
    assert await other.numbers.remote() == (1, 0)
    waiting.cancel()
    await asyncio.sleep(1)
    assert await other.numbers.remote() == (1, 1)


async def test_a_process_that_is_killed_is_told_long_before_its_session_would_end(
    sim_cluster: SimCluster,
):
    await sim_cluster.add_hosts(1)
    worker: Any = await Worker.remote()  # type: ignore[attr-defined]
    waiting = worker.wait.remote()
    await asyncio.sleep(1)
    began = sim_cluster.now
    sim_cluster.crash(sim_cluster.process_of(worker))
    with pytest.raises(ActorDied):
        await waiting
    assert sim_cluster.now - began < 2


async def test_a_session_ends_when_nobody_can_go_on_with_it(sim: Simulation):
    sim.process("a", hosting(Journal))
    await asyncio.sleep(1)
    async with running(sim.driver) as me:
        await call(me, "a:7000", "actor", "all")
        calls = [call(me, "a:7000", "actor", "add_slowly", i, b"") for i in range(3)]
        await asyncio.sleep(0.001)
        began = sim.loop.time()
        sim.network.reset_links("test", "a")
        sim.partition("test", "a")
        outcomes = await asyncio.gather(*calls)
        assert RESUME_GRACE_S * 0.9 < sim.loop.time() - began < RESUME_GRACE_S + 15
        for outcome in outcomes:
            assert isinstance(outcome, ActorUnavailable)
            assert outcome.started is Started.UNKNOWN
        sim.heal()
        seen = await call(me, "a:7000", "actor", "all")
        assert seen == sorted(set(seen))  # none twice


async def test_another_process_at_the_address_does_not_go_on_with_the_session(sim: Simulation):
    first = sim.process("a", hosting(Journal))
    await asyncio.sleep(1)
    async with running(sim.driver) as me:
        assert await call(me, "a:7000", "actor", "add", 1, b"") == (1, b"")
        pending = call(me, "a:7000", "actor", "add_slowly", 2, b"")
        await asyncio.sleep(0.0005)
        sim.crash(first)
        sim.process("a", hosting(Journal), name="second")
        assert isinstance(await pending, ActorUnavailable)
        assert await call(me, "a:7000", "actor", "all") == []


@fray.actor
class Ledger:
    """Counts how often it is really asked."""

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0

    @fray.method(idempotent=True, retries=20)
    async def pay(self, seconds: float, kilobytes: int = 0) -> tuple[int, bytes]:
        self.runs += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.runs, bytes(kilobytes << 10)

    @fray.method(idempotent=True, retries=20)
    async def refuse(self) -> None:
        self.runs += 1
        await asyncio.sleep(20)
        raise ValueError(f"refused {self.runs}")

    @fray.method(idempotent=True, retries=20)
    async def count(self, to: int):
        self.runs += 1
        for number in range(to):
            await asyncio.sleep(1)
            yield number

    @fray.method(concurrent=True)
    def numbers(self) -> tuple[int, int]:
        return self.runs, self.cancelled


async def ledger_apart(sim_cluster: SimCluster) -> Any:
    """An actor on a host that can be cut off from the test, and not from the controller."""
    await sim_cluster.add_hosts(1)
    return await Ledger.remote()  # type: ignore[attr-defined]


async def apart(sim_cluster: SimCluster, actor: Any, seconds: float) -> None:
    """Longer than a session waits: so the connection ends for good."""
    host = sim_cluster.host_of(actor).name
    sim_cluster.sim.network.reset_links("test", host)
    with sim_cluster.partition("test", host):
        await asyncio.sleep(seconds)


@pytest.mark.parametrize("work_s", [0.5, 5, 30, 90], ids="done {0}".format)
async def test_a_call_that_is_repeated_is_answered_with_its_first_outcome(
    sim_cluster: SimCluster, work_s: float
):
    ledger = await ledger_apart(sim_cluster)
    paying = ledger.pay.remote(work_s)
    await asyncio.sleep(0.1)
    await apart(sim_cluster, ledger, 60)
    assert await paying == (1, b"")
    assert await ledger.numbers.remote() == (1, 0)


async def test_a_call_that_is_repeated_raises_what_it_raised_first(sim_cluster: SimCluster):
    ledger = await ledger_apart(sim_cluster)
    refused = ledger.refuse.remote()
    await asyncio.sleep(0.1)
    await apart(sim_cluster, ledger, 60)
    with pytest.raises(ValueError, match="refused 1"):
        await refused


async def test_a_call_whose_caller_goes_away_for_good_is_cancelled_when_it_says_so(
    sim_cluster: SimCluster,
):
    ledger = await ledger_apart(sim_cluster)
    paying = ledger.pay.remote(300)
    await asyncio.sleep(0.1)
    await apart(sim_cluster, ledger, 30)
    await asyncio.sleep(5)  # it has been repeated: two connections have asked for it
    paying.cancel()
    await asyncio.sleep(5)
    assert await ledger.numbers.remote() == (1, 1)


async def test_a_stream_is_never_read_from_its_middle_on(sim_cluster: SimCluster):
    ledger = await ledger_apart(sim_cluster)
    with pytest.raises(ActorUnavailable):  # items had come: a repetition would give them twice
        async for number in ledger.count.remote(20):
            if number == 3:
                await apart(sim_cluster, ledger, 60)


async def test_outcomes_are_forgotten_when_the_caller_has_them(sim_cluster: SimCluster):
    ledger = await ledger_apart(sim_cluster)
    for number in range(200):
        await ledger.pay.remote(0, 300 if number % 50 == 0 else 0)
    runtimes = sim_cluster.process_of(ledger).runtimes
    cells = [cell for runtime in runtimes for cell in runtime.cells.values()]
    [cell] = [cell for cell in cells if isinstance(cell.instance, Ledger)]
    assert 0 < len(cell.repeats) <= 64


async def test_nothing_is_kept_of_repeatable_calls_that_were_refused(sim_cluster: SimCluster):
    await sim_cluster.add_hosts(1)
    ledger = await Ledger.options(mailbox_calls_max=1).remote()  # type: ignore[attr-defined]
    runs, waits = ledger.pay.remote(30), ledger.pay.remote(0)
    await asyncio.sleep(0.1)
    for _ in range(100):
        with pytest.raises(MailboxFull):
            await ledger.pay.remote(0)
    runtimes = sim_cluster.process_of(ledger).runtimes
    peers = [peer for runtime in runtimes for peer in runtime.peers.open_peers()]
    assert sum(len(peer._served._keyed) for peer in peers) == 2
    await asyncio.gather(runs, waits)


async def test_a_call_that_was_made_while_there_was_no_link_has_certainly_not_run(sim: Simulation):
    sim.process("a", hosting(Journal))
    await asyncio.sleep(1)
    async with running(sim.driver) as me:
        await call(me, "a:7000", "actor", "all")
        sent = call(me, "a:7000", "actor", "add_slowly", 1, b"")
        await asyncio.sleep(0.001)
        sim.network.reset_links("test", "a")
        sim.partition("test", "a")
        await asyncio.sleep(0.1)
        made_later = call(me, "a:7000", "actor", "add", 2, b"")
        outcomes = await asyncio.gather(sent, made_later)
        assert [outcome.started for outcome in outcomes] == [Started.UNKNOWN, Started.NO]
