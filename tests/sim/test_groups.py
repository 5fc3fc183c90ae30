"""Groups on simulated hosts: slices come and go, and no step runs with two memberships."""

from __future__ import annotations

import asyncio
import gc
import random
from dataclasses import replace
from typing import Any

import pytest

import fray
from fray.cluster import Entrypoint, JobRequest, JobStatus, ReservationConfig, ResourceConfig
from fray.errors import (
    ActorDied,
    CallCancelled,
    DeadlineExceeded,
    DeathCause,
    DeathKind,
    PayloadError,
    SliceLost,
    Started,
    SupervisorFailed,
)
from fray.groups import Place, SliceId
from fray.groups.calls import Round

TYPE = "v4-16"  # two hosts
SEEDS = pytest.mark.parametrize("sim_seed", range(2), indirect=True, ids="seed{}".format)


@fray.actor
class Worker:
    def __init__(self, name: str = "", number: int = 0) -> None:
        self.name = name
        self.number = number
        self.steps: list[tuple[int, int]] = []

    async def step(self, epoch: int, number: int, delay_s: float = 0.0) -> tuple[int, int]:
        self.steps.append((epoch, number))
        await asyncio.sleep(delay_s)
        return self.number, number

    async def history(self) -> list[tuple[int, int]]:
        return self.steps

    async def fail(self, number: int) -> None:
        if number == self.number:
            raise ValueError(f"{number} cannot")

    async def numbers(self):
        yield 1


def numbered(place: Place) -> tuple[Any, ...]:
    return "worker", place.slice.number * place.hosts + place.host


def of(members: Any) -> list[tuple[int, int, int]]:
    return [(each.slice.number, each.slice.life, each.host) for each in members]


def host_of(sim_cluster: Any, group: fray.Group, number: int) -> Any:
    member = next(each for each in group.members if each.slice.number == number)
    return sim_cluster.host_of(member.handle)


async def all_there(group: fray.Group) -> None:
    while len(group.slices) < group.wanted:
        await group.changed()
        await group.barrier()


async def test_a_group_has_one_actor_on_each_host_of_each_slice(sim_cluster):
    await sim_cluster.add_hosts(2, slice=TYPE)
    async with fray.group(Worker, tpu=TYPE, slices=2, min_slices=2, args=numbered) as group:
        assert group.epoch == 1
        assert of(group.members) == [(0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1)]
        assert [each.rank for each in group.members] == [0, 1, 2, 3]
        hosts = [sim_cluster.host_of(each.handle).name for each in group.members]
        assert sorted([hosts[:2], hosts[2:]]) == [["host-1", "host-2"], ["host-3", "host-4"]]
        assert await group.step.remote(1, 7) == [(0, 7), (1, 7), (2, 7), (3, 7)]
        assert await group.step.scatter(lambda member: (1, member.rank * 10)) == [
            (0, 0), (1, 10), (2, 20), (3, 30)
        ]  # fmt: skip
        some = [each for each in group.members if each.host == 0]
        assert await group.step.on(some).remote(1, 8) == [(0, 8), (2, 8)]
    assert sim_cluster.leaks() == []


@SEEDS
async def test_a_slice_that_loses_a_host_leaves_at_the_barrier_and_comes_again(sim_cluster):
    await sim_cluster.add_hosts(3, slice=TYPE)
    async with fray.group(Worker, tpu=TYPE, slices=3, min_slices=2, args=numbered) as group:
        await all_there(group)
        epoch = group.epoch
        step = group.step.remote(epoch, 1, 100.0)
        await asyncio.sleep(1)
        lost = host_of(sim_cluster, group, 1)
        sim_cluster.crash(lost)
        with pytest.raises(SliceLost) as told:
            await step
        assert (told.value.epoch, list(told.value.lost)) == (epoch, [SliceId(1, 1)])
        assert told.value.lost[SliceId(1, 1)].kind == "host_lost"
        assert "slice 1 (life 1) was lost" in str(told.value)
        answers = await step.answers()
        assert [type(answer.error) for answer in answers] == [
            type(None), type(None), ActorDied, ActorDied, type(None), type(None)
        ]  # fmt: skip
        assert len(group.slices) == 3, "until the barrier the membership is what it was"
        with pytest.raises(SliceLost, match="was not sent") as refused:
            group.step.remote(epoch, 2)
        assert refused.value.started is Started.NO
        assert await group.barrier()
        assert (group.epoch, [who.number for who in group.slices]) == (epoch + 1, [0, 2])
        assert await group.step.remote(epoch + 1, 2) == [(0, 2), (1, 2), (4, 2), (5, 2)]
        sim_cluster.restart(lost)
        await group.changed()
        assert await group.barrier()
        assert group.slices == (SliceId(0, 1), SliceId(1, 2), SliceId(2, 1))
        assert of(group.joined) == [(1, 2, 0), (1, 2, 1)]
        assert await group.history.on(group.joined).remote() == [[], []]


