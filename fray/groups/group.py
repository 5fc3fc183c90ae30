"""`Group`: one actor on each host of several slices, with a membership that changes at barriers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fray.actor.current import current_system
from fray.errors import UnknownMethodError
from fray.groups.calls import GroupMethod
from fray.groups.core import GroupCore
from fray.groups.membership import Roster
from fray.runtime.methods import Kind, methods_of, no_such_method

if TYPE_CHECKING:
    from types import TracebackType

    from fray.errors import DeathCause
    from fray.groups.membership import SliceId
    from fray.groups.slices import Member, Recipe
    from fray.runtime.restart import RestartPolicy

GENERATORS = (Kind.GENERATOR, Kind.ASYNC_GENERATOR)


class Group:
    """One actor on each host of several slices. `fray.group` makes it.

    ``async with fray.group(…) as group`` starts it, and returns when enough slices are there for
    a first epoch; at the end of the block all are stopped. `start` and `stop` do the same.

    ``await group.train_step.remote(…)`` calls a method at all members of the epoch. Slices that
    are lost, and those that come, change the epoch at the next `barrier` and not before. All is
    used on the event loop on which the group was started.
    """

    def __init__(self, recipe: Recipe, policy: RestartPolicy, slices: int, minimum: int) -> None:
        self._recipe = recipe
        self._policy = policy
        self._methods = methods_of(recipe.actor.cls)
        hidden = sorted(name for name in self._methods if hasattr(Group, name))
        if hidden:
            raise TypeError(
                f"{recipe.actor.cls.__name__}.{hidden[0]} cannot be called through a group: groups "
                f"have their own {hidden[0]!r}; rename it"
            )
        self._first = Roster(minimum, tuple(range(slices)))
        self._core: GroupCore | None = None

    def __repr__(self) -> str:
        there, wanted = len(self._roster.following), len(self._roster.wanted)
        return f"<Group {self.name}: epoch {self.epoch}, {there} of {wanted} slices are there>"

    # ---- what it is now

    @property
    def name(self) -> str:
        """As it was given, for people."""
        return self._recipe.name

    @property
    def epoch(self) -> int:
        """Which epoch it is, from 1; 0 before the first."""
        return self._roster.epoch

    @property
    def members(self) -> tuple[Member, ...]:
        """The actors of this epoch, slice by slice, host by host."""
        return self._core.members if self._core is not None else ()

    @property
    def joined(self) -> tuple[Member, ...]:
        """Those of them that were not in the epoch before this one."""
        return self._core.joined if self._core is not None else ()

    @property
    def slices(self) -> tuple[SliceId, ...]:
        """The slices of this epoch, ascending."""
        return self._roster.members

    @property
    def lost(self) -> Mapping[SliceId, DeathCause]:
        """Those of them that are gone, and why: nothing is sent before the next `barrier`."""
        return self._core.lost if self._core is not None else {}

    @property
    def ready(self) -> tuple[SliceId, ...]:
        """Slices that wait for the next `barrier`."""
        return self._roster.ready

    @property
    def wanted(self) -> int:
        """How many slices it is to have."""
        return len(self._roster.wanted)

    # ---- life

    async def __aenter__(self) -> Group:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Asks for the slices; returns when there are enough for the first epoch. Once only.

        Raises:
            SupervisorFailed: A slice failed too often. Nothing of the group is left.
            RuntimeError: It was started before.
        """
        if self._core is not None:
            raise RuntimeError(f"group {self.name} was started before")
        clock = current_system().process.clock
        self._core = GroupCore(self._recipe, self._policy, self._first, clock)
        try:
            self._core.tend()
            await self._core.barrier()
        except BaseException:
            await self._core.stop()
            raise

    async def stop(self) -> None:
        """Stops all slices, and waits for that. May be called again."""
        if self._core is not None:
            await self._core.stop()

    # ---- membership

    async def barrier(self) -> bool:
        """Ends a step: from here on members are those who are there.

        Waits until every call that was made through the group has its outcome. Then slices that
        are lost or not wanted any more leave, those that are ready join, and if that changes
        anything another epoch begins. As long as there are too few slices it waits for more.

        Returns:
            Whether another epoch has begun.

        Raises:
            SupervisorFailed: A slice failed too often, and the group has ended.
            RuntimeError: The group was stopped, or not started.
        """
        return await self._started().barrier()

    async def changed(self) -> None:
        """Waits until a `barrier` would begin another epoch.

        Raises:
            SupervisorFailed: As for `barrier`.
            RuntimeError: Likewise.
        """
        await self._started().changed()

    def resize(self, slices: int) -> None:
        """Wants another number of slices from now on.

        More are asked for at once, and join when they are there. If there are to be fewer, those
        that are not there yet are not waited for any longer; members leave at the next `barrier`,
        and are stopped then.

        Args:
            slices: How many, at least the group's ``min_slices``.

        Raises:
            ValueError: It is less than that.
            SupervisorFailed: As for `barrier`.
            RuntimeError: Likewise.
        """
        self._started().resize(slices)

    def restart(self, who: SliceId, reason: str) -> None:
        """Gives up this life of a slice, as one that hangs: it is lost, and its next life begins.

        That counts as a failure of the slice (``intensity``).

        Args:
            who: Which; nothing is done where that life has ended.
            reason: For people.

        Raises:
            SupervisorFailed: As for `barrier`.
            RuntimeError: Likewise.
        """
        self._started().restart(who, reason)

    @property
    def _roster(self) -> Roster:
        return self._core.roster if self._core is not None else self._first

    def _started(self) -> GroupCore:
        if self._core is None:
            raise RuntimeError(f"group {self.name} was not started")
        return self._core

    # ---- calls

    def __getattr__(self, name: str) -> GroupMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        method = self._methods.get(name)
        label = self._recipe.actor.cls.__name__
        if method is None:
            raise UnknownMethodError(no_such_method(label, name, self._methods))
        if method.kind in GENERATORS:
            raise UnknownMethodError(
                f"{label}.{name} is a generator: call it at single members, as in "
                f"group.members[0].handle.{name}.remote(…)"
            )
        return GroupMethod(self._started(), name)


__all__ = ["Group"]
