"""What a host has: found by looking, or declared.

What accelerators there are is asked by others (`fray.cluster.worker.gpus`,
`fray.cluster.worker.metadata`) and given in here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from fray.cluster.accelerators import canonical_gpu, tpu_topology
from fray.cluster.constraints import check_labels
from fray.cluster.resources import MILLI, Resources, parse_bytes
from fray.cluster.scheduling.hosts import SliceMember
from fray.errors import InvalidRequestError, PayloadError
from fray.runtime.jsoncodec import json_loads

if TYPE_CHECKING:
    from fray.cluster.worker.metadata import TpuMachine

NO_GPUS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class DeclaredSlice:
    """A host's part in a TPU slice of several hosts.

    Attributes:
        name: Of the slice; the same at all its hosts.
        type: Such as ``v5litepod-16``.
        index: Which of its hosts this is, from 0.
        topology: The arrangement of its chips, such as ``4x4``; empty where that is not known.
    """

    name: str
    type: str
    index: int = 0
    topology: str = ""


@dataclass(frozen=True, slots=True)
class DeclaredResources:
    """What ``--resources`` says, as JSON. What is left out is found by looking.

    Attributes:
        cpu: CPUs.
        memory: Such as ``16g``.
        disk: Such as ``100g``.
        gpu: How many of each model; ``{}`` for none.
        tpu: How many single-host slices of each type, such as ``{"v5litepod-4": 2}``; ``{}`` for
            none.
        slice: Its part in a slice of several hosts.
        region: Where it is.
        zone: Where it is.
        labels: What else jobs may ask for, by name.
        preemptible: Whether the cloud may take it back.
    """

    cpu: float | None = None
    memory: str = ""
    disk: str = ""
    gpu: Mapping[str, float] | None = None
    tpu: Mapping[str, int] | None = None
    slice: DeclaredSlice | None = None
    region: str = ""
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    preemptible: bool | None = None


@dataclass(frozen=True, slots=True)
class HostShape:
    """A host, as the scheduler sees it.

    Attributes:
        capacity: What it has.
        slice: Its part in a slice of several hosts.
        region: Where it is.
        zone: Where it is.
        labels: What else jobs may ask for, by name.
        preemptible: Whether the cloud may take it back.
    """

    capacity: Resources
    slice: SliceMember | None = None
    region: str = ""
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    preemptible: bool = False


def host_resources(
    declared: str = "",
    gpus: Mapping[str, int] = NO_GPUS,
    machine: TpuMachine | None = None,
) -> HostShape:
    """What this host has: what is declared, and for the rest what was found.

    Args:
        declared: JSON, see `DeclaredResources`; empty to take what is found.
        gpus: How many were found of each model.
        machine: Which machine of which TPU slice it was found to be.

    Raises:
        InvalidRequestError: The JSON is wrong; the message names the part.
    """
    try:
        wanted = json_loads((declared or "{}").encode(), DeclaredResources)
    except PayloadError as exc:
        raise InvalidRequestError(f"--resources: {exc}") from exc
    if machine is not None:
        wanted = _with_machine(wanted, machine)
    if wanted.gpu is None:
        wanted = replace(wanted, gpu=gpus)
    assert wanted.gpu is not None
    tpus: dict[str, int] = {}
    for tpu_type, count in (wanted.tpu or {}).items():
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
            wanted.slice.name,
            wanted.slice.type,
            wanted.slice.index,
            topology.vm_count,
            wanted.slice.topology,
        )
        tpus[topology.family] = tpus.get(topology.family, 0) + topology.chips_per_vm
    capacity = Resources(
        cpu_milli=round((_cpus() if wanted.cpu is None else wanted.cpu) * MILLI),
        memory_bytes=parse_bytes(wanted.memory) if wanted.memory else _memory_bytes(),
        disk_bytes=parse_bytes(wanted.disk) if wanted.disk else _disk_bytes(),
        gpus={canonical_gpu(k): round(n * MILLI) for k, n in wanted.gpu.items()},
        tpus=tpus,
    )
    check_labels(wanted.labels, "--resources.labels")
    preemptible = bool(wanted.preemptible)
    return HostShape(capacity, member, wanted.region, wanted.zone, wanted.labels, preemptible)


def _with_machine(wanted: DeclaredResources, machine: TpuMachine) -> DeclaredResources:
    """Fills in what was found; what is declared goes before."""
    if wanted.tpu is None and wanted.slice is None:
        if tpu_topology(machine.type).vm_count > 1:
            part = DeclaredSlice(machine.slice_name, machine.type, machine.index, machine.topology)
            wanted = replace(wanted, slice=part)
        else:
            wanted = replace(wanted, tpu={machine.type: 1})
    if wanted.preemptible is None:
        wanted = replace(wanted, preemptible=machine.preemptible)
    if not wanted.zone and not wanted.region:
        wanted = replace(wanted, zone=machine.zone, region=machine.region)
    return wanted


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
