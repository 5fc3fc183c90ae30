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
from fray.cluster.controller.codec import encode_command, pieces_of
from fray.cluster.controller.events import Event, JobsForgotten, JobsSubmitted
from fray.cluster.controller.figures import Figures
from fray.cluster.controller.journal import Entry, Store, recover
from fray.errors import ClusterError
from fray.ids import ActorId, Namespace
from fray.runtime.signal import Signal, Topics
from fray.runtime.tasks import Scope
from fray.runtime.turns import Turns

if TYPE_CHECKING:
    from fray.cluster.controller.commands import Command
    from fray.cluster.controller.specs import JobSpec
    from fray.cluster.controller.state import Applied, Ledger
    from fray.cluster.scheduling.plan import Reason
    from fray.ids import JobId
    from fray.runtime.clock import Clock

log = logging.getLogger(__name__)

SNAPSHOT_ENTRIES = 5000
"""Journal entries after which a snapshot takes their place: bounds the time of a restart."""

SNAPSHOT_BYTES = 8 << 20
"""Likewise, for large ones: a megabyte takes about a fifth of a second to read again."""


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
        topics: Tells what has changed: the ids of hosts, of jobs, and of actors, and their names
            (`name_topic`).
        listeners: Told of events, in order, after they are durable.
        reasons: Why jobs wait, as the scheduler last found.
        figures: What is counted, for whoever watches the controller.
        spares: How many replicas more each reservation could have, likewise.
    """

    def __init__(self, ledger: Ledger, store: Store, clock: Clock, generation: int) -> None:
        self.ledger = ledger
        self.generation = generation
        self.changed = Signal()
        self.topics = Topics()
        self.listeners: list[Callable[[Sequence[Event]], None]] = []
        self.figures = Figures()
        self.reasons: Mapping[JobId, tuple[Reason, ...]] = {}
        self.spares: Mapping[str, int] = {}
        self._store = store
        self._clock = clock
        self._since_snapshot = 0
        self._bytes_since_snapshot = 0
        self._snapshot_bytes = 0
        self._failed: ClusterError | None = None
        self._durable = ledger.revision
        self._kept = Signal()
        self._turns = Turns(clock)
        self._writes = Scope("book", _told_by_commit)
        self._actors: dict[ActorId, JobId] = {}
        self._names: dict[tuple[Namespace, str], ActorId] = {}  # the last one that was told
        self._topics: dict[str, tuple[str, ...]] = {}  # an actor's own, by its job
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
        book = cls(recover(recovered), store, clock, recovered.generation)
        book._since_snapshot = len(recovered.entries)
        book._bytes_since_snapshot = sum(len(entry.command) for entry in recovered.entries)
        book._snapshot_bytes = len(recovered.snapshot or b"")
        return book

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

        Of many commands at once some are applied in a later turn of the loop, in order.

        Args:
            command: What is asked.

        Raises:
            InvalidRequestError: It makes no sense; nothing has changed.
            JobNotFoundError: It names a job that does not exist; nothing has changed.
            ClusterError: It could not be kept. The controller is about to start anew.
        """
        return await self.commit_made(lambda: command)

    async def commit_made(self, make: Callable[[], Command]) -> Applied:
        """Does what a command asks that is made when its turn has come; see `commit`.

        Args:
            make: Makes the command, from the ledger as it is when that is applied. What it raises
                is raised here, and nothing has changed.

        Raises:
            InvalidRequestError: See `commit`.
            JobNotFoundError: See `commit`.
            ClusterError: See `commit`.
        """
        applied, writing = await self._turns.run(lambda: self._begin(make()))
        if writing is not None:
            await asyncio.shield(writing)
            return applied
        await self.durable()  # it may repeat what is being written just now
        self._tell(applied)
        return applied

    def begin(self, command: Command) -> tuple[Applied, asyncio.Task[None] | None]:
        """Does what a command asks at once, and begins to write it down.

        For a few commands in a row: awaiting the last one's task is awaiting them all.

        Args:
            command: What is asked.

        Returns:
            What it did, and what is done when that is durable; None where nothing has changed.

        Raises:
            InvalidRequestError: It makes no sense; nothing has changed.
            JobNotFoundError: It names a job that does not exist; nothing has changed.
            ClusterError: Nothing can be kept any more. The controller is about to start anew.
        """
        return self._turns.run_now(lambda: self._begin(command))

    def _begin(self, command: Command) -> tuple[Applied, asyncio.Task[None] | None]:
        if self._failed is not None:
            raise self._failed
        now = self._clock.time()
        applied = self.ledger.apply(command, now)
        if not applied.changed:
            return applied, None
        entry = Entry(applied.revision, now, encode_command(command))
        # What was applied is kept and told, whoever asked for it and has gone meanwhile. Tasks
        # begin in the order in which they are made, so the journal has the ledger's order.
        return applied, self._writes.spawn(self._keep(entry, applied), name="write")

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
        self._bytes_since_snapshot += len(entry.command)
        try:
            await self._turns.run(lambda: self._tell(applied))  # many are kept at the same time
        finally:  # kept it is, whatever a listener makes of it
            self._kept.notify()

    def _tell(self, applied: Applied) -> None:
        for event in applied.events:
            if isinstance(event, JobsSubmitted):
                for job_id in event.job_ids:
                    job = self.ledger.tables.jobs.get(job_id)
                    if job is not None:  # of a repetition some may be forgotten
                        self._index(job.spec)
            elif isinstance(event, JobsForgotten):
                self._forget(event.job_ids)
        if applied.events:
            self.figures.note(self.ledger, applied.events)
            for listener in self.listeners:
                listener(applied.events)
        if applied.changed:
            self.changed.notify()
            for touched in applied.touched:
                self.topics.notify((touched, *self._topics.get(touched, ())))

    async def snapshot_if_due(self) -> None:
        """Replaces a long journal by a snapshot."""
        bytes_max = max(SNAPSHOT_BYTES, self._snapshot_bytes)
        if self._since_snapshot >= SNAPSHOT_ENTRIES or self._bytes_since_snapshot >= bytes_max:
            self._since_snapshot = self._bytes_since_snapshot = 0
            revision, pieces = self.ledger.revision, list[bytes]()
            for piece in pieces_of(self.ledger.tables):
                pieces.append(piece)
                await asyncio.sleep(0)  # others have their turn
            data = b"".join(pieces)
            self._snapshot_bytes = len(data)
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
        key = (Namespace(namespace), name)
        job_id = self.ledger.job_of_name(*key)
        if job_id is not None:
            role = self.ledger.job(job_id).spec.actor
            assert role is not None, "only actors' jobs have names"
            return role.actor_id
        return self._names.get(key)

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
        if spec.actor.name:
            self._names[spec.namespace, spec.actor.name] = spec.actor.actor_id
        name = name_topic(spec.namespace, spec.actor.name)
        self._topics[spec.job_id] = (spec.actor.actor_id, name)

    def _forget(self, job_ids: Sequence[JobId]) -> None:
        gone = set(job_ids)
        topics = {job_id: self._topics.pop(job_id, ()) for job_id in job_ids}
        actors = [topic[0] for topic in topics.values() if topic]
        for actor_id in actors:
            if self._actors.get(ActorId(actor_id)) in gone:
                del self._actors[ActorId(actor_id)]
        forgotten = {ActorId(actor_id) for actor_id in actors}
        if forgotten:
            self._names = {k: who for k, who in self._names.items() if who not in forgotten}


def name_topic(namespace: str, name: str) -> str:
    """What tells of changes of a name; see `Book.topics`.

    Args:
        namespace: Where it is.
        name: The name.
    """
    return f"{namespace}/{name}"


def _told_by_commit(name: str, exc: BaseException) -> None:
    """A write failed: whoever waits for it raises that, and `until_failed` does."""
    if not isinstance(exc, ClusterError):  # a bug of a listener; the asker may have gone
        log.error("%s failed after a change was kept", name, exc_info=exc)


__all__ = ["SNAPSHOT_ENTRIES", "Book", "name_topic"]
