"""Groups: jobs that are admitted together, near each other, and then live alone."""

from fray.cluster.controller.commands import ApplyPlan, GroupSpec
from fray.cluster.controller.events import UnitRefused
from fray.cluster.devices import ResourceConfig
from fray.cluster.scheduling.plan import Assignment, Placement
from fray.cluster.scheduling.planner import plan

from .world import FAILED, RUNNING, STOPPED

NEAR = GroupSpec("g")


def cpus(world, name: str, cpu: float, **values):
    return world.spec(name, ResourceConfig(cpu=cpu), **values)


def test_a_group_waits_until_all_of_it_fits_into_one_region(world):
    world.host("a", region="us", cpu=8)
    world.host("b", region="eu", cpu=8)
    world.submit(cpus(world, "x", 6), cpus(world, "y", 6), group=NEAR)
    made = world.schedule()
    assert made.assignments == ()
    assert {str(r) for r in made.reasons["u/y"]} == {
        "region eu: needs 12 cpus, has 8 free",
        "region us: needs 12 cpus, has 8 free",
    }
    world.host("c", region="us", cpu=8)
    world.schedule()
    assert [world.on(job) for job in ("u/x", "u/y")] == [["a"], ["c"]]


def test_a_group_without_locality_may_be_spread_but_still_starts_at_once(world):
    world.host("a", region="us")
    spread = GroupSpec("g", same_region=False)
    world.submit(cpus(world, "x", 6), cpus(world, "y", 6), group=spread)
    assert world.schedule().assignments == ()
    world.host("b", region="eu")
    world.schedule()
    assert [world.on(job) for job in ("u/x", "u/y")] == [["a"], ["b"]]


def test_whom_a_group_has_stopped_stops_no_member_of_it(world):
    world.host("a", cpu=4)
    world.start(world.spec("victim", ResourceConfig(cpu=4), priority=100))
    low, high = (cpus(world, n, 2, priority=p) for n, p in (("low", 0), ("high", 200)))
    world.submit(low, high, group=NEAR)
    world.schedule()
    world.tell("u/victim", 0, STOPPED)
    world.schedule()
    assert [world.on(job) for job in ("u/low", "u/high")] == [["a"], ["a"]]
    world.schedule()
    assert world.attempt("u/low").stop is None
    assert [world.ledger.job(job).spec.priority for job in ("u/low", "u/high")] == [200, 200]


def test_a_member_that_dies_is_restarted_alone_where_its_group_is(world):
    world.host("a", region="us", zone="us-a", cpu=2)
    world.host("b", region="us", zone="us-b", cpu=2)
    world.host("c", region="us", zone="us-a", cpu=2)
    world.host("z", region="us", zone="us-b", cpu=16)
    same_zone = GroupSpec("g", same_zone=True)
    members = [cpus(world, n, 2, max_retries_failure=1) for n in ("x", "y")]
    world.start(*members, group=same_zone)
    assert [world.on(job) for job in ("u/x", "u/y")] == [["a"], ["c"]]
    world.tell("u/x", 0, FAILED)
    assert world.states("u/y") == ["running"]
    world.submit(cpus(world, "thief", 2))
    thief = world.spec("thief2", ResourceConfig(cpu=2))
    world.submit(thief)
    world.schedule()
    assert world.on("u/x") == ["a"]


def test_a_member_waits_for_its_groups_region_though_another_has_room(world):
    world.host("a", region="us", cpu=4)
    members = [cpus(world, n, 2, max_retries_failure=1) for n in ("x", "y")]
    world.start(*members, group=NEAR)
    world.host("b", region="eu", cpu=16)
    world.tell("u/x", 0, FAILED)
    # Something else takes its room before it is scheduled again.
    world.submit(cpus(world, "thief", 2))
    view = world.ledger.view()
    thief = next(unit for unit in view.units if "thief" in unit.unit_id)
    placement = Placement("u/thief", 0, 0, "a")
    world.do(ApplyPlan(view.revision, (Assignment(thief.unit_id, (placement,)),)))
    made = world.schedule()
    assert [str(r) for r in made.reasons["u/x"]] == [
        "a: needs 2 cpus, has 0 of 4 left",
        "b: is not in region us",
    ]
    elsewhere = Assignment("task:u/x/0", (Placement("u/x", 0, 1, "b"),))
    (refused,) = world.events(ApplyPlan(0, (elsewhere,)), UnitRefused)
    assert refused.reason == "b is not in region us, where its group is"


