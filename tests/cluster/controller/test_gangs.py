"""Gangs: the hosts of a slice, which live and die together."""

import pytest

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.commands import CordonWorker, WorkerLost
from fray.cluster.controller.events import GangRestarting
from fray.cluster.controller.records import CordonKind
from fray.cluster.controller.specs import GangScope
from fray.cluster.devices import ResourceConfig
from fray.errors import DeathCause, DeathKind

from .world import FAILED, RUNNING, STOPPED, SUCCEEDED

PREEMPTED = AttemptState.PREEMPTED


def tpu(world, name="job", slices=1, **values):
    return world.spec(name, ResourceConfig.with_tpu("v5litepod-16", slices), **values)


def gang(world, job, replica=0):
    return world.ledger.tables.gangs[f"{job}/r{replica}"]


def test_a_gang_starts_on_all_hosts_of_one_slice_in_order(world):
    world.slice("s")
    world.slice("t")
    (job,) = world.start(tpu(world))
    assert world.on(job) == ["s-0", "s-1", "s-2", "s-3"]
    spec = world.ledger.desired("s-2").attempts[0]
    assert (spec.task_index, spec.replica_id, spec.gang.rank) == (2, 0, 2)
    assert spec.gang.addresses == ("s-0:7000", "s-1:7000", "s-2:7000", "s-3:7000")
    assert spec.allocation.devices == (0, 1, 2, 3)


def test_replicas_are_gangs_of_their_own(world):
    world.slice("s")
    world.slice("t")
    (job,) = world.start(tpu(world, slices=2, max_retries_failure=1))
    world.tell(job, 5, FAILED)
    assert world.states(job) == ["running"] * 4 + ["stopping", "-", "stopping", "stopping"]
    assert (gang(world, job, 0).epoch, gang(world, job, 1).epoch) == (0, 0)


def test_one_member_down_stops_all_and_a_new_epoch_waits_for_the_last(world):
    world.slice("s")
    (job,) = world.start(tpu(world, max_retries_failure=1))
    world.tell(job, 1, FAILED, cause=DeathCause(message="boom"))
    assert world.states(job) == ["stopping", "-", "stopping", "stopping"]
    reason = world.attempt(job, 0).stop.reason
    assert reason == "task 1 of its gang is down: boom"
    for index in (0, 2):
        world.tell(job, index, STOPPED)
        made = world.schedule()
        assert not made.assignments, "the last member is still there"
        text = f"waits until all of its gang are gone: {job}/{2 if index == 0 else 3}#0"
        assert str(made.reasons[job][0]).startswith(text)
    applied = world.tell(job, 3, FAILED)
    assert [e.epoch for e in applied.events if isinstance(e, GangRestarting)] == [1]
    assert (gang(world, job).failures, gang(world, job).preemptions) == (1, 0)
    world.schedule()
    assert world.states(job) == ["assigned"] * 4
    assert {world.attempt(job, i).gang_epoch for i in range(4)} == {1}


def test_a_gang_without_a_budget_fails_its_job_when_all_are_gone(world):
    world.slice("s")
    (job,) = world.start(tpu(world))
    world.tell(job, 2, FAILED, cause=DeathCause(message="boom"))
    for index in (0, 1, 3):
        assert world.status(job) == "running"
        world.tell(job, index, STOPPED)
    info = world.info(job)
    assert (info.status, info.error_message) == ("failed", "task 2 failed: boom")
    assert world.tasks(job) == ["stopped", "stopped", "failed", "stopped"]
    assert world.free()


def test_a_member_that_dies_of_a_neighbours_preemption_is_not_charged_as_a_failure(world):
    """The others notice a lost host first: their failures arrive before the preemption does."""
    hosts = world.slice("s")
    (job,) = world.start(tpu(world, max_retries_failure=0))
    world.tell(job, 0, FAILED, cause=DeathCause(message="connection reset by peer"))
    world.tell(job, 1, FAILED)
    world.tell(job, 2, STOPPED)
    assert world.status(job) == "running"
    world.do(WorkerLost(hosts[3], "b1", "taken back by the cloud", preempted=True))
    assert world.status(job) == "running"
    assert (gang(world, job).failures, gang(world, job).preemptions) == (0, 1)
    assert world.tasks(job) == ["pending"] * 4
    (reason,) = world.schedule().reasons[job]
    assert "s-3 is lost: taken back by the cloud" in str(reason)


def test_a_gang_counts_one_preemption_however_many_hosts_go(world):
    hosts = world.slice("s")
    world.slice("t")
    (job,) = world.start(tpu(world))
    for host in hosts:
        world.do(WorkerLost(host, "b1", "slice preempted", preempted=True))
    assert gang(world, job).preemptions == 1
    world.schedule()
    assert world.on(job) == ["t-0", "t-1", "t-2", "t-3"]


def test_a_gang_that_runs_longer_than_its_limit_fails_as_a_whole(world):
    world.slice("s")
    (job,) = world.start(tpu(world, time_limit_s=50.0, max_retries_failure=3))
    world.now += 60.0
    world.schedule()
    assert world.states(job) == ["stopping"] * 4
    for index in range(4):
        world.tell(job, index, STOPPED)
    assert world.status(job) == "failed"
    assert world.info(job).error_message == "task 0 ran longer than its time limit of 50 s"


