"""The leader: has slices make steps, whoever is there, until all are made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fray
from examples.multislice.learner import mean_of
from examples.multislice.worker import SliceWorker
from examples.training.checkpoint import Checkpoints
from fray.cluster import ReservationConfig
from fray.errors import Started
from fray.groups import SliceId

if TYPE_CHECKING:
    from examples.multislice.config import SliceConfig
    from examples.multislice.learner import Gradients
    from fray.groups import Member

FAILURES_MAX = 10


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was made.

    Attributes:
        number: Which, from 1.
        loss: In nats per byte, before it.
        epoch: Of the group.
        slices: Who made it.
        took_s: From the first order to the last answer, what was in vain included.
        held_back: The loss on text that is not trained on after it; None but at checkpoints.
    """

    number: int
    loss: float
    epoch: int
    slices: tuple[SliceId, ...]
    took_s: float
    held_back: float | None = None


@dataclass(slots=True)
class Run:
    """What is known of a run.

    Attributes:
        steps: All that were made.
        losses: What slices were lost, and at which step.
        elapsed_s: Since the beginning.
    """

    steps: list[Step] = field(default_factory=list[Step])
    losses: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    elapsed_s: float = 0.0

    @property
    def held_back(self) -> float | None:
        """The last loss on text that is not trained on."""
        told = (each.held_back for each in reversed(self.steps))
        return next((each for each in told if each is not None), None)


class Leader:
    """Makes steps. Each is two rounds: one that changes nothing, and one that all must hear.

    Args:
        config: The run's.
        group: Who computes.
        run: Told of each step.
    """

    def __init__(self, config: SliceConfig, group: fray.Group, run: Run) -> None:
        self.step = 0
        self._config = config
        self._group = group
        self._run = run
        self._checkpoints = Checkpoints(config.checkpoint_path)
        self._current: set[SliceId] = set()  # who has made all steps so far

    async def advance(self) -> Step:
        """Makes a step, however many slices are lost on the way.

        Raises:
            fray.SupervisorFailed: A slice failed too often.
        """
        began = time.monotonic()
        while True:
            await self._group.barrier()
            try:
                await self._welcome()
                loss, mean = await self._gradients()
            except fray.SliceLost as lost:
                self._note(lost)  # nothing was changed: once more, with whoever is left
                continue
            try:
                await self._group.apply.remote(mean)
            except fray.SliceLost as lost:
                self._note(lost)
                if lost.started is Started.NO:
                    continue
                # whoever is left has made it
            self.step += 1
            held_back = await self._save() if self._is_to_be_saved() else None
            slices, epoch = self._group.slices, self._group.epoch
            took_s = time.monotonic() - began
            made = Step(self.step, loss, epoch, slices, took_s, held_back)
            self._run.steps.append(made)
            return made

    async def _welcome(self) -> None:
        """Brings those who are new to where the others are."""
        group = self._group
        new = [each for each in group.members if each.slice not in self._current]
        if not new:
            return
        self._current &= set(group.slices)
        old = next((each for each in group.members if each.slice in self._current), None)
        if old is not None:
            state = (await group.state.on([*self._hosts(old.slice)]).remote())[0]
            await group.load.on(new).remote(state)
        elif (found := self._checkpoints.latest()) is not None:  # all were lost, or it is resumed
            self.step = found[0]
            await group.load.on(new).remote(found[1])
        else:  # all were lost before the first checkpoint: new ones are at the beginning
            self.step = 0
        self._current = set(group.slices)

    async def _gradients(self) -> Gradients:
        config, slices = self._config, self._group.slices
        shares = {who: config.share(at, len(slices)) for at, who in enumerate(slices)}
        answers = await self._group.gradients.scatter(lambda each: (self.step, shares[each.slice]))
        told = (each for each in answers if each is not None)  # by one host of each slice
        return mean_of([shard for share in told for shard in share])

    def _is_to_be_saved(self) -> bool:
        return self.step % self._config.checkpoint_every == 0 or self.step == self._config.steps

    async def _save(self) -> float | None:
        """Leaves a checkpoint, which is gone back to only if all slices are lost at once."""
        hosts = self._hosts(self._group.slices[0])
        try:
            states = await self._group.state.on(hosts).remote()
            told = await self._group.held_back.on(hosts).remote()
        except fray.SliceLost as lost:
            self._note(lost)
            return None  # the next one will do
        self._checkpoints.save(self.step, states[0])
        return told[0]

    def _hosts(self, who: SliceId) -> list[Member]:
        return [each for each in self._group.members if each.slice == who]

    def _note(self, lost: fray.SliceLost) -> None:
        self._current -= lost.lost.keys()
        for who, cause in lost.lost.items():
            text = f"{who}: {cause}"
            if not self._run.losses or self._run.losses[-1] != (self.step, text):
                self._run.losses.append((self.step, text))


async def prepare(members: Sequence[Member]) -> None:
    """Makes one JAX program of the hosts of a slice, while the others train.

    Args:
        members: Its hosts.
    """
    meeting_point = await members[0].handle.meeting_point.remote()
    await asyncio.gather(*(each.handle.join.remote(meeting_point) for each in members))


async def train(
    cluster: Any,
    config: SliceConfig,
    show: Callable[[Run], object],
    story: Callable[[Run, fray.Group], Awaitable[object]] | None = None,
    *,
    first: int | None = None,
) -> Run:
    """Trains on a cluster.

    Args:
        cluster: Where slices are reserved.
        config: The run's.
        show: Called after each step.
        story: Awaited before each step; for whoever makes slices come and go.
        first: How many slices are wanted at first; all by default.

    Raises:
        fray.SupervisorFailed: A slice failed too often.
    """
    run, began = Run(), time.monotonic()
    least, most = config.resources(config.min_slices), config.resources(config.slices)
    reservation = await cluster.create_reservation(ReservationConfig(least, most))
    try:
        async with fray.group(
            SliceWorker,
            tpu=config.tpu,
            slices=first or config.slices,
            min_slices=config.min_slices,
            args=lambda place: (config, place),
            prepare=prepare,
            name="slices",
            shutdown_s=0.0,
            intensity=FAILURES_MAX,
        ) as group:
            leader = Leader(config, group, run)
            while leader.step < config.steps:
                if story is not None:
                    await story(run, group)
                await leader.advance()
                run.elapsed_s = time.monotonic() - began
                show(run)
    finally:
        await cluster.release_reservation(reservation)
    return run
