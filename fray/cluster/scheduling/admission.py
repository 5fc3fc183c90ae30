"""Whether something could ever run here, asked when it is submitted.

A job that no host could run even if the cluster were empty is refused at once, with the nearest
miss in the message, so that its user does not watch it wait for ever.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from fray.cluster.accelerators import AUTO_GPU
from fray.cluster.resources import Resources, format_bytes, format_milli
from fray.cluster.scheduling.hosts import Domain, Host
from fray.cluster.scheduling.kinds import kind_of
from fray.cluster.scheduling.plan import Assignment, Reason
from fray.cluster.scheduling.reasons import needs
from fray.cluster.scheduling.room import Room
from fray.cluster.scheduling.view import (
    Block,
    Shape,
    Unit,
)
from fray.errors import InfeasibleError
from fray.ids import WorkerId
from fray.wording import counted

FeasibleKind = tuple[tuple[Shape, ...], Domain, bool]
"""What decides whether a unit could ever run: its blocks' shapes, and how they may be spread."""

KINDS_MAX = 4096
"""So many kinds that have passed are remembered."""


def check_feasible(
    units: Iterable[Unit],
    hosts: Mapping[WorkerId, Host],
    *,
    elastic: bool = False,
    passed: dict[FeasibleKind, None] | None = None,
) -> None:
    """Refuses what no host of this cluster could ever run.

    Nothing is refused while no host is known, where a host does not count its resources, or where
    hosts can be added.

    Args:
        units: What was asked for.
        hosts: All hosts; how full they are does not matter, those that are leaving do not count.
        elastic: Whether the cluster can grow by itself.
        passed: Kinds that have passed with these hosts, and need not be looked at again; those
            that pass now are added.

    Raises:
        InfeasibleError: Some unit would not fit into the cluster if it were empty. The message
            says what is short, and which host comes nearest.
    """
    known: dict[FeasibleKind, None] = {} if passed is None else passed
    wanted: dict[FeasibleKind, Unit] = {}
    for unit in units:
        kind = tuple(block.shape for block in unit.blocks), unit.domain, unit.together
        if kind not in known:
            wanted.setdefault(kind, unit)
    if elastic or not wanted:
        return
    lasting = {worker_id: _emptied(host) for worker_id, host in hosts.items() if not host.leaving}
    if not lasting or any(host.oversubscribe for host in lasting.values()):
        return
    for kind, unit in wanted.items():
        answer = Room(lasting).place(replace(unit, within=None))
        if not isinstance(answer, Assignment):
            raise InfeasibleError(_why(unit, answer, lasting))
        if len(known) >= KINDS_MAX:
            known.clear()
        known[kind] = None


def _emptied(host: Host) -> Host:
    return replace(host, used=Resources(), devices={}, holdings={}, closed="", reserved={}, held=())


def _why(unit: Unit, reasons: Sequence[Reason], hosts: Mapping[WorkerId, Host]) -> str:
    for block in unit.blocks:
        alone = Unit(unit.unit_id, (block,), together=unit.together)
        refused = Room(hosts).place(alone)
        if not isinstance(refused, Assignment):
            job_id = block.tasks[0].key.job_id
            return f"{job_id} can never run here: {_nearest_miss(block, refused, hosts)}"
    jobs = " and ".join(unit.job_ids()[:3])
    told = "; ".join(str(reason) for reason in reasons)
    tasks = counted(len(unit.tasks()), "task")
    return f"{jobs} can never run here: {tasks} must start at once; {told}"