@SEEDS
async def test_a_call_of_one_epoch_never_runs_in_the_next_life_of_a_slice(sim_cluster):
    """The handles of a life die with it: what had not started is not sent to its successor."""
    await sim_cluster.add_hosts(3, cpus=1)
    async with fray.group(Worker, slices=2, min_slices=1, hosts=1, args=numbered) as group:
        await all_there(group)
        first = group.step.remote(group.epoch, 1, 5.0)
        queued = group.step.remote(group.epoch, 2)  # waits for its turn
        await asyncio.sleep(1)
        sim_cluster.crash(sim_cluster.process_of(group.members[1].handle))
        for each in (first, queued):
            with pytest.raises(SliceLost):
                await each
        await group.barrier()
        await all_there(group)
        old, new = await group.history.remote()
        assert (len(old), new) == (2, [])


async def test_a_barrier_waits_for_the_calls_of_its_epoch(sim_cluster):
    await sim_cluster.add_hosts(3, cpus=1)
    async with fray.group(Worker, slices=1, args=numbered) as group:
        step = group.step.remote(1, 1, 50.0)
        group.resize(2)
        await group.changed()
        began = asyncio.get_running_loop().time()
        assert await group.barrier()
        assert asyncio.get_running_loop().time() - began > 40
        assert step.done()
        assert len(group.slices) == 2


async def test_slices_go_and_come_with_what_a_reservation_has_beyond_its_minimum(sim_cluster):
    await sim_cluster.add_hosts(3, slice=TYPE)
    client = sim_cluster.cluster
    least, most = (ResourceConfig.with_tpu(TYPE, slice_count=count) for count in (1, 3))
    await client.create_reservation(ReservationConfig(least, most))
    async with fray.group(Worker, tpu=TYPE, slices=3, args=numbered, intensity=0) as group:
        await all_there(group)
        before = group.slices
        urgent = await client.launch(
            JobRequest(
                "urgent",
                Entrypoint.from_callable(asyncio.sleep, args=(300,)),
                resources=ResourceConfig.with_tpu(TYPE),
                priority="critical",
            )
        )
        await group.changed()
        assert await group.barrier()
        assert len(group.slices) == 2, "one slice makes room"
        (gone,) = set(before) - set(group.slices)
        await group.changed()
        assert await group.barrier()
        assert (await client.poll(urgent)).status is JobStatus.SUCCEEDED
        assert set(group.slices) - set(before) == {SliceId(gone.number, 2)}


