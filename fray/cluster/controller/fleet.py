"""The actor ``fleet``: hosts register, report, and get their orders; silent ones are given up.

Heartbeats touch neither ledger nor journal while they tell nothing new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.cluster.control import HostReport, Orders
from fray.cluster.controller.commands import (
    CordonWorker,
    MarkWorker,
    RegisterWorker,
    ReportAttempts,
    WorkerLost,
)
from fray.cluster.controller.desired import Standing
from fray.cluster.controller.records import CordonKind, Health, Worker
from fray.cluster.hosttimes import HostTimes
from fray.errors import InvalidRequestError
from fray.ids import WorkerId

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.runtime.clock import Clock


class Fleet:
    """See `FleetApi`.

    Args:
        book: The ledger.
        clock: The process's clock.
        times: How long hosts may be silent.
    """

    def __init__(self, book: Book, clock: Clock, times: HostTimes | None = None) -> None:
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
            for worker_id, worker in list(self._book.ledger.tables.workers.items()):
                if worker.health is not Health.LOST:
                    await self._look(worker_id, worker, now)
            await self._book.snapshot_if_due()

    async def _look(self, worker_id: WorkerId, worker: Worker, now: float) -> None:
        silent_s = now - self._heard.setdefault(worker_id, now)
        if silent_s > self._times.lost_s:
            await self._book.commit(
                WorkerLost(worker_id, worker.boot_id, f"silent for {silent_s:.0f} s")
            )
        elif silent_s > self._times.suspect_s and worker.health is Health.HEALTHY:
            reason = f"silent for {silent_s:.0f} s"
            await self._book.commit(MarkWorker(worker_id, worker.boot_id, True, reason))

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

        await self._book.changed.until(news, wait_s)
        return await self._orders(worker_id, boot_id, generation)

    async def leave(self, worker_id: WorkerId, boot_id: str, reason: str) -> None:
        """See `FleetApi.leave`."""
        await self._book.commit(WorkerLost(worker_id, boot_id, reason, preempted=True))

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
                capacity=worker.spec.capacity.describe(),
                used=worker.used.describe(),
                attempts=counts.get(worker_id, 0),
                region=worker.spec.region,
                zone=worker.spec.zone,
            )
            for worker_id, worker in sorted(tables.workers.items())
        ]

    async def drain(self, worker_id: WorkerId, reason: str) -> None:
        """See `FleetApi.drain`."""
        if worker_id not in self._book.ledger.tables.workers:
            raise InvalidRequestError(f"there is no host {worker_id!r}")
        await self._book.commit(CordonWorker(worker_id, CordonKind.DRAINING, reason, evict=True))

    # ---- inside

    async def _hear(self, worker_id: WorkerId, boot_id: str) -> None:
        self._heard[worker_id] = self._clock.monotonic()
        worker = self._book.ledger.tables.workers.get(worker_id)
        if worker is not None and worker.boot_id == boot_id and worker.health is Health.SUSPECT:
            await self._book.commit(MarkWorker(worker_id, boot_id, False))

    def _standing(self, worker_id: WorkerId, boot_id: str) -> Standing:
        return self._book.ledger.standing(worker_id, boot_id)

    async def _orders(self, worker_id: WorkerId, boot_id: str, known: int) -> Orders:
        # An order that a crash takes back would leave an attempt that nobody knows of; and a result
        # that counts as taken note of, but is not, would be forgotten by its agent and run again.
        await self._book.durable()
        standing = self._standing(worker_id, boot_id)
        worker = self._book.ledger.tables.workers.get(worker_id)
        if standing is Standing.CURRENT and worker is not None and worker.generation == known:
            return Orders(standing, None, self._times.lease_s)  # it has been told
        return Orders(standing, self._book.ledger.desired(worker_id), self._times.lease_s)


__all__ = ["Fleet"]
