"""Stale plans are refused one assignment at a time, and never loop."""

import pytest

from fray.cluster.controller.commands import ApplyPlan, MarkWorker
from fray.cluster.controller.events import UnitPlaced, UnitRefused
from fray.cluster.devices import ResourceConfig
from fray.cluster.scheduling.plan import Assignment, Placement
from fray.cluster.scheduling.planner import plan

from .world import FAILED


def refusals(world, *assignments) -> list[str]:
    return [e.reason for e in world.events(ApplyPlan(0, assignments), UnitRefused)]


def place(job: str, worker: str, index: int = 0, attempt: int = 0) -> Assignment:
    return Assignment(f"task:{job}/{index}", (Placement(job, index, attempt, worker),))


def test_a_plan_is_taken_piece_by_piece(world):
    world.host("a", cpu=4)
    for name in ("x", "y"):
        world.submit(world.spec(name, ResourceConfig(cpu=3)))
    applied = world.do(ApplyPlan(0, (place("u/x", "a"), place("u/y", "a"))))
    assert UnitPlaced("task:u/x/0") in applied.events
    assert UnitRefused("task:u/y/0", "a needs 3 cpus, has 1 of 4 left") in applied.events
    assert (world.states("u/x"), world.states("u/y")) == (["assigned"], ["-"])


def test_a_plan_that_is_applied_twice_places_nothing_twice(world):
    world.host("a")
    world.submit("x")
    made = plan(world.ledger.view(), world.now)
    world.do(ApplyPlan(made.revision, made.assignments))
    assert refusals(world, *made.assignments) == ["it no longer waits for a place"]


def test_a_plan_for_an_earlier_attempt_is_stale(world):
    world.host("a")
    world.start(world.spec("x", max_retries_failure=1))
    world.tell("u/x", 0, FAILED)
    text = "its tasks are not those, or not at those attempts, that were planned"
    assert refusals(world, place("u/x", "a")) == [text]
    assert refusals(world, place("u/x", "a", attempt=1)) == []


def test_what_has_changed_since_the_view_is_told(world):
    world.host("a")
    world.submit("x", "y")
    made = plan(world.ledger.view(), world.now)
    world.do(MarkWorker("a", "b1", True, "silent"))
    world.stop("u/y")
    assert refusals(world, *made.assignments) == [
        "a is suspect: silent",
        "it no longer waits for a place",
    ]


def test_a_task_that_must_wait_is_not_placed_early(world):
    world.host("a")
    world.submit(world.spec("x", max_retries_failure=9))
    for _ in range(4):
        world.schedule()
        world.tell("u/x", 0, FAILED)
        world.now = max(world.now, world.ledger.tasks("u/x")[0].ready_at)
    world.now -= 3.0
    assert refusals(world, place("u/x", "a", attempt=4)) == ["it must wait 2 s more"]


@pytest.mark.parametrize(
    "unit_id",
    [
        "",
        "task:",
        "task:u/x",
        "task:u/x/9",
        "task:u/none/0",
        "gang:u/x/r0",
        "group:g",
        "what:u/x/0",
    ],
)
def test_a_unit_that_does_not_exist_is_refused(world, unit_id):
    world.host("a")
    world.submit("x")
    assignment = Assignment(unit_id, (Placement("u/x", 0, 0, "a"),))
    assert refusals(world, assignment) == ["it no longer waits for a place"]


def test_a_member_of_a_gang_is_not_placed_alone(world):
    names = world.slice("s")
    world.submit(world.spec("x", ResourceConfig.with_tpu("v5litepod-16")))
    assert refusals(world, place("u/x", names[0])) == ["it no longer waits for a place"]
    three = tuple(Placement("u/x", i, 0, name) for i, name in enumerate(names[:3]))
    assert len(refusals(world, Assignment("gang:u/x/r0", three))) == 1
    twice = tuple(Placement("u/x", i, 0, names[0]) for i in range(4))
    (reason,) = refusals(world, Assignment("gang:u/x/r0", twice))
    assert reason == "s-0 is not host 1 of slice s"


def test_an_unknown_host_is_refused(world):
    world.submit("x")
    assert refusals(world, place("u/x", "nowhere")) == ["nowhere is not registered"]


def test_every_pending_job_has_a_reason(world):
    world.host("a", cpu=1)
    world.submit(*[world.spec(name, ResourceConfig(cpu=1)) for name in "abc"])
    world.submit(world.spec("tpu", ResourceConfig.with_tpu("v5litepod-16")))
    world.schedule()
    made = world.schedule()
    assert set(made.reasons) == {"u/b", "u/c", "u/tpu"}
    assert all(made.reasons.values())
