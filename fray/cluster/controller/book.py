"""The one writer: applies commands to the ledger, journals them, and says what happened.

Everything that changes the cluster's state goes through `Book.commit`. Nobody hears of a change
before it is durable; changes that wait for the disk at the same time are written together. Readers
look at the ledger in memory and never wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fray.actor.directory import BEING_STARTED
from fray.cluster.controller.codec import encode_command, encode_tables
from fray.cluster.controller.events import Event, JobsSubmitted
from fray.cluster.controller.journal import Entry, Store, recover
from fray.cluster.worker.taskfile import HostedActor
from fray.errors import ClusterError
from fray.runtime.jsoncodec import json_loads
from fray.runtime.signal import Signal
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.cluster.controller.commands import Command
    from fray.cluster.controller.specs import JobSpec
    from fray.cluster.controller.state import Applied, Ledger
    from fray.cluster.scheduling.plan import Reason
    from fray.ids import ActorId, JobId
    from fray.runtime.clock import Clock

log = logging.getLogger(__name__)

SNAPSHOT_ENTRIES = 5000
"""Journal entries after which a snapshot takes their place: bounds the time of a restart."""


class Book:
    """The ledger, its journal, and who listens.

    Args:
        ledger: The state.
        store: Where changes are kept.
        clock: The process's clock.
        generation: Counts the starts of this controller.

    Attributes:
        ledger: To be read by anybody, changed by `commit` only.
        generation: Counts the starts of this controller.
        changed: Tells that something has changed.
        listeners: Told of events, in order, after they are durable.
        reasons: Why jobs wait, as the scheduler last found.
    """

    def __init__(self, ledger: Ledger, store: Store, clock: Clock, generation: int) -> None:
        self.ledger = ledger
        self.generation = generation
        self.changed = Signal()
        self.listeners: list[Callable[[Sequence[Event]], None]] = []
        self.reasons: Mapping[JobId, tuple[Reason, ...]] = {}
        self._store = store
        self._clock = clock
        self._since_snapshot = 0
        self._failed: ClusterError | None = None
        self._durable = ledger.revision
        self._kept = Signal()
        self._writes = Scope("book", _told_by_commit)
        self._actors: dict[ActorId, JobId] = {}
        self._names: dict[tuple[str, str], ActorId] = {}
        for job in ledger.tables.jobs.values():
            self._index(job.spec)

    @classmethod
    async def open(cls, store: Store, clock: Clock) -> Book:
        """Takes a store over and starts from what it kept.

        Args:
            store: Where the ledger is kept.
            clock: The process's clock.

        Raises:
            ClusterError: The store cannot be read.
        """
        recovered = await store.load()
        return cls(recover(recovered), store, clock, recovered.generation)

    def __repr__(self) -> str:
        return f"<Book generation={self.generation} {self.ledger!r}>"

    async def until_failed(self) -> None:
        """Waits until nothing can be kept any more: it must be opened anew from its journal.

        Raises:
            ClusterError: Why.
        """
        while self._failed is None:
            await self.changed.wait()
        raise self._failed

    async def commit(self, command: Command) -> Applied:
        """Does what a command asks; returns when it is durable.

        Args:
            command: What is asked.

        Raises:
            InvalidRequestError: It makes no sense; nothing has changed.
            JobNotFoundError: It names a job that does not exist; nothing has changed.
            ClusterError: It could not be kept. The controller is about to start anew.
        """
        if self._failed is not None:
            raise self._failed
        now = self._clock.time()
        applied = self.ledger.apply(command, now)
        if not applied.changed:
            await self.durable()  # it may repeat what is being written just now
            self._tell(applied)
            return applied
        entry = Entry(applied.revision, now, encode_command(command))
        # What was applied is kept and told, whoever asked for it and has gone meanwhile. Tasks
        # begin in the order in which they are made, so the journal has the ledger's order.
        await asyncio.shield(self._writes.spawn(self._keep(entry, applied), name="write"))
        return applied

    async def durable(self) -> None:
        """Waits until all that the ledger says now is durable: then it may be told to others.

        Raises:
            ClusterError: It could not be kept. The controller is about to start anew.
        """
        revision = self.ledger.revision
        while self._durable < revision:
            if self._failed is not None:
                raise self._failed
            await self._kept.wait()

    async def _keep(self, entry: Entry, applied: Applied) -> None:
        try:
            await self._store.append([entry])
        except ClusterError as exc:
            self._failed = exc
            self._kept.notify()
            self.changed.notify()
            raise
        self._durable = max(self._durable, entry.revision)
        self._since_snapshot += 1
        self._tell(applied)
        self._kept.notify()

    def _tell(self, applied: Applied) -> None:
        for event in applied.events:
            if isinstance(event, JobsSubmitted):
                for job_id in event.job_ids:
                    self._index(self.ledger.job(job_id).spec)
        if applied.events:
            for listener in self.listeners:
                listener(applied.events)
        if applied.changed:
            self.changed.notify()

    async def snapshot_if_due(self) -> None:
        """Replaces a long journal by a snapshot."""
        if self._since_snapshot >= SNAPSHOT_ENTRIES:
            self._since_snapshot = 0
            revision, data = self.ledger.revision, encode_tables(self.ledger.tables)
            # Behind the writes of all that is in it: these tasks began to run before.
            writing = self._writes.spawn(self._store.snapshot(revision, data), name="snapshot")
            await asyncio.shield(writing)

    async def close(self) -> None:
        """Ends the use of the store."""
        await self._writes.close()
        await self._store.close()

    # ---- looking

    def job_of_actor(self, actor_id: ActorId) -> JobId | None:
        """The job that hosts an actor, unless that has ended.

        Args:
            actor_id: The actor.
        """
        return self.ledger.job_of_actor(actor_id)

    def any_job_of_actor(self, actor_id: ActorId) -> JobId | None:
        """The job that hosts or hosted an actor, as long as it is remembered.

        Args:
            actor_id: The actor.
        """
        return self._actors.get(actor_id)

    def actor_to_be(self, namespace: str, name: str) -> ActorId | None:
        """The newest actor that was made under an exclusive name, whether or not it is ready.

        Args:
            namespace: Where the name is.
            name: The name.
        """
        return self._names.get((namespace, name))

    def waits_for(self, job_id: JobId) -> str:
        """Why a job has nothing running, for people.

        Args:
            job_id: The job.
        """
        reasons = self.reasons.get(job_id)
        if not reasons:
            return BEING_STARTED
        return "; ".join(f"{r.candidate}: {r.text}" if r.candidate else r.text for r in reasons)

    def _index(self, spec: JobSpec) -> None:
        if spec.actor is None:
            return
        self._actors[spec.actor.actor_id] = spec.job_id
        hosted = json_loads(spec.hints["actor"].encode(), HostedActor)
        if hosted.name:
            self._names[hosted.namespace, hosted.name] = spec.actor.actor_id


def _told_by_commit(name: str, exc: BaseException) -> None:
    """A write failed: whoever waits for it raises that, and `until_failed` does."""
    if not isinstance(exc, ClusterError):  # a bug of a listener; the asker may have gone
        log.error("%s failed after a change was kept", name, exc_info=exc)


__all__ = ["SNAPSHOT_ENTRIES", "Book"]
