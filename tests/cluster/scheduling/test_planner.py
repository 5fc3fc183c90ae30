"""Who goes where, and why the rest waits."""

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fray.cluster.scheduling.feasible import Refusal, check, occupy
from fray.cluster.scheduling.hosts import Domain, Holding, Place
from fray.cluster.scheduling.plan import Assignment, Plan
from fray.cluster.scheduling.planner import plan
from fray.cluster.scheduling.reasons import REASONS_MAX
from fray.cluster.scheduling.view import (
    TaskKey,
)

from .view_builder import Builder


def places(result: Plan) -> dict[str, str]:
    return {
        str(TaskKey(p.job_id, p.task_index)): p.worker_id
        for assignment in result.assignments
        for p in assignment.placements
    }


def said(result: Plan, job: str) -> list[str]:
    return [str(reason) for reason in result.reasons[job]]


def test_earlier_jobs_are_served_first_and_ties_are_broken_by_rank(build):
    hosts = [build.host("a", cpu=4)]
    late = build.unit(build.shape(4), job="u/a-late", submitted_at=2.0, rank=1)
    second = build.unit(build.shape(4), job="u/second", submitted_at=1.0, rank=3)
    first = build.unit(build.shape(4), job="u/z-first", submitted_at=1.0, rank=2)
    result = plan(build.view(hosts, [late, second, first]), 5.0)
    assert places(result) == {"u/z-first/0": "a"}
    assert [unit.job_ids()[0] for unit in result.waiting] == ["u/second", "u/a-late"]


def test_what_does_not_fit_does_not_hold_back_what_does(build):
    hosts = [build.host("a", cpu=4)]
    huge = build.unit(build.shape(64), job="u/huge")
    small = build.unit(build.shape(1), job="u/small", submitted_at=1.0)
    result = plan(build.view(hosts, [huge, small]), 5.0)
    assert places(result) == {"u/small/0": "a"}
    assert said(result, "u/huge") == ["a: needs 64 cpus, has 4 of 4 left"]
    assert "u/small" not in result.reasons


def test_tasks_fill_the_fullest_host_first_and_leave_accelerators_alone(build):
    hosts = [
        build.host("a-gpu", cpu=4, gpus={"H100": 8}),
        build.host("b-empty", cpu=8),
        build.host("c-half", cpu=4),
    ]
    units = [build.unit(build.shape(2), job=f"u/{i}", rank=i) for i in range(8)]
    result = plan(build.view(hosts, units), 0.0)
    on = list(places(result).values())
    assert on == ["c-half"] * 2 + ["b-empty"] * 4 + ["a-gpu"] * 2


def test_a_gang_takes_a_whole_slice_or_nothing(build):
    hosts = [*build.slice("s", missing=[2]), *build.slice("t")]
    gangs = [
        build.unit(build.shape(tpu="v5litepod-16"), job=f"u/{i}", unit_id=f"gang:u/{i}/r0", rank=i)
        for i in range(2)
    ]
    result = plan(build.view(hosts, gangs), 0.0)
    assert places(result) == {f"u/0/{i}": f"t-{i}" for i in range(4)}
    assert said(result, "u/1") == [
        "slice s: only 3 of its 4 hosts are here",
        "slice t: t-0 needs 4 v5litepod chips, has 0 of 4 left",
    ]


def test_without_a_slice_of_the_type_the_reason_names_the_type(build):
    unit = build.unit(build.shape(tpu="v6e-16"))
    result = plan(build.view(build.slice("s"), [unit]), 0.0)
    assert said(result, "u/j") == ["needs a v6e-16 slice of 4 hosts; there is none"]
    assert said(plan(build.view([], [unit]), 0.0), "u/j")


def group(build: Builder, count: int, cpu: float, domain=Domain.REGION, **values):
    blocks = [build.block(build.shape(cpu), f"u/{i}") for i in range(count)]
    return build.unit(*blocks, unit_id="group:g", domain=domain, together=True, **values)


def test_a_group_is_placed_in_one_region_or_not_at_all(build):
    hosts = [
        build.host("a", cpu=4, region="asia"),
        build.host("b", cpu=8, region="eu"),
        build.host("c", cpu=4, region="eu"),
    ]
    result = plan(build.view(hosts, [group(build, 3, 4)]), 0.0)
    assert sorted(places(result).values()) == ["b", "b", "c"]
    result = plan(build.view(hosts, [group(build, 4, 4)]), 0.0)
    assert result.assignments == ()
    assert said(result, "u/3") == [
        "region asia: needs 16 cpus, has 4 free",
        "region eu: needs 16 cpus, has 12 free",
    ]


