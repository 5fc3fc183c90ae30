"""A run: a gang of workers, kept up by a supervisor, and told to train until all steps are made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fray
from examples.training.worker import Report, TrainWorker

if TYPE_CHECKING:
    from examples.training.config import TrainConfig

RESTARTS_MAX = 10
PERIOD_S = 600.0


@dataclass(slots=True)
class Run:
    """What is known of a run.

    Attributes:
        reports: All, in the order in which they came.
        lives: At which steps the gang has started, its first start included.
        elapsed_s: Since the launch.
    """

    reports: list[Report] = field(default_factory=list[Report])
    lives: list[int] = field(default_factory=list[int])
    elapsed_s: float = 0.0

    @property
    def last(self) -> Report | None:
        """The last report with a loss."""
        return next((each for each in reversed(self.reports) if each.loss is not None), None)

    @property
    def held_back(self) -> float | None:
        """The last loss on text that is not trained on."""
        told = (each.held_back for each in reversed(self.reports))
        return next((each for each in told if each is not None), None)


async def train(
    config: TrainConfig,
    show: Callable[[Run], object],
    meanwhile: Callable[[Run, list[Any]], Any] | None = None,
) -> Run:
    """Trains on the current cluster.

    Args:
        config: The run's.
        show: Called after each report.
        meanwhile: Awaited after each report with the workers' handles; for whoever wants to
            disturb them.

    Raises:
        fray.SupervisorFailed: Workers failed too often.
    """
    run, began = Run(), time.monotonic()

    async def heard(report: Report, workers: list[Any]) -> None:
        if report.loss is None:
            run.lives.append(report.step)
        run.reports.append(report)
        run.elapsed_s = time.monotonic() - began
        show(run)
        if meanwhile is not None:
            await meanwhile(run, workers)

    names = [f"trainer-{rank}" for rank in range(config.processes)]
    specs = [
        fray.ChildSpec(name, TrainWorker, args=(config, rank), shutdown_s=0.0)
        for rank, name in enumerate(names)
    ]
    async with fray.Supervisor(
        specs, name="trainers", strategy="gang", intensity=RESTARTS_MAX, period_s=PERIOD_S
    ) as gang:
        workers = [gang[name] for name in names]
        while not await _once(workers, heard):
            pass  # the supervisor starts the gang again, and the calls wait for that
    return run


async def _once(workers: list[Any], heard: Callable[[Report, list[Any]], Any]) -> bool:
    """Has the present lives of the workers train; gives whether they came to the end."""
    came_to_the_end = True
    try:
        meeting_point = await workers[0].meeting_point.remote()
        async with asyncio.TaskGroup() as group:
            for rank, worker in enumerate(workers):
                reports = worker.train.remote(meeting_point)
                group.create_task(_follow(rank, reports, workers, heard))
    except* (fray.ActorDied, fray.ActorUnavailable):
        came_to_the_end = False
    return came_to_the_end


async def _follow(
    rank: int, reports: Any, workers: list[Any], heard: Callable[[Report, list[Any]], Any]
) -> None:
    async for report in reports:
        if rank == 0:  # all say the same
            await heard(report, workers)
