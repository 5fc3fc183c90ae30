"""The actor ``fleet``: hosts register, report, and get their orders; silent ones are given up.

Heartbeats touch neither ledger nor journal while they tell nothing new.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fray.cluster.control import Orders
from fray.cluster.controller import cordons
from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.commands import (
    CordonWorker,
    MarkWorker,
    RegisterWorker,
    ReportAttempts,
    UncordonWorker,
    WorkerLost,
)
from fray.cluster.controller.desired import Desired, Standing
from fray.cluster.controller.records import CordonKind, Health, Worker
from fray.cluster.hosttimes import HostTimes
from fray.cluster.reports import HostReport
from fray.cluster.retention import RetentionPolicy
from fray.cluster.security.api import AttemptToken, HostTokens
from fray.cluster.shelflimits import ShelfLimits
from fray.errors import InvalidRequestError
from fray.ids import AttemptId, WorkerId
from fray.runtime.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fray.cluster.controller.attempt import Attempt
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.security import Security
    from fray.runtime.clock import Clock

log = logging.getLogger(__name__)


class Fleet:
    """See `FleetApi`.

    Args:
        book: The ledger.
        clock: The process's clock.
        times: How long hosts may be silent.
        security: Makes tokens.
        retain_s: How long hosts keep what ended attempts have left, in seconds.
        environments: How much they keep of environments that are not in use.
    """

    def __init__(
        self,
        book: Book,
        clock: Clock,
        times: HostTimes | None,
        security: Security,
        retain_s: float = RetentionPolicy().age_s,
        environments: ShelfLimits | None = None,
    ) -> None:
        self._environments = environments or ShelfLimits()
        self._security = security
        self._retain_s = retain_s
        self._book = book
        self._clock = clock
        self._times = times or HostTimes()
        now = clock.monotonic()  # who was there before this controller has its full time
        self._heard: dict[WorkerId, float] = dict.fromkeys(book.ledger.tables.workers, now)

    async def run(self) -> None:
        """Looks for silent hosts, for ever."""
        last = self._clock.monotonic()
        look_s = self._times.look_s
        while True:
            await self._clock.sleep(look_s)
            now = self._clock.monotonic()
            if now - last > look_s * 3:
                # The controller itself stood still: what it did not hear is its own fault.
                self._heard = {w: at + (now - last) for w, at in self._heard.items()}
            last = now
            silent: list[tuple[WorkerId, Worker]] = []
            await in_turns(self._look(now, silent), self._clock)
            for worker_id, worker in silent:
                await self._give_up(worker_id, worker, now)
            for worker_id in self._heard.keys() - self._book.ledger.tables.workers.keys():
                del self._heard[worker_id]  # it was forgotten
            await self._mind_cordons()
            await self._book.snapshot_if_due()

    def _look(self, now: float, silent: list[tuple[WorkerId, Worker]]) -> Iterator[None]:
        """Finds hosts that have been silent for too long, one by one."""
        for worker_id, worker in list(self._book.ledger.tables.workers.items()):
            if worker.health is not Health.LOST:
                heard_at = self._heard.setdefault(worker_id, now)
                if now - heard_at > self._times.suspect_s:
                    silent.append((worker_id, worker))
            yield

    async def _give_up(self, worker_id: WorkerId, worker: Worker, now: float) -> None:
        silent_s = now - self._heard[worker_id]
        if silent_s > self._times.lost_s:
            await self._book.commit(
                WorkerLost(worker_id, worker.boot_id, f"silent for {silent_s:.0f} s")
            )
        elif silent_s > self._times.suspect_s and worker.health is Health.HEALTHY:
            reason = f"silent for {silent_s:.0f} s"
            await self._book.commit(MarkWorker(worker_id, worker.boot_id, True, reason))

    async def _mind_cordons(self) -> None:
        # Nothing is awaited until all are begun: nobody takes a host back in between.
        for command in cordons.due(self._book.ledger.tables.workers, self._clock.time()):
            log.warning("host %s: %s", command.worker_id, _told(command))
            self._book.begin(command)
        await self._book.durable()

    # ---- FleetApi

    async def register(self, host: RegisterWorker) -> Orders:
        """See `FleetApi.register`."""
        worker_id = host.spec.worker_id
        worker = self._book.ledger.tables.workers.get(worker_id)
        lost = worker is not None and worker.health is Health.LOST
        if not (lost and worker is not None and worker.boot_id == host.boot_id):
            await self._book.commit(host)
        await self._hear(worker_id, host.boot_id)
        return await self._orders(worker_id, host.boot_id, 0)

    async def report(self, report: ReportAttempts) -> Orders:
        """See `FleetApi.report`."""
        await self._hear(report.worker_id, report.boot_id)
        if self._standing(report.worker_id, report.boot_id) is Standing.CURRENT:
            await self._book.commit(report)
        return await self._orders(report.worker_id, report.boot_id, report.generation)

    async def orders(
        self, worker_id: WorkerId, boot_id: str, generation: int, wait_s: float
    ) -> Orders:
        """See `FleetApi.orders`."""
        await self._hear(worker_id, boot_id)

        def news() -> bool:
            worker = self._book.ledger.tables.workers.get(worker_id)
            standing = self._standing(worker_id, boot_id)
            return (
                worker is None
                or standing is not Standing.CURRENT
                or (worker.generation != generation)
            )

        await self._book.topics.until(worker_id, news, wait_s)
        return await self._orders(worker_id, boot_id, generation)

    async def leave(self, worker_id: WorkerId, boot_id: str, reason: str) -> None:
        """See `FleetApi.leave`."""
        await self._book.commit(WorkerLost(worker_id, boot_id, reason, preempted=True))

    async def tokens(
        self, worker_id: WorkerId, boot_id: str, attempt_ids: list[AttemptId]
    ) -> HostTokens:
        """See `FleetApi.tokens`."""
        if self._standing(worker_id, boot_id) is not Standing.CURRENT:
            return HostTokens()
        attempts = self._book.ledger.tables.attempts
        here = [
            attempt
            for attempt_id in attempt_ids
            if (attempt := attempts.get(attempt_id)) and attempt.worker_id == worker_id
        ]
        return HostTokens(self._tokens_of(here), self._security.worker_token(worker_id))

    async def hosts(self) -> list[HostReport]:
        """See `FleetApi.hosts`."""
        tables = self._book.ledger.tables
        counts: dict[WorkerId, int] = {}
        for attempt in tables.attempts.values():
            counts[attempt.worker_id] = counts.get(attempt.worker_id, 0) + 1
        return [
            HostReport(
                worker_id=worker_id,
                address=worker.spec.address,
                health=worker.cordon.kind if worker.cordon else worker.health,
                reason=worker.cordon.reason if worker.cordon else worker.health_reason,
                until=worker.cordon.until if worker.cordon else None,
                held=worker.held,
                capacity=worker.spec.capacity,
                used=worker.used,
                attempts=counts.get(worker_id, 0),
                region=worker.spec.region,
                zone=worker.spec.zone,
            )
            for worker_id, worker in sorted(tables.workers.items())
        ]

    async def cpus(self) -> float:
        """See `FleetApi.cpus`."""
        workers = self._book.ledger.tables.workers.values()
        milli = sum(
            w.spec.capacity.cpu_milli
            for w in workers
            if w.health is not Health.LOST and not w.cordon
        )
        return milli / 1000

    async def drain(self, worker_id: WorkerId, reason: str, deadline_s: float = 0.0) -> None:
        """See `FleetApi.drain`."""
        if worker_id not in self._book.ledger.tables.workers:
            raise InvalidRequestError(f"there is no host {worker_id!r}")
        if not 0 <= deadline_s < math.inf:
            raise InvalidRequestError(f"a deadline is 0 s away or more, not {deadline_s:g} s")
        until = self._clock.time() + deadline_s if deadline_s else None
        drain = CordonKind.DRAINING
        await self._book.commit(
            CordonWorker(worker_id, drain, reason, evict=until is None, until=until)
        )

    async def undrain(self, worker_id: WorkerId) -> None:
        """See `FleetApi.undrain`."""
        if worker_id not in self._book.ledger.tables.workers:
            raise InvalidRequestError(f"there is no host {worker_id!r}")
        await self._book.commit(UncordonWorker(worker_id))

    # ---- inside

    async def _hear(self, worker_id: WorkerId, boot_id: str) -> None:
        worker = self._book.ledger.tables.workers.get(worker_id)
        if worker is None or worker.boot_id != boot_id:
            return  # another life of it, or another host, is no sign of this one's
        self._heard[worker_id] = self._clock.monotonic()
        if worker.health is Health.SUSPECT:
            await self._book.commit(MarkWorker(worker_id, boot_id, False))

    def _standing(self, worker_id: WorkerId, boot_id: str) -> Standing:
        return self._book.ledger.standing(worker_id, boot_id)

    async def _orders(self, worker_id: WorkerId, boot_id: str, known: int) -> Orders:
        # An order that a crash takes back would leave an attempt that nobody knows of; and a result
        # that counts as taken note of, but is not, would be forgotten by its agent and run again.
        await self._book.durable()
        standing = self._standing(worker_id, boot_id)
        worker = self._book.ledger.tables.workers.get(worker_id)
        lease_s, revoked = self._times.lease_s, self._security.revoked.version
        if standing is Standing.CURRENT and worker is not None and worker.generation == known:
            desired = None  # it has been told
        else:
            desired = self._book.ledger.desired(worker_id)
        tokens = self._first_tokens(desired) if standing is Standing.CURRENT and desired else ()
        kept = self._environments
        return Orders(standing, desired, lease_s, self._retain_s, revoked, kept, tokens)

    def _first_tokens(self, desired: Desired) -> tuple[AttemptToken, ...]:
        """Tokens for what a host is told of for the first time: it does not have to ask for them.

        Whatever it told of before has one, or is asked for one, should that have got lost.
        """
        attempts = self._book.ledger.tables.attempts
        known = (attempts[spec.attempt_id] for spec in desired.attempts)
        return self._tokens_of([a for a in known if a.state is AttemptState.ASSIGNED])

    def _tokens_of(self, attempts: Iterable[Attempt]) -> tuple[AttemptToken, ...]:
        jobs = self._book.ledger.tables.jobs
        made = (
            AttemptToken(
                attempt.attempt_id,
                self._security.attempt_token(attempt, jobs[attempt.job_id].spec),
            )
            for attempt in attempts
        )
        return tuple(each for each in made if each.token)


def _told(command: CordonWorker | UncordonWorker) -> str:
    if isinstance(command, UncordonWorker):
        return "its quarantine is over"
    if command.evict:
        return "the deadline of its drain is over: what is still there is stopped"
    return f"in quarantine: {command.reason}"


__all__ = ["Fleet"]