def test_the_preemption_budget_of_a_gang_ends(world):
    hosts = world.slice("s")
    (job,) = world.start(tpu(world, max_retries_preemption=0))
    for host in hosts:
        world.do(WorkerLost(host, "b1", "slice preempted"))
    assert world.status(job) == "failed"
    assert "preempted or lost its host: slice preempted on s-0" in world.info(job).error_message


def test_a_member_that_succeeded_starts_again_with_its_gang(world):
    world.slice("s")
    (job,) = world.start(tpu(world, max_retries_failure=1))
    world.tell(job, 0, SUCCEEDED)
    assert world.tasks(job) == ["succeeded", "running", "running", "running"]
    world.tell(job, 1, FAILED)
    world.tell(job, 2, STOPPED)
    world.tell(job, 3, STOPPED)
    assert world.tasks(job) == ["pending"] * 4
    world.schedule()
    world.run(job)
    for index in range(4):
        world.tell(job, index, SUCCEEDED)
    assert world.status(job) == "succeeded"


def test_a_gang_whose_members_all_succeed_while_it_is_evicted_has_succeeded(world):
    world.slice("s")
    (job,) = world.start(tpu(world))
    world.do(CordonWorker("s-1", CordonKind.DRAINING, "maintenance", evict=True))
    assert world.states(job) == ["stopping"] * 4
    for index in range(4):
        world.tell(job, index, SUCCEEDED)
    assert world.status(job) == "succeeded"
    assert gang(world, job).epoch == 0


def test_evicting_one_host_evicts_the_gang_and_is_charged_as_preemption(world):
    world.slice("s")
    (job,) = world.start(tpu(world))
    world.do(CordonWorker("s-1", CordonKind.DRAINING, "maintenance", evict=True, grace_s=5.0))
    assert world.attempt(job, 3).stop.grace_s == 5.0
    for index in range(4):
        world.tell(job, index, FAILED, cause=DeathCause(DeathKind.SIGNAL, "killed", signal=15))
    assert (gang(world, job).failures, gang(world, job).preemptions) == (0, 1)
    cause = world.ledger.tasks(job)[3].history[-1].cause
    assert (cause.kind, cause.signal) == (DeathKind.PREEMPTED, 15)
    assert cause.message == "host s-1 is draining: maintenance"


def test_stopping_a_job_wins_over_the_fall_of_its_gang(world):
    world.slice("s")
    (job,) = world.start(tpu(world, max_retries_failure=5))
    world.tell(job, 0, FAILED)
    world.stop(job)
    for index in (1, 2, 3):
        world.tell(job, index, STOPPED)
    assert world.status(job) == "stopped"
    assert world.free()


def test_a_gang_over_several_slices_is_one_and_keeps_to_a_zone(world):
    world.slice("s", zone="us-a")
    world.slice("t", zone="us-b")
    (job,) = world.submit(tpu(world, slices=2, gang=GangScope.JOB, max_retries_failure=1))
    (reason, *_) = world.schedule().reasons[job]
    assert str(reason) == "zone us-a: needs 32 v5litepod chips, has 16 free"
    world.slice("v", zone="us-b")
    world.schedule()
    world.run(job)
    assert world.on(job) == [f"{name}-{i}" for name in ("t", "v") for i in range(4)]
    assert world.ledger.desired("v-1").attempts[0].gang.rank == 5
    world.tell(job, 0, FAILED)
    assert world.states(job)[1:] == ["stopping"] * 7
    for index in range(1, 8):
        world.tell(job, index, STOPPED)
    assert world.ledger.tables.gangs[f"{job}/all"].epoch == 1
    assert world.tasks(job) == ["pending"] * 8


@pytest.mark.parametrize("late", [RUNNING, AttemptState.BUILDING])
def test_a_gang_member_that_is_to_stop_does_not_come_back_to_life(world, late):
    world.slice("s")
    (job,) = world.start(tpu(world, max_retries_failure=1))
    world.tell(job, 0, FAILED)
    world.tell(job, 1, late)
    assert world.states(job) == ["-", "stopping", "stopping", "stopping"]


def test_a_repeatedly_failing_gang_waits_before_it_starts_again(world):
    world.slice("s")
    (job,) = world.start(tpu(world, max_retries_failure=3))
    for _ in range(2):
        world.tell(job, 0, FAILED)
        for index in (1, 2, 3):
            world.tell(job, index, STOPPED)
        ready_at = world.ledger.tasks(job)[2].ready_at
        world.schedule()
    assert ready_at == world.now


def test_a_gang_that_a_host_fails_goes_elsewhere_or_waits(world):
    world.slice("s")
    (job,) = world.start(tpu(world))

    def host_fails() -> None:
        world.tell(job, 1, FAILED, host_fault=True)
        for index in (0, 2, 3):
            world.tell(job, index, STOPPED)

    host_fails()
    world.schedule()
    assert world.on(job)[0] == "s-0", "there is no other"
    host_fails()
    assert gang(world, job).preemptions == 2
    assert world.ledger.tasks(job)[0].ready_at == world.now + 1.0
    world.slice("t")
    world.now += 60
    world.schedule()
    assert world.on(job)[0] == "t-0"
