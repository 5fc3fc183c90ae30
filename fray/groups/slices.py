"""The lives of one slice: a gang of actors for each, one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fray.actor.childspec import ChildSpec
from fray.actor.decorator import ActorFactory
from fray.actor.handle import ActorHandle
from fray.actor.monitor import monitor
from fray.actor.supervisor import Supervisor
from fray.errors import ActorDied, DeathCause, DeathKind, FrayError, SupervisorFailed
from fray.groups.membership import SliceId
from fray.runtime.restart import RestartPolicy, RestartTracker
from fray.runtime.supervisor import INNOCENT
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

log = logging.getLogger("fray")

STOPPED = DeathCause(DeathKind.STOPPED, "its group stopped it")


@dataclass(frozen=True, slots=True)
class Place:
    """A host of a slice.

    Attributes:
        slice: Which life of which slice.
        host: Which of its hosts, from 0.
        hosts: How many it has.
    """

    slice: SliceId
    host: int
    hosts: int

    def __str__(self) -> str:
        return f"host {self.host} of {self.slice}"


@dataclass(frozen=True, slots=True)
class Member:
    """An actor that belongs to an epoch of a group.

    Attributes:
        place: Where it is.
        rank: Its number among the members of the epoch, from 0, slice by slice.
        handle: Its handle, which is good for this life of the slice.
    """

    place: Place
    rank: int
    handle: ActorHandle[Any]

    @property
    def slice(self) -> SliceId:
        """Which life of which slice it is part of."""
        return self.place.slice

    @property
    def host(self) -> int:
        """Which host of that it is, from 0."""
        return self.place.host


Arguments = tuple[Any, ...] | Callable[[Place], tuple[Any, ...]]
"""Of the actors' constructor: the same for all, or made for each."""

Prepare = Callable[[Sequence[Member]], Awaitable[object]]
"""What makes a slice whose actors run ready to be a member, beside the others' steps."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the actors of a slice are made.

    Attributes:
        name: The group's, for people.
        actor: Their class, with options.
        hosts: How many there are, one for each host.
        of_one_slice: Whether they are to have the hosts of one TPU slice.
        args: Of their constructor.
        kwargs: Likewise.
        shutdown_s: How long their present calls may take when they are stopped, in seconds.
        prepare: Awaited with the actors of a life before that counts as there; None for nothing.
    """

    name: str
    actor: ActorFactory[Any]
    hosts: int
    of_one_slice: bool
    args: Arguments
    kwargs: Mapping[str, Any]
    shutdown_s: float
    prepare: Prepare | None = None

    def children(self, who: SliceId) -> list[ChildSpec]:
        """The actors of a slice, by host.

        Args:
            who: Which life of which slice.
        """
        return [self._child(Place(who, host, self.hosts)) for host in range(self.hosts)]

    def _child(self, place: Place) -> ChildSpec:
        actor = self.actor
        if self.of_one_slice:
            actor = actor.options(slice_host=place.host)
        args = self.args(place) if callable(self.args) else self.args
        return ChildSpec(
            f"host-{place.host}",
            actor,
            args,
            self.kwargs,
            restart="temporary",
            shutdown_s=self.shutdown_s,
            significant=True,
        )


class Owner(Protocol):
    """Who is told of a slice's lives: its group."""

    def came(self, who: SliceId, handles: Sequence[ActorHandle[Any]]) -> None:
        """A life has begun: all of its actors run."""
        ...

    def gone(self, who: SliceId, cause: DeathCause) -> None:
        """It has ended, or is not whole any more. May be told more than once; the first counts."""
        ...


