"""The life of an attempt: every cell of its tables, and what follows for the task."""

import itertools

import pytest

from fray.cluster.controller.attempt import LIVE, AttemptState, StopKind
from fray.cluster.controller.rules.attempts import ENDED, OBSERVED
from fray.cluster.controller.rules.endings import FINAL
from fray.cluster.devices import ResourceConfig
from fray.cluster.scheduling.planner import plan
from fray.errors import DeathCause, DeathKind

from .world import BUILDING, FAILED, RUNNING, STOPPED, SUCCEEDED, World

A = AttemptState
FORWARD = [A.ASSIGNED, A.BUILDING, A.RUNNING]


def bring_to(world: World, state: AttemptState) -> str:
    world.host("a")
    (job,) = world.submit(world.spec(max_retries_failure=3))
    world.schedule()
    if state is A.STOPPING:
        world.stop(job)
    elif state is not A.ASSIGNED:
        world.tell(job, 0, state)
    assert world.attempt(job).state is state
    return job


def test_the_tables_are_complete():
    assert set(OBSERVED) == set(LIVE)
    assert set(FINAL) == {None, *StopKind}
    assert all(set(row) == set(ENDED) and set(row.values()) <= set(ENDED) for row in FINAL.values())
    assert set(LIVE) | set(ENDED) == set(AttemptState)


@pytest.mark.parametrize(("before", "seen"), list(itertools.product(FORWARD, LIVE)))
def test_a_live_attempt_only_moves_forward(before, seen):
    world = World()
    job = bring_to(world, before)
    world.tell(job, 0, seen)
    after = world.attempt(job).state
    ahead = seen in FORWARD and FORWARD.index(seen) > FORWARD.index(before)
    assert after is (seen if ahead else before)


@pytest.mark.parametrize("seen", LIVE)
def test_an_attempt_that_is_to_stop_stays_so_until_it_is_gone(seen):
    world = World()
    job = bring_to(world, A.STOPPING)
    world.tell(job, 0, seen)
    assert world.attempt(job).state is A.STOPPING
    assert world.status(job) == "pending"


@pytest.mark.parametrize(("before", "seen"), list(itertools.product(FORWARD, ENDED)))
def test_an_end_is_believed_from_every_state(before, seen):
    world = World()
    job = bring_to(world, before)
    world.tell(job, 0, seen)
    task = world.ledger.tasks(job)[0]
    assert task.live is None
    assert task.history[-1].state is FINAL[None][seen]
    assert task.status == ("succeeded" if seen is SUCCEEDED else "pending")
    assert world.free()


@pytest.mark.parametrize("seen", ENDED)
def test_an_attempt_that_was_stopped_with_its_job_counts_as_stopped_unless_it_succeeded(seen):
    world = World()
    job = bring_to(world, A.STOPPING)
    world.tell(job, 0, seen)
    assert world.status(job) == "stopped"
    assert world.tasks(job) == ["succeeded" if seen is SUCCEEDED else "stopped"]
    assert world.free()


def test_running_makes_the_job_run_and_success_ends_it(world):
    world.host("a")
    (job,) = world.submit("job")
    world.schedule()
    world.tell(job, 0, BUILDING)
    assert (world.status(job), world.tasks(job)) == ("pending", ["pending"])
    world.tell(job, 0, RUNNING)
    assert (world.status(job), world.tasks(job)) == ("running", ["running"])
    world.tell(job, 0, SUCCEEDED)
    assert (world.status(job), world.tasks(job)) == ("succeeded", ["succeeded"])
    record = world.ledger.job(job)
    assert record.submitted_at < record.started_at < record.ended_at


def test_a_failure_without_a_budget_fails_the_job_and_says_why(world):
    world.host("a")
    (job,) = world.start("job")
    cause = DeathCause(DeathKind.APP_ERROR, "exit code 3", exit_code=3, host="a")
    world.tell(job, 0, FAILED, cause=cause)
    info = world.info(job)
    assert info.status == "failed"
    assert info.error_message == "task 0 failed: exit code 3 on a"
    assert info.tasks[0].error_message == "exit code 3 on a"
    assert world.ledger.tasks(job)[0].history[-1].cause == cause


def test_a_failure_within_the_budget_starts_the_task_again(world):
    world.host("a")
    (job,) = world.start(world.spec(max_retries_failure=2))
    world.tell(job, 0, FAILED)
    assert (world.status(job), world.tasks(job)) == ("running", ["pending"])
    world.schedule()
    attempt = world.attempt(job)
    assert (attempt.attempt_id, attempt.number) == ("u/job/0#1", 1)
    world.tell(job, 0, SUCCEEDED)
    assert world.status(job) == "succeeded"


def test_repeated_failures_wait_longer_and_longer(world):
    world.host("a")
    (job,) = world.submit(world.spec(max_retries_failure=20))
    delays = []
    for _ in range(12):
        world.schedule()
        world.tell(job, 0, FAILED)
        ready_at = world.ledger.tasks(job)[0].ready_at
        delays.append(ready_at - world.now if ready_at else 0.0)
        assert plan(world.ledger.view(), world.now).next_at == (ready_at or None)
        world.now = max(world.now, ready_at)
    assert delays == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0]


