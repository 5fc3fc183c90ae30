"""Hosts that come, report, fall silent and go."""

from dataclasses import replace

from fray.cluster.accelerators import tpu_topology
from fray.cluster.constraints import check_labels
from fray.cluster.controller.attempt import LIVE, AttemptState
from fray.cluster.controller.commands import (
    CordonWorker,
    MarkWorker,
    RegisterWorker,
    RemoveWorker,
    ReportAttempts,
    UncordonWorker,
    WorkerLost,
)
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import StrayFound, WorkerChanged, WorkerRemoved
from fray.cluster.controller.records import Cordon, CordonKind, Health, Worker
from fray.cluster.controller.rules.attempts import end, observe
from fray.cluster.controller.rules.gangs import evict
from fray.cluster.controller.rules.reservations import drop_host
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.controller.units import closed
from fray.cluster.resources import MILLI
from fray.cluster.scheduling.inventory import HeldDevice
from fray.errors import DeathCause, DeathKind, InvalidRequestError
from fray.ids import AttemptId, WorkerId
from fray.wording import and_others


def register(draft: Draft, command: RegisterWorker) -> None:
    """Adds a host, or takes note of its new life or description.

    Args:
        draft: Where.
        command: The host.

    Raises:
        InvalidRequestError: The description makes no sense, changes what a live host has, or
            this life of the host was given up; or another host of that name is there.
    """
    spec = command.spec
    _check(spec, command.boot_id)
    known = draft.workers.get(spec.worker_id)
    if known is None:
        _put(draft, Worker(spec, command.boot_id, draft.now))
        return
    if known.boot_id == command.boot_id:
        _refuse_changes(known, spec)
        health = {"health": Health.HEALTHY, "health_reason": ""}
        _put(draft, replace(known, spec=spec, **health))
        return
    _refuse_another(known, command)
    cause = _lost(spec.worker_id, f"host {spec.worker_id} has been started anew")
    drop_host(draft, spec.worker_id)
    _end_all(draft, spec.worker_id, cause, AttemptState.WORKER_LOST)
    known = draft.workers[spec.worker_id]
    # A quarantine is for one life; who drains a host wants it gone, whatever it does meanwhile.
    draining = known.cordon is not None and known.cordon.kind is CordonKind.DRAINING
    cordon = known.cordon if draining else None
    fresh = Worker(spec, command.boot_id, draft.now, cordon=cordon)
    _put(draft, replace(fresh, generation=known.generation + 1))


def _refuse_another(known: Worker, command: RegisterWorker) -> None:
    """Keeps a host of the same name from taking the place of one that may still run tasks."""
    if known.health is Health.LOST or known.boot_id in command.earlier:
        return
    raise InvalidRequestError(
        f"host {known.spec.worker_id} is already here, at {known.spec.address}; give this one "
        "another --name (or, if it is that host and has lost its folder, start it again once the "
        "cluster has given that one up)"
    )


def _refuse_changes(known: Worker, spec: WorkerSpec) -> None:
    worker_id = spec.worker_id
    if known.health is Health.LOST:
        raise InvalidRequestError(
            f"worker {worker_id} was given up in this life ({known.health_reason}): its agent "
            "must end all that it runs and come back under a new boot id"
        )
    fixed = ("capacity", "region", "zone", "slice", "oversubscribe", "slots")
    for name in fixed:
        if getattr(known.spec, name) != getattr(spec, name):
            raise InvalidRequestError(
                f"worker {worker_id} cannot change its {name} while it lives; its agent must end "
                "all that it runs and come back under a new boot id"
            )


