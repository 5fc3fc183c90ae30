"""Whether something fits."""

from dataclasses import replace

import pytest

from fray.cluster.resources import Resources
from fray.cluster.scheduling.feasible import Refusal, check, fit, occupy, slot_refusal
from fray.cluster.scheduling.hosts import Domain, Holding, Place, SliceMember
from fray.cluster.scheduling.inventory import Allocation
from fray.cluster.scheduling.view import (
    TaskKey,
)


def refusal(answer) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.text


def test_a_task_gets_what_it_asks_for_and_the_kind_of_gpu_that_is_there(build):
    host = build.host("a", gpus={"A100": 2, "H100": 4})
    assert fit(host, build.shape(2)) == Allocation(build.need(2))
    got = fit(host, build.shape(1, gpus={"H100": 3}))
    assert got == Allocation(build.need(1, {"H100": 3}), (0, 1, 2))
    got = fit(host, build.shape(1, gpus={"auto": 3}))
    assert got == Allocation(build.need(1, {"H100": 3}), (0, 1, 2))


def test_every_refusal_says_what_is_short_and_what_there_is(build):
    host = build.host("a", cpu=8, gpus={"H100": 2}, region="us")
    host = occupy(host, "u/x", build.shape(6), Allocation(build.need(6)))
    assert refusal(fit(host, build.shape(4))) == "needs 4 cpus, has 2 of 8 left"
    big = replace(build.shape(1), need=Resources(1000, 65 << 30, 0))
    assert refusal(fit(host, big)) == "needs 65GiB memory, has 63GiB of 64GiB left"
    wide = replace(build.shape(1), need=Resources(1000, 0, 600 << 30))
    assert refusal(fit(host, wide)) == "needs 600GiB disk, has 511GiB of 512GiB left"
    assert refusal(fit(host, build.shape(gpus={"A100": 1}))) == "has no A100 gpus"
    assert refusal(fit(build.host("b"), build.shape(gpus={"auto": 1}))) == "has no gpus"
    assert refusal(fit(host, build.shape(gpus={"H100": 4}))) == "needs 4 H100 gpus, has 2 of 2 left"
    assert refusal(fit(host, build.shape(tpu="v6e-8"))) == "has no v6e chips"
    assert "is in region us, not eu or asia" in refusal(
        fit(host, build.shape(regions=("eu", "asia")))
    )
    closed = replace(host, closed="is suspect: silent for 10 s")
    assert refusal(fit(closed, build.shape())) == "is suspect: silent for 10 s"


def test_a_job_that_must_not_be_preempted_stays_off_hosts_that_can_be(build):
    host = build.host("a", preemptible=True)
    assert isinstance(fit(host, build.shape()), Allocation)
    assert "may be preempted" in refusal(fit(host, build.shape(preemptible=False)))


def test_fragments_of_gpus_do_not_add_up_to_a_whole_one(build):
    host = build.host("a", gpus={"H100": 2})
    for job in ("u/a", "u/b"):
        shape = build.shape(gpus={"H100": 0.75})
        host = occupy(host, job, shape, fit(host, shape))
    assert host.devices == {"H100": (750, 750)}
    assert refusal(fit(host, build.shape(gpus={"H100": 0.5}))).startswith("needs 0.5 H100 gpus")
    assert isinstance(fit(host, build.shape(gpus={"H100": 0.25})), Allocation)


def test_a_small_tpu_job_may_share_a_machine_but_never_breaks_a_slice(build):
    machine = build.host("a", tpus={"v5litepod": 8})
    shape = build.shape(tpu="v5litepod-4")
    first = fit(machine, shape)
    assert first.devices == (0, 1, 2, 3)
    machine = occupy(machine, "u/a", shape, first)
    assert fit(machine, shape).devices == (4, 5, 6, 7)
    part = build.slice("s")[0]
    assert refusal(fit(part, shape)) == "is one of the 4 hosts of a v5litepod-16 slice"


def test_oversubscribed_hosts_count_nothing_and_have_every_accelerator(build):
    laptop = build.host("a", cpu=1, oversubscribe=True)
    wanted = build.shape(64, gpus={"H100": 8}, regions=("mars",), preemptible=False)
    assert fit(laptop, wanted) == Allocation(wanted.need)
    assert "is one machine" in refusal(fit(laptop, build.shape(tpu="v5litepod-16")))


def unit_check(build, unit, on, hosts):
    placement = {task.key: name for task, name in zip(unit.tasks(), on, strict=True)}
    return check(unit, placement, {host.worker_id: host for host in hosts})


def test_a_slice_is_taken_by_index_and_whole(build):
    hosts = [*build.slice("s"), *build.slice("t")]
    unit = build.unit(build.shape(tpu="v5litepod-16"))
    ok = unit_check(build, unit, ["s-0", "s-1", "s-2", "s-3"], hosts)
    assert [ok[TaskKey("u/j", i)].devices for i in range(4)] == [(0, 1, 2, 3)] * 4
    for wrong in (["s-1", "s-0", "s-2", "s-3"], ["s-0", "s-1", "t-2", "s-3"]):
        assert "of slice s" in refusal(unit_check(build, unit, wrong, hosts))
    wrong_type = build.unit(build.shape(tpu="v6e-16"))
    names = ["s-0", "s-1", "s-2", "s-3"]
    assert "no part of a v6e-16 slice" in refusal(unit_check(build, wrong_type, names, hosts))


