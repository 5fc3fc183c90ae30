"""The actor ``names``: who has which name, and where actors are. It never waits for a disk.

The table lives in memory. After a start it is empty and fills again as processes renew what they
have; until then look-ups wait a little before they say that nobody has a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import TYPE_CHECKING

from fray.actor.directory import ActorKey, Departure, Endpoint, Located
from fray.cluster.claims import registration_of
from fray.cluster.control import ACTORS_NAMESPACE, NameClaim, NamedEndpoint
from fray.cluster.controller.attempt import LIVE
from fray.cluster.controller.book import name_topic
from fray.cluster.controller.commands import StopActor, StopJob
from fray.cluster.controller.departures import Departures
from fray.cluster.controller.events import AttemptChanged, Event, JobChanged, PortMapped
from fray.cluster.controller.lives import Lives, death_of
from fray.cluster.controller.records import Hold
from fray.cluster.controller.served import Served
from fray.errors import (
    ActorDied,
    ActorNotFoundError,
    DeathCause,
    DeathKind,
    NameTakenError,
    Started,
)
from fray.ids import ActorId, AttemptId, Namespace
from fray.runtime.leases import Change, Entry, Epoch, NameTable, Reason, Refused

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.runtime.clock import Clock

RECOVERY_S = 10.0
"""After a start of the controller: how long names may take to be known again."""

EXPIRE_S = 1.0
"""How often lapsed leases are swept up."""

STOP_WAIT_S = 30.0

HELD_BEFORE = Epoch(0, 0)
"""Of a claim that is renewed: its holder had it, and does not know since when."""


class Names:
    """See `NamesApi`.

    Args:
        book: The ledger: which actors there are, and what became of them.
        clock: The process's clock.
        generation: Counts the starts of this controller.

    Attributes:
        lives: What becomes of actors.
    """

    def __init__(self, book: Book, clock: Clock, generation: int) -> None:
        self._book = book
        self._clock = clock
        recovery_s = RECOVERY_S if generation > 1 else 0.0
        self._recovered_at = clock.monotonic() + recovery_s
        self._table = NameTable(generation, not_before=self._recovered_at)
        self._older_jobs = frozenset(book.ledger.tables.jobs)
        self._endpoints: dict[Epoch, Endpoint] = {}
        self._of_actor: dict[str, dict[Epoch, Endpoint]] = {}
        self._served = Served(book)
        self._departures = Departures(book)
        self.lives = Lives(
            book,
            lambda actor_id: next(iter(self._places(actor_id)), None),
            lambda: clock.monotonic() < self._recovered_at,
        )

    def __repr__(self) -> str:
        return f"<Names {self._table!r}>"

    async def run(self) -> None:
        """Sweeps up lapsed leases, for ever."""
        last = self._clock.monotonic()
        while True:
            await self._clock.sleep(EXPIRE_S)
            now = self._clock.monotonic()
            if now - last > EXPIRE_S * 3:
                # The controller itself stood still: what it did not hear is its own fault.
                self._table.postpone(now - last)
            last = now
            if (self._table.next_expiry() or inf) < now + 2 * EXPIRE_S:
                self._table.renew(self._of_living_attempts(), now)
            self._note(self._table.expire(now))

    def take_over(self, before: Names) -> None:
        """Goes on with what its predecessor in this process knew: nobody would say it again soon.

        Args:
            before: The predecessor.
        """
        now, living = self._clock.monotonic(), self._book.ledger.tables.attempts
        for namespace in before._table.namespaces():
            for entry in before._table.entries(namespace, now):
                held, endpoint = entry.registration, before._endpoints[entry.epoch]
                if endpoint.attempt_id and AttemptId(endpoint.attempt_id) not in living:
                    continue
                claim = NameClaim(
                    held.namespace,
                    held.name,
                    endpoint,
                    held.exclusive,
                    held.key,
                    held.incarnation,
                    held.ttl_s,
                )
                self._register(claim, HELD_BEFORE)

    # ---- NamesApi

    async def register(self, claim: NameClaim) -> None:
        """See `NamesApi.register`."""
        self._refuse_over(claim)
        previous = HELD_BEFORE if self._was_its_own(claim) else None
        while (refused := self._register(claim, previous)) is not None:
            if refused.retry_at is None:
                raise NameTakenError(f"{claim.name!r} cannot be registered: {refused.message}")
            # Somebody may have it who has not been heard since this controller was started.
            await self._clock.sleep(max(refused.retry_at - self._clock.monotonic(), 0.0))
            self._refuse_over(claim)

    async def renew(self, process_id: str, claims: list[NameClaim]) -> None:
        """See `NamesApi.renew`."""
        for claim in claims:
            if self._departures.cause_of_end(claim.endpoint) is not None:
                continue  # what is left of a host that was given up has no names any more
            # Where it has a successor by now, that it lost is told when it is called.
            self._register(claim, HELD_BEFORE)

    async def unregister(
        self, namespace: str, name: str, actor_id: str, incarnation: int = 0
    ) -> None:
        """See `NamesApi.unregister`."""
        now = self._clock.monotonic()
        for entry in self._table.lookup(Namespace(namespace), name, now):
            held = entry.registration
            if held.actor_id == actor_id and incarnation in (0, held.incarnation):
                self._note(
                    self._table.unregister(
                        held.namespace, held.name, held.actor_id, held.incarnation, now
                    )
                )

    async def locate(self, key: ActorKey, wait_s: float) -> Located:
        """See `NamesApi.locate`."""
        if not key.name:
            return await self._locate_actor(key.actor_id, wait_s)
        if not self._named(key):
            wait_s = max(wait_s, self._recovered_at - self._clock.monotonic())
            was_pending = bool(self._pending_name(key))

            def settled() -> bool:
                given_up = was_pending and not self._pending_name(key)
                found = bool(self._named(key))
                return given_up or found or self._is_down(key) is not None

            topic = self._served.topic(key, name_topic(key.namespace, key.name))
            await self._book.topics.until(topic, settled, max(wait_s, 0.0))
        found = self._named(key)
        if found:
            return Located(found)
        down = self._is_down(key)
        if down is not None:
            raise ActorDied(key.name, down, started=Started.NO)
        pending = self._pending_name(key)
        if pending:
            return Located((), pending)
        raise self._served.not_found(key)

    async def list(self, namespace: str, prefix: str) -> list[NamedEndpoint]:
        """See `NamesApi.list`."""
        now = self._clock.monotonic()
        entries = self._table.entries(Namespace(namespace), now, prefix=prefix)
        found = [NamedEndpoint(e.registration.name, self._endpoints[e.epoch]) for e in entries]
        mapped = list(self._served.listed(namespace, prefix))
        if not mapped:
            return found
        known = {(each.name, each.endpoint.target) for each in found}
        found += (each for each in mapped if (each.name, each.endpoint.target) not in known)
        return sorted(found, key=lambda each: (each.name, each.endpoint.actor_id))

    async def departed(self, endpoints: list[Endpoint], wait_s: float) -> list[Departure]:
        """See `NamesApi.departed`."""
        return await self._departures.wait(endpoints, wait_s)

    async def stop_actor(
        self, key: ActorKey, grace_s: float, reason: str = "its handle stopped it"
    ) -> bool:
        """See `NamesApi.stop_actor`."""
        actor_id = key.actor_id
        if not actor_id:
            found = self._find(key.namespace, key.name)
            if not found:
                raise ActorNotFoundError(f"no actor is registered as {key.name!r}")
            actor_id = found[0].actor_id
        job_id = self._book.any_job_of_actor(ActorId(actor_id))
        if job_id is None:
            return False
        if self._book.ledger.job(job_id).status.finished():
            return True  # it has ended already
        ledger = self._book.ledger
        supervised, was = ledger.job(job_id).spec.supervised, ledger.tasks(job_id)[0].live
        if supervised and was is None:
            return True  # between two lives; the next one is its supervisor's to order
        if supervised:  # whether it comes back is its supervisor's to say
            await self._book.commit(StopActor(job_id, reason, grace_s))
        else:
            await self._book.commit(StopJob(job_id, reason, grace_s))

        def stopped() -> bool:
            ended = was is None or ledger.tasks(job_id)[0].live != was
            return ledger.job(job_id).status.finished() or (supervised and ended)

        await self._book.topics.until(job_id, stopped, grace_s + STOP_WAIT_S)
        return True

    async def actor_ids(self, key: ActorKey) -> list[str]:
        """See `NamesApi.actor_ids`."""
        found = self._find(key.namespace, key.name)
        left_s = self._recovered_at - self._clock.monotonic()
        if not found and left_s > 0:
            await self._book.topics.until(
                name_topic(key.namespace, key.name),
                lambda: bool(self._find(key.namespace, key.name)),
                left_s,
            )
            found = self._find(key.namespace, key.name)
        if found:
            return sorted({endpoint.actor_id for endpoint in found})
        last = self._book.actor_to_be(key.namespace, key.name)
        return [] if last is None else [last]

    def held(self) -> list[tuple[str, NamedEndpoint]]:
        """All names that are held at present, each with its namespace, sorted."""
        now = self._clock.monotonic()
        return [
            (namespace, NamedEndpoint(entry.registration.name, self._endpoints[entry.epoch]))
            for namespace in self._table.namespaces()
            for entry in self._table.entries(namespace, now)
        ]

    def holder(self, namespace: str, name: str) -> Endpoint | None:
        """Who has a name at present.

        Args:
            namespace: Where.
            name: The name.
        """
        found = self._find(namespace, name)
        return found[0] if found else None

    # ---- inside

    def _of_living_attempts(self) -> list[Epoch]:
        """Of processes that their agents see live: one whose loop is busy renews nothing."""
        living = self._book.ledger.tables.attempts
        return [
            epoch
            for epoch, endpoint in self._endpoints.items()
            if endpoint.attempt_id and AttemptId(endpoint.attempt_id) in living
        ]

    def _was_its_own(self, claim: NameClaim) -> bool:
        """Whether nobody else can have had a name in the time before this controller's start."""
        if claim.namespace == ACTORS_NAMESPACE:  # an id is never used twice
            return True
        return self._book.any_job_of_actor(ActorId(claim.endpoint.actor_id)) in self._older_jobs

    def _refuse_over(self, claim: NameClaim) -> None:
        """Refuses a claim of a process that has ended, or of a name that is somebody's."""
        self._refuse_promised(claim)
        over = self._departures.cause_of_end(claim.endpoint)
        if over is not None:
            raise NameTakenError(
                f"{claim.name!r} cannot be registered: this process is given up ({over})"
            )

    def _refuse_promised(self, claim: NameClaim) -> None:
        """An actor that is being made has its exclusive name from its admission on."""
        promised = self._book.actor_to_be(claim.namespace, claim.name)
        if promised is None or promised == claim.endpoint.actor_id:
            return
        job_id = self._book.job_of_actor(promised)
        if job_id is not None:
            raise NameTakenError(
                f"{claim.name!r} cannot be registered: the name belongs to the actor of job "
                f"{job_id}; choose another, or stop that one"
            )

    def _register(self, claim: NameClaim, previous: Epoch | None) -> Refused | None:
        endpoint = claim.endpoint
        outcome = self._table.register(
            registration_of(claim), self._clock.monotonic(), previous=previous
        )
        self._note(outcome.changes)
        if isinstance(outcome, Refused):
            return outcome
        self._endpoints[outcome.entry.epoch] = endpoint
        self._of_actor.setdefault(endpoint.actor_id, {})[outcome.entry.epoch] = endpoint
        self._served.came(outcome.entry.epoch, outcome.entry.registration, endpoint)
        self._notify_mapped(endpoint.job_id)
        self._departures.was_heard(endpoint)
        self.lives.came(endpoint)
        return None

    def _note(self, changes: Iterable[Change]) -> None:
        """Drops what belongs to ended leases, and tells whoever waits."""
        topics: list[str] = []
        for change in changes:
            entry = change.entry
            held = entry.registration
            topics += (held.actor_id, name_topic(held.namespace, held.name))
            if not change.added:
                endpoint = self._endpoints.pop(entry.epoch, None)
                if endpoint is not None:
                    self._forget(endpoint.actor_id, entry.epoch)
                    self._served.went(entry.epoch, endpoint)
                if endpoint is not None and change.reason is Reason.EXPIRED:
                    self._departures.fell_silent(endpoint)
                if endpoint is not None:
                    self.lives.went(endpoint, change.reason)
        self._book.topics.notify(topics)

    def _forget(self, actor_id: str, epoch: Epoch) -> None:
        held = self._of_actor[actor_id]
        del held[epoch]
        if not held:
            del self._of_actor[actor_id]

    def _find(self, namespace: str, name: str) -> tuple[Endpoint, ...]:
        now = self._clock.monotonic()
        entries: Sequence[Entry] = self._table.lookup(Namespace(namespace), name, now)
        return tuple(self._endpoints[e.epoch] for e in entries if e.epoch in self._endpoints)

    def _named(self, key: ActorKey) -> tuple[Endpoint, ...]:
        """Whom a name leads to: those who have it, and those of the jobs that it is mapped to."""
        found = self._find(key.namespace, key.name)
        targets = {endpoint.target for endpoint in found}
        return found + tuple(e for e in self._served.find(key) if e.target not in targets)

    def _notify_mapped(self, job_id: str) -> None:
        """Wakes those who look for what a job serves."""
        if job_id:
            mapped = (name_topic(m.namespace, m.actor_name) for m in self._served.mappings(job_id))
            self._book.topics.notify((job_id, *mapped))

    async def _locate_actor(self, actor_id: str, wait_s: float) -> Located:
        def known() -> bool:
            return bool(self._places(actor_id)) or self._death(actor_id) is not None

        if not known():
            await self._book.topics.until(actor_id, known, wait_s)
        found = self._places(actor_id)
        if found:
            return Located(found)
        death = self._death(actor_id)
        if death is not None:
            raise ActorDied(self._label(actor_id), death, started=Started.NO)
        job_id = self._book.job_of_actor(ActorId(actor_id))
        if job_id is None and self._clock.monotonic() >= self._recovered_at:
            raise ActorNotFoundError(f"no actor has the id {actor_id!r}")
        return Located((), self._book.waits_for(job_id) if job_id else "names are being recovered")

    def _places(self, actor_id: str) -> tuple[Endpoint, ...]:
        found = self._find(ACTORS_NAMESPACE, actor_id)
        if found:
            return found
        # An object hosted by a server has no entry of its own: it is found among the names.
        held = self._of_actor.get(actor_id)
        return (next(iter(held.values())),) if held else ()

    def _pending_name(self, key: ActorKey) -> str:
        """Why an actor that will have this name does not have it yet; empty if none will."""
        actor_id = self._book.actor_to_be(key.namespace, key.name)
        job_id = self._book.job_of_actor(ActorId(actor_id)) if actor_id else None
        return self._book.waits_for(job_id) if job_id else self._served.pending(key)

    def _is_down(self, key: ActorKey) -> DeathCause | None:
        """Why nobody need wait for an actor of this name, though it may come back."""
        actor_id = self._book.actor_to_be(key.namespace, key.name)
        return self._death(actor_id) if actor_id and self._pending_name(key) else None

    def _label(self, actor_id: str) -> str:
        job_id = self._book.any_job_of_actor(ActorId(actor_id))
        return self._book.ledger.job(job_id).spec.name if job_id else actor_id

    def _death(self, actor_id: str) -> DeathCause | None:
        job_id = self._book.any_job_of_actor(ActorId(actor_id))
        if job_id is None:
            return None
        task = self._book.ledger.tasks(job_id)[0]
        if task.hold is Hold.DOWN and task.live is None:  # it may be started again
            reason = task.history[-1].cause.message if task.history else ""
            return DeathCause(DeathKind.STOPPED, reason or "its supervisor has stopped it")
        return death_of(self._book, job_id)

    def on_events(self, events: Sequence[Event]) -> None:
        """What has happened in the ledger: names of ended attempts are dropped.

        Args:
            events: In order.
        """
        now = self._clock.monotonic()
        for event in events:
            if isinstance(event, AttemptChanged) and event.state not in LIVE:
                self._departures.attempt_ended(event.attempt_id)
                holder = event.attempt_id.rpartition("#")[0]
                self._note(self._table.drop_owner(holder, now))
            elif isinstance(event, PortMapped) or (
                isinstance(event, JobChanged) and event.status.finished()
            ):
                self._notify_mapped(event.job_id)
        self.lives.on_events(events)


__all__ = ["EXPIRE_S", "RECOVERY_S", "Names"]