def _nearest_miss(block: Block, refused: Sequence[Reason], hosts: Mapping[WorkerId, Host]) -> str:
    shape, near = block.shape, list(hosts.values())
    if shape.regions:
        near = [host for host in near if host.region in shape.regions]
        if not near:
            there = ", ".join(dict.fromkeys(h.region or "no region" for h in hosts.values()))
            return f"it may run in {', '.join(shape.regions)}; the hosts are in {there}"
    if not shape.preemptible:
        near = [host for host in near if not host.preemptible]
        if not near:
            return "it asks for hosts that are not preemptible; all of them are"
    if shape.hosts > 1:
        return _slice_miss(shape, near, refused)
    near = [host for host in near if _is_wanted(host, shape)]
    planners = "; ".join(str(reason) for reason in refused)
    if not near:
        return planners
    among = "host" if len(near) == len(hosts) else "host that it accepts"
    miss = _accelerator_miss(shape, near, among) or _amount_miss(shape.need, near, among)
    if miss or any(_has_all(host.capacity, shape.need) for host in near):
        return miss or planners
    return f"no single {among} has all of {shape.need.describe()}"


def _is_wanted(host: Host, shape: Shape) -> bool:
    """Whether a host is where, and what, a job asks for; how much it has is another question."""
    if shape.zones and host.zone not in shape.zones:
        return False
    properties = kind_of(host).properties if shape.constraints else {}
    return all(constraint.holds(properties) for constraint in shape.constraints)


def _has_all(has: Resources, need: Resources) -> bool:
    return (
        has.cpu_milli >= need.cpu_milli
        and has.memory_bytes >= need.memory_bytes
        and has.disk_bytes >= need.disk_bytes
        and all(has.tpus.get(family, 0) >= chips for family, chips in need.tpus.items())
        and all(_gpus(has, variant) >= milli for variant, milli in need.gpus.items())
    )


def _gpus(has: Resources, variant: str) -> int:
    if variant == AUTO_GPU:
        return max(has.gpus.values(), default=0)
    return has.gpus.get(variant, 0)


def _slice_miss(shape: Shape, hosts: Sequence[Host], refused: Sequence[Reason]) -> str:
    types = dict.fromkeys(host.slice.tpu_type for host in hosts if host.slice is not None)
    if shape.tpu_type in types:
        return "; ".join(str(reason) for reason in refused)
    have = f"has {', '.join(types)}" if types else "has no TPU slices"
    return f"needs a {shape.tpu_type} slice ({counted(shape.hosts, 'host')}); this cluster {have}"


def _accelerator_miss(shape: Shape, hosts: Sequence[Host], among: str) -> str:
    for family, chips in shape.need.tpus.items():
        single = [host for host in hosts if host.slice is None or host.slice.size == 1]

        def count(has: Resources, family: str = family) -> int:
            return has.tpus.get(family, 0)

        if miss := _largest(single, among, f"{family} chip", chips, count, str):
            return miss
    for variant, milli in shape.need.gpus.items():
        what = "gpu" if variant == AUTO_GPU else f"{variant} gpu"

        def amount(has: Resources, variant: str = variant) -> int:
            return _gpus(has, variant)

        if miss := _largest(hosts, among, what, milli, amount, format_milli):
            return miss
    return ""


def _amount_miss(need: Resources, hosts: Sequence[Host], among: str) -> str:
    cpu, memory, disk = need.cpu_milli, need.memory_bytes, need.disk_bytes
    return (
        _largest(hosts, among, "cpu", cpu, lambda r: r.cpu_milli, format_milli)
        or _largest(hosts, among, "memory", memory, lambda r: r.memory_bytes, format_bytes)
        or _largest(hosts, among, "disk", disk, lambda r: r.disk_bytes, format_bytes)
    )


def _largest(
    hosts: Sequence[Host],
    among: str,
    what: str,
    wanted: int,
    amount: Callable[[Resources], int],
    show: Callable[[int], str],
) -> str:
    """Says that even the largest host has too little, where that is so."""
    largest = min(hosts, key=lambda host: (-amount(host.capacity), host.worker_id), default=None)
    there = amount(largest.capacity) if largest else 0
    if there >= wanted:
        return ""
    if largest is None or not there:
        return f"{needs(what, wanted, show)}; no {among} has any"
    best = f"the largest {among} ({largest.worker_id})"
    return f"{needs(what, wanted, show)}; {best} has {show(there)}"


__all__ = ["FeasibleKind", "check_feasible"]