def test_the_tasks_of_a_unit_count_against_each_other(build):
    hosts = [build.host("a", cpu=8)]
    unit = build.unit(build.shape(5), build.shape(5))
    assert "a needs 5 cpus, has 3 of 8 left" in refusal(unit_check(build, unit, ["a", "a"], hosts))


@pytest.mark.parametrize(("domain", "apart"), [(Domain.REGION, "region"), (Domain.ZONE, "zone")])
def test_what_must_be_near_may_not_be_apart(build, domain, apart):
    hosts = [
        build.host("a", region="us", zone="us-a"),
        build.host("b", region="us", zone="us-b"),
        build.host("c", region="eu", zone="eu-a"),
    ]
    unit = build.unit(build.shape(), build.shape(), domain=domain)
    assert not isinstance(unit_check(build, unit, ["a", "a"], hosts), Refusal)
    assert apart in refusal(unit_check(build, unit, ["a", "c"], hosts))
    same_region = unit_check(build, unit, ["a", "b"], hosts)
    assert isinstance(same_region, Refusal) == (domain is Domain.ZONE)


def test_a_restarted_member_goes_where_its_group_is(build):
    hosts = [build.host("a", region="us"), build.host("c", region="eu")]
    unit = build.unit(build.shape(), within=Place("us"))
    assert not isinstance(unit_check(build, unit, ["a"], hosts), Refusal)
    assert "c is not in region us" in refusal(unit_check(build, unit, ["c"], hosts))


def test_a_placement_of_other_tasks_is_refused(build):
    hosts = [build.host("a")]
    unit = build.unit(build.shape())
    answer = check(unit, {TaskKey("u/other", 0): "a"}, {h.worker_id: h for h in hosts})
    assert "other tasks" in refusal(answer)
    assert "b is not registered" in refusal(unit_check(build, unit, ["b"], hosts))


def slot_host(build, slots: int, *jobs: str, blocked=()):
    holdings = {job: Holding(1, int(job in blocked)) for job in jobs}
    return build.host("a", slots=slots, holdings=holdings, oversubscribe=True)


def test_slots_count_jobs_that_do_not_wait(build):
    unit = build.unit(build.shape())
    assert slot_refusal(build.host("a"), unit) is None
    assert slot_refusal(slot_host(build, 2, "u/a"), unit) is None
    full = slot_host(build, 2, "u/a", "u/b")
    assert refusal(slot_refusal(full, unit)) == "runs 2 jobs, which is all that its 2 slots admit"
    assert slot_refusal(slot_host(build, 2, "u/a", "u/b", blocked=["u/b"]), unit) is None


def test_a_job_takes_one_slot_however_many_tasks_it_has_and_an_actor_none(build):
    full = slot_host(build, 2, "u/j", "u/b")
    assert slot_refusal(full, build.unit(build.shape(), job="u/j")) is None
    actor = build.unit(build.shape(takes_slot=False), job="u/actor")
    assert slot_refusal(full, actor) is None
    wide = build.unit(*[build.shape() for _ in range(5)], job="u/wide")
    assert slot_refusal(slot_host(build, 2, "u/a"), wide) is None


def test_a_group_starts_together_beyond_the_slots_once_one_is_free(build):
    blocks = [build.block(build.shape(), f"u/{i}") for i in range(6)]
    together = build.unit(*blocks, together=True)
    assert slot_refusal(slot_host(build, 4, "u/a", "u/b", "u/c"), together) is None
    assert slot_refusal(slot_host(build, 2, "u/a", "u/b"), together) is not None
    assert slot_refusal(slot_host(build, 4), build.unit(*blocks)) is not None


def test_occupying_keeps_what_a_job_holds_only_where_there_are_slots(build):
    shape = build.shape()
    host = occupy(slot_host(build, 2), "u/a", shape, fit(slot_host(build, 2), shape))
    assert host.holdings == {"u/a": Holding(1)}
    plain = build.host("b")
    assert occupy(plain, "u/a", shape, fit(plain, shape)).holdings == {}


def test_a_host_knows_its_place(build):
    host = build.host("a", region="us", zone="us-a", slice=SliceMember("s", "v6e-8"))
    assert host.place(Domain.REGION) == Place("us")
    assert host.place(Domain.ZONE) == Place("us", "us-a")
    assert host.is_in(Place("us"))
    assert not host.is_in(Place("us", "us-b"))
    assert not host.is_in(Place("us", ""))
    assert str(Place("us", "us-a")) == "zone us-a"
    assert str(Place("us", "")) == "zone (none)"
    assert str(Place("")) == "region (none)"
