"""Freed room is kept for who has waited long."""

from dataclasses import replace

from fray.cluster.scheduling.planner import plan
from fray.cluster.scheduling.policy import Policy


def placed(result) -> list[str]:
    return [assignment.placements[0].job_id for assignment in result.assignments]


def gang(build, count: int, cpu: float, job="u/gang", **values):
    blocks = [build.block(build.shape(cpu), job, i) for i in range(count)]
    return build.unit(*blocks, unit_id=f"gang:{job}/all", job=job, **values)


def crowd(build, count: int = 2, host_cpu: float = 4):
    hosts = [build.host(f"h{i}", cpu=host_cpu) for i in range(count)]
    running = [
        build.running(f"v/{i}", (host, build.shape(host_cpu - 1)), priority=100)
        for i, host in enumerate(hosts)
    ]
    return hosts, running


def test_before_the_hold_time_small_jobs_pass_a_large_one_and_after_it_they_do_not(build):
    hosts, running = crowd(build)
    small = build.unit(build.shape(1), job="v/small", user="v", submitted_at=200.0)
    view = build.view(hosts, [gang(build, 2, 4), small], running)
    early = plan(view, 299.0)
    assert (placed(early), early.next_at) == (["v/small"], 300.0)
    late = plan(view, 300.0)
    assert placed(late) == []
    assert str(late.reasons["u/gang"][0]) == "room on h0, h1 is kept for it as it is freed"
    assert "keeps what it has left for gang:u/gang/all" in str(late.reasons["v/small"][0])


def test_what_fits_beside_the_earmark_or_ends_before_it_goes_on(build):
    hosts, running = crowd(build, 3)
    running = [replace(each, ends_at=1000.0) for each in running]
    waiting = gang(build, 2, 4)
    small = [
        build.unit(build.shape(1), job=f"v/{name}", user="v", submitted_at=200.0, rank=i)
        for i, name in enumerate(["beside", "too-long"])
    ]
    short = build.shape(1, time_limit_s=100.0)
    brief = build.unit(short, job="v/brief", user="v", submitted_at=250.0)
    view = build.view(hosts, [waiting, *small, brief], running)
    assert placed(plan(view, 400.0)) == ["v/beside", "v/brief"]
    assert placed(plan(view, 950.0)) == ["v/beside"]


def test_the_place_that_needs_the_least_to_be_freed_is_kept(build):
    hosts = [build.host("a", cpu=4), build.host("b", cpu=4)]
    running = [
        build.running("v/0", (hosts[0], build.shape(3)), priority=100),
        build.running("v/1", (hosts[1], build.shape(2)), priority=100),
    ]
    view = build.view(hosts, [build.unit(build.shape(4), job="u/big")], running)
    assert str(plan(view, 400.0).reasons["u/big"][0]) == "room on b is kept for it as it is freed"


def test_an_earmark_is_not_made_for_what_could_never_fit(build):
    hosts, running = crowd(build)
    small = build.unit(build.shape(1), job="v/small", user="v", submitted_at=200.0)
    view = build.view(hosts, [gang(build, 3, 4), small], running)
    assert placed(plan(view, 400.0)) == ["v/small"]


def test_a_slice_is_kept_for_a_gang_and_its_other_hosts_are_not(build):
    hosts = [*build.slice("s"), *build.slice("t")]
    one = replace(build.shape(tpu="v5litepod-16"), hosts=1, tpu_type="")
    running = [
        build.running("v/0", (hosts[0], one), priority=100),
        *(build.running(f"v/{i}", (hosts[i], one), priority=100) for i in (4, 5)),
    ]
    big = build.unit(build.shape(tpu="v5litepod-16"), job="u/big", unit_id="gang:u/big/r0")
    small = [build.unit(one, job=f"w/{i}", submitted_at=100.0, rank=i) for i in range(4)]
    result = plan(build.view(hosts, [big, *small], running), 400.0)
    assert [p.worker_id for a in result.assignments for p in a.placements] == ["t-2", "t-3"]


def test_several_large_units_have_earmarks_side_by_side(build):
    hosts, running = crowd(build, 3)
    units = [build.unit(build.shape(4 - i / 10), job=f"u/{i}", rank=i) for i in range(3)]
    small = build.unit(build.shape(1), job="v/small", submitted_at=200.0)
    view = build.view(hosts, [*units, small], running)
    assert placed(plan(view, 400.0)) == []
    assert placed(plan(replace(view, policy=Policy(earmarks_max=2)), 400.0)) == ["v/small"]