def _check(spec: WorkerSpec, boot_id: str) -> None:
    if not spec.worker_id or not boot_id:
        raise InvalidRequestError("a worker needs an id and a boot id")
    has = spec.capacity
    if min(has.cpu_milli, has.memory_bytes, has.disk_bytes) < 0:
        raise InvalidRequestError(f"worker {spec.worker_id} has less than nothing: {has}")
    if any(milli <= 0 or milli % MILLI for milli in has.gpus.values()):
        raise InvalidRequestError(f"worker {spec.worker_id} must have whole gpus, not {has.gpus}")
    if any(chips <= 0 for chips in has.tpus.values()):
        raise InvalidRequestError(f"worker {spec.worker_id} must have chips, not {has.tpus}")
    if spec.slots is not None and spec.slots < 1:
        raise InvalidRequestError(f"worker {spec.worker_id} must have a slot, not {spec.slots}")
    check_labels(spec.labels)
    if spec.slice is not None:
        size = tpu_topology(spec.slice.tpu_type).vm_count
        if spec.slice.size != size or not 0 <= spec.slice.index < size:
            raise InvalidRequestError(
                f"worker {spec.worker_id} cannot be host {spec.slice.index} of {spec.slice.size}: "
                f"a {spec.slice.tpu_type} has {size}"
            )


def report(draft: Draft, command: ReportAttempts) -> None:
    """Follows all that an agent sees.

    Args:
        draft: Where.
        command: What it sees.

    Raises:
        InvalidRequestError: The host, or this life of it, is not the one that is known.
    """
    worker = draft.worker(command.worker_id)
    if worker.boot_id != command.boot_id or worker.health is Health.LOST:
        raise InvalidRequestError(
            f"worker {command.worker_id} is not known under boot id {command.boot_id}: its agent "
            "must end all that it runs and register under a new one"
        )
    observed = {seen.attempt_id: seen for seen in command.attempts}
    if command.generation > worker.generation:
        _catch_up(draft, worker, command.generation, tuple(observed))
    strays: list[AttemptId] = []
    for attempt_id in sorted(observed):
        seen, attempt = observed[attempt_id], draft.attempts.get(attempt_id)
        if attempt is not None and attempt.worker_id == command.worker_id:
            observe(draft, attempt, seen)
        elif seen.state in LIVE:
            strays.append(attempt_id)
    for attempt in draft.attempts_on(command.worker_id):
        if attempt.attempt_id not in observed and attempt.generation <= command.generation:
            text = f"host {command.worker_id} no longer knows of it"
            attempt = draft.attempts[attempt.attempt_id]  # an earlier end may have changed it
            end(draft, attempt, AttemptState.WORKER_LOST, _lost(command.worker_id, text))
    worker = draft.workers[command.worker_id]
    held = tuple(sorted(each for each in command.held if _has(worker.spec, each)))
    if worker.held != held:
        worker = replace(worker, held=held)
        _put(draft, worker)
    if worker.strays != tuple(strays):
        for attempt_id in strays:
            if attempt_id not in worker.strays:
                draft.emit(StrayFound(command.worker_id, attempt_id))
        _put(draft, replace(worker, strays=tuple(strays)))


def _has(spec: WorkerSpec, held: HeldDevice) -> bool:
    has = spec.capacity
    count = has.tpus.get(held.kind, 0) or has.gpus.get(held.kind, 0) // MILLI
    return 0 <= held.index < count


def _catch_up(draft: Draft, worker: Worker, generation: int, observed: tuple[str, ...]) -> None:
    """Goes on after the ledger lost its last moments: the agent has seen a set of that future.

    What the agent cannot know of counts as handed out after the set that it has seen.
    """
    worker = replace(worker, generation=generation + 1)
    draft.workers[worker.spec.worker_id] = worker
    for attempt in draft.attempts_on(worker.spec.worker_id):
        if attempt.attempt_id not in observed:
            draft.attempts[attempt.attempt_id] = replace(attempt, generation=generation + 1)


def mark(draft: Draft, command: MarkWorker) -> None:
    """Takes note that an agent has fallen silent, or is heard again.

    Args:
        draft: Where.
        command: Whose.
    """
    worker = draft.workers.get(command.worker_id)
    if worker is None or worker.boot_id != command.boot_id or worker.health is Health.LOST:
        return
    health = Health.SUSPECT if command.suspect else Health.HEALTHY
    reason = command.reason if command.suspect else ""
    if health is not worker.health:
        _put(draft, replace(worker, health=health, health_reason=reason))


