"""`fray.Supervisor` on several hosts: who is restarted, where, and when it gives up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fray
from fray.errors import ActorDied, ChildFailed, DeathKind, InfeasibleError, SupervisorFailed
from tests.sim.actors import job

SEEDS = pytest.mark.parametrize("sim_seed", range(4), indirect=True, ids="seed{}".format)

STARTS: list[str] = []
"""What the actors of the running test did; all simulated processes share it."""


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    STARTS.clear()


@fray.actor
class Part:
    """Says when it starts and stops, and counts."""

    def __init__(self, name: str = "part") -> None:
        self.name, self.count = name, 0

    async def on_start(self) -> None:
        STARTS.append(f"+{self.name}")

    async def on_stop(self, reason: Any) -> None:
        STARTS.append(f"-{self.name}")

    async def add(self, amount: int) -> int:
        self.count += amount
        return self.count

    async def sleep(self, delay_s: float) -> str:
        await asyncio.sleep(delay_s)
        return "slept"


@fray.actor
class Member:
    """Waits, as it starts, for all others, as the hosts of a slice do."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def on_start(self) -> None:
        STARTS.append(f"+{self.name}")
        async with asyncio.timeout(60):
            while sum(entry.startswith("+") for entry in STARTS) < 3:
                await asyncio.sleep(0.01)

    async def on_stop(self, reason: Any) -> None:
        STARTS.append(f"-{self.name}")

    async def ping(self) -> str:
        return self.name


@fray.actor
class Refuses:
    def __init__(self) -> None:
        STARTS.append("+refuses")
        raise ValueError("no such checkpoint")


def since() -> str:
    told, STARTS[:] = " ".join(STARTS), []
    return told


def parts(names: str, **options: Any) -> list[fray.ChildSpec]:
    return [fray.ChildSpec(n, Part.options(name=n), args=(n,), **options) for n in names]


async def until_up(supervisor: fray.Supervisor, starts: str) -> None:
    """Until all children run, so often started as the digits say."""
    async with asyncio.timeout(300):
        while True:
            found = await supervisor.which_children()
            if [(c.state, str(c.starts)) for c in found] == [("up", digit) for digit in starts]:
                return
            await asyncio.sleep(0.05)


# Who is restarted ---------------------------------------------------------------------------------


@SEEDS
@pytest.mark.parametrize(
    ("strategy", "starts", "told"),
    [
        ("one_for_one", "121", "+b"),
        ("one_for_all", "222", "-c -a +a +b +c"),
        ("rest_for_one", "122", "-c +b +c"),
    ],
)
async def test_a_crash_restarts_whom_the_strategy_says_in_order_and_old_handles_work(
    sim_cluster, strategy, starts, told
):
    await sim_cluster.add_hosts(2, cpus=2)
    async with fray.Supervisor(parts("abc"), strategy=strategy) as supervisor:
        assert since() == "+a +b +c"
        handles = [supervisor[name] for name in "abc"]
        assert [await handle.add.remote(5) for handle in handles] == [5, 5, 5]
        sim_cluster.crash(sim_cluster.process_of(supervisor["b"]))
        await until_up(supervisor, starts)
        assert since() == told
        expected = [6 if digit == "1" else 1 for digit in starts]
        assert [await handle.add.remote(1) for handle in handles] == expected
        found = await sim_cluster.resolver.lookup_async("b")
        assert await found.add.remote(1) == 2
    assert since() == "-c -b -a"


@SEEDS
async def test_a_gang_starts_together_and_its_next_life_begins_when_all_of_the_last_are_gone(
    sim_cluster,
):
    await sim_cluster.add_hosts(3, cpus=1)
    specs = [fray.ChildSpec(name, Member, args=(name,)) for name in "abc"]
    async with fray.Supervisor(specs, strategy="gang") as gang:
        assert sorted(since().split()) == ["+a", "+b", "+c"]
        sim_cluster.crash(sim_cluster.process_of(gang["b"]))
        await until_up(gang, "222")
        told = since().split()
        assert sorted(told[:2]) == ["-a", "-c"]
        assert sorted(told[2:]) == ["+a", "+b", "+c"]
        assert await asyncio.gather(*(gang[name].ping.remote() for name in "abc")) == list("abc")


