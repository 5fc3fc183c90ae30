"""Hosts: their lives, and complete desired sets against complete observed ones."""

from dataclasses import replace

import pytest

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.commands import (
    CordonWorker,
    MarkWorker,
    ObservedAttempt,
    RegisterWorker,
    RemoveWorker,
    ReportAttempts,
    UncordonWorker,
    WorkerLost,
)
from fray.cluster.controller.desired import Standing
from fray.cluster.controller.events import (
    DesiredChanged,
    StrayFound,
    WorkerChanged,
    WorkerRemoved,
)
from fray.cluster.controller.records import CordonKind, Health
from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import Resources
from fray.cluster.scheduling.hosts import SliceMember
from fray.errors import DeathKind, InvalidRequestError

from .world import ASSIGNED, FAILED, RUNNING, STOPPED, SUCCEEDED, World

WORKER_LOST = AttemptState.WORKER_LOST


def record(world: World, name: str):
    return world.ledger.tables.workers[name]


def test_a_host_registers_once_however_often_it_says_so(world):
    world.host("a", labels={"rack": "1"})
    assert not world.host("a", labels={"rack": "1"}).changed
    assert world.host("a", labels={"rack": "2"}).changed
    assert world.ledger.standing("a", "b1") is Standing.CURRENT
    assert world.ledger.standing("a", "b0") is Standing.FENCED
    assert world.ledger.standing("z", "b1") is Standing.UNKNOWN


def test_an_agent_that_restarts_keeps_its_tasks(world):
    world.host("a")
    (job,) = world.start("job")
    world.host("a")
    world.report("a")
    assert world.states(job) == ["running"]


def test_a_host_that_was_started_anew_has_lost_its_tasks(world):
    world.host("a")
    (job,) = world.start("job")
    generation = record(world, "a").generation
    world.host("a", boot="b2")
    task = world.ledger.tasks(job)[0]
    assert (task.live, task.preemptions) == (None, 1)
    assert task.history[-1].cause.kind is DeathKind.HOST_LOST
    assert record(world, "a").generation > generation
    assert world.free()
    world.schedule()
    assert world.attempt(job).boot_id == "b2"


def test_another_host_of_the_same_name_does_not_take_the_place_of_one_that_may_run_tasks(world):
    world.host("a")
    (job,) = world.start("job")
    another = replace(record(world, "a").spec, address="elsewhere:7000")
    for suspect in (False, True):
        world.do(MarkWorker("a", "b1", suspect, "silent"))
        with pytest.raises(InvalidRequestError, match="host a is already here, at a:7000; give"):
            world.do(RegisterWorker(another, "b2", ("b0",)))
    assert world.states(job) == ["running"]
    world.do(WorkerLost("a", "b1", "silent for 90 s"))
    world.do(RegisterWorker(another, "b2", ("b0",)))  # the name is free
    assert record(world, "a").spec.address == "elsewhere:7000"
    with pytest.raises(InvalidRequestError, match="host a is already here, at elsewhere:7000"):
        world.do(RegisterWorker(another, "b3", ("b1",)))  # the one that was given up comes back


def test_what_a_host_has_changes_only_with_a_new_life(world):
    world.host("a", cpu=8)
    with pytest.raises(InvalidRequestError, match="cannot change its capacity while it lives"):
        world.host("a", cpu=4)
    with pytest.raises(InvalidRequestError, match="cannot change its region"):
        world.host("a", cpu=8, region="us")
    world.host("a", cpu=4, boot="b2")
    assert record(world, "a").spec.capacity.cpu_milli == 4000


HOST = {"cpu_milli": 1000}


