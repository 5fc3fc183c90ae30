"""What is true of the ledger's tables after every command.

Simulations and property tests ask after each step; production may ask when it starts from a
journal. The checks read everything and trust nothing that is kept only for speed.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from fray.cluster.controller.attempt import LIVE, Attempt
from fray.cluster.controller.records import Gang, Group, Health, Job, Worker
from fray.cluster.controller.reservation import Reservation
from fray.cluster.controller.specs import JobKind
from fray.cluster.controller.tables import Indexes, Tables
from fray.cluster.resources import MILLI, Resources, total
from fray.cluster.scheduling.accounts import Standing, amounts
from fray.cluster.scheduling.hosts import Holding
from fray.cluster.scheduling.inventory import Devices, charge
from fray.cluster.scheduling.keeping import Keepings, rest_of, with_kept
from fray.cluster.scheduling.view import (
    TaskKey,
)
from fray.cluster.types import UNLIMITED, JobStatus


@dataclass(slots=True)
class _Part:
    """The records that are looked at.

    Attributes:
        attempts: All on its hosts and all of its jobs, at least.
        users: By name.
    """

    workers: list[Worker]
    jobs: list[Job]
    attempts: list[Attempt]
    gangs: list[Gang]
    groups: list[Group]
    reservations: list[Reservation]
    users: list[str]

    @classmethod
    def whole(cls, tables: Tables) -> "_Part":
        """Everything."""
        users = {job.spec.user: None for job in tables.jobs.values()}
        return cls(
            list(tables.workers.values()),
            list(tables.jobs.values()),
            list(tables.attempts.values()),
            list(tables.gangs.values()),
            list(tables.groups.values()),
            list(tables.reservations.values()),
            list(users | dict.fromkeys(tables.users)),
        )

    @classmethod
    def around(cls, tables: Tables, touched: Collection[str]) -> "_Part":
        """What has changed, and all whose promises depend on it. No index is trusted."""
        ids = frozenset(touched)
        reservations = [r for r in tables.reservations.values() if r.reservation_id in ids]
        hosts = ids.union(w for r in reservations for place in r.places for w in place.workers)
        workers = [w for w in tables.workers.values() if w.spec.worker_id in hosts]
        jobs = [j for j in tables.jobs.values() if j.spec.job_id in ids or j.spec.parent in ids]
        within = {job.group_id for job in jobs}
        users = {job.spec.user: None for job in jobs}
        return cls(
            workers,
            jobs,
            [a for a in tables.attempts.values() if a.worker_id in hosts or a.job_id in ids],
            [gang for gang in tables.gangs.values() if gang.gang_id in ids or gang.job_id in ids],
            [g for g in tables.groups.values() if g.group_id in ids or g.group_id in within],
            reservations,
            list(users | {name: None for name in tables.users if name in ids}),
        )


def violations(tables: Tables, touched: Collection[str] | None = None) -> list[str]:
    """Everything that is wrong, as sentences; nothing where all is well.

    Args:
        tables: All that a ledger knows.
        touched: Looks only at what has changed, as `Applied.touched` tells it, and at what depends
            on that: if all was well before, and nothing else has changed, all is well. None looks
            at everything.
    """
    part = _Part.whole(tables) if touched is None else _Part.around(tables, touched)
    on_worker: dict[str, list[Attempt]] = {}
    found: list[str] = []
    for attempt in part.attempts:
        on_worker.setdefault(attempt.worker_id, []).append(attempt)
        found += _attempt(tables, attempt)
    for worker in part.workers:
        found += _worker(tables, worker, on_worker.get(worker.spec.worker_id, []))
    for job in part.jobs:
        found += _job(tables, job)
    for gang in part.gangs:
        found += _gang(tables, gang)
    for reservation in part.reservations:
        found += _reservation(tables, reservation)
    for user in part.users:
        found += _user(tables, user)
    found += _preemptions(tables, part.attempts)
    for group in part.groups:
        jobs = [tables.jobs[job_id] for job_id in group.job_ids if job_id in tables.jobs]
        if not group.admitted and any(job.tally.live for job in jobs):
            found.append(f"group {group.group_id} runs in part though it has not been admitted")
        found += _hosts_of_slices(tables, jobs)
    return found + list(_indexes(tables) if touched is None else _index_entries(tables, part))


def _attempt(tables: Tables, attempt: Attempt) -> Iterator[str]:
    name = f"attempt {attempt.attempt_id}"
    task = tables.tasks.get(attempt.key)
    worker = tables.workers.get(attempt.worker_id)
    if task is None or task.live != attempt.attempt_id:
        yield f"{name} is not the one live attempt of its task, which has {task and task.live}"
    elif attempt.number != task.attempts - 1:
        yield f"{name} is not the last of its task's {task.attempts} attempts"
    if attempt.state not in LIVE or (attempt.stop is None) != (attempt.state is not LIVE[-1]):
        yield f"{name} is live in state {attempt.state} with the order {attempt.stop}"
    if worker is None or worker.boot_id != attempt.boot_id or worker.health is Health.LOST:
        yield f"{name} is live on a host that is gone"
    elif attempt.generation > worker.generation:
        yield f"{name} is in a desired set that its host does not have yet"


def _worker(tables: Tables, worker: Worker, attempts: list[Attempt]) -> Iterator[str]:
    name, capacity = f"worker {worker.spec.worker_id}", worker.spec.capacity
    used = total(attempt.allocation.resources for attempt in attempts)
    if used != worker.used:
        yield f"{name} counts {worker.used.describe()} as used; its attempts have {used.describe()}"
    if not worker.spec.oversubscribe and not used.within(capacity):
        yield f"{name} has {capacity.describe()} and gives {used.describe()}"
    devices: Devices = {}
    for attempt in attempts:
        devices = charge(devices, capacity, attempt.allocation, 1)
    if devices != worker.devices:
        yield f"{name} counts devices {worker.devices}; its attempts have {devices}"
    if any(milli > MILLI for use in devices.values() for milli in use):
        yield f"{name} gives one device twice: {devices}"
    yield from _reserved(tables, worker, attempts)
    holdings: dict[str, Holding] = {}
    for attempt in attempts if worker.spec.slots is not None else []:
        if tables.jobs[attempt.job_id].spec.kind is JobKind.JOB:
            held = holdings.get(attempt.job_id, Holding(0))
            holdings[attempt.job_id] = Holding(held.live + 1, held.blocked + attempt.blocked)
    if holdings != worker.holdings:
        yield f"{name} counts {worker.holdings} in its slots; there is {holdings}"


def _reserved(tables: Tables, worker: Worker, attempts: list[Attempt]) -> Iterator[str]:
    name, capacity = f"worker {worker.spec.worker_id}", worker.spec.capacity
    kept: Keepings = {}
    for reservation in tables.reservations.values():
        for place in reservation.places:
            for worker_id, allocation in zip(place.workers, place.allocations, strict=True):
                if worker_id == worker.spec.worker_id:
                    kept = with_kept(kept, reservation.reservation_id, capacity, allocation, 1)
    if kept != worker.reserved:
        yield f"{name} keeps {worker.reserved}; its reservations have {kept}"
    drawn: Keepings = {}
    firm: list[Resources] = []
    for attempt in attempts:
        if attempt.guaranteed:
            drawn = with_kept(drawn, attempt.reservation, capacity, attempt.allocation, 1)
        if attempt.guaranteed or not tables.jobs[attempt.job_id].spec.evictable:
            firm.append(attempt.allocation.resources)
    if drawn != worker.drawn:
        yield f"{name} counts {worker.drawn} as drawn from reservations; its attempts have {drawn}"
    if worker.spec.oversubscribe:
        return
    rest = rest_of(kept, drawn)
    bound = total([*firm, *(each.resources for each in rest.values())])
    if not bound.within(capacity):
        yield f"{name} has lent for good what it keeps: {bound.describe()} are bound"


def _reservation(tables: Tables, reservation: Reservation) -> Iterator[str]:
    name = f"reservation {reservation.reservation_id}"
    if len(reservation.places) > reservation.minimum.replicas:
        yield f"{name} keeps {len(reservation.places)} places, more than its minimum"
    if reservation.ended_at is not None and reservation.places:
        yield f"{name} has ended and keeps {reservation.places}"
    for place in reservation.places:
        for worker_id in place.workers:
            worker = tables.workers.get(worker_id)
            if worker is None or worker.health is Health.LOST:
                yield f"{name} keeps a place on {worker_id}, which is gone"
    drawing = [a for a in tables.attempts.values() if a.guaranteed]
    if reservation.expired and reservation.ended_at is None:
        used = {a.worker_id for a in drawing if a.reservation == reservation.reservation_id}
        if any(used.isdisjoint(place.workers) for place in reservation.places):
            yield f"{name} is over and keeps what it does not use"


def _user(tables: Tables, user: str) -> Iterator[str]:
    standing = tables.users.get(user, Standing())
    mine = [a for a in tables.attempts.values() if tables.jobs[a.job_id].spec.user == user]
    live = total(attempt.allocation.resources for attempt in mine)
    if (live, len(mine)) != (standing.account.live, standing.account.tasks):
        yield f"user {user} is counted with {standing.account.live}, and has {live}"
    have = amounts(live)
    for name, limit in standing.quota.items():
        newest = max((a.assigned_at for a in mine), default=0.0)
        if have.get(name, 0.0) > limit and newest > standing.quota_at:
            yield f"user {user} has {have[name]} {name}; the quota is {limit}"


def _preemptions(tables: Tables, attempts: list[Attempt]) -> Iterator[str]:
    """Nobody is stopped for the sake of whom they may have had stopped."""
    for attempt in attempts:
        if attempt.stop is None or not attempt.stop.unit_id:
            continue
        victim = tables.jobs[attempt.job_id]
        if not victim.spec.evictable:
            yield f"attempt {attempt.attempt_id} is preempted and is not evictable"
        for other in _preemptors(tables, attempt):
            if attempt.attempt_id in {a.attempt_id for a in _preemptors(tables, other)}:
                yield f"{attempt.attempt_id} and {other.attempt_id} preempt each other"


def _preemptors(tables: Tables, attempt: Attempt) -> list[Attempt]:
    """The attempts of that for which an attempt is being stopped."""
    unit_id = attempt.stop.unit_id if attempt.stop is not None else ""
    kind, _, name = unit_id.partition(":")
    if kind == "group":
        group = tables.groups.get(name)
        jobs = group.job_ids if group is not None else ()
        return [a for a in tables.attempts.values() if a.job_id in jobs]
    found: list[Attempt] = []
    for each in tables.attempts.values():
        gang = tables.jobs[each.job_id].spec.gang_of(each.task_index)
        if name and name in (str(each.key), gang):
            found.append(each)
    return found


def _job(tables: Tables, job: Job) -> Iterator[str]:
    spec, name = job.spec, f"job {job.spec.job_id}"
    tasks = [tables.tasks[TaskKey(spec.job_id, index)] for index in range(spec.num_tasks)]
    live = sum(task.live is not None for task in tasks)
    succeeded = sum(task.status is JobStatus.SUCCEEDED for task in tasks)
    if (live, succeeded) != (job.tally.live, job.tally.succeeded):
        yield f"{name} counts {job.tally}; there are {live} live and {succeeded} succeeded tasks"
    ended = job.status.finished()
    if ended and (live or not all(task.status.finished() for task in tasks)):
        yield f"{name} is {job.status} and not all of its tasks have ended"
    if not ended and not live and (job.verdict is not None or succeeded == len(tasks)):
        yield f"{name} has nothing left to do and is {job.status}"
    if job.verdict is None and job.status in (JobStatus.FAILED, JobStatus.STOPPED):
        yield f"{name} is {job.status} without a verdict"
    for task in tasks:
        if task.live is not None and task.live not in tables.attempts:
            yield f"task {task.key} has {task.live} as its live attempt, which there is not"
        if job.verdict is not None and task.live is None and not task.status.finished():
            yield f"task {task.key} wants a place though its job is to end"
        for spent, budget in (
            (task.failures, spec.max_retries_failure),
            (task.preemptions, spec.max_retries_preemption),
        ):
            if job.verdict is None and budget != UNLIMITED and spent > budget:
                yield f"task {task.key} has spent {spent} of {budget} retries and goes on"
    yield from _parent(tables, job)


def _parent(tables: Tables, job: Job) -> Iterator[str]:
    spec, name = job.spec, f"job {job.spec.job_id}"
    parent = tables.jobs.get(spec.parent) if spec.parent is not None else None
    if job.status.finished() or job.verdict or spec.detached or parent is None:
        return
    if spec.actor is not None and spec.actor.owner_attempt in tables.attempts:
        return  # its supervisor, which is still there, stops it
    if parent.status.finished() or parent.verdict:
        yield f"{name} goes on though its parent {spec.parent} has ended"


def _gang(tables: Tables, gang: Gang) -> Iterator[str]:
    name, job = f"gang {gang.gang_id}", tables.jobs[gang.job_id]
    keys = [TaskKey(gang.job_id, gang.first + i) for i in range(gang.size)]
    tasks = [tables.tasks[key] for key in keys]
    found = (tables.attempts.get(task.live) for task in tasks if task.live is not None)
    live = [attempt for attempt in found if attempt is not None]
    done = sum(task.status is JobStatus.SUCCEEDED for task in tasks if task.live is None)
    if live and gang.fall is None and job.verdict is None and len(live) + done != gang.size:
        yield f"{name} is up in part: {len(live)} live and {done} succeeded of {gang.size}"
    if gang.fall is not None and not live and job.verdict is None:
        yield f"{name} has fallen, and nobody judges it"
    if gang.fall is not None and any(attempt.stop is None for attempt in live):
        yield f"{name} falls and a member of it is not being stopped"
    if any(attempt.gang_epoch != gang.epoch for attempt in live):
        yield f"{name} has members of several epochs"
    for at in range(0, gang.size, job.spec.hosts_per_replica):
        if job.spec.hosts_per_replica == 1:
            break
        part = keys[at : at + job.spec.hosts_per_replica]
        hosts = [tables.workers[a.worker_id].spec.slice for a in live if a.key in part]
        if len(dict.fromkeys(host.name if host else "" for host in hosts)) > 1:
            yield f"{name} is torn over several slices"


def _hosts_of_slices(tables: Tables, jobs: list[Job]) -> Iterator[str]:
    """Actors that have the hosts of a slice together are on one, each on its own host."""
    slice_name = ""
    for job in jobs:
        host = job.spec.slice_host
        if host == 0:
            slice_name = ""
        live = tables.tasks[TaskKey(job.spec.job_id, 0)].live if host is not None else None
        if live is None:
            continue
        part = tables.workers[tables.attempts[live].worker_id].spec.slice
        if part is None or part.index != host or slice_name not in ("", part.name):
            yield f"{job.spec.job_id} has host {host} of a slice {slice_name}, and is on {part}"
        slice_name = part.name if part is not None else ""


def _indexes(tables: Tables) -> Iterator[str]:
    fresh = Tables(
        workers=tables.workers,
        jobs=tables.jobs,
        tasks=tables.tasks,
        attempts=tables.attempts,
        gangs=tables.gangs,
        groups=tables.groups,
        reservations=tables.reservations,
    )
    fresh.reindex()
    for name in Indexes.__slots__:
        kept, true = getattr(tables.indexes, name), getattr(fresh.indexes, name)
        if kept != true:
            yield f"index {name} has {kept}; it should have {true}"


def _index_entries(tables: Tables, part: _Part) -> Iterator[str]:
    """What the indexes say of some records. That of others nothing is left there, it cannot see."""
    kept, true = tables.indexes, Indexes()
    for attempt in part.attempts:
        true.note_attempt(attempt, there=True)
    for job in part.jobs:
        true.note_job(job, there=True)
        for index in range(job.spec.num_tasks):
            true.note_task(tables.tasks[TaskKey(job.spec.job_id, index)], there=True)
    for group in part.groups:
        true.note_group(group, there=True)
    jobs = [job.spec.job_id for job in part.jobs]
    known = {
        "unplaced": jobs,
        "queued": jobs,
        "starting": [group.group_id for group in part.groups],
        "on_worker": [worker.spec.worker_id for worker in part.workers],
        "by_actor": list(true.by_actor),
        "by_name": list(true.by_name),
    }
    for name, keys in known.items():  # all of their entries come from these records
        has, should_have = (
            {key: entries[key] for key in keys if key in entries}
            for entries in (getattr(kept, name), getattr(true, name))
        )
        if has != should_have:
            yield f"index {name} has {has}; it should have {should_have}"
    for name in ("children", "by_session", "mapped", "drawing"):
        there = getattr(kept, name)
        for key, values in getattr(true, name).items():
            if missing := values.keys() - there.get(key, {}).keys():
                yield f"index {name} lacks {sorted(missing)} of {key}"


__all__ = ["violations"]
