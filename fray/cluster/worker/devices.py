"""From what an attempt was given of its host to what it may see of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fray.cluster.controller.specs import GangScope
from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import MILLI, Resources, parse_bytes
from fray.cluster.worker.environment import DeviceShare, SliceMembership

if TYPE_CHECKING:
    from fray.cluster.controller.desired import AttemptSpec

AMD_PREFIX = "MI"
"""What AMD calls its GPUs: MI250, MI300X."""


def device_share(
    spec: AttemptSpec, capacity: Resources, gpu_tokens: Sequence[str] = ()
) -> DeviceShare | None:
    """Which of its host's accelerators an attempt may see; None where the host has none.

    An attempt that asked for none sees none: else whoever imports JAX or torch would take them all.
    GPUs are numbered over all models of the host, in the order of the models' names.

    Args:
        spec: The attempt.
        capacity: All that its host has.
        gpu_tokens: What the driver calls each GPU, in this order; else they are numbers.
    """
    has = spec.allocation.resources
    for variant in sorted(has.gpus):
        first = sum(capacity.gpus[v] // MILLI for v in sorted(capacity.gpus) if v < variant)
        numbers = [first + index for index in spec.allocation.devices]
        known = len(gpu_tokens) == _gpus(capacity)  # others may have been declared
        visible = tuple(gpu_tokens[each] if known else str(each) for each in numbers)
        kind = "rocm" if variant.startswith(AMD_PREFIX) else "cuda"
        return DeviceShare(kind=kind, visible=visible, total=_gpus(capacity))
    for family in has.tpus:
        visible = tuple(str(index) for index in spec.allocation.devices)
        return DeviceShare(kind="tpu", visible=visible, total=capacity.tpus.get(family, 0))
    if capacity.gpus:
        amd = all(variant.startswith(AMD_PREFIX) for variant in capacity.gpus)
        return DeviceShare(kind="rocm" if amd else "cuda", visible=(), total=_gpus(capacity))
    if capacity.tpus:
        return DeviceShare(kind="tpu", visible=(), total=sum(capacity.tpus.values()))
    return None


def _gpus(capacity: Resources) -> int:
    return sum(milli // MILLI for milli in capacity.gpus.values())


def membership(spec: AttemptSpec) -> SliceMembership | None:
    """Where an attempt stands among the hosts of its slice; None where it has one host only.

    Args:
        spec: The attempt.
    """
    gang, size = spec.gang, spec.job.slice_hosts
    if gang is None or size < 2:
        return None
    hosts = tuple(address.rpartition(":")[0] for address in gang.addresses)
    together = spec.job.gang is GangScope.JOB
    slice_id = spec.replica_id if together else 0
    return SliceMembership(
        hosts=hosts[slice_id * size : (slice_id + 1) * size],
        worker_id=gang.rank % size,
        slice_id=slice_id,
        slice_count=spec.job.resources.replicas if together else 1,
        coordinator_host=hosts[0],
    )


def memory_limit_bytes(spec: AttemptSpec) -> int | None:
    """How much memory an attempt may use; None where its job did not say how much it needs.

    The amount that a request has by default is one to plan with, and so is none, which an actor
    has by default: no program keeps to either.

    Args:
        spec: The attempt.
    """
    ram = spec.job.resources.ram
    return None if ram == ResourceConfig().ram else parse_bytes(ram, what="ram") or None


__all__ = ["device_share", "membership", "memory_limit_bytes"]
