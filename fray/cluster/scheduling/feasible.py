"""Whether something fits: one answer for the planner (it proposes) and the ledger (it decides).

`fit` asks about one task on one host, `check` about the whole place of a unit. A proposal that
`check` accepts is taken; whatever the planner's taste in choosing, it cannot propose for ever what
the ledger refuses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fray.cluster.accelerators import AUTO_GPU
from fray.cluster.resources import format_bytes, format_milli
from fray.cluster.scheduling.inventory import (
    Allocation,
    charge,
    choose_chips,
    choose_gpus,
    device_use,
)
from fray.cluster.scheduling.view import (
    Block,
    Domain,
    Holding,
    Host,
    Place,
    Shape,
    TaskKey,
    Unit,
)
from fray.ids import JobId, WorkerId


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something does not fit.

    Attributes:
        text: One clause for a person.
    """

    text: str


def fit(host: Host, shape: Shape) -> Allocation | Refusal:
    """Whether one task fits on one host now; slots and neighbours are `check`'s business.

    Args:
        host: The host as it is.
        shape: What the task needs.

    Returns:
        What it would get, or the first reason why not.
    """
    if host.closed:
        return Refusal(host.closed)
    if host.oversubscribe:
        if shape.hosts > 1:
            return Refusal(f"is one machine, and a {shape.tpu_type} slice has {shape.hosts}")
        return Allocation(shape.need)
    return _unsuitable(host, shape) or _too_small(host, shape) or _devices(host, shape)


def _unsuitable(host: Host, shape: Shape) -> Refusal | None:
    if shape.regions and host.region not in shape.regions:
        return Refusal(f"is in region {host.region or '(none)'}, not {' or '.join(shape.regions)}")
    if host.preemptible and not shape.preemptible:
        return Refusal("may be preempted, which the job does not accept")
    if not shape.tpu_type:
        return None
    part = host.slice
    if shape.hosts > 1:
        if part is None or part.tpu_type != shape.tpu_type:
            return Refusal(f"is no part of a {shape.tpu_type} slice")
    elif part is not None and part.size > 1:
        return Refusal(f"is one of the {part.size} hosts of {part.tpu_type} slice {part.name}")
    return None


def _too_small(host: Host, shape: Shape) -> Refusal | None:
    need, used, has = shape.need, host.used, host.capacity
    for what, wanted, taken, there, show in (
        ("cpus", need.cpu_milli, used.cpu_milli, has.cpu_milli, format_milli),
        ("memory", need.memory_bytes, used.memory_bytes, has.memory_bytes, format_bytes),
        ("disk", need.disk_bytes, used.disk_bytes, has.disk_bytes, format_bytes),
    ):
        if wanted > there - taken:
            return Refusal(_short(what, wanted, taken, there, show))
    return None


def _short(what: str, wanted: int, taken: int, there: int, show: Callable[[int], str]) -> str:
    return f"needs {show(wanted)} {what}, has {show(max(there - taken, 0))} of {show(there)} left"


def _devices(host: Host, shape: Shape) -> Allocation | Refusal:
    need = shape.need
    for family, chips in need.tpus.items():
        there = host.capacity.tpus.get(family, 0)
        if not there:
            return Refusal(f"has no {family} chips")
        free = choose_chips(device_use(host.devices, host.capacity, family), chips)
        if not free:
            return Refusal(
                _short(f"{family} chips", chips, host.used.tpus.get(family, 0), there, str)
            )
        return Allocation(need, free)
    for variant, milli in need.gpus.items():
        kinds = sorted(host.capacity.gpus) if variant == AUTO_GPU else [variant]
        for kind in kinds:
            chosen = choose_gpus(device_use(host.devices, host.capacity, kind), milli)
            if chosen:
                return Allocation(replace(need, gpus={kind: milli}), chosen)
        there = sum(host.capacity.gpus.get(kind, 0) for kind in kinds)
        if not there:
            return Refusal("has no gpus" if variant == AUTO_GPU else f"has no {variant} gpus")
        taken = sum(host.used.gpus.get(kind, 0) for kind in kinds)
        return Refusal(
            _short(
                f"{'' if variant == AUTO_GPU else variant + ' '}gpus",
                milli,
                taken,
                there,
                format_milli,
            )
        )
    return Allocation(need)


