"""What is true of the ledger's tables after every command.

Simulations and property tests ask after each step; production may ask when it starts from a
journal. The checks read everything and trust nothing that is kept only for speed.
"""

from collections.abc import Iterator

from fray.cluster.controller.attempt import LIVE, Attempt
from fray.cluster.controller.records import Gang, Health, Job, Worker
from fray.cluster.controller.specs import JobKind
from fray.cluster.controller.tables import Indexes, Tables
from fray.cluster.resources import MILLI, total
from fray.cluster.scheduling.inventory import Devices, charge
from fray.cluster.scheduling.view import Holding, TaskKey
from fray.cluster.types import UNLIMITED, JobStatus


def violations(tables: Tables) -> list[str]:
    """Everything that is wrong, as sentences; nothing where all is well.

    Args:
        tables: All that a ledger knows.
    """
    on_worker: dict[str, list[Attempt]] = {}
    found: list[str] = []
    for attempt in tables.attempts.values():
        on_worker.setdefault(attempt.worker_id, []).append(attempt)
        found += _attempt(tables, attempt)
    for worker in tables.workers.values():
        found += _worker(tables, worker, on_worker.get(worker.spec.worker_id, []))
    for job in tables.jobs.values():
        found += _job(tables, job)
    for gang in tables.gangs.values():
        found += _gang(tables, gang)
    for group in tables.groups.values():
        jobs = [tables.jobs[job_id] for job_id in group.job_ids if job_id in tables.jobs]
        if not group.admitted and any(job.tally.live for job in jobs):
            found.append(f"group {group.group_id} runs in part though it has not been admitted")
    return found + list(_indexes(tables))


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
    holdings: dict[str, Holding] = {}
    for attempt in attempts if worker.spec.slots is not None else []:
        if tables.jobs[attempt.job_id].spec.kind is JobKind.JOB:
            held = holdings.get(attempt.job_id, Holding(0))
            holdings[attempt.job_id] = Holding(held.live + 1, held.blocked + attempt.blocked)
    if holdings != worker.holdings:
        yield f"{name} counts {worker.holdings} in its slots; there is {holdings}"


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


def _indexes(tables: Tables) -> Iterator[str]:
    fresh = Tables(
        workers=tables.workers,
        jobs=tables.jobs,
        tasks=tables.tasks,
        attempts=tables.attempts,
        gangs=tables.gangs,
        groups=tables.groups,
    )
    fresh.reindex()
    for name in Indexes.__slots__:
        kept, true = getattr(tables.indexes, name), getattr(fresh.indexes, name)
        if kept != true:
            yield f"index {name} has {kept}; it should have {true}"


__all__ = ["violations"]