@pytest.mark.parametrize(
    ("seen", "host_fault"), [(A.PREEMPTED, False), (A.WORKER_LOST, False), (FAILED, True)]
)
def test_what_is_not_its_fault_is_charged_to_the_other_budget(world, seen, host_fault):
    world.host("a")
    (job,) = world.start(world.spec(max_retries_failure=0, max_retries_preemption=2))
    for _ in range(2):
        world.tell(job, 0, seen, host_fault=host_fault)
        assert world.status(job) == "running"
        world.now += 1.0
        world.schedule()
    task = world.ledger.tasks(job)[0]
    assert (task.failures, task.preemptions) == (0, 2)
    assert bool(task.ready_at) == host_fault, "only failures wait"
    world.now += 60.0
    world.schedule()
    world.tell(job, 0, seen, host_fault=host_fault, cause=DeathCause(message="it broke"))
    assert world.info(job).status == "failed"
    assert "preempted or lost its host 3 times: it broke" in world.info(job).error_message


def test_an_unlimited_budget_never_ends(world):
    world.host("a")
    (job,) = world.submit(world.spec(max_retries_failure=-1))
    for _ in range(50):
        world.schedule()
        world.tell(job, 0, FAILED)
        world.now += 60.0
    assert (world.status(job), world.ledger.tasks(job)[0].failures) == ("pending", 50)
    assert len(world.ledger.tasks(job)[0].history) == 8


def test_a_task_keeps_away_from_a_host_that_failed_it_by_its_own_fault(world):
    world.host("a", cpu=2)
    world.host("b", cpu=8)
    (job,) = world.start("job")
    assert world.on(job) == ["a"]
    world.tell(job, 0, FAILED, host_fault=True)
    assert len(world.ledger.tables.workers["a"].faults) == 1
    world.schedule()
    assert world.on(job) == ["b"]


def test_an_end_that_nobody_asked_for_counts_as_preemption(world):
    world.host("a")
    (job,) = world.start("job")
    world.tell(job, 0, STOPPED)
    assert world.status(job) == "running"
    assert world.ledger.tasks(job)[0].preemptions == 1


def test_one_failed_replica_fails_the_job_and_stops_the_others(world):
    world.host("a")
    (job,) = world.start(world.spec(resources=ResourceConfig(replicas=3)))
    world.tell(job, 0, SUCCEEDED)
    world.tell(job, 1, FAILED, cause=DeathCause(message="boom"))
    assert world.status(job) == "running", "it has not ended while a replica still runs"
    assert world.ledger.job(job).verdict.status == "failed"
    assert world.states(job) == ["-", "-", "stopping"]
    world.tell(job, 2, FAILED, cause=DeathCause(message="terminated"))
    info = world.info(job)
    assert (info.status, info.error_message) == ("failed", "task 1 failed: boom")
    assert world.tasks(job) == ["succeeded", "failed", "stopped"]
    assert [task.error_message for task in info.tasks] == [None, "boom", None]


def test_a_retry_restarts_only_the_replica_that_failed(world):
    world.host("a")
    spec = world.spec(resources=ResourceConfig(replicas=3), max_retries_failure=1)
    (job,) = world.start(spec)
    world.tell(job, 1, FAILED)
    assert world.states(job) == ["running", "-", "running"]
    world.schedule()
    assert world.states(job) == ["running", "assigned", "running"]


def test_ports_addresses_and_waiting_are_taken_note_of(world):
    world.host("a")
    (job,) = world.start("job")
    world.tell(job, 0, RUNNING, ports={"http": 31000}, address="a:9", blocked=True)
    attempt = world.attempt(job)
    assert (attempt.ports, attempt.address, attempt.blocked) == ({"http": 31000}, "a:9", True)
    world.tell(job, 0, RUNNING)
    attempt = world.attempt(job)
    assert (attempt.ports, attempt.address, attempt.blocked) == ({"http": 31000}, "a:9", False)


def test_saying_the_same_again_changes_nothing(world):
    world.host("a")
    (job,) = world.start("job")
    assert not world.tell(job, 0, RUNNING).changed
    revision = world.ledger.revision
    assert world.report("a").revision == revision


def test_a_job_that_is_over_before_it_was_told_to_run_has_begun_when_it_ran(world):
    world.host("a")
    fast, never = world.submit("fast", "never")
    world.schedule()
    assigned_at = world.attempt(fast).assigned_at
    world.now += 5.0
    world.tell(fast, 0, SUCCEEDED, ran_s=2.0)
    world.tell(never, 0, FAILED)
    job = world.ledger.job(fast)
    assert job.started_at == job.ended_at - 2.0 > assigned_at
    assert world.ledger.job(never).started_at is None  # it could not be started


def test_a_job_began_no_earlier_than_it_got_its_place_whatever_its_host_says(world):
    world.host("a")
    (job,) = world.submit("fast")
    world.schedule()
    assigned_at = world.attempt(job).assigned_at
    world.tell(job, 0, SUCCEEDED, ran_s=1e9)
    assert world.ledger.job(job).started_at == assigned_at
