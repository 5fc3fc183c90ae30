"""TPU topologies and peak rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cluster.accelerators import canonical_gpu, peak_flops, tpu_topology
from fray.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("tpu_type", "chips", "vms", "per_vm"),
    [
        ("v4-8", 4, 1, 4),
        ("v4-4096", 2048, 512, 4),
        ("v5p-8", 4, 1, 4),
        ("v5p-128", 64, 16, 4),
        ("v5p-12288", 6144, 1536, 4),
        ("v5litepod-1", 1, 1, 1),
        ("v5litepod-4", 4, 1, 4),
        ("v5litepod-8", 8, 1, 8),
        ("v5litepod-16", 16, 4, 4),
        ("v5litepod-256", 256, 64, 4),
        ("v6e-8", 8, 1, 8),
        ("v6e-16", 16, 4, 4),
        ("v3-32", 16, 4, 4),
    ],
)
def test_a_slice_has_the_chips_and_machines_that_google_documents(tpu_type, chips, vms, per_vm):
    topology = tpu_topology(tpu_type)
    assert (topology.chip_count, topology.vm_count, topology.chips_per_vm) == (chips, vms, per_vm)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("v5e-16", "'v5litepod-16'"),
        ("v5litepod-17", "'v5litepod-16' or 'v5litepod-32'"),
        ("v4-12", "'v4-8' or 'v4-16'"),
        ("v6e8", "'v6e-8'"),
        ("V6E-8", "'v6e-8'"),
        ("nonsense", "'v5litepod-16'"),
        ("", "'v5litepod-16'"),
    ],
)
def test_an_unknown_type_is_answered_with_the_nearest_ones(wrong, meant):
    with pytest.raises(
        InvalidRequestError, match=f"unknown TPU type {wrong!r}; did you mean.*{meant}"
    ):
        tpu_topology(wrong)


@given(st.sampled_from(["v4", "v5p"]), st.integers(1, 1024))
def test_every_multiple_of_a_machine_is_a_slice_where_cores_are_counted(family, machines):
    topology = tpu_topology(f"{family}-{machines * 8}")
    assert topology.vm_count == machines
    assert topology.chip_count == topology.vm_count * topology.chips_per_vm


def test_peak_rates_are_dense_and_per_chip():
    assert peak_flops("v5litepod-16") == peak_flops("v5litepod-4") == 197e12
    assert peak_flops("H100") == peak_flops("h100", "amp_bf16") == peak_flops("auto")
    assert peak_flops("v6e-8", "int8") == 2 * peak_flops("v6e-8")


@pytest.mark.parametrize(
    ("device", "dtype"), [("abacus", "bf16"), ("v5p-8", "fp64"), ("T4", "bf16")]
)
def test_an_unknown_rate_is_an_error_that_lists_what_is_known(device, dtype):
    with pytest.raises(InvalidRequestError, match="known are "):
        peak_flops(device, dtype)


def test_gpu_names_are_counted_under_one_spelling():
    assert canonical_gpu("h100") == canonical_gpu("H100") == "H100"
    assert canonical_gpu("AUTO") == "auto"
    assert canonical_gpu("my-own") == "my-own"