@SEEDS
async def test_an_actor_whose_host_is_lost_is_restarted_on_another_and_that_is_no_failure(
    sim_cluster,
):
    await sim_cluster.add_hosts(3)
    async with fray.Supervisor(parts("a"), intensity=0) as supervisor:
        actor = supervisor["a"]
        for number in range(1, 3):
            lost = sim_cluster.host_of(actor)
            with fray.monitor(actor) as watching:
                sim_cluster.crash(lost)
                down = await watching
            assert (down.incarnation, down.cause.kind) == (number, DeathKind.HOST_LOST)
            assert down.cause.host == lost.name
            assert await actor.add.remote(1) == 1
            assert sim_cluster.host_of(actor) is not lost


async def test_a_preemption_is_counted_apart_from_failures(sim_cluster):
    first, second = await sim_cluster.add_hosts(2)
    async with fray.Supervisor(parts("a"), intensity=0, max_preemptions=2) as supervisor:
        actor = supervisor["a"]
        for _ in range(2):
            host = sim_cluster.host_of(actor)
            sim_cluster.stop(sim_cluster.agent_of(host))  # the cloud takes the machine, with notice
            await until_host(sim_cluster, actor, second if host is first else first)
            assert await actor.add.remote(1) == 1
            sim_cluster.restart(host)
            await asyncio.sleep(5)


async def until_host(sim_cluster, actor, host) -> None:
    def there() -> bool:
        return [process.host for process in sim_cluster.processes_of(actor)] == [host]

    await sim_cluster.until(there)


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("end", ["crash", "stop"])
async def test_a_restart_type_says_whether_an_end_counts(sim_cluster, restart, end):
    await sim_cluster.add_hosts(1)
    async with fray.Supervisor(parts("a", restart=restart), intensity=5) as supervisor:
        actor = supervisor["a"]
        assert await actor.add.remote(5) == 5
        if end == "crash":
            sim_cluster.crash(sim_cluster.process_of(actor))
        else:
            await actor.stop()
        comes_back = restart == "permanent" or (restart == "transient" and end == "crash")
        await asyncio.sleep(2)
        if comes_back:
            assert await actor.add.remote(1) == 1
        else:
            with pytest.raises(ActorDied, match="SIGKILL" if end == "crash" else "its handle"):
                await actor.add.remote(1)
        assert len(await supervisor.which_children()) == (restart != "temporary")


# Children come and go -----------------------------------------------------------------------------


@SEEDS
async def test_children_are_added_terminated_restarted_and_deleted_while_it_runs(sim_cluster):
    await sim_cluster.add_hosts(2)
    async with fray.Supervisor(name="boss") as boss:
        handle = await boss.start_child(parts("a")[0])
        assert await handle.add.remote(1) == 1
        with pytest.raises(ValueError, match="already has a child 'a'"):
            await boss.start_child(parts("a")[0])
        await boss.terminate_child("a")
        assert since() == "+a -a"
        with pytest.raises(ActorDied, match="told to terminate it"):
            await handle.add.remote(1)
        counts = await boss.count_children()
        assert (counts.specs, counts.active, counts.workers) == (1, 0, 1)
        await boss.restart_child("a")
        assert await handle.add.remote(1) == 1
        with pytest.raises(ValueError, match="runs"):
            await boss.restart_child("a")
        await boss.delete_child("a")
        with pytest.raises(ActorDied):
            await handle.add.remote(1)
        assert await boss.which_children() == []
        with pytest.raises(KeyError):
            boss["a"]
        again = await boss.start_child(parts("a")[0])  # the name is free at once
        assert await again.add.remote(2) == 2


async def test_a_child_whose_first_start_fails_is_told_and_not_kept(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=4)
    async with fray.Supervisor() as supervisor:
        with pytest.raises(ActorDied, match="no such checkpoint"):
            await supervisor.start_child(fray.ChildSpec("bad", Refuses))
        with pytest.raises(InfeasibleError):
            await supervisor.start_child(fray.ChildSpec("big", Part.options(num_cpus=64)))
        assert await supervisor.which_children() == []
        assert since() == "+refuses"


