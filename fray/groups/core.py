"""What a group does: keeps its slices, holds its barrier, and knows the rounds in flight."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fray.checks import check_whole
from fray.errors import DeathCause, DeathKind, SliceLost, Started, SupervisorFailed
from fray.groups.calls import Round
from fray.groups.membership import SliceId
from fray.groups.slices import Member, Place, SliceKeeper
from fray.runtime.calls import CURRENT_INVOCATION
from fray.runtime.cell import CURRENT_CELL
from fray.runtime.signal import Signal
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.handle import ActorHandle
    from fray.groups.membership import Roster
    from fray.groups.slices import Recipe
    from fray.runtime.clock import Clock
    from fray.runtime.restart import RestartPolicy

log = logging.getLogger("fray")


class GroupCore:
    """The workings of a `Group`, apart so that groups have few names of their own.

    The owner of `SliceKeeper`s, and the conductor of `Round`s. On one event loop, from its making.

    Args:
        recipe: How actors are made.
        policy: When a slice is begun again.
        roster: What is wanted; nothing is there yet.
        clock: Time.

    Attributes:
        roster: The membership.
        members: The actors of this epoch.
        joined: Those that were not in the one before.
    """

    def __init__(self, recipe: Recipe, policy: RestartPolicy, roster: Roster, clock: Clock) -> None:
        self.roster = roster
        self.members: tuple[Member, ...] = ()
        self.joined: tuple[Member, ...] = ()
        self._recipe = recipe
        self._policy = policy
        self._clock = clock
        self._handles: dict[SliceId, Sequence[ActorHandle[Any]]] = {}
        self._causes: dict[SliceId, DeathCause] = {}
        self._keepers: dict[int, tuple[SliceKeeper, asyncio.Task[None]]] = {}
        self._lives: dict[int, int] = {}
        self._rounds: dict[Round, None] = {}
        self._failed: list[Round] = []
        self._changed = Signal()
        self._failure: SupervisorFailed | None = None
        self._stopped = False
        self._scope = Scope(f"group {recipe.name}")
        # A supervisor that ends with its slice is nothing that an actor around here dies of, and
        # what keeps slices is no part of the call in which the group was started.
        self._context = copy_context()
        self._context.run(CURRENT_CELL.set, None)
        self._context.run(CURRENT_INVOCATION.set, None)

    @property
    def lost(self) -> Mapping[SliceId, DeathCause]:
        """The members that are gone, and why."""
        return {who: self._causes[who] for who in sorted(self.roster.lost)}

    # ---- life

    def resize(self, slices: int) -> None:
        """See `Group.resize`."""
        self.check_open()
        self._change(self.roster.resized(check_whole("slices", slices)))

    def restart(self, who: SliceId, reason: str) -> None:
        """See `Group.restart`."""
        self.check_open()
        if not isinstance(who, SliceId):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"restart takes one of group.slices, not {who!r}")
        self._unreachable(who, DeathCause(DeathKind.STOPPED, f"it was given up: {reason}"))

    async def stop(self) -> None:
        """See `Group.stop`."""
        self._stopped = True
        self._change(replace(self.roster, wanted=(), members=(), ready=()))
        try:
            await self._scope.finished()
        finally:
            await self._scope.close()
            self._tell((*self._rounds, *self._failed))

    async def barrier(self) -> bool:
        """See `Group.barrier`."""
        while True:
            self.check_open()
            following = None if self._rounds else self.roster.border()
            if following is not None:
                return self._adopt(following)
            await self._changed.wait()

    async def changed(self) -> None:
        """See `Group.changed`."""
        while True:
            self.check_open()
            if self.roster.may_change:
                return
            await self._changed.wait()

    def check_open(self) -> None:
        """Makes sure that it has not ended.

        Raises:
            SupervisorFailed: A slice failed too often.
            RuntimeError: It was stopped.
        """
        if self._failure is not None:
            failure = SupervisorFailed(self._failure.supervisor, self._failure.cause)
            raise failure from self._failure.__cause__
        if self._stopped:
            raise RuntimeError(f"group {self._recipe.name} was stopped")

    def _adopt(self, roster: Roster) -> bool:
        """Lets an epoch begin, unless it is the present one."""
        self._tell(self._failed)
        self._failed.clear()
        if roster is self.roster:
            return False
        before = self.roster.members
        places = [
            (Place(who, host, self._recipe.hosts), handle)
            for who in roster.members
            for host, handle in enumerate(self._handles[who])
        ]
        self.members = tuple(Member(at, rank, each) for rank, (at, each) in enumerate(places))
        self.joined = tuple(each for each in self.members if each.slice not in before)
        self._causes.clear()
        log.info("%s: epoch %d: %s", self._recipe.name, roster.epoch, _listed(roster.members))
        self._change(roster)
        return True

    def _tell(self, rounds: Iterable[Round]) -> None:
        for made in rounds:
            made.tell()

    # ---- slices

    def tend(self) -> None:
        """Begins to keep whatever is wanted, and stops what is neither wanted nor a member."""
        if self._scope.closed or self._failure is not None:
            return
        for number in self.roster.wanted:
            if number not in self._keepers:
                self._keep(number)
        staying = {*self.roster.wanted, *(who.number for who in self.roster.leaving)}
        self._give_up(number for number in self._keepers if number not in staying)

    def _change(self, roster: Roster) -> None:
        self.roster = roster
        self.tend()
        self._changed.notify()

    def _give_up(self, numbers: Iterable[int]) -> None:
        """Stops slices. Each is told once: a second time would keep it from stopping in order."""
        for number in numbers:
            _, task = self._keepers[number]
            if task is not asyncio.current_task() and not task.cancelling():
                task.cancel()

    def _keep(self, number: int) -> None:
        life = self._lives.get(number, 0)
        keeper = SliceKeeper(number, self._recipe, self._policy, self._clock, self, life=life)

        async def keep() -> None:
            try:
                await keeper.run()
            except Exception as exc:
                self._fail(number, exc)
            finally:
                self._lives[number] = keeper.life

        def ended(_: asyncio.Task[None]) -> None:
            del self._keepers[number]
            self.tend()  # it may be wanted again by now

        task = self._scope.spawn(keep(), name=f"slice {number}", context=self._context.copy())
        self._keepers[number] = keeper, task
        task.add_done_callback(ended)

    def _fail(self, number: int, exc: Exception) -> None:
        """The group ends: what a slice does again and again, the others would do next."""
        if self._failure is not None:
            return
        if not isinstance(exc, SupervisorFailed):  # as where making the arguments has raised
            cause = DeathCause(DeathKind.APP_ERROR, f"slice {number} was not made: {exc!r}")
            failure = SupervisorFailed(self._recipe.name, cause)
            failure.__cause__ = exc
            exc = failure
        self._failure = exc
        self._give_up(self._keepers)
        self._changed.notify()

    def came(self, who: SliceId, handles: Sequence[ActorHandle[Any]]) -> None:
        """See `fray.groups.slices.Owner`."""
        self._handles[who] = handles
        self.roster = self.roster.came(who)
        self._changed.notify()

    def gone(self, who: SliceId, cause: DeathCause) -> None:
        """See `fray.groups.slices.Owner`."""
        if self._handles.pop(who, None) is None:
            return
        self.roster = self.roster.gone(who)
        self._causes[who] = cause
        for made in list(self._rounds):
            made.lose(who, cause)
        self._changed.notify()

    def _unreachable(self, who: SliceId, cause: DeathCause) -> None:
        """A member cannot be called any more, whatever the cluster thinks of it."""
        keeper, _ = self._keepers.get(who.number, (None, None))
        self.gone(who, cause)
        if keeper is not None and not self._scope.closed:
            ending = keeper.give_up(who, cause)
            self._scope.spawn(ending, name=f"end {who}", context=self._context.copy())

    # ---- rounds

    def chosen(self, name: str, members: Iterable[Member] | None) -> tuple[Member, ...]:
        """See `fray.groups.calls.Conductor`."""
        self.check_open()
        epoch = self.roster.epoch
        if self.roster.lost:
            told = " and ".join(f"{who} was lost: {why}" for who, why in self.lost.items())
            raise SliceLost(
                f"{name} was not sent in epoch {epoch}: {told}; `await group.barrier()` begins an "
                "epoch without what was lost",
                epoch=epoch,
                lost=self.lost,
                started=Started.NO,
            )
        if members is None:
            return self.members
        found = tuple(members)
        for each in found:
            if not isinstance(each, Member):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"on() takes some of group.members, not {each!r}")
        stranger = next((each for each in found if each not in self.members), None)
        if stranger is not None:
            raise ValueError(f"{stranger.place} is no member of epoch {epoch}")
        return found

    def begin(self, name: str, members: Sequence[Member]) -> Round:
        """See `fray.groups.calls.Conductor`."""
        epoch = self.roster.epoch
        made = Round(name, epoch, members, on_done=self._ended, on_lost=self._unreachable)
        self._rounds[made] = None
        return made

    def _ended(self, made: Round) -> None:
        self._rounds.pop(made, None)
        if made.failed:
            self._failed.append(made)
        self._changed.notify()


def _listed(members: Iterable[SliceId]) -> str:
    return ", ".join(map(str, members)) or "no slices"


__all__ = ["GroupCore"]
