"""Monitors in the lab: each is told of each end that it asked about, once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import fray
from fray.errors import ClusterClosed, DeathKind
from tests.sim.lab.diary import Diary

if TYPE_CHECKING:
    from collections.abc import Iterator

HEARD_S = 150.0
"""How long the cluster may not hear of a monitor in bad weather."""


class Watcher:
    """A monitor of one actor, and what it was told.

    Args:
        handle: Of the actor, by its id.

    Attributes:
        told: All of it, in order.
        done: Whether it was told that nothing follows.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.told: list[fray.Down] = []
        self.done = False
        last = Diary.current.last(handle.actor_id)
        self._at_first = last if last is not None and last.process.exit is None else None
        self._made_at = Diary.current.cluster.now

    async def watch(self) -> None:
        """Hears of all ends; returns when there will be none, or the connection is closed."""
        try:
            async for down in fray.monitor(self.handle):
                self.told.append(down)
                Diary.current.seen["ends told"] += 1
        except ClusterClosed:
            return
        self.done = True

    def wrong(self) -> Iterator[str]:
        """What is wrong with what it was told."""
        numbers = [down.incarnation for down in self.told]
        who = f"the monitor of {self.handle} was told of the ends {numbers}"
        if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            yield f"{who}: not each of them once, in order"
        first = self._at_first
        # It counts when the cluster hears of the monitor, which the weather may hinder for a while.
        if first is not None and numbers and numbers[0] > first.number:
            lived_s = (first.died_at or self._made_at) - self._made_at
            if lived_s > HEARD_S:
                yield f"{who}, and not of {first.number}, which lived {lived_s:.1f} s longer"
        if any(down.over is not None for down in self.told[:-1]):
            yield f"{who} after it was told that there would be no other"
        if any(down.actor_id != self.handle.actor_id for down in self.told):
            yield f"{who}, some of which are of other actors: {self.told}"
        if any(down.cause.kind is DeathKind.NOT_FOUND for down in self.told if down.incarnation):
            yield f"{who}, and not what some of them died of: {self.told}"
        last = Diary.current.last(self.handle.actor_id)
        if self.done and (not numbers or (last is not None and numbers[-1] < last.number)):
            yield f"{who}, and no other, but there was life {last.number if last else 0}"


class Watching:
    """The monitors of one process."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, handle: Any) -> None:
        """Watches an actor.

        Args:
            handle: Its.
        """
        self.watchers.append(Watcher(handle))
        self._tasks.append(asyncio.create_task(self.watchers[-1].watch()))

    async def finished(self) -> None:
        """Waits until all has been told."""
        await asyncio.gather(*self._tasks)
