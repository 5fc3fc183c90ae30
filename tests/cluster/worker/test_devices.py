"""What an attempt sees of its host is what it was given, and its limit what it asked for."""

from dataclasses import replace

import pytest

from fray.cluster.controller.desired import AttemptSpec, GangSpec
from fray.cluster.controller.specs import GangScope, JobSpec, Program
from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import Resources
from fray.cluster.scheduling.inventory import Allocation
from fray.cluster.worker.devices import device_share, membership, memory_limit_bytes

HOST = Resources(64_000, 1 << 38, 1 << 40, gpus={"H100": 4000, "A100": 2000})


def attempt(resources=None, allocation=None, devices=(), index=0, gang=None, **values):
    job = JobSpec(
        job_id="u/j",
        name="j",
        user="u",
        namespace="ns",
        program=Program(command=("true",)),
        resources=resources or ResourceConfig(),
        **values,
    )
    given = Allocation(allocation or Resources(1000), devices)
    replica = index // job.hosts_per_replica
    return AttemptSpec(f"u/j/{index}#0", job, index, 0, replica, given, gang)


def test_an_attempt_sees_the_gpus_that_it_was_given_numbered_over_all_models():
    spec = attempt(allocation=Resources(1000, gpus={"H100": 2000}), devices=(1, 3))
    share = device_share(spec, HOST)
    assert share is not None
    assert (share.kind, share.visible, share.total) == ("cuda", ("3", "5"), 6)


def test_a_part_of_a_gpu_is_seen_as_that_gpu():
    spec = attempt(allocation=Resources(1000, gpus={"A100": 500}), devices=(1,))
    share = device_share(spec, HOST)
    assert share is not None
    assert share.visible == ("1",)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        (HOST, "cuda"),
        (Resources(1000, gpus={"MI300X": 8000}), "rocm"),
        (Resources(1000, tpus={"v5litepod": 4}), "tpu"),
    ],
)
def test_an_attempt_that_asked_for_no_accelerator_sees_none(host, kind):
    share = device_share(attempt(), host)
    assert share is not None
    assert (share.kind, share.visible) == (kind, ())


def test_nothing_is_said_of_accelerators_where_the_host_has_none():
    assert device_share(attempt(), Resources(1000)) is None


def test_chips_are_those_of_the_allocation():
    host = Resources(1000, tpus={"v5litepod": 8})
    spec = attempt(allocation=Resources(1000, tpus={"v5litepod": 4}), devices=(4, 5, 6, 7))
    share = device_share(spec, host)
    assert share is not None
    assert (share.kind, share.visible, share.total) == ("tpu", ("4", "5", "6", "7"), 8)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [(GangScope.JOB, (2, 1, ("h2", "h3"))), (GangScope.REPLICA, (1, 0, ("h0", "h1")))],
)
def test_a_host_of_a_slice_knows_the_others_and_the_first_coordinates(scope, expected):
    tpu = ResourceConfig.with_tpu("v4-16", slice_count=2)
    addresses = ("h0:1", "h1:1", "h2:1", "h3:1")[: 4 if scope is GangScope.JOB else 2]
    job = attempt(tpu, hosts_per_replica=2).job
    spec = AttemptSpec(
        "u/j/3#0",
        replace(job, gang=scope),
        3,
        0,
        1,
        Allocation(Resources(1000)),
        GangSpec("g", 0, 3 % len(addresses), addresses),
    )
    found = membership(spec)
    assert found is not None
    assert (found.slice_count, found.slice_id, found.hosts) == expected
    assert (found.worker_id, found.coordinator_host) == (1, "h0")


def test_memory_is_limited_where_the_job_says_how_much_it_needs():
    assert memory_limit_bytes(attempt()) is None
    assert memory_limit_bytes(attempt(ResourceConfig(ram="0"))) is None  # as of an actor
    assert memory_limit_bytes(attempt(ResourceConfig(ram="2g"))) == 2 << 30
