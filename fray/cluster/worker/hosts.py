"""What a host has: found by looking, or declared."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fray.cluster.accelerators import canonical_gpu, tpu_topology
from fray.cluster.resources import MILLI, Resources, parse_bytes
from fray.cluster.scheduling.view import SliceMember
from fray.errors import InvalidRequestError, PayloadError
from fray.runtime.jsoncodec import json_loads


@dataclass(frozen=True, slots=True)
class DeclaredSlice:
    """A host's part in a TPU slice of several hosts.

    Attributes:
        name: Of the slice; the same at all its hosts.
        type: Such as ``v5litepod-16``.
        index: Which of its hosts this is, from 0.
    """

    name: str
    type: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class DeclaredResources:
    """What ``--resources`` says, as JSON. What is left out is found by looking.

    Attributes:
        cpu: CPUs.
        memory: Such as ``16g``.
        disk: Such as ``100g``.
        gpu: How many of each model.
        tpu: How many single-host slices of each type, such as ``{"v5litepod-4": 2}``.
        slice: Its part in a slice of several hosts.
        region: Where it is.
        zone: Where it is.
    """

    cpu: float | None = None
    memory: str = ""
    disk: str = ""
    gpu: Mapping[str, float] = field(default_factory=dict[str, float])
    tpu: Mapping[str, int] = field(default_factory=dict[str, int])
    slice: DeclaredSlice | None = None
    region: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class HostShape:
    """A host, as the scheduler sees it.

    Attributes:
        capacity: What it has.
        slice: Its part in a slice of several hosts.
        region: Where it is.
        zone: Where it is.
    """

    capacity: Resources
    slice: SliceMember | None = None
    region: str = ""
    zone: str = ""


def host_resources(declared: str = "") -> HostShape:
    """What this host has.

    Args:
        declared: JSON, see `DeclaredResources`; empty to look for everything.

    Raises:
        InvalidRequestError: The JSON is wrong; the message names the part.
    """
    try:
        wanted = json_loads((declared or "{}").encode(), DeclaredResources)
    except PayloadError as exc:
        raise InvalidRequestError(f"--resources: {exc}") from exc
    tpus: dict[str, int] = {}
    for tpu_type, count in wanted.tpu.items():
        topology = tpu_topology(tpu_type)
        if topology.vm_count > 1:
            raise InvalidRequestError(
                f"--resources: a {tpu_type} slice has {topology.vm_count} hosts, each with a "
                f'worker of its own: declare {{"slice": {{"name": …, "type": …, "index": 0}}}}'
            )
        tpus[topology.family] = tpus.get(topology.family, 0) + count * topology.chip_count
    member = None
    if wanted.slice is not None:
        topology = tpu_topology(wanted.slice.type)
        member = SliceMember(
            wanted.slice.name, wanted.slice.type, wanted.slice.index, topology.vm_count
        )
        tpus[topology.family] = tpus.get(topology.family, 0) + topology.chips_per_vm
    capacity = Resources(
        cpu_milli=round((_cpus() if wanted.cpu is None else wanted.cpu) * MILLI),
        memory_bytes=parse_bytes(wanted.memory) if wanted.memory else _memory_bytes(),
        disk_bytes=parse_bytes(wanted.disk) if wanted.disk else _disk_bytes(),
        gpus={canonical_gpu(k): round(n * MILLI) for k, n in wanted.gpu.items()},
        tpus=tpus,
    )
    return HostShape(capacity, member, wanted.region, wanted.zone)


def _cpus() -> int:
    # Not psutil: importing it would take longer than starting a local cluster.
    return len(os.sched_getaffinity(0))


def _disk_bytes() -> int:
    # The size, not what is free now: a host's capacity may not change while its tasks run, so an
    # agent that was started again would be refused.
    return shutil.disk_usage(Path("/")).total


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


__all__ = ["DeclaredResources", "DeclaredSlice", "HostShape", "host_resources"]
