"""An actor of the cluster as the child of a supervisor, wherever it runs.

To the rules of `fray.runtime.supervisor` it is a child as any other: it is started, it ends, it can
be stopped. What that means here: the cluster makes the actor once; when an incarnation has ended it
does nothing by itself but says so; and each further start begins another incarnation of the same
actor, so that ids, names and handles stay what they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from fray.actor.orders import insist, refusal_of
from fray.errors import (
    ActorDied,
    ClusterClosed,
    DeathCause,
    DeathKind,
    FrayError,
    Started,
)
from fray.runtime.restart import RestartType, is_restarted

if TYPE_CHECKING:
    from fray.actor.directory import ActorSpec, Life
    from fray.actor.lives import Following
    from fray.actor.muster import Muster, Ordering
    from fray.actor.system import ActorSystem
    from fray.runtime.signal import Signal
    from fray.runtime.tasks import Scope

log = logging.getLogger("fray")

CLOSED = DeathCause(DeathKind.STOPPED, "the connection of its supervisor was closed")


class Incarnation:
    """One life of a supervised actor. A `fray.runtime.children.Child`.

    Attributes:
        number: Which life, from 1.
        stopped: See `Child.stopped`.
    """

    def __init__(self, actor: SupervisedActor, number: int) -> None:
        self.number = number
        self.stopped: asyncio.Future[DeathCause] = asyncio.get_running_loop().create_future()
        self._actor = actor
        self._is_told = False

    def __repr__(self) -> str:
        state = f"ended: {self.stopped.result()}" if self.stopped.done() else "runs"
        return f"<Incarnation {self.number} of {self._actor.label} {state}>"

    @property
    def told_to_stop(self) -> bool:
        """Whether its supervisor has told it to stop."""
        return self._is_told

    async def stop(self, cause: DeathCause, *, grace_s: float) -> None:
        """See `Child.stop`."""
        if not self.stopped.done():
            self._is_told = True
            try:
                await self._actor.order_halt(sentence(cause), grace_s=grace_s)
            except ClusterClosed:  # nobody can be told any more; it ends with the connection
                return
            await asyncio.shield(self.stopped)

    def kill(self, cause: DeathCause) -> None:
        """See `Child.kill`. Its process ends a moment later; a next life waits for that."""
        if not self.stopped.done():
            self._is_told = True
            halt = partial(self._actor.order_halt, sentence(cause), grace_s=0.0)
            self._actor.in_background(halt, "kill")
            self.end(cause)

    def end(self, cause: DeathCause) -> None:
        """It has ended.

        Args:
            cause: Why. The first word counts.
        """
        if not self.stopped.done():
            self.stopped.set_result(cause)


class SupervisedActor:
    """An actor over all its lives. On its system's loop.

    Args:
        system: Which has it made.
        spec: How.
        restart: When its supervisor restarts it.
        scope: Owns what goes on beside.
        on_lost: Told when its system is closed, and nobody will ever know more of it.
        muster: With whom it starts; None if it starts for itself.
        family: With whom it is restarted: it does not start while one of them lingers.
        changed: Notified when anything is heard of the family.
    """

    def __init__(
        self,
        system: ActorSystem,
        spec: ActorSpec,
        restart: RestartType,
        scope: Scope,
        on_lost: Callable[[], object],
        *,
        muster: Muster | None,
        family: Mapping[str, SupervisedActor],
        changed: Signal,
    ) -> None:
        self.label = spec.label
        self.actor_id = spec.actor_id
        self.restart = restart
        self._system = system
        self._spec = spec if muster is None else replace(spec, held=True)
        self._muster = muster
        self._scope = scope
        self._on_lost = on_lost
        self._begun = 0  # the last life that was ordered
        self._current: Incarnation | None = None
        self._life: Life | None = None
        self._made = False
        self._ordering: Ordering | None = None
        self._lost = False  # nobody tells of it any more
        self._family = family
        self._changed = changed
        self._following: Following | None = None

    def __repr__(self) -> str:
        return f"<SupervisedActor {self.label} {self.actor_id} life {self._begun}>"

    @property
    def lingers(self) -> bool:
        """Whether it was stopped, and may be there yet: the cluster has not seen it end."""
        over = self._current is None or self._current.stopped.done()
        return self._begun > 0 and over and not self._has_ended(self._begun)

    # ---- its supervisor's

    async def start(self) -> Incarnation:
        """Begins a life; returns once it can be called. See `fray.runtime.children.StartChild`.

        Raises:
            ActorDied: It ended before that, or has ended for good.
            FrayError: The cluster refuses it.
        """
        await self._is_made()
        incarnation = Incarnation(self, self._begun + 1)
        try:
            await self._begin(incarnation)
            await self._until(lambda: incarnation.stopped.done() or self._runs(incarnation.number))
        except asyncio.CancelledError:
            if self._current is incarnation:
                incarnation.kill(DeathCause(DeathKind.STOPPED, "its start was cancelled"))
            raise
        if incarnation.stopped.done():
            cause = incarnation.stopped.result()
            raise ActorDied(self.label, cause, started=Started.NO)
        return incarnation

    async def _begin(self, incarnation: Incarnation) -> None:
        await self._until(lambda: not any(each.lingers for each in (self, *self._family.values())))
        if self._life is not None and self._life.over is not None:
            raise ActorDied(self.label, self._life.over, started=Started.NO)
        number = incarnation.number

        def begins(ordering: Ordering) -> None:
            self._begun, self._current, self._ordering = number, incarnation, ordering
            ordering.add_done_callback(lambda _: self._ordered(ordering, number))

        if self._muster is None:
            begins(self._scope.spawn(self._order_life(number), name=f"start {self.label}"))
        else:
            if not self._made:
                self._ordering = self._scope.spawn(self._create(), name=f"make {self.label}")
                await self._heard(self._ordering)
            await self._muster.join(self.actor_id, number, begins)
        assert self._ordering is not None
        await self._heard(self._ordering)

    def _ordered(self, ordering: Ordering, number: int) -> None:
        """An order to begin a life was heard, whoever waits for that."""
        if _refusal(ordering) is not None:
            self._begun, self._current = number - 1, None

    async def _heard(self, ordering: Ordering) -> None:
        await asyncio.wait([ordering])
        refusal = _refusal(ordering)
        if refusal is None:
            return
        if self._life is not None and self._life.over is not None:
            raise ActorDied(self.label, self._life.over, started=Started.NO)
        raise refusal

    async def _order_life(self, number: int) -> FrayError | None:
        if not self._made:
            return await self._create()
        directory = self._system.directory
        again = lambda: directory.start_again(self.actor_id, number)  # noqa: E731
        return await refusal_of(self._system, self.label, again)

    async def _create(self) -> FrayError | None:
        """Goes on whoever waits: whether an order that is taken back was heard nobody knows."""
        directory = self._system.directory
        refusal = await refusal_of(self._system, self.label, lambda: directory.create(self._spec))
        if refusal is None:
            self._made = True
            self._following = self._system.lives.follow(self.actor_id, self._hear)
        return refusal

    async def _is_made(self) -> bool:
        """Whether there is such an actor, once the last order to start it was heard."""
        if self._ordering is not None:
            await asyncio.wait([self._ordering])
        return self._made

    async def order_halt(self, reason: str, *, grace_s: float, down: bool = False) -> None:
        """Has it stop, and stay down until it is started again.

        Args:
            reason: For people.
            grace_s: How long its present calls may take, in seconds.
            down: Whether its callers are told meanwhile.
        """
        directory = self._system.directory
        if not await self._is_made():
            return
        await insist(
            self._system,
            self.label,
            lambda: directory.halt(self.actor_id, reason, grace_s=grace_s, down=down),
        )

    async def release(self, cause: DeathCause) -> None:
        """Its supervisor will not start it again: its callers are told that it is gone.

        Args:
            cause: What they are told.
        """
        made = await self._is_made()
        if self._following is not None:
            self._following.end()
        if made and (self._life is None or self._life.over is None):
            await insist(
                self._system,
                self.label,
                lambda: self._system.directory.end(self.actor_id, cause),
            )

    def in_background(self, work: Callable[[], Awaitable[object]], what: str) -> None:
        """Does something that nobody waits for.

        Args:
            work: What.
            what: For people.
        """
        if not self._scope.closed:
            self._scope.spawn(self._quietly(work, what), name=f"{what} {self.label}")

    async def _quietly(self, work: Callable[[], Awaitable[object]], what: str) -> None:
        try:
            await work()
        except ClusterClosed:  # it ends with its supervisor's connection
            pass
        except FrayError as exc:  # or with its job
            log.warning("could not %s actor %s: %s", what, self.label, exc)

    # ---- what is heard of it

    def _hear(self, life: Life | None) -> None:
        if life is None:
            self._lost = True
            self._on_lost()
            if self._current is not None:
                self._current.end(CLOSED)
        else:
            self._life = life
            self._note_end(life)
        self._changed.notify()

    def _note_end(self, life: Life) -> None:
        current = self._current
        if current is None or current.stopped.done():
            return
        ended = next((e for e in life.ends if e.incarnation == current.number), None)
        if ended is None and life.over is None:
            return
        cause = life.over if ended is None else ended.cause
        assert cause is not None
        if not current.told_to_stop and life.over is None:
            self._let_go(cause)
        current.end(cause)

    def _let_go(self, cause: DeathCause) -> None:
        """It has ended by itself: if that was all, its callers need not wait for another life."""
        normal = cause.kind is DeathKind.STOPPED
        temporary = self.restart is RestartType.TEMPORARY  # it is forgotten
        if not (temporary or is_restarted(self.restart, normal=normal)):
            halt = partial(self.order_halt, sentence(cause), grace_s=0.0, down=True)
            self.in_background(halt, "lay down")  # it may be started again with its siblings

    def _runs(self, number: int) -> bool:
        return self._life is not None and self._life.started == number

    def _has_ended(self, number: int) -> bool:
        life = self._life
        if self._lost:
            return True
        if life is None:
            return False
        return life.over is not None or any(e.incarnation >= number for e in life.ends)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._lost:
                raise ActorDied(self.label, CLOSED, started=Started.NO)
            await self._changed.wait()


def _refusal(ordering: Ordering) -> FrayError | None:
    """Why an order that is over was not obeyed; None if it was."""
    return ClusterClosed("its supervisor has ended") if ordering.cancelled() else ordering.result()


def sentence(cause: DeathCause) -> str:
    """A cause without its host, which is told apart.

    Args:
        cause: Which.
    """
    return cause.message or cause.kind.value.replace("_", " ")


__all__ = ["CLOSED", "Incarnation", "SupervisedActor", "sentence"]
