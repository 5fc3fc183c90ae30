"""What could never run is refused when it is submitted, with the nearest miss."""

from dataclasses import replace

import pytest

from fray.cluster.constraints import parse_constraint
from fray.cluster.resources import Resources
from fray.cluster.scheduling.admission import check_feasible
from fray.cluster.scheduling.hosts import Domain, Holding
from fray.errors import InfeasibleError


def refused(hosts, *units) -> str:
    with pytest.raises(InfeasibleError) as caught:
        check_feasible(units, {host.worker_id: host for host in hosts})
    return str(caught.value)


def accepted(hosts, *units, **values) -> None:
    check_feasible(units, {host.worker_id: host for host in hosts}, **values)


def test_the_largest_host_is_named_with_what_it_has(build):
    hosts = [build.host("host-a", cpu=8), build.host("host-b", cpu=4)]
    text = refused(hosts, build.unit(build.shape(64)))
    assert text == "u/j can never run here: needs 64 cpus; the largest host (host-a) has 8"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"gpus": {"H100": 8}}, "needs 8 H100 gpus; the largest host (g) has 2"),
        ({"gpus": {"B200": 1}}, "needs 1 B200 gpu; no host has any"),
        ({"gpus": {"auto": 4}}, "needs 4 gpus; the largest host (g) has 2"),
        ({"tpu": "v6e-8"}, "needs 8 v6e chips; the largest host (t) has 4"),
        ({"tpu": "v5p-8"}, "needs 4 v5p chips; no host has any"),
        ({"tpu": "v5litepod-16"}, "needs a v5litepod-16 slice (4 hosts); this cluster has no TPU"),
    ],
)
def test_accelerators_that_are_not_there_are_named(build, values, text):
    hosts = [build.host("g", gpus={"H100": 2}), build.host("t", tpus={"v6e": 4})]
    assert text in refused(hosts, build.unit(build.shape(**values)))


def test_a_slice_of_another_type_is_told_what_there_is(build):
    unit = build.unit(build.shape(tpu="v5litepod-64"))
    assert refused(build.slice("s"), unit).endswith(
        "needs a v5litepod-64 slice (16 hosts); this cluster has v5litepod-16"
    )
    accepted(build.slice("s"), build.unit(build.shape(tpu="v5litepod-16")))


def test_an_incomplete_slice_is_told_how_far_it_is(build):
    unit = build.unit(build.shape(tpu="v5litepod-16"))
    assert "slice s: only 3 of its 4 hosts are here" in refused(build.slice("s", missing=[0]), unit)


def test_memory_is_told_in_units_for_people(build):
    shape = replace(build.shape(), need=Resources(1000, 1 << 40))
    assert "needs 1TiB memory; the largest host (a) has 64GiB" in refused(
        [build.host("a")], build.unit(shape)
    )


def test_what_no_single_host_has_together_is_told_whole(build):
    hosts = [build.host("a", cpu=32), build.host("b", cpu=4, gpus={"H100": 4})]
    text = refused(hosts, build.unit(build.shape(16, gpus={"H100": 4})))
    assert text.endswith("no single host has all of 16 cpus, 1GiB memory, 1GiB disk, 4 H100 gpus")


def test_hosts_of_the_wrong_kind_are_told_as_the_planner_tells_them(build):
    hosts = [build.host("a", labels={"disk": "ssd"}), build.host("b", labels={"disk": "ssd"})]
    text = refused(hosts, build.unit(build.shape(constraints=(parse_constraint("disk=hdd"),))))
    assert text.endswith("a and 1 other: its disk is ssd, which disk=hdd does not accept")
    text = refused(hosts, build.unit(build.shape(zones=("nowhere",))))
    assert text.endswith("a and 1 other: is in zone (none), not nowhere")


def test_only_hosts_that_a_job_accepts_are_compared(build):
    hosts = [build.host("a", cpu=64), build.host("b", cpu=4, labels={"rack": "r1"})]
    rack = (parse_constraint("rack=r1"),)
    assert refused(hosts, build.unit(build.shape(16, constraints=rack))).endswith(
        "needs 16 cpus; the largest host that it accepts (b) has 4"
    )
    assert refused(hosts, build.unit(build.shape(gpus={"H100": 1}, constraints=rack))).endswith(
        "needs 1 H100 gpu; no host that it accepts has any"
    )


def test_regions_and_preemption_are_told(build):
    hosts = [build.host("a", region="us", preemptible=True)]
    text = refused(hosts, build.unit(build.shape(regions=("eu",))))
    assert text.endswith("it may run in eu; the hosts are in us")
    text = refused(hosts, build.unit(build.shape(preemptible=False)))
    assert text.endswith("it asks for hosts that are not preemptible; all of them are")


def test_tasks_that_must_start_at_once_are_counted_together(build):
    hosts = [build.host("a", cpu=8, region="eu"), build.host("b", cpu=8, region="us")]
    blocks = [build.block(build.shape(5), f"u/{i}") for i in range(2)]
    group = build.unit(*blocks, domain=Domain.REGION, together=True)
    text = refused(hosts, group)
    assert "u/0 and u/1 can never run here: 2 tasks must start at once" in text
    assert "region eu: needs 10 cpus, has 8 free" in text
    accepted(hosts, replace(group, domain=Domain.ANYWHERE))
    accepted(hosts, *[build.unit(block) for block in blocks])


def test_a_full_busy_or_suspect_host_still_counts_but_one_that_leaves_does_not(build):
    full = replace(build.host("a", slots=1), used=build.need(8), holdings={"u/x": Holding(1)})
    suspect = replace(full, closed="is suspect: silent")
    accepted([suspect], build.unit(build.shape(8)))
    small = build.host("b", cpu=1)
    leaving = replace(suspect, leaving=True)
    assert "the largest host (b) has 1" in refused([leaving, small], build.unit(build.shape(8)))


def test_nothing_is_refused_where_hosts_may_still_come_or_do_not_count(build):
    huge = build.unit(build.shape(1000))
    accepted([], huge)
    accepted([replace(build.host("a"), leaving=True)], huge)
    accepted([build.host("a")], huge, elastic=True)
    accepted([build.host("a"), build.host("laptop", oversubscribe=True)], huge)


def test_what_has_passed_is_not_looked_at_again(build):
    hosts, passed = [build.host("host-a", cpu=8)], {}
    accepted(hosts, build.unit(build.shape(4)), passed=passed)
    accepted([build.host("host-b", cpu=1)], build.unit(build.shape(4)), passed=passed)
    with pytest.raises(InfeasibleError):
        accepted(hosts, build.unit(build.shape(64)), passed=passed)
    assert len(passed) == 1
