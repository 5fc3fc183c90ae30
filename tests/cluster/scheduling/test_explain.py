"""Why a job waits, told whole, and what would become of one that nobody has submitted."""

from fray.cli.schedreports import outcome_lines
from fray.cluster.controller.codec import decode_view, encode_view
from fray.cluster.controller.supposed import supposed_units
from fray.cluster.devices import ResourceConfig
from fray.cluster.scheduling.explain import Explanation, as_told_to, explain, what_if
from fray.cluster.scheduling.planner import plan


def crowded(build):
    host = build.host("a", cpu=4, labels={"rack": "r1"})
    low = build.running("v/low", (host, build.shape(3)), user="v")
    units = [
        build.unit(build.shape(2), job=f"u/{i}", user="u", rank=i, priority=0) for i in range(3)
    ]
    urgent = build.unit(build.shape(4), job="w/urgent", user="w", priority=200)
    return build.view([host], [*units, urgent], [low])


def test_a_waiting_job_knows_its_place_and_who_is_before_it(build):
    told = explain(crowded(build), 10.0, "u/1")
    assert (told.position, told.queued, told.ahead) == (2, 4, ("w/urgent", "u/0"))
    assert (told.user, told.share, told.priority) == ("u", 0.0, "batch")
    assert told.reasons == ("a: keeps what it has left for task:w/urgent/0",) or told.reasons == (
        "a: needs 2 cpus, has 1 of 4 left",
    )


def test_it_is_told_who_would_be_stopped_for_a_job(build):
    told = explain(crowded(build), 10.0, "w/urgent")
    assert (told.position, told.preempts, told.placed) == (0, ("v/low",), ())


def test_of_a_job_that_does_not_wait_nothing_is_told(build):
    assert not explain(crowded(build), 10.0, "v/low").waiting


def test_a_recorded_view_is_the_same_view_and_gives_the_same_plan(build):
    view = crowded(build)
    again, now = decode_view(encode_view(view, 10.0))
    assert (again, now) == (view, 10.0)
    assert plan(again, now) == plan(view, now)


def test_what_would_become_of_a_job_is_told_and_nothing_is_changed(build):
    view = crowded(build)

    def ask(resources: ResourceConfig, priority: int):
        units = supposed_units(resources, 10.0, user="x", priority=priority)
        [told] = what_if(view, 10.0, units)
        return told

    assert ask(ResourceConfig(cpu=1), 300).placed == ("a",)
    assert ask(ResourceConfig(cpu=4), 300).preempts == ("v/low",)
    rack = ask(ResourceConfig(cpu=1, constraints=("rack=r2",)), 100)
    assert rack.reasons == ("a: its rack is r1, which rack=r2 does not accept",)
    assert len(view.units) == 4


def test_what_can_never_run_does_not_wait(build):
    units = supposed_units(ResourceConfig(cpu=400), 10.0, user="x", priority=100)
    [told] = what_if(crowded(build), 10.0, units)
    never = "x/whatif can never run here: needs 400 cpus; the largest host (a) has 4"
    assert told.impossible == never
    assert outcome_lines(told) == [never]
    [told] = what_if(
        crowded(build), 10.0, supposed_units(ResourceConfig(cpu=4), 10.0, user="x", priority=100)
    )
    assert told.impossible == ""


def test_users_hear_of_their_own_jobs_only():
    told = Explanation(
        "u/1", True, position=3, queued=9, ahead=("v/2", "u/3", "ul/4"), preempts=("v/5", "u/6")
    )
    heard = as_told_to(told, "u")
    assert (heard.ahead, heard.preempts) == (("u/3",), ("u/6",))
    assert (heard.position, heard.queued) == (3, 9)
