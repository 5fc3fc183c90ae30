"""Barriers: a process is stopped at a point of its own choosing, just before it does something.

The points are the calls that a process sends, to fray's own actors (``names.register``,
``fleet.report``, ``jobs.submit``, ``blobs.get``) and to users' (``*.add``), and of an agent also
each launch (``launch.*``). The process freezes as it is about to do it; when it is released it does
it, as if nothing had happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from fray.testing.lanes import LANE

if TYPE_CHECKING:
    from types import TracebackType

    from fray.testing.loop import SimLoop
    from fray.testing.process import SimProcess


class Barrier:
    """Waits for one process to come to a point, and holds it there. Also a context manager.

    Attributes:
        point: As given to `SimCluster.pause_at`.
        process: The process that it holds, or held; None before.
    """

    def __init__(self, point: str, applies: Callable[[SimProcess], bool], owner: Barriers) -> None:
        self.point = point
        self.process: SimProcess | None = None
        self._applies = applies
        self._owner = owner
        self._reached: asyncio.Future[SimProcess] = owner.loop.create_future()

    def __repr__(self) -> str:
        held = f"holds {self.process.name}" if self.process is not None else "waits"
        return f"<Barrier {self.point} {held}>"

    async def reached(self) -> SimProcess:
        """Waits until a process is held here.

        Returns:
            The process.
        """
        return await asyncio.shield(self._reached)

    def release(self) -> None:
        """Lets the process go on; if none has come yet, none will be held. Idempotent."""
        self._owner.remove(self)
        if self.process is not None and self.process.frozen:
            self._owner.thaw(self.process)

    def stops(self, process: SimProcess, point: str) -> bool:
        """Holds a process if this is where it is to be held.

        Args:
            process: A process.
            point: What it is about to do.
        """
        if not fnmatchcase(point, self.point) or not self._applies(process):
            return False
        self._owner.remove(self)  # holds one only
        self.process = process
        self._owner.freeze(process, point)
        self._reached.set_result(process)
        return True

    def __enter__(self) -> Barrier:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class Barriers:
    """All barriers of a world.

    Args:
        loop: Its loop.
        note: Writes a line into its trace.
    """

    def __init__(self, loop: SimLoop, note: Callable[[str], None]) -> None:
        self.loop = loop
        self._note = note
        self._waiting: list[Barrier] = []

    def add(self, point: str, applies: Callable[[SimProcess], bool]) -> Barrier:
        """A new barrier.

        Args:
            point: ``actor.method``; ``*`` and ``?`` stand for anything.
            applies: Whether a process is held.
        """
        barrier = Barrier(point, applies, self)
        self._waiting.append(barrier)
        return barrier

    def remove(self, barrier: Barrier) -> None:
        """Nobody is held at a barrier any more.

        Args:
            barrier: Which.
        """
        if barrier in self._waiting:
            self._waiting.remove(barrier)

    def pass_by(self, process: SimProcess, point: str, go_on: Callable[[], object]) -> None:
        """A process is about to do something: at once, or when it is released.

        Args:
            process: Which.
            point: What.
            go_on: Does it.
        """
        for barrier in self._waiting:
            if barrier.stops(process, point):
                self.loop.call_soon(go_on)  # in its own lane, which is frozen
                return
        go_on()

    def freeze(self, process: SimProcess, point: str) -> None:
        """Holds a process.

        Args:
            process: Which.
            point: Where.
        """
        self._note(f"{process.name} is held at {point}")
        assert LANE.get(self.loop.main_lane) is process.lane
        self.loop.freeze_lane(process.lane)

    def thaw(self, process: SimProcess) -> None:
        """Lets a process go on.

        Args:
            process: Which.
        """
        self._note(f"{process.name} is released")
        self.loop.thaw_lane(process.lane)


__all__ = ["Barrier", "Barriers"]
