"""The ledger's records as the scheduler sees them: hosts, and units that wait for a place.

The ledger builds a unit anew when an assignment for it arrives, by the same rules, so that a
stale plan is recognised by what it places and not by its age.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from fray.cluster.accelerators import canonical_gpu, tpu_topology
from fray.cluster.constraints import Constraint, Operator, parse_constraint
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.records import CordonKind, Gang, Group, Health, Hold, Job, Task, Worker
from fray.cluster.controller.reservation import Reservation
from fray.cluster.controller.slicegangs import slice_of
from fray.cluster.controller.specs import GangScope, JobKind, JobSpec
from fray.cluster.devices import GpuConfig, ResourceConfig, TpuConfig
from fray.cluster.priority import DEFAULT_PRIORITY
from fray.cluster.resources import MILLI, Resources, parse_bytes
from fray.cluster.scheduling.hosts import Domain, Host, Place
from fray.cluster.scheduling.keeping import rest_of
from fray.cluster.scheduling.view import (
    RESERVATION,
    Block,
    Shape,
    TaskKey,
    Unit,
    Waiting,
)
from fray.cluster.types import JobStatus
from fray.ids import JobId, ReservationId
from fray.wording import and_others

SHAPES_MAX = 4096
"""Shapes that are remembered, so that equal ones are one object and quickly found equal."""

_SHAPES: dict[Shape, Shape] = {}

SPECS_MAX = 16_384
"""Jobs of which the shape is remembered: it is asked for with each of their tasks."""

_SHAPES_OF: dict[JobId, tuple[JobSpec, Shape]] = {}


def shape_of(spec: JobSpec) -> Shape:
    """What each task of a job needs.

    Args:
        spec: The job; its resources are valid.
    """
    known = _SHAPES_OF.get(spec.job_id)
    if known is not None and known[0] is spec:
        return known[1]
    if len(_SHAPES_OF) >= SPECS_MAX:
        _SHAPES_OF.clear()
    shape = _shape_of(spec)
    _SHAPES_OF[spec.job_id] = spec, shape
    return shape


def _shape_of(spec: JobSpec) -> Shape:
    shape = _shape(
        spec.resources,
        spec.slice_hosts,
        takes_slot=spec.kind is JobKind.JOB,
        reservation=spec.reservation,
        evictable=spec.evictable,
        time_limit_s=spec.time_limit_s,
    )
    return _known(shape)


def _known(shape: Shape) -> Shape:
    if len(_SHAPES) >= SHAPES_MAX:
        _SHAPES.clear()
    return _SHAPES.setdefault(shape, shape)


def _shape(config: ResourceConfig, hosts: int, **values: Any) -> Shape:
    device = config.device
    tpu = device if isinstance(device, TpuConfig) else None
    wanted = (Constraint(k, Operator.IN, (v,)) for k, v in sorted(config.labels.items()))
    liked = ((parse_constraint(text), w) for text, w in sorted(config.preferences.items()))
    values.setdefault("preemptible", config.preemptible)
    return Shape(
        need=needs_of(config, hosts),
        tpu_type=tpu.variant if tpu is not None else "",
        topology=(tpu.topology if tpu is not None else None) or "",
        hosts=hosts,
        regions=tuple(config.regions or ()),
        zones=tuple(config.zones or ()),
        constraints=(*wanted, *(parse_constraint(text) for text in config.constraints)),
        preferences=tuple(liked),
        **values,
    )


def shape_of_reservation(reservation: Reservation) -> Shape:
    """What each host of a replica of a reservation must have.

    Args:
        reservation: Which.
    """
    least = reservation.minimum
    shape = _shape(
        least,
        reservation.hosts_per_replica,
        preemptible=least.preemptible and reservation.preemptible,
        takes_slot=False,
        evictable=False,
    )
    return _known(shape)


def replica_of(reservation: Reservation, number: int) -> Unit:
    """One replica of a reservation, as something that waits for a place.

    Args:
        reservation: Which.
        number: Tells several that wait apart.
    """
    shape, name = shape_of_reservation(reservation), JobId(reservation.reservation_id)
    keys = (TaskKey(name, number * shape.hosts + host) for host in range(shape.hosts))
    block = Block(tuple(Waiting(key, 0) for key in keys), shape)
    return Unit(
        unit_id=f"{RESERVATION}{name}/{number}",
        blocks=(block,),
        submitted_at=reservation.created_at,
        rank=reservation.rank,
        user=reservation.user,
        priority=reservation.priority,
    )


def replicas_beside(draft: Draft, reservation: Reservation) -> int:
    """How many replicas of a reservation's run outside of its places.

    Args:
        draft: Where.
        reservation: Which.
    """
    units: dict[str, None] = {}
    for attempt in draft.drawing(reservation.reservation_id):
        if not attempt.guaranteed:
            job = draft.jobs[attempt.job_id]
            gang = job.spec.gang_of(attempt.task_index) or slice_of(draft, job)
            units[gang or attempt.attempt_id] = None
    return len(units)


def missing_replicas(draft: Draft, reservation: Reservation) -> int:
    """How many replicas a reservation lacks of its minimum.

    Args:
        draft: Where.
        reservation: Which.
    """
    if not reservation.is_open:
        return 0
    has = len(reservation.places) + replicas_beside(draft, reservation)
    return max(reservation.minimum.replicas - has, 0)


def needs_of(config: ResourceConfig, hosts_per_replica: int = 1) -> Resources:
    """What each task needs, as amounts.

    Args:
        config: What the user asked for, per replica.
        hosts_per_replica: Over how many tasks a replica's TPU chips are spread.
    """
    gpus: dict[str, int] = {}
    tpus: dict[str, int] = {}
    if isinstance(config.device, GpuConfig):
        gpus[canonical_gpu(config.device.variant)] = round(config.device.count * MILLI)
    elif isinstance(config.device, TpuConfig):
        topology = tpu_topology(config.device.variant)
        tpus[topology.family] = topology.chip_count // hosts_per_replica
    return Resources(
        cpu_milli=round(config.cpu * MILLI),
        memory_bytes=parse_bytes(config.ram, what="ram"),
        disk_bytes=parse_bytes(config.disk, what="disk"),
        gpus=gpus,
        tpus=tpus,
    )


def closed(worker: Worker) -> str:
    """Why nothing new may go to a host; "" where it may.

    Args:
        worker: The host.
    """
    if worker.health is not Health.HEALTHY:
        return f"is {worker.health}: {worker.health_reason}"
    if worker.cordon is not None:
        return f"is {worker.cordon.kind}: {worker.cordon.reason}"
    if worker.strays:
        return f"still ends {worker.strays[0]}, which does not belong there"
    return ""


def host_of(worker: Worker) -> Host:
    """A host as a place for tasks.

    Args:
        worker: The host.
    """
    spec = worker.spec
    draining = worker.cordon is not None and worker.cordon.kind is CordonKind.DRAINING
    return Host(
        worker_id=spec.worker_id,
        capacity=spec.capacity,
        used=worker.used,
        devices=worker.devices,
        region=spec.region,
        zone=spec.zone,
        preemptible=spec.preemptible,
        slice=spec.slice,
        oversubscribe=spec.oversubscribe,
        slots=spec.slots,
        holdings=worker.holdings,
        closed=closed(worker),
        leaving=draining or worker.health is Health.LOST,
        labels=spec.labels,
        reserved=rest_of(worker.reserved, worker.drawn),
        held=worker.held,
    )


def waiting_units(
    draft: Draft, job_ids: list[JobId], starting: list[str]
) -> tuple[list[Unit], dict[JobId, str]]:
    """Everything that waits for a place, and the jobs that may not have one yet.

    Args:
        draft: Where.
        job_ids: Jobs with tasks that have no attempt and want one.
        starting: Groups that have not been admitted.

    Returns:
        The units, and why some jobs are held back.
    """
    units: list[Unit] = []
    held: dict[JobId, str] = {}
    for group_id in starting:
        unit = _group_unit(draft, draft.groups[group_id])
        if unit is not None:
            units.append(unit)
    places: dict[str, Place | None] = {}
    for job_id in job_ids:
        job = draft.jobs[job_id]
        group = draft.groups.get(job.group_id)
        if group is not None and not group.admitted:
            continue
        if group is not None and group.group_id not in places:
            places[group.group_id] = _place_of(draft, group)
        units.extend(_job_units(draft, job, places.get(job.group_id), held))
    return units, held


def unit_named(draft: Draft, unit_id: str) -> Unit | None:
    """The unit of that name as it is now; None where it no longer waits for a place.

    Args:
        draft: Where.
        unit_id: As a view had it.
    """
    kind, _, name = unit_id.partition(":")
    if kind == "reservation":
        owner, _, number = name.rpartition("/")
        reservation = draft.reservations.get(ReservationId(owner))
        if reservation is None or not reservation.is_open:
            return None
        return replica_of(reservation, int(number)) if number.isdecimal() else None
    if kind == "group":
        group = draft.groups.get(name)
        return _group_unit(draft, group) if group is not None and not group.admitted else None
    job_id, _, index = name.rpartition("/")
    job = draft.jobs.get(JobId(job_id))
    if job is None:
        return None
    group = draft.groups.get(job.group_id)
    if group is not None and not group.admitted:
        return None
    within = _place_of(draft, group) if group is not None else None
    if kind == "gang":
        gang = draft.gangs.get(name)
        return _gang_unit(draft, job, gang, shape_of(job.spec), within) if gang else None
    alone = kind == "task" and job.spec.gang is GangScope.TASK and job.spec.slice_host is None
    if not alone or not index.isdecimal() or int(index) >= job.spec.num_tasks:
        return None
    task = draft.task(job.spec.job_id, int(index))
    return _task_unit(job, task, shape_of(job.spec), within) if _wants_place(job, task) else None


def priority_of(job: Job) -> int:
    """How important a job is.

    Args:
        job: Which.
    """
    return DEFAULT_PRIORITY if job.spec.priority is None else job.spec.priority


def _wants_place(job: Job, task: Task) -> bool:
    wanted = task.hold is None and not task.status.finished()
    return job.verdict is None and task.live is None and wanted


def lone_unit(draft: Draft, job: Job, index: int) -> Unit | None:
    """A task that waits for a place on its own; None where it does not.

    Args:
        draft: Where.
        job: Its job, whose tasks form no gangs and which is in no group.
        index: Which task.
    """
    task = draft.tasks.get(TaskKey(job.spec.job_id, index))
    if task is None or task.status is not JobStatus.PENDING or not _wants_place(job, task):
        return None
    if job.spec.slice_host is not None:
        return None
    return _task_unit(job, task, shape_of(job.spec), None)


def _job_units(
    draft: Draft, job: Job, within: Place | None, held: dict[JobId, str]
) -> Iterator[Unit]:
    shape = shape_of(job.spec)
    gangs: dict[str, None] = {}
    for index in draft.unplaced(job.spec.job_id):
        gang_id = job.spec.gang_of(index)
        if not gang_id:
            task = draft.task(job.spec.job_id, index)
            if _wants_place(job, task):
                if job.spec.slice_host is None:
                    yield _task_unit(job, task, shape, within)
                else:
                    held[job.spec.job_id] = "waits for the other hosts of its slice"
            elif task.hold is not None:
                held[job.spec.job_id] = _HELD[task.hold]
        elif gang_id not in gangs:
            gangs[gang_id] = None
            unit = _gang_unit(draft, job, draft.gangs[gang_id], shape, within)
            if unit is not None:
                yield unit
            else:
                held[job.spec.job_id] = _still_there(draft, draft.gangs[gang_id])


_HELD = {
    Hold.SUPERVISOR: "waits for its supervisor to start it again",
    Hold.DOWN: "its supervisor has stopped it",
}


def _still_there(draft: Draft, gang: Gang) -> str:
    """Why a gang whose members want a place may not have one."""
    live = [draft.task(gang.job_id, gang.first + i).live for i in range(gang.size)]
    names = [attempt_id for attempt_id in live if attempt_id is not None]
    if not names:
        return "waits until all of its gang are gone"
    where = f"{names[0]} on {draft.attempts[names[0]].worker_id}"
    return f"waits until all of its gang are gone: {and_others(where, len(names) - 1)}"


def _task_unit(job: Job, task: Task, shape: Shape, within: Place | None) -> Unit:
    return Unit(
        unit_id=f"task:{task.key}",
        blocks=(Block((Waiting(task.key, task.attempts),), shape),),
        submitted_at=job.submitted_at,
        rank=job.rank,
        ready_at=task.ready_at,
        within=within,
        avoid=task.avoid,
        user=job.spec.user,
        priority=priority_of(job),
    )


def _gang_unit(
    draft: Draft, job: Job, gang: Gang, shape: Shape, within: Place | None
) -> Unit | None:
    tasks = [draft.task(gang.job_id, gang.first + i) for i in range(gang.size)]
    if gang.fall is not None or not all(_wants_place(job, task) for task in tasks):
        return None
    return Unit(
        unit_id=f"gang:{gang.gang_id}",
        blocks=tuple(_blocks(tasks, shape)),
        submitted_at=job.submitted_at,
        rank=job.rank,
        ready_at=max(task.ready_at for task in tasks),
        domain=_gang_domain(job.spec),
        within=within,
        avoid=tuple(dict.fromkeys(w for task in tasks for w in task.avoid)),
        user=job.spec.user,
        priority=priority_of(job),
    )


def _group_unit(draft: Draft, group: Group) -> Unit | None:
    blocks: list[Block] = []
    domain = Domain.REGION if group.same_region else Domain.ANYWHERE
    if group.same_zone:
        domain = Domain.ZONE
    jobs = [draft.jobs[job_id] for job_id in group.job_ids if draft.jobs.get(job_id)]
    waiting = [[task for task in draft.tasks_of(job) if _wants_place(job, task)] for job in jobs]
    if group.whole and sum(map(len, waiting)) < sum(job.spec.num_tasks for job in jobs):
        return None
    part: list[Task] = []  # of a slice whose hosts are jobs of their own
    for job, tasks in zip(jobs, waiting, strict=True):
        part += tasks
        if job.spec.slice_host is None or len(part) == job.spec.slice_hosts:
            blocks += _blocks(part, shape_of(job.spec))
            part = []
        if tasks:
            domain = max(domain, _gang_domain(job.spec))
    if part or not blocks:
        return None
    tasks = list(itertools.chain(*waiting))
    first = draft.jobs[tasks[0].job_id]
    return Unit(
        unit_id=f"group:{group.group_id}",
        blocks=tuple(blocks),
        submitted_at=first.submitted_at,
        rank=first.rank,
        ready_at=max(task.ready_at for task in tasks),
        domain=domain,
        together=True,
        avoid=tuple(dict.fromkeys(w for task in tasks for w in task.avoid)),
        user=jobs[0].spec.user,
        priority=max(priority_of(job) for job in jobs),
    )


def _blocks(tasks: list[Task], shape: Shape) -> Iterator[Block]:
    for at in range(0, len(tasks), shape.hosts):
        part = tasks[at : at + shape.hosts]
        yield Block(tuple(Waiting(task.key, task.attempts) for task in part), shape)


def _gang_domain(spec: JobSpec) -> Domain:
    """One program over several slices keeps to a zone; hosts of one slice do so by nature."""
    return Domain.ZONE if spec.gang is GangScope.JOB else Domain.ANYWHERE


def _place_of(draft: Draft, group: Group) -> Place | None:
    """Where a group's live tasks are, and a restarted one must be too; None: anywhere."""
    if not (group.same_region or group.same_zone):
        return None
    for job_id in group.job_ids:
        job = draft.jobs.get(job_id)
        if job is None or not job.tally.live:
            continue
        for task in draft.tasks_of(job):
            attempt = draft.attempts.get(task.live) if task.live is not None else None
            if attempt is not None:
                spec = draft.workers[attempt.worker_id].spec
                return Place(spec.region, spec.zone if group.same_zone else None)
    return None


__all__ = [
    "closed",
    "host_of",
    "missing_replicas",
    "needs_of",
    "priority_of",
    "replica_of",
    "replicas_beside",
    "shape_of",
    "shape_of_reservation",
    "unit_named",
    "waiting_units",
]