async def test_children_stop_in_reverse_order_each_within_its_own_time(sim_cluster):
    await sim_cluster.add_hosts(1)
    specs = [*parts("a", shutdown_s=2), *parts("b", shutdown_s=30), *parts("c")]
    async with fray.Supervisor(specs) as supervisor:
        slow = [supervisor["a"].sleep.remote(100), supervisor["b"].sleep.remote(20)]
        await asyncio.sleep(1)
        since()
        left_at = sim_cluster.now
    assert since() == "-c -b -a"
    assert await slow[1] == "slept"  # it had the time
    with pytest.raises(ActorDied, match="may have run"):
        await slow[0]
    assert 19 < sim_cluster.now - left_at < 26


async def test_the_end_of_a_significant_child_ends_the_supervisor_in_good_order(sim_cluster):
    await sim_cluster.add_hosts(1)
    children = [*parts("a"), *parts("b", restart="transient", significant=True)]
    async with fray.Supervisor(children) as supervisor:
        await supervisor["b"].stop()
        await supervisor.wait()
        assert since() == "+a +b -b -a"


# Giving up ----------------------------------------------------------------------------------------


async def crash(sim_cluster, supervisor, name: str, times: int) -> None:
    for number in range(1, times + 1):
        await sim_cluster.until(lambda: bool(sim_cluster.processes_of(supervisor[name])))
        with fray.monitor(supervisor[name]) as watching:
            sim_cluster.crash(sim_cluster.process_of(supervisor[name]))
            assert (await watching).incarnation == number
        await asyncio.sleep(1)


@SEEDS
async def test_a_root_that_gives_up_cancels_its_block_and_raises_the_whole_chain(sim_cluster):
    await sim_cluster.add_hosts(2)
    supervisor = fray.Supervisor(parts("ab"), name="root", intensity=1, period_s=600)
    with pytest.raises(SupervisorFailed, match="more than the 1 restarts") as told:
        async with supervisor:
            a, b = supervisor["a"], supervisor["b"]
            await crash(sim_cluster, supervisor, "b", 2)
            await asyncio.sleep(3600)
            pytest.fail("the block goes on")
    assert told.value.cause.kind is DeathKind.RESTART_LIMIT
    group = told.value.__cause__
    assert isinstance(group, BaseExceptionGroup)
    assert [(type(e), e.child, e.cause.kind) for e in group.exceptions] == [
        (ChildFailed, "b", DeathKind.SIGNAL)
    ] * 2
    with pytest.raises(ActorDied) as died:
        await b.add.remote(1)
    assert died.value.cause.kind is DeathKind.RESTART_LIMIT
    with pytest.raises(ActorDied) as died:
        await a.add.remote(1)
    assert died.value.cause.kind is DeathKind.STOPPED
    assert "its supervisor" in str(died.value)
    assert not asyncio.current_task().cancelling()


async def test_what_the_block_raises_itself_is_among_the_causes(sim_cluster):
    await sim_cluster.add_hosts(1)
    with pytest.raises(SupervisorFailed) as told:
        async with fray.Supervisor(parts("a"), intensity=0) as supervisor:
            sim_cluster.crash(sim_cluster.process_of(supervisor["a"]))
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise RuntimeError("no step without it") from None
    mine, child = told.value.__cause__.exceptions
    assert (str(mine), child.child) == ("no step without it", "a")


async def test_a_block_that_somebody_else_cancels_is_cancelled_whatever_its_supervisor_does(
    sim_cluster,
):
    await sim_cluster.add_hosts(1)

    async def supervise() -> None:
        async with fray.Supervisor(parts("a"), intensity=0) as supervisor:
            sim_cluster.crash(sim_cluster.process_of(supervisor["a"]))
            try:
                await asyncio.sleep(100)
            finally:
                asyncio.current_task().cancel()  # while ours unwinds the block
                await asyncio.sleep(1)

    task = asyncio.ensure_future(supervise())
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_block_that_raises_stops_its_children_and_raises_that(sim_cluster):
    await sim_cluster.add_hosts(1)
    with pytest.raises(RuntimeError, match="enough"):
        async with fray.Supervisor(parts("ab")):
            raise RuntimeError("enough")
    assert since() == "+a +b -b -a"