@pytest.mark.parametrize(
    ("values", "boot", "message"),
    [
        ({}, "", "needs an id and a boot id"),
        ({"capacity": Resources(-1)}, "b", "has less than nothing"),
        ({"capacity": Resources(gpus={"H100": 500})}, "b", "must have whole gpus"),
        ({"capacity": Resources(tpus={"v6e": 0})}, "b", "must have chips"),
        ({"slots": 0}, "b", "must have a slot"),
        ({"slice": SliceMember("s", "v6e-16", 4, 4)}, "b", "cannot be host 4 of 4"),
        ({"slice": SliceMember("s", "v6e-16", 0, 2)}, "b", "cannot be host 0 of 2: a v6e-16 has 4"),
        ({"slice": SliceMember("s", "v9-1")}, "b", "unknown TPU type"),
    ],
)
def test_a_host_that_makes_no_sense_is_refused(world, values, boot, message):
    world.host("a")
    spec = replace(record(world, "a").spec, worker_id="x", **values)
    with pytest.raises(InvalidRequestError, match=message):
        world.do(RegisterWorker(spec, boot))


# Reports ------------------------------------------------------------------------------------


def test_an_attempt_that_the_agent_cannot_know_of_yet_is_not_missing(world):
    world.host("a")
    before = record(world, "a").generation
    (job,) = world.submit("job")
    world.schedule()
    world.report("a", {"u/job/0#0": None}, generation=before)
    assert world.states(job) == ["assigned"]


def test_an_attempt_that_the_agent_has_taken_over_and_lacks_is_lost(world):
    world.host("a")
    (job,) = world.submit("job")
    world.schedule()
    world.report("a", {"u/job/0#0": None})
    task = world.ledger.tasks(job)[0]
    assert (task.live, task.preemptions) == (None, 1)
    assert task.history[-1].state is WORKER_LOST
    assert task.error == "host a no longer knows of it on a"


def test_a_report_that_was_overtaken_by_an_assignment_harms_nothing(world):
    world.host("a")
    world.start("one")
    old = record(world, "a").generation
    world.submit("two")
    world.schedule()
    world.report("a", {"u/two/0#0": None}, generation=old)
    assert world.states("u/one") == ["running"]
    assert world.states("u/two") == ["assigned"]


def test_a_result_is_kept_in_the_desired_set_until_it_is_taken_note_of(world):
    world.host("a")
    (job,) = world.start("job")
    assert [spec.attempt_id for spec in world.ledger.desired("a").attempts] == ["u/job/0#0"]
    world.tell(job, 0, SUCCEEDED)
    desired = world.ledger.desired("a")
    assert desired.attempts == ()
    # The agent tells it again, because the answer was lost:
    assert not world.report("a", {"u/job/0#0": SUCCEEDED}).changed


def test_a_stray_is_found_ended_and_nothing_new_comes_meanwhile(world):
    world.host("a")
    applied = world.report("a", {"u/ghost/0#7": RUNNING})
    assert StrayFound("a", "u/ghost/0#7") in applied.events
    assert world.ledger.desired("a").attempts == ()
    world.submit("job")
    made = world.schedule()
    assert [str(r) for r in made.reasons["u/job"]] == [
        "a: still ends u/ghost/0#7, which does not belong there"
    ]
    again = world.report("a", {"u/ghost/0#7": RUNNING})
    assert not again.changed
    world.report("a")
    world.schedule()
    assert world.states("u/job") == ["assigned"]


def test_an_attempt_that_has_ended_and_still_runs_is_a_stray(world):
    world.host("a")
    (job,) = world.start("job")
    world.tell(job, 0, SUCCEEDED)
    world.report("a", {"u/job/0#0": RUNNING})
    assert record(world, "a").strays == ("u/job/0#0",)
    assert world.status(job) == "succeeded"


def test_another_hosts_attempt_is_a_stray_too(world):
    world.host("a", cpu=1)
    world.host("b", cpu=1)
    world.start("job")
    world.report("b", {"u/job/0#0": FAILED})
    world.report("b", {"u/job/0#0": RUNNING})
    assert record(world, "b").strays == ("u/job/0#0",)
    assert world.states("u/job") == ["running"]


