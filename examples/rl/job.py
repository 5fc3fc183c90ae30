"""`RLJob`: a run as a supervision tree of actors, and whoever watches it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fray
from examples.command import ONE_THREAD
from examples.rl.actors import Curriculum, Learner, RolloutWorker, Weights
from examples.rl.crew import GONE, Crew, outlasting
from examples.rl.crewlog import CrewLog
from examples.rl.elastic import Bounds
from examples.rl.progress import Progress
from examples.rl.reports import Outcome, OutcomeFile
from examples.rl.rollouts import RolloutQueue
from fray.cluster import EnvironmentConfig

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from examples.rl.config import RLConfig
    from examples.rl.display import Display
    from examples.rl.stats import Stats

RESTARTS_MAX = 10
PERIOD_S = 60.0
BACKOFF_S = 0.1
ANSWER_TIMEOUT_S = 2.0
REFRESH_S = 0.25
ROOM_S = 5.0
"""How often the cluster is asked how many CPUs it has: hosts come and go."""

Meanwhile = Callable[["Stats", Crew], Awaitable[object]]
"""Awaited now and then while a run learns; for whoever wants to disturb it."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_id: The run's.
        outcome: How learning ended; None if it did not.
        problem: Why it did not, in one sentence; empty otherwise.
        elapsed_s: From the launch to the end.
        restarts: Processes of workers that had to be started again.
    """

    run_id: str
    outcome: Outcome | None
    problem: str
    elapsed_s: float
    restarts: int


class RLJob:
    """One run of the demo on the cluster that ``FRAY_CLUSTER_SPEC`` names.

    Its actors are the children of one supervisor, which starts each of them again that dies. All of
    them find in the storage what they need to go on, so none has to be stopped with another. The
    first three are there from the beginning to the end, the rollout workers come and go.

    Args:
        config: The run's.
        meanwhile: See `Meanwhile`.
    """

    def __init__(self, config: RLConfig, meanwhile: Meanwhile | None = None) -> None:
        self.config = config
        self.run_id = os.urandom(4).hex()
        self._meanwhile = meanwhile
        self._progress = Progress(config)
        self._launched_at = time.monotonic()

    async def run(self, display: Display, max_minutes: float) -> RunResult:
        """Launches everything and waits for the end; nothing of it runs when this returns.

        Args:
            display: Shows the progress.
            max_minutes: The run is given up after this.
        """
        self._launched_at = time.monotonic()
        problem = ""
        try:
            async with (
                fray.connect(environment=EnvironmentConfig.create(env_vars=ONE_THREAD)) as cluster,
                asyncio.timeout(max_minutes * 60),
            ):
                with display:
                    await self._learn(display, cluster)
        except TimeoutError:
            problem = self._overdue(max_minutes)
        except fray.SupervisorFailed as exc:
            problem = str(exc)
        finally:
            self._clear_away()
        outcome = OutcomeFile(self.config.output).read()
        return RunResult(self.run_id, outcome, problem, self._elapsed_s(), self._progress.restarts)

    async def _learn(self, display: Display, cluster: Any) -> None:
        """Grows the tree, and keeps everybody at work until the target is reached."""
        config = self.config
        async with (
            fray.Supervisor(
                name=f"rl-{self.run_id}",
                intensity=RESTARTS_MAX,
                period_s=PERIOD_S,
                backoff_min_s=BACKOFF_S,
            ) as tree,
            asyncio.TaskGroup() as tasks,
        ):
            curriculum, weights = await asyncio.gather(
                tree.start_child(_child("curriculum", Curriculum, config)),
                tree.start_child(_child("weights", Weights, config.checkpoint_path)),
            )

            def rollout_worker(number: int) -> fray.ChildSpec:
                name = f"rollout-{number}"
                return _child(name, RolloutWorker, config, number, curriculum, weights)

            bounds = await self._bounds(cluster)
            crew = Crew(tree, rollout_worker, bounds, tasks, CrewLog(config.output).append)
            learner, _ = await asyncio.gather(
                tree.start_child(_child("learner", Learner, config, curriculum, weights)),
                crew.start(),
            )
            training = tasks.create_task(outlasting(learner.train.remote))
            room = tasks.create_task(self._watch_room(cluster, crew))
            await self._watch(tree, curriculum, crew, training, display)
            room.cancel()
            crew.close()  # who plays is told by the curriculum that the run is over

    async def _bounds(self, cluster: Any) -> Bounds:
        """How many rollout workers there may be on the cluster as it is now."""
        config = self.config
        bounds = Bounds(config.rollout_workers_min, config.rollout_workers_max)
        return bounds.within(int(await cluster.fleet.cpus()))

    async def _watch_room(self, cluster: Any, crew: Crew) -> None:
        while True:
            await asyncio.sleep(ROOM_S)
            try:
                crew.bounds = await self._bounds(cluster)
            except fray.FrayError as exc:  # the controller is away: they stay as they are
                log.info("nobody says how many CPUs there are: %s", exc)

    async def _watch(
        self,
        tree: fray.Supervisor,
        curriculum: Any,
        crew: Crew,
        training: asyncio.Task[Outcome],
        display: Display,
    ) -> None:
        """Shows the run, and adapts the crew, until learning ends."""
        while True:
            ended = training.done()
            stats = await _ask(curriculum)
            states = {child.name: child.state for child in await tree.which_children()}
            self._progress.update(self._elapsed_s(), stats, states)
            display.show(self._progress)
            if ended:
                return
            if stats is not None:
                crew.adapt(stats)
                if self._meanwhile is not None:
                    await self._meanwhile(stats, crew)
            await asyncio.wait([training], timeout=REFRESH_S)

    def _overdue(self, max_minutes: float) -> str:
        stats = self._progress.stats
        reached = f"{stats.goal.mean_return:.1f} over {stats.goal.recent} episodes" if stats else ""
        return (
            f"mean return {self.config.target_return:.0f} was not reached in {max_minutes:g} min "
            f"(last: {reached or 'none'})"
        )

    def _clear_away(self) -> None:
        """Removes rollouts that nobody will read, also those that were not finished."""
        queue = RolloutQueue(self.config.rollout_storage_path)
        for rollout_id in queue.waiting():
            queue.remove(rollout_id)
        for number in {event.worker for event in CrewLog(self.config.output).read()}:
            RolloutQueue.of(self.config.rollout_storage_path, number).discard_unfinished()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._launched_at


def _child(name: str, actor: type[Any], *args: Any) -> fray.ChildSpec:
    """A child that may be killed at any time: what it knows is in the storage."""
    return fray.ChildSpec(name, actor.options(name=name), args=args, shutdown_s=0.0)


async def _ask(curriculum: Any) -> Stats | None:
    try:
        return await curriculum.get_stats.options(timeout=ANSWER_TIMEOUT_S).remote()
    except (TimeoutError, *GONE):
        return None  # it is being restarted; the display keeps what it knows
