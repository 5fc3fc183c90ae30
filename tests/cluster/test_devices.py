"""Device and resource descriptions."""

import math

import pytest

from fray.cluster.devices import CpuConfig, GpuConfig, ResourceConfig, TpuConfig
from fray.errors import InvalidRequestError, UnsupportedError


def test_a_tpu_job_has_one_replica_per_slice():
    resources = ResourceConfig.with_tpu("v5litepod-16", slice_count=2, ram="16g")
    assert resources.device == TpuConfig("v5litepod-16")
    assert (resources.replicas, resources.ram) == (2, "16g")
    assert resources.chip_count() == 32
    assert resources.total_flops() == 32 * 197e12
    assert resources.device_flops() == 197e12
    assert TpuConfig("v5litepod-16").vm_count() == 4


def test_a_gpu_job_counts_its_gpus_per_replica():
    resources = ResourceConfig.with_gpu("H100", count=4, replicas=2)
    assert resources.chip_count() == 8
    assert resources.total_flops("fp8") == 8 * resources.device_flops("fp8")
    assert ResourceConfig.with_gpu().device == GpuConfig("auto", count=1)


def test_a_shared_gpu_is_a_fraction_of_one():
    shared = GpuConfig("H100", count=0.25)
    assert shared.chip_count() == 1
    assert shared.total_flops() == shared.device_flops() / 4


def test_a_cpu_job_has_no_chips_and_a_nominal_rate():
    resources = ResourceConfig.with_cpu(cpu=4, ram="8g")
    assert resources.chip_count() == 0
    assert resources.total_flops() > 0
    with pytest.raises(NotImplementedError):
        resources.device_flops()
    with pytest.raises(UnsupportedError):
        CpuConfig().device_flops()


def test_descriptions_of_devices_are_values():
    assert hash(TpuConfig("v6e-8")) == hash(TpuConfig("v6e-8"))
    with pytest.raises(AttributeError):
        GpuConfig("H100").count = 2  # type: ignore[misc]


def test_resources_may_be_changed_and_are_checked_when_they_are_taken():
    resources = ResourceConfig()
    resources.cpu = -1
    with pytest.raises(InvalidRequestError, match="cpu must be"):
        resources.validate()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cpu": -1}, "cpu must be a number of CPUs, at least 0, not -1"),
        ({"cpu": math.nan}, "cpu must be"),
        ({"cpu": "4"}, "cpu must be a number of CPUs, at least 0, not '4'"),
        ({"cpu": True}, "cpu must be"),
        ({"cpu": 1e300}, "cpu is at most 1,000,000: no host has more"),
        ({"cpu": 10**400}, "cpu is at most 1,000,000"),
        ({"ram": "lots"}, "ram must be a number with a unit.*not 'lots'"),
        ({"ram": "2000p"}, "ram is at most 1PiB: no host has more"),
        ({"ram": "9" * 400}, "ram is at most 1PiB"),
        ({"disk": 1 << 90}, "disk is at most 1PiB"),
        ({"disk": "8 potatoes"}, "disk must be a number with a unit"),
        ({"replicas": 0}, "replicas must be a whole number, at least 1, not 0"),
        ({"replicas": 1.5}, "replicas must be a whole number"),
        ({"replicas": "2"}, "replicas must be a whole number"),
        ({"device": "tpu"}, "device must be a CpuConfig, GpuConfig or TpuConfig, not 'tpu'"),
        ({"regions": "us-central1"}, r"regions must be a list of names: \['us-central1'\]"),
        ({"regions": ["us", ""]}, "a region's name is empty"),
    ],
)
def test_a_value_that_makes_no_sense_is_told_at_once(values, message):
    with pytest.raises(InvalidRequestError, match=message):
        ResourceConfig(**values)
    assert issubclass(InvalidRequestError, ValueError)


@pytest.mark.parametrize("count", [0, -1, 1.5, math.inf, math.nan, "1", True])
def test_a_gpu_count_is_whole_or_a_fraction_of_one(count):
    with pytest.raises(InvalidRequestError, match="whole number or a fraction below 1"):
        GpuConfig("H100", count=count)


def test_more_gpus_than_any_host_has_are_refused():
    with pytest.raises(InvalidRequestError, match="a GPU count is at most 1,000,000"):
        GpuConfig("H100", count=1e300)


@pytest.mark.parametrize(
    ("topology", "message"),
    [("4x8", "does not have the 16 chips"), ("four", "is written like"), ("4x", "is written like")],
)
def test_a_topology_must_have_the_chips_of_its_type(topology, message):
    assert TpuConfig("v5litepod-16", topology="4x4").chip_count() == 16
    with pytest.raises(InvalidRequestError, match=message):
        TpuConfig("v5litepod-16", topology=topology)


def test_an_unknown_tpu_type_is_told_where_it_is_written():
    with pytest.raises(ValueError, match="did you mean 'v5litepod-16'"):
        ResourceConfig.with_tpu("v5e-16")