def test_a_group_whose_sum_fits_but_not_its_parts_is_told_the_part(build):
    hosts = [build.host("a", cpu=4, region="eu"), build.host("b", cpu=4, region="eu")]
    result = plan(build.view(hosts, [group(build, 2, 3.5, Domain.ZONE)]), 0.0)
    assert len(places(result)) == 2
    result = plan(build.view(hosts, [group(build, 1, 5)]), 0.0)
    assert said(result, "u/0") == ["region eu: a and 1 other: needs 5 cpus, has 4 of 4 left"]


def test_a_unit_that_fails_half_way_leaves_no_trace(build):
    hosts = [build.host("a", cpu=8, region="eu")]
    later = build.unit(build.shape(8), job="u/later", rank=1)
    result = plan(build.view(hosts, [group(build, 3, 4), later]), 0.0)
    assert places(result) == {"u/later/0": "a"}


def test_the_hardest_block_of_a_unit_is_placed_first(build):
    hosts = [build.host("a", cpu=8, gpus={"H100": 1}), build.host("b", cpu=8, gpus={"A100": 1})]
    anything = build.block(build.shape(1, gpus={"auto": 1}), "u/any")
    exact = build.block(build.shape(1, gpus={"H100": 1}), "u/exact")
    unit = build.unit(anything, exact, unit_id="group:g", domain=Domain.REGION)
    assert places(plan(build.view(hosts, [unit]), 0.0)) == {"u/any/0": "b", "u/exact/0": "a"}


def test_a_task_avoids_hosts_that_failed_it_unless_there_is_no_other(build):
    hosts = [build.host("a", cpu=4), build.host("b", cpu=8)]
    wary = build.unit(build.shape(), avoid=("a",))
    assert places(plan(build.view(hosts, [wary]), 0.0)) == {"u/j/0": "b"}
    assert places(plan(build.view(hosts[:1], [wary]), 0.0)) == {"u/j/0": "a"}


def test_a_gang_avoids_slices_with_hosts_that_failed_it(build):
    hosts = [*build.slice("s"), *build.slice("t")]
    wary = build.unit(build.shape(tpu="v5litepod-16"), avoid=("s-2",))
    assert places(plan(build.view(hosts, [wary]), 0.0))["u/j/0"] == "t-0"
    assert places(plan(build.view(hosts[:4], [wary]), 0.0))["u/j/0"] == "s-0"


def test_a_job_that_may_not_have_a_place_yet_has_the_reason_of_the_view(build):
    view = replace(build.view([build.host("a")], []), held={"u/j": "waits for its gang"})
    assert said(plan(view, 0.0), "u/j") == ["waits for its gang"]


def test_a_task_that_must_wait_says_how_long_and_when_to_plan_again(build):
    unit = build.unit(build.shape(), ready_at=12.5)
    result = plan(build.view([build.host("a")], [unit]), 10.0)
    assert (result.assignments, result.waiting, result.next_at) == ((), (), 12.5)
    assert said(result, "u/j") == ["starts again in 2.5 s, after a failure"]
    assert plan(build.view([build.host("a")], [unit]), 12.5).assignments


def test_slots_hold_jobs_back_and_say_so(build):
    host = build.host("a", oversubscribe=True, slots=1, holdings={"u/x": Holding(1)})
    unit = build.unit(build.shape())
    result = plan(build.view([host], [unit]), 0.0)
    assert said(result, "u/j") == ["a: runs 1 job, which is all that its 1 slot admits"]
    freed = replace(host, holdings={"u/x": Holding(1, 1)})
    assert plan(build.view([freed], [unit]), 0.0).assignments


def test_a_long_list_of_candidates_is_cut_and_counted(build):
    hosts = [build.host(f"h{i:03}", cpu=1) for i in range(100)]
    result = plan(build.view(hosts, [build.unit(build.shape(2))]), 0.0)
    assert said(result, "u/j") == ["h000 and 99 others: needs 2 cpus, has 1 of 1 left"]
    hosts = [build.host(f"h{i:03}", cpu=1 + i / 1000) for i in range(100)]
    result = plan(build.view(hosts, [build.unit(build.shape(2))]), 0.0)
    assert len(said(result, "u/j")) == REASONS_MAX + 1
    assert said(result, "u/j")[-1] == f"and {100 - REASONS_MAX} other candidates"


