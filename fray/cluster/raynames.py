"""The names of fray's actors on Ray, and what became of those who had them. Part of the keeper.

Names are leases, by the rules of `fray.runtime.leases`. A lease ends with the attempt or the
process that holds it (`fray.cluster.raydeaths` knows when), so that no name leads to the dead.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fray.actor.directory import ActorKey, Departure, Ended, Endpoint, Life, Located, Watched
from fray.cluster.claims import registration_of
from fray.cluster.control import ACTORS_NAMESPACE, NameClaim
from fray.errors import (
    ActorDied,
    ActorNotFoundError,
    DeathCause,
    DeathKind,
    NameTakenError,
    Started,
)
from fray.ids import Namespace, ProcessId
from fray.runtime.leases import Change, Epoch, NameTable, Reason, Refused
from fray.runtime.signal import Topics

if TYPE_CHECKING:
    from fray.cluster.raydeaths import Presence, RayDeaths
    from fray.runtime.clock import Clock

SWEEP_S = 1.0
"""How often it is looked who has fallen silent, and what has lapsed."""

RECOVERY_S = 12.0
"""How long names may take to be known again after Ray has started the keeper again."""

ENDED_MAX = 10_000
"""Of so many actors it is remembered what they died of."""

HELD_BEFORE = Epoch(0, 0)
"""Of a claim that is renewed: its holder had it, and does not know since when."""

LIVES = "lives"
"""The topic of all that begins or ends."""


@dataclass(frozen=True, slots=True)
class MadeActor:
    """An actor that the keeper has had made.

    Attributes:
        actor_id: Its id.
        label: For people.
        namespace: Where its name is.
        name: Its name; empty for none.
        pending: What it waits for while it is not registered.
        ends: Its last incarnations that have ended.
        over: Why it does not come back.
    """

    actor_id: str
    label: str
    namespace: str
    name: str
    pending: str
    ends: tuple[Ended, ...] = ()
    over: DeathCause | None = None


class RayNames:
    """See the module. All methods but those that say otherwise are for the keeper's clients.

    Args:
        clock: The keeper's.
        deaths: Who lives.
        generation: Larger than that of every keeper before.
        recovers: Whether there was a keeper before, whose names are still in use.
    """

    def __init__(self, clock: Clock, deaths: RayDeaths, generation: int, *, recovers: bool) -> None:
        self._clock = clock
        self._deaths = deaths
        now = clock.monotonic()
        self._recovered_at = now + RECOVERY_S if recovers else now
        self._table = NameTable(generation, not_before=self._recovered_at)
        self._endpoints: dict[Epoch, Endpoint] = {}
        self._made: dict[str, MadeActor] = {}
        self._called: dict[tuple[str, str], str] = {}
        self._over: deque[MadeActor] = deque()
        self._of_actor: dict[str, dict[Epoch, Endpoint]] = {}
        self._gone: OrderedDict[str, Life] = OrderedDict()
        self._topics = Topics()
        deaths.on_attempt_ended.append(self._attempt_ended)
        deaths.on_process_ended.append(self._process_ended)

    # ---- names

    async def register(self, presence: Presence, claim: NameClaim) -> None:
        """Gives an actor a name. See `Directory.register`.

        Args:
            presence: Who asks.
            claim: What is asked for.

        Raises:
            NameTakenError: It belongs to somebody else, or the process was given up.
        """
        self._deaths.heard(presence)
        over = self._deaths.cause(claim.endpoint)
        if over is not None:
            raise NameTakenError(
                f"{claim.name!r} cannot be registered: this process is given up ({over})"
            )
        self._refuse_promised(claim)
        dialled = False
        while (refused := self._register(claim, None)) is not None:
            if refused.retry_at is not None:
                await self._clock.sleep(max(refused.retry_at - self._clock.monotonic(), 0.0))
            elif not dialled and refused.holder is not None:
                dialled = True
                holder = self._endpoints.get(refused.holder.epoch)
                if holder is not None:  # who may be dead by now
                    await self._deaths.obituary(holder)
            else:
                raise NameTakenError(f"{claim.name!r} cannot be registered: {refused.message}")

    async def renew(self, presence: Presence, claims: list[NameClaim]) -> DeathCause | None:
        """A process lives, and has these names.

        Args:
            presence: Which.
            claims: All that it has registered.

        Returns:
            Why it was given up; None if it was not.
        """
        self._deaths.heard(presence)
        for claim in claims:
            if self._deaths.cause(claim.endpoint) is None:
                self._register(claim, HELD_BEFORE)
        return self._deaths.cause_of(presence)

    async def leave(self, presence: Presence) -> None:
        """A process ends: it has no names any more.

        Args:
            presence: Which.
        """
        cause = DeathCause(DeathKind.STOPPED, "its process has disconnected")
        self._deaths.process_ended(presence.process_id, cause)

    async def unregister(self, namespace: str, name: str, actor_id: str) -> None:
        """See `Directory.unregister`."""
        now = self._clock.monotonic()
        for entry in self._table.lookup(Namespace(namespace), name, now):
            held = entry.registration
            if held.actor_id == actor_id:
                self._note(
                    self._table.unregister(
                        held.namespace, held.name, held.actor_id, held.incarnation, now
                    )
                )

    async def list(self, namespace: str, prefix: str) -> list[tuple[str, Endpoint]]:
        """See `Directory.list`."""
        entries = self._table.entries(Namespace(namespace), self._clock.monotonic(), prefix=prefix)
        return [(entry.registration.name, self._endpoints[entry.epoch]) for entry in entries]

    async def actor_ids(self, key: ActorKey) -> list[str]:
        """See `Directory.actor_ids`."""
        found = {endpoint.actor_id for endpoint in self._find(key)}
        last = self._last_called(key)
        return sorted(found) or ([last.actor_id] if last is not None else [])

    # ---- where actors are

    async def locate(self, key: ActorKey, wait_s: float) -> Located:
        """See `Directory.locate`."""
        if not self._find(key) and self._death(key) is None:
            was_pending = bool(self._pending(key))
            if not was_pending:
                wait_s = max(wait_s, self._recovered_at - self._clock.monotonic())

            def settled() -> bool:
                if self._find(key) or self._death(key) is not None:
                    return True
                return was_pending and not self._pending(key)

            await self._topics.until(_topic(key), settled, max(wait_s, 0.0))
        found = self._find(key)
        if found:
            return Located(found)
        over = self._death(key)
        if over is not None:
            made = self._made.get(key.actor_id)
            raise ActorDied(made.label if made else str(key), over, started=Started.NO)
        pending = self._pending(key)
        if pending:
            return Located((), pending)
        what = f"registered as {key.name!r} in {key.namespace!r}" if key.name else f"known as {key}"
        raise ActorNotFoundError(f"no actor is {what}")

    async def obituary(self, endpoint: Endpoint) -> DeathCause | None:
        """See `Directory.obituary`."""
        return await self._deaths.obituary(endpoint)

    async def departed(self, endpoints: Sequence[Endpoint], wait_s: float) -> list[Departure]:
        """See `Directory.departed`."""
        return await self._deaths.departed(endpoints, wait_s)

    async def lives(self, watched: Sequence[Watched], wait_s: float) -> list[Life]:
        """See `Directory.lives`."""

        def news() -> list[Life]:
            lives = [(each, self._life(each.actor_id)) for each in watched]
            return [life for each, life in lives if life is not None and life.is_news(each)]

        await self._topics.until(LIVES, lambda: bool(news()), wait_s)
        return news()

    # ---- what happens; in the keeper

    def promise(self, made: MadeActor) -> None:
        """An actor is being made, waits for something else, or has ended.

        Args:
            made: What is known of it.
        """
        self._made[made.actor_id] = made
        if made.name:
            self._called[made.namespace, made.name] = made.actor_id
        if made.over is not None:
            self._over.append(made)
            while len(self._over) > ENDED_MAX:
                oldest = self._over.popleft()
                del self._made[oldest.actor_id]
                if self._called.get((oldest.namespace, oldest.name)) == oldest.actor_id:
                    del self._called[oldest.namespace, oldest.name]
        self._topics.notify((made.actor_id, _name_topic(made.namespace, made.name), LIVES))

    def made(self, actor_id: str) -> MadeActor | None:
        """What is known of an actor that the keeper has had made.

        Args:
            actor_id: Which.
        """
        return self._made.get(actor_id)

    def is_ready(self, actor_id: str) -> bool:
        """Whether an actor is registered, and may be called.

        Args:
            actor_id: Which.
        """
        return bool(self._places(actor_id))

    def holder(self, namespace: str, name: str) -> str | None:
        """Who has a name, or was promised it.

        Args:
            namespace: Where.
            name: The name.
        """
        key = ActorKey(namespace, name=name)
        found = self._find(key)
        if found:
            return found[0].actor_id
        promised = self._promised(key)
        return promised.actor_id if promised is not None else None

    def _attempt_ended(self, attempt_id: str) -> None:
        holder = attempt_id.rpartition("#")[0]
        self._note(self._table.drop_owner(holder, self._clock.monotonic()))

    def _process_ended(self, process_id: str) -> None:
        self._note(self._table.drop_process(ProcessId(process_id), self._clock.monotonic()))

    async def sweep(self) -> None:
        """Looks who has fallen silent, and what has lapsed, for ever."""
        while True:
            await self._clock.sleep(SWEEP_S)
            now = self._clock.monotonic()
            # Ray will say when an attempt ends: until then it has its names, however busy it is.
            running = [
                epoch
                for epoch, endpoint in self._endpoints.items()
                if self._deaths.runs(endpoint.attempt_id)
            ]
            self._table.renew(running, now)
            self._note(self._table.expire(now))
            self._deaths.look()

    # ---- inside

    def _refuse_promised(self, claim: NameClaim) -> None:
        made = self._promised(ActorKey(claim.namespace, name=claim.name))
        if made is not None and made.actor_id != claim.endpoint.actor_id:
            raise NameTakenError(
                f"{claim.name!r} cannot be registered: the name belongs to the actor "
                f"{made.actor_id}; choose another, or stop that one"
            )

    def _register(self, claim: NameClaim, previous: Epoch | None) -> Refused | None:
        endpoint = claim.endpoint
        if claim.namespace == ACTORS_NAMESPACE:  # an id is never used twice
            previous = HELD_BEFORE
        outcome = self._table.register(
            registration_of(claim), self._clock.monotonic(), previous=previous
        )
        self._note(outcome.changes)
        if isinstance(outcome, Refused):
            return outcome
        self._endpoints[outcome.entry.epoch] = endpoint
        self._of_actor.setdefault(endpoint.actor_id, {})[outcome.entry.epoch] = endpoint
        self._gone.pop(endpoint.actor_id, None)
        topics = (endpoint.actor_id, _name_topic(claim.namespace, claim.name), LIVES)
        self._topics.notify(topics)
        return None

    def _note(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.added:
                continue
            held = change.entry.registration
            endpoint = self._endpoints.pop(change.entry.epoch, None)
            if endpoint is not None:
                self._went(change.entry.epoch, endpoint, change.reason)
            self._topics.notify((held.actor_id, _name_topic(held.namespace, held.name), LIVES))

    def _went(self, epoch: Epoch, endpoint: Endpoint, reason: Reason) -> None:
        """Remembers what became of an object that was hosted by a server."""
        actor_id = endpoint.actor_id
        held = self._of_actor[actor_id]
        del held[epoch]
        if not held:
            del self._of_actor[actor_id]
        if actor_id in self._made or self._places(actor_id):
            return
        cause = self._deaths.cause(endpoint)
        if cause is None:
            silent = reason is Reason.EXPIRED
            kind = DeathKind.HOST_LOST if silent else DeathKind.STOPPED
            text = "its process has fallen silent" if silent else "its server unregistered it"
            cause = DeathCause(kind, text)
        ends = (Ended(endpoint.incarnation, cause),)
        self._gone[actor_id] = Life(actor_id, ends=ends, over=cause)
        while len(self._gone) > ENDED_MAX:
            self._gone.popitem(last=False)

    def _find(self, key: ActorKey) -> tuple[Endpoint, ...]:
        if not key.name:
            return self._places(key.actor_id)
        entries = self._table.lookup(Namespace(key.namespace), key.name, self._clock.monotonic())
        return tuple(self._endpoints[entry.epoch] for entry in entries)

    def _places(self, actor_id: str) -> tuple[Endpoint, ...]:
        key = ActorKey(ACTORS_NAMESPACE, name=actor_id)
        found = self._find(key)
        if found or actor_id in self._made:
            return found
        # An object hosted by a server is found among the names only.
        return tuple(self._of_actor.get(actor_id, {}).values())[:1]

    def _last_called(self, key: ActorKey) -> MadeActor | None:
        actor_id = self._called.get((key.namespace, key.name)) if key.name else key.actor_id
        return self._made.get(actor_id) if actor_id else None

    def _promised(self, key: ActorKey) -> MadeActor | None:
        made = self._last_called(key)
        return made if made is not None and made.over is None else None

    def _pending(self, key: ActorKey) -> str:
        made = self._promised(key)
        return made.pending if made is not None else ""

    def _death(self, key: ActorKey) -> DeathCause | None:
        if key.name:
            return None  # a name may be given again
        made = self._made.get(key.actor_id)
        if made is not None:
            return made.over
        life = self._gone.get(key.actor_id)
        return life.over if life is not None else None

    def _life(self, actor_id: str) -> Life | None:
        places = self._places(actor_id)
        started = places[0].incarnation if places else 0
        made = self._made.get(actor_id)
        if made is not None:
            return Life(actor_id, started, made.ends, made.over)
        if places:
            return Life(actor_id, started=started)
        known = self._gone.get(actor_id)
        if known is not None or self._clock.monotonic() < self._recovered_at:
            return known
        message = "nobody knows of it: it ended long ago, or has never been"
        return Life(actor_id, over=DeathCause(DeathKind.NOT_FOUND, message))


def ended(made: MadeActor, incarnation: int, cause: DeathCause) -> MadeActor:
    """What is known of an actor when an incarnation has ended.

    Args:
        made: What was known of it.
        incarnation: Which has.
        cause: Why.
    """
    return replace(made, ends=(*made.ends[-7:], Ended(incarnation, cause)))


def _name_topic(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"


def _topic(key: ActorKey) -> str:
    return _name_topic(key.namespace, key.name) if key.name else key.actor_id


__all__ = ["MadeActor", "RayNames", "ended"]