async def test_a_supervisor_whose_children_never_start_raises_on_entering(sim_cluster):
    await sim_cluster.add_hosts(1)
    children = [*parts("a"), fray.ChildSpec("bad", Refuses)]
    with pytest.raises(SupervisorFailed, match="no such checkpoint") as told:
        async with fray.Supervisor(children, intensity=2):
            pytest.fail("it was entered")
    assert since() == "+a +refuses +refuses +refuses -a"
    assert [each.child for each in told.value.__cause__.exceptions] == ["bad"] * 3


@SEEDS
async def test_a_failing_subtree_is_restarted_by_its_parent_and_at_last_fails_it(sim_cluster):
    await sim_cluster.add_hosts(2)
    inner = fray.Supervisor(parts("xy"), name="inner", strategy="one_for_all", intensity=0)
    children = [*parts("a"), fray.ChildSpec("inner", inner)]
    with pytest.raises(SupervisorFailed) as told:
        async with fray.Supervisor(children, name="root", intensity=1, period_s=600) as root:
            x, y, a = inner["x"], inner["y"], root["a"]
            assert [await each.add.remote(1) for each in (a, x, y)] == [1, 1, 1]
            assert (await root.count_children()).supervisors == 1
            sim_cluster.crash(sim_cluster.process_of(x))
            await asyncio.sleep(5)
            assert [await each.add.remote(1) for each in (a, x, y)] == [2, 1, 1]
            await inner.start_child(parts("z")[0])
            sim_cluster.crash(sim_cluster.process_of(y))
            await asyncio.sleep(60)
    assert since() == "+a +x +y -y +x +y +z -z -x -a"
    first, second = told.value.__cause__.exceptions
    assert [type(each) for each in (first, second)] == [SupervisorFailed] * 2
    assert [e.child for e in first.__cause__.exceptions] == ["x"]
    assert [e.child for e in second.__cause__.exceptions] == ["y"]


async def test_restarts_are_delayed_longer_and_longer_until_a_healthy_time(sim_cluster):
    await sim_cluster.add_hosts(1)
    policy = {"intensity": -1, "backoff_min_s": 1.0, "jitter": 0.0, "healthy_s": 100.0}
    async with fray.Supervisor(parts("a"), **policy) as supervisor:
        handle, delays = supervisor["a"], []
        for pause_s in (0, 0, 0, 200):
            await asyncio.sleep(pause_s)
            sim_cluster.crash(sim_cluster.process_of(handle))
            crashed_at = sim_cluster.now
            starts = (await supervisor.which_children())[0].starts + 1
            await until_up(supervisor, str(starts))
            delays.append(round(sim_cluster.now - crashed_at))
    assert delays == [1, 2, 4, 1]


# Where a supervisor may be ------------------------------------------------------------------------


@fray.actor(max_restarts=3)
class Team:
    """A supervisor that is an actor itself."""

    def __init__(self, intensity: int) -> None:
        self.supervisor = fray.Supervisor(parts("ab"), name="team", intensity=intensity)

    async def on_start(self) -> None:
        await self.supervisor.start()

    async def on_stop(self, reason: Any) -> None:
        await self.supervisor.stop()

    async def member(self, name: str) -> Any:
        return self.supervisor[name]


@SEEDS
async def test_a_supervisor_in_an_actor_restarts_its_children_and_takes_them_along(sim_cluster):
    await sim_cluster.add_hosts(3)
    team = await Team.remote(5)
    a, b = await team.member.remote("a"), await team.member.remote("b")
    assert await a.add.remote(1) == 1
    sim_cluster.crash(sim_cluster.process_of(a))
    await asyncio.sleep(2)
    assert await a.add.remote(1) == 1
    since()
    await team.stop()
    assert since() == "-b -a"
    with pytest.raises(ActorDied):
        await b.add.remote(1)


@SEEDS
async def test_children_end_with_the_process_of_their_supervisor_and_its_successor_has_new_ones(
    sim_cluster,
):
    await sim_cluster.add_hosts(3)
    team = await Team.remote(5)
    old = await team.member.remote("a")
    sim_cluster.crash(sim_cluster.process_of(team))
    async with asyncio.timeout(200):
        with pytest.raises(ActorDied, match="the process of its supervisor has ended"):
            while True:
                await old.add.remote(1)
                await asyncio.sleep(0.5)
        found = await sim_cluster.resolver.lookup_async("a")
        new = await team.member.remote("a")
    assert await new.add.remote(3) == await found.add.remote(0) == 3
    assert new.actor_id != old.actor_id


