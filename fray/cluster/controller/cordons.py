"""Cordons that begin and end by themselves: what the time, and what hosts have failed at, asks for.

A host that fails tasks by its own fault (a full disk, an environment that it cannot build, a
process that it cannot start) fails the next ones, too, and since it is always free it is given all
that come. So it is put into quarantine for a while. It is never the hosts that are to suffer for a
job, or for a service that is away for all of them:

- only what a host owns up to counts, and only of several jobs within a short time;
- a job that other hosts have failed just so says nothing about this one;
- never more than a part of all hosts is in quarantine.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fray.cluster.controller.commands import CordonWorker, UncordonWorker
from fray.cluster.controller.records import CordonKind, Health
from fray.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fray.cluster.controller.records import HostFault, Worker
    from fray.ids import WorkerId

WINDOW_S = 600.0
"""Faults count for so long."""

JOBS_MIN = 3
"""A host must have failed so many jobs that no other host has failed."""

HOSTS_PER_QUARANTINE = 3
"""One host of so many may be in quarantine; of fewer none."""

QUARANTINE_S = 1800.0
"""How long one lasts: by then somebody has looked, or the cause is gone by itself."""


def due(workers: Mapping[WorkerId, Worker], now: float) -> list[CordonWorker | UncordonWorker]:
    """What has to be done about cordons now.

    Args:
        workers: All hosts.
        now: In seconds since 1970.
    """
    over = [(w, c) for w, each in workers.items() if (c := each.cordon) and c.until is not None]
    commands: list[CordonWorker | UncordonWorker] = []
    for worker_id, cordon in over:
        if cordon.until is None or cordon.until > now:
            continue
        if cordon.kind is CordonKind.DRAINING:
            commands.append(CordonWorker(worker_id, cordon.kind, cordon.reason, evict=True))
        else:
            commands.append(UncordonWorker(worker_id))
    return commands + _quarantines(workers, now)


def _quarantines(workers: Mapping[WorkerId, Worker], now: float) -> list[CordonWorker]:
    suspects = _suspects(workers, now)
    if not suspects:
        return []
    known = [each for each in workers.values() if each.health is not Health.LOST]
    room = len(known) // HOSTS_PER_QUARANTINE - sum(_is_quarantined(each) for each in known)
    worst = sorted(suspects, key=lambda worker_id: (-len(suspects[worker_id]), worker_id))
    return [
        CordonWorker(
            worker_id,
            CordonKind.QUARANTINED,
            _reason(suspects[worker_id]),
            until=now + QUARANTINE_S,
        )
        for worker_id in worst[: max(room, 0)]
    ]


def _suspects(
    workers: Mapping[WorkerId, Worker], now: float
) -> dict[WorkerId, tuple[HostFault, ...]]:
    """Hosts in use that have failed enough jobs, each with what counts against it."""
    recent = {
        worker_id: tuple(fault for fault in each.faults if fault.at > now - WINDOW_S)
        for worker_id, each in workers.items()
        if each.faults
    }
    hosts_of = Counter(fault.job_id for faults in recent.values() for fault in faults)
    suspects: dict[WorkerId, tuple[HostFault, ...]] = {}
    for worker_id, faults in recent.items():
        own = tuple(fault for fault in faults if hosts_of[fault.job_id] == 1)
        worker = workers[worker_id]
        if len(own) >= JOBS_MIN and worker.cordon is None and worker.health is not Health.LOST:
            suspects[worker_id] = own
    return suspects


def _is_quarantined(worker: Worker) -> bool:
    return worker.cordon is not None and worker.cordon.kind is CordonKind.QUARANTINED


def _reason(faults: Iterable[HostFault]) -> str:
    told = sorted(faults, key=lambda fault: fault.at)
    return (
        f"it failed {counted(len(told), 'job')} within {WINDOW_S / 60:.0f} min by its own fault, "
        f"the last one ({told[-1].job_id}) since {told[-1].message}"
    )


__all__ = ["HOSTS_PER_QUARANTINE", "JOBS_MIN", "QUARANTINE_S", "WINDOW_S", "due"]
