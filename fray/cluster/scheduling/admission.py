"""Whether something could ever run here, asked when it is submitted.

A job that no host could run even if the cluster were empty is refused at once, with the nearest
miss in the message, so that its user does not watch it wait for ever.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from fray.cluster.accelerators import AUTO_GPU
from fray.cluster.resources import Resources, format_bytes, format_milli
from fray.cluster.scheduling.plan import Assignment, Reason
from fray.cluster.scheduling.planner import Room
from fray.cluster.scheduling.view import Block, Domain, Host, Shape, Unit
from fray.errors import InfeasibleError
from fray.ids import WorkerId


def check_feasible(
    units: Iterable[Unit], hosts: Mapping[WorkerId, Host], *, elastic: bool = False
) -> None:
    """Refuses what no host of this cluster could ever run.

    Nothing is refused while no host is known, where a host does not count its resources, or where
    hosts can be added.

    Args:
        units: What was asked for.
        hosts: All hosts; how full they are does not matter, those that are leaving do not count.
        elastic: Whether the cluster can grow by itself.

    Raises:
        InfeasibleError: Some unit would not fit into the cluster if it were empty. The message
            says what is short, and which host comes nearest.
    """
    lasting = {worker_id: _emptied(host) for worker_id, host in hosts.items() if not host.leaving}
    if elastic or not lasting or any(host.oversubscribe for host in lasting.values()):
        return
    passed: dict[tuple[tuple[Shape, ...], Domain], None] = {}
    for unit in units:
        kind = tuple(block.shape for block in unit.blocks), unit.domain
        if kind in passed:
            continue
        answer = Room(lasting).place(replace(unit, within=None))
        if not isinstance(answer, Assignment):
            raise InfeasibleError(_why(unit, answer, lasting))
        passed[kind] = None


def _emptied(host: Host) -> Host:
    return replace(host, used=Resources(), devices={}, holdings={}, closed="")


def _why(unit: Unit, reasons: Sequence[Reason], hosts: Mapping[WorkerId, Host]) -> str:
    for block in unit.blocks:
        alone = Unit(unit.unit_id, (block,), together=unit.together)
        refused = Room(hosts).place(alone)
        if not isinstance(refused, Assignment):
            job_id = block.tasks[0].key.job_id
            return f"{job_id} can never run here: {_nearest_miss(block, refused, hosts)}"
    jobs = " and ".join(unit.job_ids()[:3])
    told = "; ".join(str(reason) for reason in reasons)
    return f"{jobs} can never run here: {len(unit.tasks())} tasks must start at once; {told}"


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
    return _accelerator_miss(shape, near) or _amount_miss(shape.need, near)


def _slice_miss(shape: Shape, hosts: Sequence[Host], refused: Sequence[Reason]) -> str:
    types = dict.fromkeys(host.slice.tpu_type for host in hosts if host.slice is not None)
    if shape.tpu_type in types:
        return "; ".join(str(reason) for reason in refused)
    have = f"has {', '.join(types)}" if types else "has no TPU slices"
    return f"needs a {shape.tpu_type} slice ({shape.hosts} hosts); this cluster {have}"


def _accelerator_miss(shape: Shape, hosts: Sequence[Host]) -> str:
    for family, chips in shape.need.tpus.items():
        single = [host for host in hosts if host.slice is None or host.slice.size == 1]

        def count(has: Resources, family: str = family) -> int:
            return has.tpus.get(family, 0)

        if miss := _largest(single, f"{family} chips", chips, count, str):
            return miss
    for variant, milli in shape.need.gpus.items():
        what = "gpus" if variant == AUTO_GPU else f"{variant} gpus"

        def amount(has: Resources, variant: str = variant) -> int:
            return (
                max(has.gpus.values(), default=0)
                if variant == AUTO_GPU
                else has.gpus.get(variant, 0)
            )

        if miss := _largest(hosts, what, milli, amount, format_milli):
            return miss
    return ""


def _amount_miss(need: Resources, hosts: Sequence[Host]) -> str:
    return (
        _largest(hosts, "cpus", need.cpu_milli, lambda r: r.cpu_milli, format_milli)
        or _largest(hosts, "memory", need.memory_bytes, lambda r: r.memory_bytes, format_bytes)
        or _largest(hosts, "disk", need.disk_bytes, lambda r: r.disk_bytes, format_bytes)
        or f"no single host has all of {need.describe()}"
    )


def _largest(
    hosts: Sequence[Host],
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
        return f"needs {show(wanted)} {what}; no host has any"
    return f"needs {show(wanted)} {what}; the largest host ({largest.worker_id}) has {show(there)}"


__all__ = ["check_feasible"]