class SliceKeeper:
    """Keeps a slice there: begins its next life when the last one is gone.

    Args:
        number: Which slice of the group.
        recipe: How its actors are made.
        policy: When the next life begins, and when that would be too often.
        clock: Time, and the jitter of delays.
        owner: Told of its lives.

    Attributes:
        life: Which life it is in, from 1; 0 before the first.
    """

    def __init__(
        self,
        number: int,
        recipe: Recipe,
        policy: RestartPolicy,
        clock: Clock,
        owner: Owner,
        *,
        life: int,
    ) -> None:
        self.life = life
        self._number = number
        self._recipe = recipe
        self._policy = policy
        self._clock = clock
        self._owner = owner
        self._gang: Supervisor | None = None
        self._causes: list[DeathCause] = []  # what those of this life have died of

    def __repr__(self) -> str:
        return f"<SliceKeeper {self._recipe.name}/{self._number} life {self.life}>"

    async def run(self) -> None:
        """Goes on until it is cancelled, which stops the slice.

        Raises:
            SupervisorFailed: It has ended too often.
        """
        tracker = RestartTracker(self._policy)
        while True:
            self.life += 1
            who = SliceId(self._number, self.life)
            cause, failure = await self._live(who)
            decision = tracker.record(
                self._clock.monotonic(), self._clock.random, preempted=cause.kind in INNOCENT
            )
            log.warning("%s: %s has ended: %s; %s", self._recipe.name, who, cause, decision.message)
            if decision.delay_s is None:
                message = f"{who} has ended: {decision.message}; the last: {cause}"
                limit = DeathCause(DeathKind.RESTART_LIMIT, message, host=cause.host)
                raise SupervisorFailed(self._recipe.name, limit) from failure
            await self._clock.sleep(decision.delay_s)

    async def give_up(self, who: SliceId, cause: DeathCause) -> None:
        """Ends a life that is of no use any more, as one of which a host cannot be reached.

        Args:
            who: Which; nothing is done where that has ended.
            cause: Why.
        """
        gang = self._gang
        if who.life == self.life and gang is not None:
            self._causes.append(cause)
            await gang.stop()

    async def _live(self, who: SliceId) -> tuple[DeathCause, FrayError | None]:
        """One life, from the wish for it until all of it is gone; gives what ended it."""
        children = self._recipe.children(who)
        gang = Supervisor(children, name=f"{self._recipe.name}/{who.number}", strategy="gang")
        self._gang, self._causes = gang, (causes := [])
        try:
            await gang.start()
            handles = [gang[each.name] for each in children]
            async with Scope(f"{self._recipe.name}/{who.number}") as scope:
                for handle in handles:
                    scope.spawn(self._watch(who, handle, causes), name=f"watch {handle.label}")
                ending = scope.spawn(_end_of(gang), name="end")
                preparing = scope.spawn(self._prepare(who, handles), name="prepare")
                await asyncio.wait((ending, preparing), return_when=asyncio.FIRST_COMPLETED)
                if not ending.done():
                    failure = preparing.result()
                    if failure is None:
                        self._owner.came(who, handles)
                    else:
                        causes.append(_cause_of(failure))
                        await gang.stop()
                exc = await ending
        except SupervisorFailed as refused:
            exc = refused
        finally:
            self._gang = None
            self._owner.gone(who, causes[0] if causes else STOPPED)
            await gang.stop()
        if not causes:
            return (STOPPED if exc is None else exc.cause), exc
        return next((each for each in causes if each.kind in INNOCENT), causes[0]), exc

    async def _prepare(self, who: SliceId, handles: Sequence[ActorHandle[Any]]) -> Exception | None:
        """Has a slice prepared; gives what went wrong."""
        prepare, hosts = self._recipe.prepare, self._recipe.hosts
        if prepare is None:
            return None
        places = (Place(who, host, hosts) for host in range(hosts))
        members = [Member(at, at.host, handle) for at, handle in zip(places, handles, strict=True)]
        try:
            await prepare(members)
        except Exception as exc:
            log.warning("%s: %s was not prepared: %r", self._recipe.name, who, exc)
            return exc
        return None

    async def _watch(
        self, who: SliceId, handle: ActorHandle[Any], causes: list[DeathCause]
    ) -> None:
        try:
            with monitor(handle) as ends:
                cause = (await ends).cause
        except FrayError as exc:  # nobody can tell any more: the connection was closed
            cause = DeathCause(DeathKind.UNKNOWN, str(exc))
        causes.append(cause)
        self._owner.gone(who, cause)


async def _end_of(gang: Supervisor) -> SupervisorFailed | None:
    """Waits for the end of a gang; gives how it failed, if it did."""
    try:
        await gang.wait()
    except SupervisorFailed as exc:
        return exc
    return None


def _cause_of(exc: Exception) -> DeathCause:
    """What a slice dies of that could not be prepared."""
    if isinstance(exc, ActorDied):
        return exc.cause
    return DeathCause(DeathKind.APP_ERROR, f"it was not prepared: {exc!r}")


__all__ = ["STOPPED", "Arguments", "Member", "Owner", "Place", "Prepare", "Recipe", "SliceKeeper"]