def test_a_group_of_which_nothing_lives_may_move(world):
    world.host("a", region="us")
    (job,) = world.start(cpus(world, "x", 8, max_retries_failure=1), group=NEAR)
    world.host("b", region="eu")
    world.tell(job, 0, FAILED)
    world.submit(cpus(world, "y", 1))
    (unit,) = [u for u in world.ledger.view().units if u.unit_id == "task:u/x/0"]
    assert unit.within is None


def test_a_member_that_is_stopped_before_the_start_is_left_out(world):
    world.host("a", cpu=8)
    world.submit(cpus(world, "x", 6), cpus(world, "y", 6), group=NEAR)
    assert world.schedule().assignments == ()
    world.stop("u/x")
    world.schedule()
    assert world.on("u/y") == ["a"]
    assert world.ledger.tables.groups["s1"].admitted


def test_slices_and_cpus_start_together(world):
    world.host("head", region="us", cpu=16)
    slice_ = world.slice("s", region="us")
    world.slice("t", region="eu")
    tpu = world.spec("train", ResourceConfig.with_tpu("v5litepod-16"))
    world.start(cpus(world, "coordinator", 12), tpu, group=NEAR)
    assert world.on("u/train") == slice_
    assert world.on("u/coordinator") == ["head"]


def test_an_assignment_that_places_only_a_part_of_a_group_is_refused(world):
    world.host("a")
    world.submit("x", "y", group=NEAR)
    made = plan(world.ledger.view(), world.now)
    (assignment,) = made.assignments
    part = Assignment(assignment.unit_id, assignment.placements[:1])
    alone = Assignment("task:u/x/0", assignment.placements[:1])
    refused = world.events(ApplyPlan(made.revision, (part, alone)), UnitRefused)
    assert [each.reason for each in refused] == [
        "its tasks are not those, or not at those attempts, that were planned",
        "it no longer waits for a place",
    ]
    assert world.states("u/x") == world.states("u/y") == ["-"]


def local(world, slots: int) -> None:
    world.host("me", cpu=1, oversubscribe=True, slots=slots)


def test_local_jobs_take_slots_and_not_cpus(world):
    local(world, 2)
    world.submit(*[cpus(world, name, 100) for name in "abc"])
    world.schedule()
    assert [world.states(f"u/{name}") for name in "abc"] == [["assigned"], ["assigned"], ["-"]]


def test_a_local_group_starts_together_beyond_the_slots(world):
    local(world, 2)
    world.submit(*"abcdef", group=NEAR)
    world.schedule()
    assert all(world.states(f"u/{name}") == ["assigned"] for name in "abcdef")


def test_a_local_job_that_waits_for_others_frees_its_slot(world):
    local(world, 1)
    world.start("driver")
    world.submit("work")
    assert world.schedule().assignments == ()
    world.tell("u/driver", 0, RUNNING, blocked=True)
    world.schedule()
    assert world.states("u/work") == ["assigned"]
    world.tell("u/driver", 0, RUNNING)
    world.submit("more")
    assert world.schedule().assignments == ()
    world.stop("u/work")
    world.tell("u/work", 0, STOPPED)
    assert world.schedule().assignments == ()
    world.stop("u/driver")
    world.tell("u/driver", 0, STOPPED)
    assert world.schedule().assignments


def test_local_slices_are_virtual_and_replicas_start_together(world):
    local(world, 1)
    resources = ResourceConfig.with_tpu("v5litepod-16", slice_count=3)
    (job,) = world.start(world.spec("train", resources, hosts=1))
    assert world.on(job) == ["me"] * 3
    assert world.attempt(job).allocation.devices == ()