def test_only_the_known_life_of_a_host_is_listened_to(world):
    world.host("a")
    (job,) = world.start("job")
    for worker, boot in (("a", "b0"), ("z", "b1")):
        with pytest.raises(InvalidRequestError, match=r"regist"):
            world.do(ReportAttempts(worker, boot, 0, ()))
    assert world.states(job) == ["running"]


def test_after_the_ledger_lost_its_last_moments_nothing_is_taken_for_lost(world):
    """The agent has seen a desired set that this ledger, restored from a backup, has not made."""
    world.host("a")
    (job,) = world.submit("job")
    world.schedule()
    future = record(world, "a").generation + 5
    forgotten = {"u/job/0#0": None, "u/forgotten/0#0": RUNNING}
    world.report("a", forgotten, generation=future)
    assert world.states(job) == ["assigned"]
    assert record(world, "a").generation == future + 1
    assert world.attempt(job).generation == future + 1
    assert record(world, "a").strays == ("u/forgotten/0#0",)
    world.report("a", {"u/job/0#0": None}, generation=future + 1)
    assert world.states(job) == ["-"]


def test_the_desired_set_has_a_new_generation_whenever_it_changes(world):
    world.host("a")
    world.host("b")
    (job,) = world.submit("job")
    made = world.schedule()
    assert made.assignments[0].placements[0].worker_id == "a"
    first = world.ledger.desired("a").generation
    assert world.ledger.desired("b").generation == 0
    world.run(job)
    assert world.ledger.desired("a").generation == first, "running changes nothing of it"
    applied = world.stop(job)
    assert DesiredChanged("a", first + 1) in applied.events
    assert world.ledger.desired("a").attempts[0].stop is not None
    world.tell(job, 0, STOPPED)
    assert world.ledger.desired("a").generation == first + 2
    assert world.ledger.desired("unknown").attempts == ()


# Falling silent and going -------------------------------------------------------------------


def test_a_suspect_host_keeps_what_it_has_and_gets_nothing_new(world):
    world.host("a")
    (job,) = world.start("job")
    world.do(MarkWorker("a", "b1", True, "silent for 10 s"))
    assert world.states(job) == ["running"]
    world.submit("more")
    (reason,) = world.schedule().reasons["u/more"]
    assert str(reason) == "a: is suspect: silent for 10 s"
    assert not world.do(MarkWorker("a", "b1", True, "silent for 20 s")).changed
    assert not world.do(MarkWorker("a", "b0", False)).changed
    assert not world.do(MarkWorker("z", "b1", True)).changed
    applied = world.do(MarkWorker("a", "b1", False))
    assert WorkerChanged("a", Health.HEALTHY, "") in applied.events
    assert world.schedule().assignments


def test_a_lost_host_is_fenced_until_it_returns_under_a_new_boot_id(world):
    world.host("a")
    (job,) = world.start("job")
    lost = WorkerLost("a", "b1", "silent for 90 s")
    world.do(lost)
    assert world.tasks(job) == ["pending"]
    assert not world.do(lost).changed
    assert world.ledger.standing("a", "b1") is Standing.FENCED
    with pytest.raises(InvalidRequestError, match="come back under a new boot id"):
        world.host("a")
    with pytest.raises(InvalidRequestError, match="register under a new one"):
        world.report("a")
    assert not world.do(MarkWorker("a", "b1", False)).changed
    world.host("a", boot="b2")
    assert world.schedule().assignments
    assert not world.do(lost).changed, "the loss of an earlier life says nothing of this one"
    assert world.states(job) == ["assigned"]


def test_a_host_that_the_cloud_took_back_is_told_as_preempted(world):
    world.host("a")
    (job,) = world.start("job")
    world.do(WorkerLost("a", "b1", "preempted by the cloud", preempted=True))
    ended = world.ledger.tasks(job)[0].history[-1]
    assert (ended.state, ended.cause.kind) == (AttemptState.PREEMPTED, DeathKind.PREEMPTED)


