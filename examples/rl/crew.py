"""The rollout workers of a run: children of its supervisor that come and go while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import fray
from examples.rl.crewlog import CrewEvent
from examples.rl.elastic import Bounds, workers_wanted

if TYPE_CHECKING:
    from examples.rl.stats import Stats

T = TypeVar("T")

GONE = (fray.ActorDied, fray.ActorUnavailable)
"""What a call raises whose actor's process has died."""

RETRY_PAUSE_S = 0.05

START = "started"
GROW = "added"
SHRINK = "removed"
LOST = "lost"
BACK = "back"


async def outlasting(
    call: Callable[[], Awaitable[T]], lost: Callable[[], object] = lambda: None
) -> T:
    """Calls an actor that its supervisor starts again, until a call comes to its end.

    A supervisor that gives up cancels whoever is here.

    Args:
        call: Makes the call; it waits where the actor is down.
        lost: Called when the actor has died during it.
    """
    while True:
        try:
            return await call()
        except GONE:
            lost()
        await asyncio.sleep(RETRY_PAUSE_S)


class Crew:
    """Has rollout workers started, told to play, and replaced by as many as are needed.

    The supervisor starts a worker again that dies. Here it is told to play again, and the number
    follows what the learner needs.

    Args:
        tree: The supervisor, running.
        spec_of: What it takes to make the worker of a number.
        bounds: How many there may be, at present.
        tasks: Where waiting for the workers belongs.
        noted: Told of each change.

    Attributes:
        bounds: As given; may be changed.
        workers: The handles of those that there are, by number.
    """

    def __init__(
        self,
        tree: fray.Supervisor,
        spec_of: Callable[[int], fray.ChildSpec],
        bounds: Bounds,
        tasks: asyncio.TaskGroup,
        noted: Callable[[CrewEvent], object],
    ) -> None:
        self._tree = tree
        self._spec_of = spec_of
        self.bounds = bounds
        self._tasks = tasks
        self._noted = noted
        self._next = 0
        self._down: set[int] = set()
        self._settled_at = -1  # the step by which all of the workers were playing
        self.workers: dict[int, Any] = {}
        self._playing: dict[int, asyncio.Task[None]] = {}
        self._change: asyncio.Task[None] | None = None
        self._leaving: int | None = None

    @property
    def playing(self) -> int:
        """How many there are that are not down."""
        return len(self.workers) - len(self._down)

    async def start(self) -> None:
        """Starts the fewest that there may be."""
        for _ in range(self.bounds.least):
            await self._add(START)

    def adapt(self, stats: Stats) -> None:
        """Has one more started, or one ended, if that would be better. To be called now and then.

        Args:
            stats: The curriculum's newest.
        """
        training = stats.training
        heard = {worker.worker for worker in stats.workers}
        is_changing = self._change is not None and not self._change.done()
        if training is None or is_changing or self._down or not heard.issuperset(self.workers):
            self._settled_at = -1  # nobody knows yet how it will be with all of them
            return
        if self._settled_at < 0:
            self._settled_at = training.step
        steps = training.step - self._settled_at
        wanted = workers_wanted(len(self.workers), training.waited, steps, self.bounds)
        if wanted > len(self.workers):
            self._change = self._tasks.create_task(self._add(GROW))
        elif wanted < len(self.workers):
            self._change = self._tasks.create_task(self._remove(max(self.workers)))

    def close(self) -> None:
        """Changes nothing any more; who is waited for that has no place yet is not."""
        if self._change is not None:
            self._change.cancel()

    async def _add(self, what: str) -> None:
        number, self._next = self._next, self._next + 1
        worker = await self._tree.start_child(self._spec_of(number))
        self.workers[number] = worker
        self._playing[number] = self._tasks.create_task(self._keep_playing(number, worker))
        self._note(number, what)

    async def _remove(self, number: int) -> None:
        """Lets a worker go, after the rollout that it plays."""
        worker = self.workers[number]
        self._leaving = number
        await outlasting(worker.leave.remote)
        await self._playing[number]
        del self.workers[number], self._playing[number]
        self._down.discard(number)
        name = self._spec_of(number).name
        await self._tree.terminate_child(name)
        await self._tree.delete_child(name)
        self._note(number, SHRINK)

    async def _keep_playing(self, number: int, worker: Any) -> None:
        """Has a worker play, in each of its lives, until it says that this is the end."""

        def lost() -> None:
            if number not in self._down:
                self._down.add(number)
                self._note(number, LOST)

        async def play() -> None:
            if number == self._leaving:
                return  # it died while it was to leave: that will do
            if number in self._down:
                await worker.pid.remote()  # waits for its next life
                self._down.discard(number)
                self._note(number, BACK)
            await worker.play.remote()

        await outlasting(play, lost)

    def _note(self, number: int, what: str) -> None:
        self._noted(CrewEvent(time.time(), number, what, self.playing))
