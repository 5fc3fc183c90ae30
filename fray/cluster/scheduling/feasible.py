"""Whether something fits: one answer for the planner (it proposes) and the ledger (it decides).

`fit` asks about one task on one host, `check` about the whole place of a unit. A proposal that
`check` accepts is taken; whatever the planner's taste in choosing, it cannot propose for ever what
the ledger refuses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fray.cluster.accelerators import AUTO_GPU
from fray.cluster.constraints import Constraint
from fray.cluster.resources import MILLI, Resources, format_bytes, format_milli
from fray.cluster.scheduling.hosts import Domain, Holding, Host, Kept, Place
from fray.cluster.scheduling.inventory import (
    Allocation,
    charge,
    choose_chips,
    choose_gpus,
    device_use,
    merge_use,
)
from fray.cluster.scheduling.kinds import ANSWERS_MAX, HostKind, Rank, kind_of
from fray.cluster.scheduling.reasons import needs
from fray.cluster.scheduling.view import (
    Block,
    Shape,
    TaskKey,
    Unit,
)
from fray.ids import JobId, WorkerId
from fray.wording import counted


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something does not fit.

    Attributes:
        text: One clause for a person.
    """

    text: str


Answer = tuple["Allocation | Refusal", Rank]
"""Whether a shape fits on hosts of a kind, and how well: the lower the better."""

_NO_RANK: Rank = (0.0, False, False, 0, 0)


def ask(kind: HostKind, shape: Shape) -> Answer:
    """Whether one task fits on hosts of a kind, remembered.

    Args:
        kind: The hosts.
        shape: What the task needs.

    Returns:
        What `fit` says of any of them, and how good a choice it is: preferences first, then hosts
        where nothing is borrowed, then those without accelerators that it does not need, then the
        fullest.
    """
    answer = kind.answers.get(shape)
    if answer is None:
        fits = fit(kind.host, shape)
        answer = fits, _NO_RANK if isinstance(fits, Refusal) else _rank(kind, shape)
        if len(kind.answers) >= ANSWERS_MAX:
            kind.answers.clear()
        kind.answers[shape] = answer
    return answer


def _rank(kind: HostKind, shape: Shape) -> Rank:
    host, free = kind.host, kind.free
    liked = sum(weight for each, weight in shape.preferences if each.holds(kind.properties))
    lent = borrows(host, shape)
    wasted = not shape.need.has_accelerators and host.capacity.has_accelerators
    accelerators = sum(free.gpus.values()) + sum(free.tpus.values())
    return (-liked, lent, wasted, accelerators, free.cpu_milli)


def borrows(host: Host, shape: Shape) -> bool:
    """Whether a task that fits on a host would use what reservations of others have there.

    Args:
        host: The host as it is.
        shape: What the task needs.
    """
    return bool(host.reserved) and isinstance(_beside_what_is_kept(host, shape), Refusal)


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
    refusal = _unsuitable(host, shape) or _too_small(host, shape)
    if refusal is not None:
        return refusal
    answer = _devices(host, shape)
    if isinstance(answer, Refusal) or not (host.reserved or host.locked):
        return answer
    beside = _beside_what_is_kept(host, shape)
    if isinstance(beside, Allocation) or not (shape.evictable and host.reserved):
        return beside
    return _beside_what_is_kept(host, shape, borrow=True)


def _beside_what_is_kept(host: Host, shape: Shape, *, borrow: bool = False) -> Allocation | Refusal:
    """The same on what is left beside what is kept for others, or also on what is reserved."""
    others: dict[str, Kept] = {}
    if not borrow:
        others.update((k, kept) for k, kept in host.reserved.items() if k != shape.reservation)
    limit_s = shape.time_limit_s
    for owner, kept in host.locked.items():
        if limit_s is None or limit_s > kept.for_s:
            others[owner] = kept
    own = host.reserved.get(shape.reservation)
    if not others:
        return _devices(host, shape, prefer=own)
    used, devices = host.used, dict(host.devices)
    for kept in others.values():
        used += kept.resources
        for name, use in kept.devices.items():
            devices[name] = merge_use(devices.get(name, ()), use)
    beside = replace(host, used=used, devices=devices, reserved={}, locked={})
    answer = _too_small(beside, shape) or _devices(beside, shape, prefer=own)
    if isinstance(answer, Refusal):
        return Refusal(f"keeps what it has left for {' and '.join(sorted(others)[:2])}")
    return answer


def _unsuitable(host: Host, shape: Shape) -> Refusal | None:
    if shape.regions and host.region not in shape.regions:
        return Refusal(f"is in region {host.region or '(none)'}, not {' or '.join(shape.regions)}")
    if shape.zones and host.zone not in shape.zones:
        return Refusal(f"is in zone {host.zone or '(none)'}, not {' or '.join(shape.zones)}")
    if host.preemptible and not shape.preemptible:
        return Refusal("may be preempted, which the job does not accept")
    if shape.constraints:
        properties = kind_of(host).properties
        for constraint in shape.constraints:
            if not constraint.holds(properties):
                return Refusal(_unmet(constraint, properties))
    if not shape.tpu_type:
        return None
    part = host.slice
    if shape.hosts > 1:
        if part is None or part.tpu_type != shape.tpu_type:
            return Refusal(f"is no part of a {shape.tpu_type} slice")
    elif part is not None and part.size > 1:
        return Refusal(f"is one of the {part.size} hosts of a {part.tpu_type} slice")
    if shape.topology and (part is None or part.topology != shape.topology):
        has = (part.topology if part else "") or "no known topology"
        return Refusal(f"has {has}, and the job asks for {shape.topology}")
    return None