def worker_lost(draft: Draft, command: WorkerLost) -> None:
    """Gives a host up, in one life of it.

    Args:
        draft: Where.
        command: Which.
    """
    worker = draft.workers.get(command.worker_id)
    if worker is None or worker.boot_id != command.boot_id or worker.health is Health.LOST:
        return
    cause = _lost(command.worker_id, command.reason, preempted=command.preempted)
    state = AttemptState.PREEMPTED if command.preempted else AttemptState.WORKER_LOST
    drop_host(draft, command.worker_id)
    _end_all(draft, command.worker_id, cause, state)
    worker = draft.workers[command.worker_id]
    gone = replace(worker, health=Health.LOST, health_reason=command.reason, strays=())
    _put(draft, replace(gone, gone_at=draft.now, left=command.preempted))


def cordon(draft: Draft, command: CordonWorker) -> None:
    """Lets nothing new go to a host.

    Args:
        draft: Where.
        command: Which.

    Raises:
        InvalidRequestError: There is no such host, or the grace is negative.
    """
    worker = draft.worker(command.worker_id)
    if command.grace_s < 0:
        raise InvalidRequestError(f"grace_s must be at least 0, not {command.grace_s}")
    _put(draft, replace(worker, cordon=Cordon(command.kind, command.reason, command.until)))
    if not command.evict:
        return
    text = f"host {command.worker_id} is {command.kind}: {command.reason}"
    cause = DeathCause(DeathKind.PREEMPTED, text, host=command.worker_id)
    for attempt in draft.attempts_on(command.worker_id):
        evict(draft, draft.attempts[attempt.attempt_id], cause, command.grace_s)


def uncordon(draft: Draft, command: UncordonWorker) -> None:
    """Lets new tasks go to a host again.

    Args:
        draft: Where.
        command: Which.

    Raises:
        InvalidRequestError: There is no such host.
    """
    worker = draft.worker(command.worker_id)
    _put(draft, replace(worker, cordon=None, faults=()))  # what it did before is forgiven


def remove(draft: Draft, command: RemoveWorker) -> None:
    """Forgets a host.

    Args:
        draft: Where.
        command: Which.

    Raises:
        InvalidRequestError: Something still runs there.
    """
    if draft.workers.get(command.worker_id) is None:
        return
    live = draft.attempts_on(command.worker_id)
    if live:
        there = and_others(live[0].attempt_id, len(live) - 1)
        raise InvalidRequestError(
            f"worker {command.worker_id} still has {there}; drain it first, or report it lost"
        )
    drop_host(draft, command.worker_id)
    del draft.workers[command.worker_id]
    draft.emit(WorkerRemoved(command.worker_id))


def _end_all(draft: Draft, worker_id: WorkerId, cause: DeathCause, state: AttemptState) -> None:
    for attempt in draft.attempts_on(worker_id):
        end(draft, draft.attempts[attempt.attempt_id], state, cause)


def _lost(worker_id: WorkerId, message: str, *, preempted: bool = False) -> DeathCause:
    kind = DeathKind.PREEMPTED if preempted else DeathKind.HOST_LOST
    return DeathCause(kind, message, host=worker_id)


def _put(draft: Draft, worker: Worker) -> None:
    old = draft.workers.get(worker.spec.worker_id)
    draft.workers[worker.spec.worker_id] = worker
    if old is None or (old.health, closed(old)) != (worker.health, closed(worker)):
        draft.emit(WorkerChanged(worker.spec.worker_id, worker.health, closed(worker)))


__all__ = [
    "cordon",
    "mark",
    "register",
    "remove",
    "report",
    "uncordon",
    "worker_lost",
]
