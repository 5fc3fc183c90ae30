"""The ledger as the scheduler sees it, made anew only where something has changed.

A view is asked for after every change, and most of it is what it was: hosts, what waits and what
runs are kept until a command touches them. What a command touches is only noted then; making it
anew can be done a little at a time (`Views.refresh`), before a snapshot is asked for.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.records import Job, Worker
from fray.cluster.controller.running import running_of
from fray.cluster.controller.specs import GangScope
from fray.cluster.controller.tables import Tables
from fray.cluster.controller.units import (
    host_of,
    lone_unit,
    missing_replicas,
    replica_of,
    replicas_beside,
    waiting_units,
)
from fray.cluster.scheduling.accounts import Standing
from fray.cluster.scheduling.admission import FeasibleKind
from fray.cluster.scheduling.hosts import Host
from fray.cluster.scheduling.kinds import kind_of
from fray.cluster.scheduling.policy import Policy
from fray.cluster.scheduling.view import (
    Claim,
    ClusterView,
    Running,
    Spare,
    TaskKey,
    Unit,
)
from fray.ids import JobId, WorkerId

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at one revision of the ledger, in parts that are quickly taken.

    Attributes:
        revision: See `ClusterView`; so are all others.
        hosts: All hosts.
        units: What waits, by job or group.
        held: Jobs that may not have a place yet.
        running: What runs, by job.
        users: How users stand.
        claims: Places for which others were told to leave.
        spares: What reservations would take beyond their minimum.
        policy: How places are given.
    """

    revision: int
    hosts: Mapping[WorkerId, Host]
    units: tuple[Collection[Unit], ...]
    held: Mapping[JobId, str]
    running: tuple[Collection[Running], ...]
    users: Mapping[str, Standing]
    claims: tuple[Claim, ...]
    spares: Mapping[str, Spare]
    policy: Policy

    def view(self) -> ClusterView:
        """Puts the parts together, on any thread; costs all that waits and runs."""
        return ClusterView(
            revision=self.revision,
            hosts=self.hosts,
            units=tuple(chain.from_iterable(self.units)),
            held=self.held,
            running=tuple(chain.from_iterable(self.running)),
            users=self.users,
            claims=self.claims,
            spares=self.spares,
            policy=self.policy,
        )