def _unmet(constraint: Constraint, properties: Mapping[str, tuple[str, ...]]) -> str:
    there = properties.get(constraint.name)
    has = f"its {constraint.name} is {','.join(there)}" if there else f"has no {constraint.name}"
    return f"{has}, which {constraint} does not accept"


def _too_small(host: Host, shape: Shape) -> Refusal | None:
    need, used, has = shape.need, host.used, host.capacity
    if (
        need.cpu_milli <= has.cpu_milli - used.cpu_milli
        and need.memory_bytes <= has.memory_bytes - used.memory_bytes
        and need.disk_bytes <= has.disk_bytes - used.disk_bytes
    ):
        return None
    for what, wanted, taken, there, show in (
        ("cpu", need.cpu_milli, used.cpu_milli, has.cpu_milli, format_milli),
        ("memory", need.memory_bytes, used.memory_bytes, has.memory_bytes, format_bytes),
        ("disk", need.disk_bytes, used.disk_bytes, has.disk_bytes, format_bytes),
    ):
        if wanted > there - taken:
            return Refusal(_short(what, wanted, taken, there, show))
    return None


def _short(what: str, wanted: int, taken: int, there: int, show: Callable[[int], str]) -> str:
    left = show(max(there - taken, 0))
    return f"{needs(what, wanted, show)}, has {left} of {show(there)} left"


def _devices(host: Host, shape: Shape, prefer: Kept | None = None) -> Allocation | Refusal:
    """Picks accelerators; where its reservation has some here, of those first."""
    need = shape.need
    if prefer is not None and prefer.devices and need.has_accelerators:
        own = {
            name: tuple(
                use if reserved else MILLI
                for use, reserved in zip(_taken(host, name), use_there, strict=True)
            )
            for name, use_there in prefer.devices.items()
        }
        answer = _devices(replace(host, devices={**host.devices, **own}), shape)
        if isinstance(answer, Allocation):
            return answer
    for family, chips in need.tpus.items():
        there = host.capacity.tpus.get(family, 0)
        if not there:
            return Refusal(f"has no {family} chips")
        free = choose_chips(_taken(host, family), chips)
        if not free:
            short = _short(f"{family} chip", chips, host.used.tpus.get(family, 0), there, str)
            return Refusal(short + _held(host, [family]))
        return Allocation(need, free)
    for variant, milli in need.gpus.items():
        kinds = sorted(host.capacity.gpus) if variant == AUTO_GPU else [variant]
        for kind in kinds:
            chosen = choose_gpus(_taken(host, kind), milli)
            if chosen:
                return Allocation(replace(need, gpus={kind: milli}), chosen)
        there = sum(host.capacity.gpus.get(kind, 0) for kind in kinds)
        if not there:
            return Refusal("has no gpus" if variant == AUTO_GPU else f"has no {variant} gpus")
        taken = sum(host.used.gpus.get(kind, 0) for kind in kinds)
        what = f"{'' if variant == AUTO_GPU else variant + ' '}gpu"
        return Refusal(_short(what, milli, taken, there, format_milli) + _held(host, kinds))
    return Allocation(need)


def _taken(host: Host, kind: str) -> tuple[int, ...]:
    """What is taken of each device of a kind, also by those who ought to have let go."""
    use = device_use(host.devices, host.capacity, kind)
    held = [each.index for each in host.held if each.kind == kind]
    if not held:
        return use
    return tuple(MILLI if index in held else milli for index, milli in enumerate(use))


def _held(host: Host, kinds: Sequence[str]) -> str:
    told = [str(each) for each in host.held if each.kind in kinds]
    return f" ({'; '.join(told)})" if told else ""


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
    reserved = host.reserved
    if shape.reservation in reserved:
        reserved = drawn(reserved, shape.reservation, allocation)
    return replace(
        host,
        used=host.used + allocation.resources,
        devices=charge(host.devices, host.capacity, allocation, 1),
        holdings=holdings,
        reserved=reserved,
    )


def drawn(
    reserved: Mapping[str, Kept], reservation: str, allocation: Allocation
) -> Mapping[str, Kept]:
    """What reservations do not use on a host, once a job of one of them has taken its part.

    Args:
        reserved: What they did not use before.
        reservation: Whose job it is.
        allocation: What that gets of the host.
    """
    kept = reserved[reservation]
    left = dict(kept.devices)
    for name in (*allocation.resources.gpus, *allocation.resources.tpus):
        taken = dict.fromkeys(allocation.devices, MILLI)
        milli = allocation.resources.gpus.get(name, MILLI)
        rest = tuple(
            max(use - min(milli, MILLI), 0) if index in taken else use
            for index, use in enumerate(left.pop(name, ()))
        )
        if any(rest):
            left[name] = rest
    rest_of = (kept.resources - allocation.resources).clipped()
    others = {owner: each for owner, each in reserved.items() if owner != reservation}
    if any(left.values()) or rest_of != Resources():
        others[reservation] = Kept(rest_of, left)
    return others


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
        slots = counted(host.slots, "slot admits", "slots admit")
        return Refusal(f"runs {counted(used, 'job')}, which is all that its {slots}")
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
    "Answer",
    "Refusal",
    "ask",
    "borrows",
    "check",
    "drawn",
    "fit",
    "occupy",
    "slot_refusal",
]