@SEEDS
@pytest.mark.parametrize("how", ["preempted", "lost"])
async def test_a_supervisor_that_loses_its_host_comes_back_with_children_elsewhere(
    sim_cluster, how
):
    await sim_cluster.add_hosts(3, cpus=4)
    team = await Team.options(max_restarts=0).remote(0)
    host = sim_cluster.host_of(team)
    with fray.monitor(team) as watching:
        if how == "preempted":
            await sim_cluster.cluster.fleet.drain(host.name, "the cloud wants it back")
        else:
            sim_cluster.crash(host)
        down = await watching
    assert down.cause.kind is (DeathKind.PREEMPTED if how == "preempted" else DeathKind.HOST_LOST)
    assert down.over is None
    a = await team.member.remote("a")
    assert await a.add.remote(1) == 1
    found = await sim_cluster.resolver.lookup_async("a")
    assert found.route.endpoints[0].actor_id == a.actor_id


@SEEDS
async def test_an_actor_dies_with_the_supervisor_that_it_has_started_and_tells_why(sim_cluster):
    await sim_cluster.add_hosts(2)
    team = await Team.options(max_restarts=0).remote(0)
    a = await team.member.remote("a")
    with fray.monitor(team) as watching:
        sim_cluster.crash(sim_cluster.process_of(a))
        down = await watching
    assert down.over is not None
    assert "SupervisorFailed: supervisor team has ended" in down.cause.message
    assert "SIGKILL" in down.cause.message
    for call in (team.member.remote("a"), a.add.remote(1)):
        with pytest.raises(ActorDied):
            await call


async def test_a_job_may_supervise_and_fails_with_the_causes_in_its_log(sim_cluster):
    await sim_cluster.add_hosts(2)

    async def supervise() -> None:
        async with fray.Supervisor(parts("a"), name="in-job", intensity=0) as supervisor:
            print("up")
            await supervisor.wait()

    job_id = await sim_cluster.launch(job("boss", supervise))
    a = sim_cluster.resolver.lookup("a")
    async with asyncio.timeout(60):
        while True:
            try:
                await a.add.remote(1)
                break
            except fray.ActorNotFoundError:
                await asyncio.sleep(0.1)
    sim_cluster.crash(sim_cluster.process_of(a))
    info = await sim_cluster.wait(job_id)
    assert info.status == "failed"
    assert "SupervisorFailed: supervisor in-job has ended" in info.error_message
    log = [line.text async for line in sim_cluster.logs(job_id)]
    assert log[0] == "up"
    assert any("ChildFailed: a ended, signal: killed by SIGKILL" in line for line in log)


@SEEDS
async def test_children_end_when_their_driver_is_killed(sim_cluster):
    await sim_cluster.add_hosts(2)

    async def main(cluster: Any) -> None:
        async with fray.Supervisor(parts("ab")) as supervisor:
            await supervisor.wait()

    driver = sim_cluster.start_driver(main)
    await sim_cluster.until(lambda: STARTS == ["+a", "+b"])
    sim_cluster.crash(driver)
    crashed_at = sim_cluster.now
    a = sim_cluster.resolver.lookup("a")
    down = await fray.monitor(a)
    assert down.over is not None
    assert sim_cluster.now - crashed_at < 70


# The controller is away ---------------------------------------------------------------------------


@SEEDS
async def test_a_controller_that_is_away_is_no_failure_of_the_children(sim_cluster):
    await sim_cluster.add_hosts(2)
    async with fray.Supervisor(parts("ab"), intensity=1) as supervisor:
        a = supervisor["a"]
        sim_cluster.crash_controller()
        sim_cluster.crash(sim_cluster.process_of(a))
        await asyncio.sleep(100)
        sim_cluster.restart_controller()
        assert await a.add.remote(1) == 1
        assert [c.starts for c in await supervisor.which_children()] == [2, 1]