class Views:
    """Makes views of one ledger's tables.

    Args:
        tables: The ledger's; to be read only.

    Attributes:
        feasible: Kinds of units that could run here if nothing else did; see `check_feasible`.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.feasible: dict[FeasibleKind, None] = {}
        self._hosts: dict[WorkerId, Host] = {}
        self._groups: dict[str, Collection[Unit]] = {}
        self._jobs: dict[JobId, Collection[Unit]] = {}
        self._lone: dict[JobId, dict[int, Unit]] = {}
        self._held: dict[JobId, str] = {}
        self._running: dict[JobId, tuple[Running, ...]] = {}
        self._live: dict[JobId, dict[str, Running]] = {}
        # What has changed since it was looked at:
        self._stale_hosts: dict[WorkerId, None] = dict.fromkeys(tables.workers)
        self._stale_groups: dict[str, None] = dict.fromkeys(tables.indexes.starting)
        self._stale_jobs: dict[JobId, None] = {}
        self._stale_lone: dict[JobId, dict[int, None]] = {}
        self._stale_live: dict[JobId, dict[int, None]] = {}
        for attempt in tables.attempts.values():
            self._stale_live.setdefault(attempt.job_id, {})[attempt.task_index] = None
        for job_id, indices in tables.indexes.unplaced.items():
            if _is_plain(tables.jobs[job_id]):
                self._stale_lone[job_id] = dict(indices)
            else:
                self._stale_jobs[job_id] = None

    # ---- what has changed

    def forget(self, draft: Draft) -> None:
        """Takes note of what a draft changes; before that is committed.

        Args:
            draft: The changes.
        """
        self._forget_hosts(draft)
        groups = {name: None for name, _ in draft.groups.written()}
        for job_id, job in draft.jobs.written():
            if job is None or job.verdict is not None or job.status.finished():
                self._drop_lone(job_id)
            if job is None or not _is_plain(job):
                self._stale_jobs[job_id] = None
            if job is not None and job.group_id:
                groups[job.group_id] = None
        for key, _ in draft.tasks.written():
            self._forget_task(draft.jobs.get(key.job_id), key, groups)
        for _, gang in draft.gangs.written():
            if gang is not None:
                self._stale_jobs[gang.job_id] = None
        for name in groups:
            self._stale_groups[name] = None
            group = draft.groups.get(name)
            self._stale_jobs.update(dict.fromkeys(group.job_ids if group is not None else ()))
        for attempt_id, attempt in draft.attempts.written():
            known = attempt or self._tables.attempts.get(attempt_id)
            if known is not None:
                self._stale_live.setdefault(known.job_id, {})[known.task_index] = None

    def _forget_hosts(self, draft: Draft) -> None:
        for worker_id, worker in draft.workers.written():
            self._stale_hosts[worker_id] = None
            if self.feasible and _is_another(self._tables.workers.get(worker_id), worker):
                self.feasible.clear()

    def _forget_task(self, job: Job | None, key: TaskKey, groups: dict[str, None]) -> None:
        if job is None or not _is_plain(job):
            self._stale_jobs[key.job_id] = None
        else:
            self._stale_lone.setdefault(key.job_id, {})[key.task_index] = None
        if job is not None and job.group_id:
            groups[job.group_id] = None

    def _drop_lone(self, job_id: JobId) -> None:
        """A job that ends, or is gone, waits for nothing any more."""
        self._stale_lone.pop(job_id, None)
        if self._lone.pop(job_id, None) is not None:
            self._jobs.pop(job_id, None)

    # ---- making it anew

    def refresh(self) -> Iterator[None]:
        """Makes anew what has changed until now, in small steps.

        Commands may be applied between two steps; what they change is left for the next time.
        """
        draft = Draft(self._tables, 0.0)
        yield from self._refresh_waiting(draft)
        yield from self._refresh_hosts()
        for job_id in list(self._stale_live):
            yield from self._refresh_live(draft, job_id)

    def _refresh_waiting(self, draft: Draft) -> Iterator[None]:
        for group_id in list(self._stale_groups):
            self._stale_groups.pop(group_id, None)
            there = [group_id] if group_id in self._tables.indexes.starting else []
            _remember(self._groups, group_id, waiting_units(draft, [], there)[0])
            yield
        for job_id in list(self._stale_jobs):
            self._stale_jobs.pop(job_id, None)
            there = [job_id] if job_id in self._tables.indexes.unplaced else []
            units, held = waiting_units(draft, there, [])
            _remember(self._jobs, job_id, units)
            _remember(self._held, job_id, held.get(job_id, ""))
            yield
        for job_id in list(self._stale_lone):
            yield from self._refresh_lone(draft, job_id)

    def _refresh_lone(self, draft: Draft, job_id: JobId) -> Iterator[None]:
        """The tasks of a job of which each waits on its own, and for nothing but a place."""
        stale = self._stale_lone.get(job_id)
        if stale is None:
            return  # somebody else has looked
        units = self._lone.setdefault(job_id, {})
        # What ends meanwhile, or is looked at by somebody else, is no longer to be done here.
        while stale and self._stale_lone.get(job_id) is stale:
            index, _ = stale.popitem()
            unit = lone_unit(draft, self._tables.jobs[job_id], index)
            if unit is None:
                units.pop(index, None)
            else:
                units[index] = unit
            yield
        if self._stale_lone.get(job_id) is stale:
            del self._stale_lone[job_id]
            _remember(self._jobs, job_id, tuple(units.values()))
            if not units:
                del self._lone[job_id]

    def _refresh_hosts(self) -> Iterator[None]:
        for worker_id in list(self._stale_hosts):
            self._stale_hosts.pop(worker_id, None)
            worker = self._tables.workers.get(worker_id)
            if worker is None:
                self._hosts.pop(worker_id, None)
            else:
                host = self._hosts[worker_id] = host_of(worker)
                kind_of(host)  # it is kept in the host, which threads share from now on
            yield

    def _refresh_live(self, draft: Draft, job_id: JobId) -> Iterator[None]:
        """What of a job runs: its attempts, or its gangs."""
        stale = self._stale_live.get(job_id)
        if stale is None:
            return
        live = self._live.setdefault(job_id, {})
        while stale and self._stale_live.get(job_id) is stale:
            index, _ = stale.popitem()
            job = self._tables.jobs.get(job_id)
            if job is None:
                live.clear()
                stale.clear()
                break
            attempts: list[Attempt] = []
            for member in job.spec.members(index):
                stale.pop(member, None)
                attempt_id = draft.task(job_id, member).live
                if attempt_id is not None:
                    attempts.append(draft.attempts[attempt_id])
            unit_id = _unit_of(job, index)
            if attempts:
                live[unit_id] = running_of(draft, attempts)
            else:
                live.pop(unit_id, None)
            yield
        if self._stale_live.get(job_id) is stale:
            del self._stale_live[job_id]
            _remember(self._running, job_id, tuple(live.values()))
            if not live:
                del self._live[job_id]

    # ---- views

    def snapshot(self) -> Snapshot:
        """The cluster as it is now."""
        for _ in self.refresh():
            pass
        tables = self._tables
        draft = Draft(tables, 0.0)
        replicas: list[Unit] = []
        spares: dict[str, Spare] = {}
        for reservation in draft.open_reservations():
            has = len(reservation.places)
            missing = missing_replicas(draft, reservation)
            replicas += [replica_of(reservation, has + number) for number in range(missing)]
            beside = replicas_beside(draft, reservation)
            more = reservation.maximum.replicas - max(reservation.minimum.replicas, has + beside)
            if more > 0:
                spares[reservation.reservation_id] = Spare(replica_of(reservation, 0), more)
        return Snapshot(
            revision=tables.revision,
            hosts=dict(self._hosts),
            units=(*self._groups.values(), *self._jobs.values(), replicas),
            held=dict(self._held),
            running=tuple(self._running.values()),
            users=dict(tables.users),
            claims=tuple(claim for _, claim in sorted(tables.claims.items())),
            spares=spares,
            policy=tables.policy,
        )

    def hosts(self) -> Mapping[WorkerId, Host]:
        """All hosts as they are now; to be read at once, and only read."""
        for _ in self._refresh_hosts():
            pass
        return self._hosts


def _is_another(old: Worker | None, new: Worker | None) -> bool:
    """Whether a host has become another one in more than how full it is."""
    if old is None or new is None:
        return True
    lasts = old.health is new.health and old.cordon is new.cordon
    return not lasts or old.spec is not new.spec


def _is_plain(job: Job) -> bool:
    """Whether each task of a job waits on its own, and for nothing but a place."""
    return job.spec.gang is GangScope.TASK and not job.group_id and not job.spec.supervised


def _unit_of(job: Job, index: int) -> str:
    gang = job.spec.gang_of(index)
    return f"gang:{gang}" if gang else f"task:{TaskKey(job.spec.job_id, index)}"


def _remember(known: dict[K, V], key: K, found: V) -> None:
    if found:
        known[key] = found
    else:
        known.pop(key, None)


__all__ = ["Snapshot", "Views"]