def test_a_job_that_is_being_stopped_has_stopped_when_its_host_is_lost(world):
    world.host("a")
    (job,) = world.start("job")
    world.stop(job)
    world.do(WorkerLost("a", "b1", "gone"))
    assert world.status(job) == "stopped"


def test_a_drained_host_finishes_what_it_has(world):
    world.host("a")
    (job,) = world.start("job")
    world.do(CordonWorker("a", CordonKind.DRAINING, "maintenance"))
    assert world.states(job) == ["running"]
    world.submit("more")
    assert "is draining: maintenance" in str(world.schedule().reasons["u/more"][0])
    with pytest.raises(InvalidRequestError, match=r"still has u/job/0#0; drain"):
        world.do(RemoveWorker("a"))
    world.tell(job, 0, SUCCEEDED)
    assert world.events(RemoveWorker("a"), WorkerRemoved) == [WorkerRemoved("a")]
    assert not world.do(RemoveWorker("a")).changed


def test_an_evicted_task_goes_elsewhere_and_is_charged_as_preempted(world):
    world.host("a", cpu=1)
    world.host("b", cpu=8)
    (job,) = world.start("job")
    world.do(CordonWorker("a", CordonKind.DRAINING, "maintenance", evict=True))
    assert world.states(job) == ["stopping"]
    assert not world.schedule().assignments, "it is still there"
    world.tell(job, 0, FAILED)
    task = world.ledger.tasks(job)[0]
    assert (task.failures, task.preemptions) == (0, 1)
    world.schedule()
    assert world.on(job) == ["b"]


def test_an_evicted_task_that_succeeds_in_time_has_succeeded(world):
    world.host("a")
    (job,) = world.start("job")
    world.do(CordonWorker("a", CordonKind.DRAINING, "maintenance", evict=True))
    world.tell(job, 0, SUCCEEDED)
    assert world.status(job) == "succeeded"


def test_a_quarantine_ends_with_the_life_of_the_host_and_draining_does_not(world):
    for name, kind in (("a", CordonKind.QUARANTINED), ("b", CordonKind.DRAINING)):
        world.host(name)
        world.do(CordonWorker(name, kind, "because"))
        world.host(name)
        assert record(world, name).cordon is not None
        world.host(name, boot="b2")
    assert record(world, "a").cordon is None
    assert record(world, "b").cordon is not None
    world.do(UncordonWorker("b"))
    assert record(world, "b").cordon is None
    assert not world.do(UncordonWorker("b")).changed


@pytest.mark.parametrize(
    "command", [CordonWorker("z", CordonKind.DRAINING, ""), UncordonWorker("z")]
)
def test_a_host_must_be_known_to_be_cordoned(world, command):
    with pytest.raises(InvalidRequestError, match="no worker z is registered"):
        world.do(command)


def test_devices_are_given_to_one_attempt_at_a_time(world):
    world.host("a", gpus={"H100": 4})
    half = world.spec("half", ResourceConfig.with_gpu("H100", 0.5, replicas=2))
    two = world.spec("two", ResourceConfig.with_gpu("auto", 2))
    world.start(half, two)
    assert [a.allocation.devices for a in world.ledger.attempts("u/half")] == [(0,), (0,)]
    assert world.attempt("u/two").allocation.devices == (1, 2)
    assert world.attempt("u/two").allocation.resources.gpus == {"H100": 2000}
    assert record(world, "a").devices == {"H100": (1000, 1000, 1000, 0)}


def test_an_agent_may_say_that_it_has_not_begun(world):
    world.host("a")
    (job,) = world.submit("job")
    world.schedule()
    seen = ObservedAttempt("u/job/0#0", ASSIGNED)
    assert not world.report("a", {"u/job/0#0": seen}).changed
    assert world.states(job) == ["assigned"]
