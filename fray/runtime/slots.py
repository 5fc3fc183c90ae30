"""A supervisor's children: the place of each, the same over all its restarts.

This room holds state; `fray.runtime.supervisor` decides what to do about it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING

from fray.errors import DeathCause

if TYPE_CHECKING:
    from fray.runtime.children import Child, ChildSpec
    from fray.runtime.failures import Failure


class ChildState(Enum):
    """Where a child is in its life."""

    DOWN = "down"
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class ChildStatistics:
    """What is known of a child at a moment.

    Attributes:
        name: Its name.
        state: Its state.
        wanted: Whether it is to run: false for one that is done.
        starts: How often it was started.
        restart_in_s: Seconds until it is restarted, where that is being delayed.
        last_end: Why it ended the last time.
    """

    name: str
    state: ChildState
    wanted: bool
    starts: int
    restart_in_s: float | None
    last_end: DeathCause | None


class Slot:
    """A child's place.

    Args:
        spec: How to make the child.

    Attributes:
        spec: As given.
        state: Where the child is in its life.
        child: The child while it is up or stopping.
        starting: What makes it, while it is starting.
        stopping: What stops it, while it is stopping.
        wanted: Whether it is to run.
        doom: Why it has to be stopped before anything is started; None if it need not.
        forgotten: Why the place goes away once the child is down; None if it stays.
        halted: Whether somebody wants the child to be down though its place stays.
        was_up: Whether it has ever run.
        not_before: When a delayed restart is due, on the clock's monotonic time.
        starts: How often it was started.
        last: How it ended the last time.
        first_start: Told how the first start went, where somebody waits for it.
        down: Done when the child is down, where somebody waits for it.
        gone: Done when the place has gone away, where somebody waits for it.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.state = ChildState.DOWN
        self.child: Child | None = None
        self.starting: asyncio.Task[Child | BaseException] | None = None
        self.stopping: asyncio.Task[None] | None = None
        self.wanted = True
        self.doom: DeathCause | None = None
        self.forgotten: DeathCause | None = None
        self.not_before = -inf
        self.starts = 0
        self.last: Failure | None = None
        self.first_start: asyncio.Future[BaseException | None] | None = None
        self.halted = False
        self.was_up = False
        self.down: asyncio.Future[None] | None = None
        self.gone: asyncio.Future[None] | None = None

    def describe(self, now: float) -> str:
        """Tells name and state in few words.

        Args:
            now: The clock's monotonic time.
        """
        text = self.state.value
        if self.state is ChildState.DOWN and not self.wanted:
            text = "done"
        elif (delay_s := self.delay_s(now)) is not None:
            text = f"down for {delay_s:.1f} s"
        return f"{self.spec.name} {text}" + (f" (start {self.starts})" if self.starts > 1 else "")

    def delay_s(self, now: float) -> float | None:
        """For how many more seconds its restart is being delayed; None if it is not.

        Args:
            now: The clock's monotonic time.
        """
        waits = self.state is ChildState.DOWN and self.wanted and self.not_before > now
        return self.not_before - now if waits else None

    def statistics(self, now: float) -> ChildStatistics:
        """What is known of it now.

        Args:
            now: The clock's monotonic time.
        """
        return ChildStatistics(
            self.spec.name,
            self.state,
            self.wanted,
            self.starts,
            self.delay_s(now),
            self.last.cause if self.last is not None else None,
        )

    def tell_started(self, refusal: BaseException | None) -> bool:
        """Tells who waits for its first start how that went.

        Args:
            refusal: What they are to raise; None if it has started.

        Returns:
            Whether anybody waits.
        """
        if self.first_start is None or self.first_start.done():
            return False
        self.first_start.set_result(refusal)
        return True

    def tell_down(self) -> None:
        """Tells those who wait for its child to be down that it is."""
        if self.down is not None and not self.down.done():
            self.down.set_result(None)

    def tell_gone(self) -> None:
        """Tells those who wait for it to go away that it has."""
        if self.gone is not None and not self.gone.done():
            self.gone.set_result(None)


__all__ = ["ChildState", "ChildStatistics", "Slot"]