async def test_a_group_below_its_minimum_waits_at_the_barrier(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with fray.group(Worker, slices=2, min_slices=2, args=numbered) as group:
        lost = host_of(sim_cluster, group, 0)
        sim_cluster.crash(lost)
        with pytest.raises(SliceLost):
            await group.step.remote(1, 1)
        waiting = asyncio.ensure_future(group.barrier())
        await asyncio.sleep(300)
        assert not waiting.done()
        sim_cluster.restart(lost)
        assert await waiting
        assert (group.epoch, group.slices) == (2, (SliceId(0, 2), SliceId(1, 1)))


@SEEDS
async def test_a_slice_that_is_cut_off_is_lost_and_what_it_still_does_counts_for_nothing(
    sim_cluster,
):
    await sim_cluster.add_hosts(4, cpus=1)
    async with fray.group(Worker, slices=2, min_slices=1, hosts=1, args=numbered) as group:
        await all_there(group)
        cut_off = host_of(sim_cluster, group, 1)
        with sim_cluster.partition(cut_off):
            with pytest.raises(SliceLost):
                await group.step.remote(group.epoch, 1)
            await group.barrier()
            assert [who.number for who in group.slices] == [0]
            assert await group.step.remote(group.epoch, 2) == [(0, 2)]
            await group.changed()
            await group.barrier()
            assert group.slices == (SliceId(0, 1), SliceId(1, 2))
            assert host_of(sim_cluster, group, 1) is not cut_off


async def test_a_slice_that_does_not_answer_in_time_can_be_given_up(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with fray.group(Worker, slices=2, args=numbered) as group:
        await all_there(group)
        with sim_cluster.partition(host_of(sim_cluster, group, 1), "test"):
            answers = await group.step.options(timeout=60).remote(group.epoch, 1).answers()
            assert [type(answer.error) for answer in answers] == [type(None), DeadlineExceeded]
            group.restart(answers[1].member.slice, "it cannot be reached from here")
            with pytest.raises(SliceLost, match="given up: it cannot be reached from here"):
                group.step.remote(group.epoch, 2)
            await group.barrier()
            assert await group.step.remote(group.epoch, 2) == [(0, 2)]
        await all_there(group)
        assert group.slices == (SliceId(0, 1), SliceId(1, 2))


@pytest.mark.parametrize("sim_seed", range(3), indirect=True, ids="seed{}".format)
async def test_no_step_ever_runs_with_two_memberships(sim_cluster):
    @fray.actor
    class Walker:
        def __init__(self, who: SliceId, host: int) -> None:
            self.who, self.host = who, host
            self.log: list[tuple[int, int]] = []

        async def step(self, epoch: int, number: int) -> tuple[SliceId, list[tuple[int, int]]]:
            self.log.append((epoch, number))
            await asyncio.sleep(1 + 7 * (number + self.host) % 20)
            return self.who, self.log

    hosts = await sim_cluster.add_hosts(5, cpus=1)
    dice = random.Random(f"{sim_cluster.seed}/disturb")

    async def disturb() -> None:
        while True:
            await asyncio.sleep(dice.uniform(5, 200))
            host = dice.choice(hosts)
            sim_cluster.crash(host)
            await asyncio.sleep(dice.uniform(1, 100))
            sim_cluster.restart(host)

    def recipe(place: Place) -> tuple[Any, ...]:
        return place.slice, place.host

    memberships: dict[int, tuple[SliceId, ...]] = {}
    logs: dict[SliceId, list[tuple[int, int]]] = {}
    disturbing = asyncio.ensure_future(disturb())
    async with fray.group(Walker, slices=2, hosts=2, args=recipe, intensity=-1) as group:
        number = 0
        while number < 60:
            await group.barrier()
            assert memberships.setdefault(group.epoch, group.slices) == group.slices
            try:
                answers = await group.step.remote(group.epoch, number)
            except SliceLost:
                continue
            assert len(answers) == 2 * len(group.slices)
            logs.update(dict(answers))
            number += 1
    disturbing.cancel()
    assert len(memberships) > 2, "nothing happened"
    for who, log in logs.items():
        assert len(set(log)) == len(log), "no step ran twice in an epoch"
        assert all(who in memberships[epoch] for epoch, _ in log)


async def test_a_group_grows_and_shrinks(sim_cluster):
    await sim_cluster.add_hosts(4, cpus=1)
    async with fray.group(Worker, slices=1, hosts=2, args=numbered) as group:
        group.resize(2)
        await group.changed()
        assert await group.barrier()
        assert [who.number for who in group.slices] == [0, 1]
        leaving = group.members[2].handle
        group.resize(1)
        assert await group.step.on(group.members[2:]).remote(2, 1) == [(2, 1), (3, 1)]
        down = fray.monitor(leaving)
        assert await group.barrier()
        assert [who.number for who in group.slices] == [0]
        assert (await down).cause.kind == "stopped"
        with pytest.raises(ValueError, match="at least 1 slice, not 0"):
            group.resize(0)


async def test_what_a_member_raises_is_raised_as_it_is_and_says_where(sim_cluster):
    await sim_cluster.add_hosts(2)
    async with fray.group(Worker, slices=2, min_slices=2, args=numbered) as group:
        with pytest.raises(ValueError, match="1 cannot") as told:
            await group.fail.remote(1)
        assert "in epoch 1, on host 0 of slice 1 (life 1)" in told.value.__notes__
        assert not await group.barrier(), "nobody is lost for that"


async def test_who_stops_waiting_for_a_round_cancels_its_calls(sim_cluster):
    await sim_cluster.add_hosts(2)
    async with fray.group(Worker, slices=2, min_slices=2, args=numbered) as group:
        step = group.step.remote(1, 1, 1000.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await step
        assert not await group.barrier()
        assert step.done()
        assert {type(answer.error) for answer in await step.answers()} == {CallCancelled}
        assert await group.step.remote(1, 2) == [(0, 2), (1, 2)]


async def test_a_round_that_failed_and_was_never_looked_at_is_logged(sim_cluster, caplog):
    await sim_cluster.add_hosts(2)
    async with fray.group(Worker, slices=2, min_slices=2, args=numbered) as group:
        group.fail.remote(1)
        with pytest.raises(ValueError, match="0 cannot"):
            await group.fail.remote(0)
        await group.barrier()
    (told,) = [text for text in caplog.messages if "nobody looked" in text]
    assert told.startswith("fail in epoch 1 failed and nobody looked: host 0 of slice 1 (life 1)")


async def test_a_call_that_failed_just_before_its_slice_was_lost_is_told_by_the_round_alone(
    sim_cluster, caplog
):
    await sim_cluster.add_hosts(1)
    async with fray.group(Worker, slices=1, min_slices=1, args=numbered) as group:
        (member,) = group.members
        failing = member.handle.fail.remote(0)
        await asyncio.sleep(1)
        ignored = {"on_done": lambda _: None, "on_lost": lambda *_: None}
        made = Round("fail", group.epoch, [member], **ignored)
        made.send(iter([lambda it=failing: it]))
        made.lose(member.slice, DeathCause(DeathKind.HOST_LOST, "its host is gone"))
        with pytest.raises(SliceLost, match="its host is gone"):
            await made
        del failing, made
        await asyncio.sleep(1)
        gc.collect()
    assert [text for text in caplog.messages if "nobody looked" in text] == []


async def test_an_argument_that_cannot_be_sent_leaves_no_round_behind(sim_cluster):
    await sim_cluster.add_hosts(2)
    async with fray.group(Worker, slices=2, min_slices=2, args=numbered) as group:
        wrong = [7, asyncio.get_running_loop()]
        with pytest.raises(PayloadError):
            group.step.scatter(lambda member: (1, wrong[member.rank]))
        with pytest.raises(ValueError, match="is no member of epoch 1"):
            group.step.on([replace(group.members[0], rank=5)]).remote(1, 1)
        assert not await group.barrier()
        assert await group.step.remote(1, 2) == [(0, 2), (1, 2)]


async def test_a_slice_that_fails_too_often_ends_the_group_and_says_why(sim_cluster):
    @fray.actor
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no weights")

    await sim_cluster.add_hosts(2)
    group = fray.group(Broken, slices=2, intensity=2)
    with pytest.raises(SupervisorFailed, match=r"slice . \(life 3\) has ended.*no weights"):
        await group.start()
    with pytest.raises(SupervisorFailed):
        await group.barrier()
    assert sim_cluster.leaks() == []


async def test_a_slice_is_there_once_it_was_prepared_and_the_others_do_not_wait_for_that(
    sim_cluster,
):
    prepared: list[tuple[SliceId, int]] = []

    async def prepare(members: Any) -> None:
        await asyncio.gather(*(each.handle.step.remote(0, each.rank, 100.0) for each in members))
        who = members[0].slice
        if who == SliceId(1, 1):
            raise ValueError("no weights for it")
        prepared.append((who, len(members)))

    await sim_cluster.add_hosts(2, cpus=2)
    async with fray.group(Worker, slices=1, hosts=2, args=numbered, prepare=prepare) as group:
        assert prepared == [(SliceId(0, 1), 2)]
        group.resize(2)
        began = asyncio.get_running_loop().time()
        for number in range(5):
            assert not await group.barrier()
            await group.step.remote(1, number, 10.0)
        assert asyncio.get_running_loop().time() - began < 51
        await all_there(group)
        assert group.slices == (SliceId(0, 1), SliceId(1, 2))
        assert prepared[1:] == [(SliceId(1, 2), 2)]


async def test_a_slice_that_dies_while_it_is_prepared_is_begun_again(sim_cluster):
    async def prepare(members: Any) -> None:
        if members[0].slice.life == 1:
            sim_cluster.crash(sim_cluster.process_of(members[1].handle))
            await asyncio.Event().wait()  # nobody tells it

    await sim_cluster.add_hosts(2, cpus=2)
    async with fray.group(Worker, slices=1, hosts=2, args=numbered, prepare=prepare) as group:
        assert group.slices == (SliceId(0, 2),)


async def test_a_leader_that_is_an_actor_lives_on_when_a_slice_of_its_group_dies(sim_cluster):
    @fray.actor
    class Leader:
        async def on_start(self) -> None:
            self.group = fray.group(Worker, slices=2, min_slices=1, args=numbered)
            await self.group.start()
            while len(self.group.slices) < 2:
                await self.group.changed()
                await self.group.barrier()

        async def on_stop(self) -> None:
            await self.group.stop()

        async def workers(self) -> list[Any]:
            return [each.handle for each in self.group.members]

        async def step(self, number: int) -> int:
            while True:
                await self.group.barrier()
                try:
                    return len(await self.group.step.remote(self.group.epoch, number))
                except SliceLost:
                    continue  # with whoever is left

    await sim_cluster.add_hosts(4)
    leader = await Leader.remote()
    assert await leader.step.remote(1) == 2
    worker = (await leader.workers.remote())[0]
    sim_cluster.crash(sim_cluster.process_of(worker))
    assert await leader.step.remote(2) == 1
    await leader.stop()
    assert sim_cluster.leaks() == []


async def test_stopping_a_group_that_waits_for_room_leaves_nothing_behind(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    group = fray.group(Worker, slices=1, hosts=2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await group.start()
    with pytest.raises(RuntimeError, match="was stopped"):
        await group.barrier()
    await sim_cluster.add_hosts(2, cpus=1)
    await asyncio.sleep(60)
    assert sim_cluster.leaks() == []


async def test_wrong_requests_are_refused_where_they_are_written(sim_cluster):
    @fray.actor
    class Hidden:
        async def barrier(self) -> None:
            """Has a name that groups use."""

    for wrong, values, told in (
        (ValueError, {"slices": 0}, "slices must be at least 1"),
        (ValueError, {"slices": 1, "min_slices": 2}, "slices must be at least 2"),
        (ValueError, {"slices": 1, "hosts": 0}, "hosts must be at least 1"),
        (ValueError, {"slices": 1, "tpu": TYPE, "hosts": 3}, "has 2 hosts, not 3"),
        (TypeError, {"slices": "2"}, "slices is a whole number"),
        (TypeError, {"slices": 1, "args": (1, 2, 3)}, "too many"),
        (TypeError, {"slices": 1, "num_cpu": 3}, "did you mean 'num_cpus'"),
        (ValueError, {"slices": 1, "tpu": "v4-17"}, "unknown TPU type"),
    ):
        with pytest.raises(wrong, match=told):
            fray.group(Worker, **values)
    with pytest.raises(TypeError, match="rename it"):
        fray.group(Hidden, slices=1)
    await sim_cluster.add_hosts(1)
    group = fray.group(Worker, slices=1)
    with pytest.raises(RuntimeError, match="was not started"):
        await group.barrier()
    async with group:
        with pytest.raises(AttributeError, match="no method 'stepp'"):
            _ = group.stepp
        with pytest.raises(AttributeError, match="is a generator"):
            _ = group.numbers
        with pytest.raises(RuntimeError, match="was started before"):
            await group.start()