def occupy(host: Host, job_id: JobId, shape: Shape, allocation: Allocation) -> Host:
    """A host with one more task on it.

    Args:
        host: The host before.
        job_id: Whose task.
        shape: What it needs.
        allocation: What `fit` gave it.
    """
    holdings = host.holdings
    if host.slots is not None and shape.takes_slot:
        held = holdings.get(job_id, Holding(0))
        holdings = {**holdings, job_id: held._replace(live=held.live + 1)}
    return replace(
        host,
        used=host.used + allocation.resources,
        devices=charge(host.devices, host.capacity, allocation, 1),
        holdings=holdings,
    )


def slot_refusal(host: Host, unit: Unit) -> Refusal | None:
    """Whether a host's slots admit a unit's jobs; asked of the host as it is before the unit.

    A job that is on the host already needs no further slot. A group that starts needs one free
    slot for all its jobs together, so that it can start on a host with fewer slots than jobs.

    Args:
        host: The host before any task of the unit is on it.
        unit: What is to be placed there, wholly or in part.
    """
    if host.slots is None:
        return None
    jobs = dict.fromkeys(
        task.key.job_id
        for block in unit.blocks
        if block.shape.takes_slot
        for task in block.tasks
        if task.key.job_id not in host.holdings
    )
    used = host.slots_used()
    wanted = min(len(jobs), 1) if unit.together else len(jobs)
    if used + wanted > host.slots:
        return Refusal(f"runs {used} jobs, which is all that its {host.slots} slots admit")
    return None


def check(
    unit: Unit, placement: Mapping[TaskKey, WorkerId], hosts: Mapping[WorkerId, Host]
) -> Mapping[TaskKey, Allocation] | Refusal:
    """Whether a unit can take a place, whole.

    Args:
        unit: What is placed.
        placement: A host for each of its tasks, and for no other.
        hosts: The hosts as they are now.

    Returns:
        What each task would get, or why the place will not do.
    """
    wanted = [task.key for task in unit.tasks()]
    if sorted(placement) != sorted(wanted):
        return Refusal(f"the plan places other tasks than {unit.unit_id} has")
    chosen = {worker_id: hosts.get(worker_id) for worker_id in placement.values()}
    missing = next((worker_id for worker_id, host in chosen.items() if host is None), None)
    if missing is not None:
        return Refusal(f"{missing} is not registered")
    before = {worker_id: host for worker_id, host in chosen.items() if host is not None}
    refusal = _wrong_place(unit, before.values())
    for worker_id, host in before.items():
        if refusal is None and (slots := slot_refusal(host, unit)):
            refusal = Refusal(f"{worker_id} {slots.text}")
    if refusal is not None:
        return refusal
    return _fill(unit, placement, before)


def _fill(
    unit: Unit, placement: Mapping[TaskKey, WorkerId], hosts: dict[WorkerId, Host]
) -> Mapping[TaskKey, Allocation] | Refusal:
    allocations: dict[TaskKey, Allocation] = {}
    for block in unit.blocks:
        on = [placement[task.key] for task in block.tasks]
        refusal = _torn_slice(block, [hosts[worker_id] for worker_id in on])
        if refusal is not None:
            return refusal
        for task, worker_id in zip(block.tasks, on, strict=True):
            answer = fit(hosts[worker_id], block.shape)
            if isinstance(answer, Refusal):
                return Refusal(f"{worker_id} {answer.text}")
            allocations[task.key] = answer
            hosts[worker_id] = occupy(hosts[worker_id], task.key.job_id, block.shape, answer)
    return allocations


def _wrong_place(unit: Unit, hosts: Iterable[Host]) -> Refusal | None:
    here: Place | None = None
    for host in hosts:
        if unit.within is not None and not host.is_in(unit.within):
            return Refusal(f"{host.worker_id} is not in {unit.within}, where its group is")
        if unit.domain is Domain.ANYWHERE:
            continue
        place = host.place(unit.domain)
        if here is not None and place != here:
            return Refusal(f"its tasks would be apart, in {here} and {place}")
        here = place
    return None


def _torn_slice(block: Block, hosts: Sequence[Host]) -> Refusal | None:
    if block.shape.hosts == 1:
        return None
    name = hosts[0].slice.name if hosts[0].slice else ""
    for index, host in enumerate(hosts):
        part = host.slice
        if part is None or part.name != name or part.index != index:
            return Refusal(f"{host.worker_id} is not host {index} of slice {name}")
    return None


__all__ = [
    "Refusal",
    "check",
    "fit",
    "occupy",
    "slot_refusal",
]
