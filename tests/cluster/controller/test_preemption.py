"""What the ledger makes of preemptions, checkpoints and time limits."""

from dataclasses import replace

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.commands import ApplyPlan, ObservedAttempt
from fray.cluster.controller.events import UnitRefused
from fray.cluster.controller.scheduler import command_of
from fray.cluster.devices import ResourceConfig
from fray.cluster.scheduling.planner import plan

from .world import RUNNING, STOPPED

FOUR = ResourceConfig(cpu=4)


def crowded(world):
    """A host full of a batch job, and a job of a high band that waits for it."""
    world.host("a", cpu=4)
    world.start(world.spec("low", FOUR, priority=0, max_retries_preemption=1))
    world.submit(world.spec("high", FOUR, priority=200))


def test_a_victim_is_stopped_with_a_reason_and_its_place_goes_to_whom_it_was_freed_for(world):
    crowded(world)
    world.schedule()
    low = world.attempt("u/low")
    assert (low.state, low.stop.reason) == (AttemptState.STOPPING, "preempted by u/high")
    assert world.states("u/high") == ["-"]
    world.submit(world.spec("rival", ResourceConfig(cpu=1), priority=299))
    world.schedule()
    world.tell("u/low", 0, STOPPED)
    world.schedule()
    assert world.on("u/high") == ["a"]
    assert world.states("u/rival") == ["-"]
    assert world.ledger.tables.claims == {}


def test_preemption_is_charged_to_its_own_budget(world):
    crowded(world)
    world.schedule()
    world.tell("u/low", 0, STOPPED)
    task = world.ledger.tasks("u/low")[0]
    assert (task.failures, task.preemptions) == (0, 1)
    assert world.status("u/low") == "running"  # it has run, and will again
    assert "preempted by u/high" in task.history[-1].cause.message


def test_a_preemption_that_is_not_allowed_any_more_is_refused_whole(world):
    crowded(world)
    made = plan(world.ledger.view(), world.now)
    world.stop("u/high")
    events = world.events(command_of(made), UnitRefused)
    assert [event.unit_id for event in events] == ["task:u/high/0"]
    assert world.states("u/low") == ["running"]


def test_whom_a_plan_may_not_stop_the_ledger_does_not_stop(world):
    world.host("a", cpu=4)
    world.start(world.spec("low", FOUR, priority=0, evictable=False))
    world.submit(world.spec("high", FOUR, priority=200))
    made = plan(world.ledger.view(), world.now)
    assert made.preemptions == ()
    world.start(world.spec("other", ResourceConfig(cpu=0), priority=0))
    forged = replace(made, preemptions=(forge(world, "u/low"),))
    assert world.events(command_of(forged), UnitRefused)
    assert world.states("u/low") == ["running"]


def forge(world, job: str):
    from fray.cluster.scheduling.plan import Preemption

    return Preemption("task:u/high/0", (world.attempt(job).attempt_id,), (job,))


def test_a_gang_goes_as_one_and_comes_back_as_one(world):
    world.slice("s")
    gang = world.spec("gang", ResourceConfig.with_tpu("v5litepod-16"), priority=0)
    world.start(gang)
    world.submit(world.spec("high", ResourceConfig.with_tpu("v5litepod-16"), priority=200))
    world.schedule()
    assert world.states("u/gang") == ["stopping"] * 4
    for index in range(4):
        assert world.states("u/high") == ["-"] * 4
        world.tell("u/gang", index, STOPPED)
        world.schedule()
    assert len(world.on("u/high")) == 4
    assert world.ledger.tables.gangs["u/gang/r0"].preemptions == 1


def test_who_has_saved_its_work_lately_is_stopped_first(world):
    world.host("a", cpu=4)
    world.host("b", cpu=4)
    world.start(*(world.spec(name, FOUR, priority=0) for name in ("one", "two")))
    saved = world.attempt("u/one")
    world.now += 100.0
    world.tell("u/one", 0, RUNNING, checkpoints=1)
    assert world.attempt("u/one").saved_at == world.now
    world.submit(world.spec("high", FOUR, priority=200))
    world.now += 5.0
    world.schedule()
    assert world.states("u/one") == ["stopping"]
    assert world.states("u/two") == ["running"]
    assert world.attempt("u/one").attempt_id == saved.attempt_id


def test_checkpoints_in_quick_succession_are_one(world):
    world.host("a", cpu=4)
    world.start(world.spec("one", FOUR))
    world.tell("u/one", 0, RUNNING, checkpoints=1)
    first = world.attempt("u/one").saved_at
    world.tell("u/one", 0, RUNNING, checkpoints=2)
    assert world.attempt("u/one").saved_at == first
    world.now += 10.0
    world.tell("u/one", 0, RUNNING, checkpoints=2)
    assert world.attempt("u/one").saved_at == world.now


def test_an_agent_that_has_started_anew_counts_from_none(world):
    world.host("a", cpu=4)
    world.start(world.spec("one", FOUR))
    world.tell("u/one", 0, RUNNING, checkpoints=1)
    first = world.attempt("u/one").saved_at
    world.now += 10.0
    world.tell("u/one", 0, RUNNING, checkpoints=0)
    assert world.attempt("u/one").saved_at == first
    world.tell("u/one", 0, RUNNING, checkpoints=1)
    assert world.attempt("u/one").saved_at == world.now


def test_a_checkpoint_is_news_once(world):
    world.host("a", cpu=4)
    world.start(world.spec("one", FOUR))
    world.tell("u/one", 0, RUNNING, checkpoints=3)
    at = world.attempt("u/one").saved_at
    seen = ObservedAttempt(world.attempt("u/one").attempt_id, RUNNING, checkpoints=3)
    assert not world.report("a", {seen.attempt_id: seen}).changed
    assert world.attempt("u/one").saved_at == at


def test_a_job_that_runs_longer_than_its_limit_fails(world):
    world.host("a", cpu=4)
    world.start(world.spec("slow", FOUR, time_limit_s=50.0, max_retries_failure=3))
    assert world.schedule().next_at is not None
    world.now += 60.0
    world.schedule()
    assert world.states("u/slow") == ["stopping"]
    world.tell("u/slow", 0, STOPPED)
    assert world.status("u/slow") == "failed"
    assert world.info("u/slow").error_message == "task 0 ran longer than its time limit of 50 s"


def test_an_attempt_is_not_overdue_before_its_time(world):
    world.host("a", cpu=4)
    world.start(world.spec("slow", FOUR, time_limit_s=50.0))
    early = (world.attempt("u/slow").attempt_id,)
    world.do(ApplyPlan(world.ledger.revision, (), overdue=early))
    assert world.states("u/slow") == ["running"]


def test_children_have_the_priority_of_their_parent_unless_they_say_otherwise(world):
    world.host("a", cpu=8)
    world.start(world.spec("parent", priority=205))
    world.submit(world.spec("child", parent="u/parent"))
    world.submit(world.spec("own", parent="u/parent", priority=0))
    jobs = world.ledger.tables.jobs
    assert (jobs["u/child"].spec.priority, jobs["u/own"].spec.priority) == (205, 0)