def test_a_unit_that_must_be_near_and_in_its_groups_region_is_both(build):
    hosts = [
        build.host("a", cpu=2, region="us", zone="us-a"),
        build.host("b", cpu=2, region="us", zone="us-b"),
        build.host("c", cpu=2, region="us", zone="us-b"),
        build.host("d", cpu=8, region="eu", zone="eu-a"),
    ]
    unit = group(build, 2, 2, Domain.ZONE, within=Place("us"))
    assert sorted(places(plan(build.view(hosts, [unit]), 0.0)).values()) == ["b", "c"]
    result = plan(build.view(hosts[3:], [unit]), 0.0)
    assert said(result, "u/0") == ["there are no hosts in region us"]


# Whatever the view: -------------------------------------------------------------------------

BUILD = Builder()
regions = st.sampled_from(["", "us", "eu"])
zones = st.sampled_from(["", "a", "b"])
cpus = st.sampled_from([0.5, 1, 2, 4])


@st.composite
def views(draw):
    hosts = []
    for index in range(draw(st.integers(0, 4))):
        hosts.append(
            BUILD.host(
                f"h{index}",
                cpu=draw(st.sampled_from([1, 4, 8])),
                gpus=draw(st.sampled_from([None, {"H100": 2}, {"A100": 1, "H100": 1}])),
                region=draw(regions),
                zone=draw(zones),
                preemptible=draw(st.booleans()),
                closed=draw(st.sampled_from(["", "", "is suspect: silent"])),
                slots=draw(st.sampled_from([None, None, 1, 2])),
            )
        )
    for index in range(draw(st.integers(0, 2))):
        missing = draw(st.sampled_from([(), (), (1,)]))
        hosts += BUILD.slice(f"s{index}", missing=missing, region=draw(regions))
    shapes = st.one_of(
        st.builds(
            BUILD.shape,
            cpus,
            st.sampled_from([None, None, {"auto": 1}, {"H100": 0.5}, {"H100": 2}]),
            preemptible=st.booleans(),
            takes_slot=st.booleans(),
        ),
        st.just(BUILD.shape(tpu="v5litepod-16")),
    )
    units = []
    for number in range(draw(st.integers(0, 8))):
        job = f"u/{number}"
        made = draw(st.lists(shapes, min_size=1, max_size=3))
        values = {"submitted_at": float(draw(st.integers(0, 3))), "rank": number}
        if len(made) > 1:
            values["domain"] = draw(st.sampled_from(list(Domain)))
            values["together"] = draw(st.booleans())
            values["within"] = draw(st.sampled_from([None, None, Place("us"), Place("us", "a")]))
        else:
            values["avoid"] = draw(st.sampled_from([(), ("h0",), ("h1",)]))
            values["ready_at"] = draw(st.sampled_from([0.0, 0.0, 20.0]))
        units.append(BUILD.unit(*made, job=job, **values))
    return BUILD.view(hosts, units)


def take(hosts, unit, assignment: Assignment) -> None:
    placement = {TaskKey(p.job_id, p.task_index): p.worker_id for p in assignment.placements}
    answer = check(unit, placement, hosts)
    assert not isinstance(answer, Refusal), answer
    for block in unit.blocks:
        for task in block.tasks:
            name = placement[task.key]
            hosts[name] = occupy(hosts[name], task.key.job_id, block.shape, answer[task.key])


@settings(max_examples=200)
@given(views(), st.randoms(use_true_random=False))
def test_a_plan_is_accepted_complete_reasoned_and_deterministic(view, rng: random.Random):
    result = plan(view, 10.0)
    hosts, by_id = dict(view.hosts), {unit.unit_id: unit for unit in view.units}
    for assignment in result.assignments:
        take(hosts, by_id.pop(assignment.unit_id), assignment)
    assert {unit.unit_id for unit in result.waiting} == {
        unit_id for unit_id, unit in by_id.items() if unit.ready_at <= 10.0
    }
    for unit in by_id.values():
        for job_id in unit.job_ids():
            assert result.reasons[job_id]
    shuffled = list(view.units)
    rng.shuffle(shuffled)
    names = list(view.hosts)
    rng.shuffle(names)
    again = replace(view, units=tuple(shuffled), hosts={name: view.hosts[name] for name in names})
    assert plan(again, 10.0) == result


@settings(max_examples=100)
@given(views())
def test_a_lone_task_waits_only_where_no_host_has_room(view):
    result = plan(view, 10.0)
    hosts, by_id = dict(view.hosts), {unit.unit_id: unit for unit in view.units}
    for assignment in result.assignments:
        take(hosts, by_id[assignment.unit_id], assignment)
    for unit in result.waiting:
        if len(unit.tasks()) > 1:
            continue
        for name in hosts:
            answer = check(unit, {unit.tasks()[0].key: name}, hosts)
            assert isinstance(answer, Refusal), (unit, name)
