"""`RLJob`: launches the processes of a run as one group of jobs, watches them, stops them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from examples.rl.coordinator import CURRICULUM
from examples.rl.entry_points import (
    GONE,
    coordinator_main,
    rollout_worker_main,
    train_worker_main,
)
from examples.rl.progress import Progress
from examples.rl.reports import Outcome, OutcomeFile
from examples.rl.rollouts import RolloutQueue
from fray.cluster import (
    Cluster,
    Entrypoint,
    EnvironmentConfig,
    JobGroupConfig,
    JobId,
    JobInfo,
    JobRequest,
    JobStatus,
    ResourceConfig,
    current_cluster,
)
from fray.errors import ActorNotFoundError
from fray.rpc import ActorHandle, fray_resolver

if TYPE_CHECKING:
    from examples.rl.config import RLConfig
    from examples.rl.curriculum import CurriculumActor
    from examples.rl.display import Display
    from examples.rl.stats import Stats

# Two cores are shared by four processes: a thread pool in each would only be in the way. The
# networks are far too small to gain from one, or from an accelerator.
ONE_THREAD = {
    "JAX_PLATFORMS": "cpu",
    "NPROC": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}

RESTARTS_MAX = 10
START_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 2.0
REFRESH_S = 0.25
DRAIN_TIMEOUT_S = 10.0

_COORDINATOR = "coordinator"
_TRAIN = "train"


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_id: The run's.
        outcome: How learning ended; None if it did not.
        problem: Why it did not, in one sentence; empty otherwise.
        elapsed_s: From the launch to the end.
        restarts: Worker processes that had to be started again.
    """

    run_id: str
    outcome: Outcome | None
    problem: str
    elapsed_s: float
    restarts: int


class RLJob:
    """One run of the demo on the current cluster.

    Args:
        config: The run's.
    """

    def __init__(self, config: RLConfig) -> None:
        self.config = config
        self.cluster: Cluster = current_cluster()
        self.run_id = os.urandom(4).hex()
        self.job_ids: dict[str, JobId] = {}
        self._launched_at = time.monotonic()

    def run(self, display: Display, max_minutes: float) -> RunResult:
        """Launches everything and waits for the end; nothing of it runs when this returns.

        Args:
            display: Shows the progress.
            max_minutes: The run is given up after this.
        """
        progress = Progress(self.config)
        try:
            self.launch()
            with display:
                problem = self._watch(progress, display, max_minutes)
            elapsed_s = self._elapsed_s()
        finally:
            self.shutdown()
        outcome = self._outcome()
        return RunResult(self.run_id, outcome, problem, elapsed_s, progress.restarts)

    def launch(self) -> None:
        """Launches the coordinator, the train worker and the rollout workers as one group.

        They are started together and in no particular order: each looks the actors up by name,
        and a look-up inside a job waits for a name that its group is about to register.
        """
        self._launched_at = time.monotonic()
        requests = {
            _COORDINATOR: self._request(_COORDINATOR, coordinator_main, self.config, self.run_id),
            _TRAIN: self._request(_TRAIN, train_worker_main, self.config, self.run_id),
        }
        for worker_id in range(self.config.num_rollout_workers):
            requests[_rollout(worker_id)] = self._request(
                _rollout(worker_id), rollout_worker_main, self.config, worker_id, self.run_id
            )
        group = JobGroupConfig(name=f"rl-{self.run_id}", same_region=True)
        job_ids = self.cluster.launch_group(list(requests.values()), group=group)
        self.job_ids = dict(zip(requests, job_ids, strict=True))

    def shutdown(self) -> None:
        """Stops what still runs, the coordinator last, and clears away unread rollouts."""
        workers = [name for name in self.job_ids if name != _COORDINATOR]
        if self._outcome() is not None:
            self._wait_until_finished(workers)  # they were told, and end by themselves
        self._terminate(workers)
        self._terminate([name for name in self.job_ids if name == _COORDINATOR])
        queue = RolloutQueue(self.config.rollout_storage_path)
        for rollout_id in queue.waiting():
            queue.remove(rollout_id)

    def _request(self, name: str, main: Callable[..., None], *args: Any) -> JobRequest:
        return JobRequest(
            name=f"rl-{name}-{self.run_id}",
            resources=ResourceConfig.with_cpu(cpu=1, ram="1g"),
            entrypoint=Entrypoint.from_callable(main, args=args),
            environment=EnvironmentConfig.create(env_vars=ONE_THREAD),
            max_retries_failure=RESTARTS_MAX,
        )

    def _watch(self, progress: Progress, display: Display, max_minutes: float) -> str:
        """Shows the run until it ends; returns the problem that ended it, or nothing."""
        curriculum: ActorHandle[CurriculumActor] | None = None
        while True:
            curriculum = curriculum or _find_curriculum()
            stats = _ask(curriculum) if curriculum else None
            jobs = {name: self.cluster.poll(job_id) for name, job_id in self.job_ids.items()}
            states = {name: str(info.status) for name, info in jobs.items()}
            progress.update(self._elapsed_s(), stats, states)
            display.show(progress)
            if jobs[_TRAIN].status == JobStatus.SUCCEEDED or (stats and stats.outcome):
                return ""
            if problem := _problem(jobs) or self._overdue(progress, max_minutes):
                return problem
            time.sleep(REFRESH_S)

    def _overdue(self, progress: Progress, max_minutes: float) -> str:
        if progress.stats is None and self._elapsed_s() > START_TIMEOUT_S:
            return f"the coordinator did not answer within {START_TIMEOUT_S:.0f} s"
        if self._elapsed_s() <= max_minutes * 60:
            return ""
        goal = progress.stats.goal if progress.stats else None
        reached = f"{goal.mean_return:.1f} over {goal.recent} episodes" if goal else "none"
        return (
            f"mean return {self.config.target_return:.0f} was not reached in {max_minutes:g} min "
            f"(last: {reached})"
        )

    def _terminate(self, names: list[str]) -> None:
        for name in names:
            if not JobStatus.finished(self.cluster.poll(self.job_ids[name]).status):
                self.cluster.terminate(self.job_ids[name])
        self._wait_until_finished(names)

    def _wait_until_finished(self, names: list[str]) -> None:
        give_up_at = time.monotonic() + DRAIN_TIMEOUT_S
        for name in names:
            while not JobStatus.finished(self.cluster.poll(self.job_ids[name]).status):
                if time.monotonic() > give_up_at:
                    return
                time.sleep(self.config.poll_s)

    def _outcome(self) -> Outcome | None:
        return OutcomeFile(self.config.output).read()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._launched_at


def _rollout(worker_id: int) -> str:
    return f"rollout-{worker_id}"


def _find_curriculum() -> ActorHandle[CurriculumActor] | None:
    try:
        return fray_resolver().lookup(CURRICULUM)
    except ActorNotFoundError:
        return None  # its job is still starting


def _ask(curriculum: ActorHandle[CurriculumActor]) -> Stats | None:
    try:
        return curriculum.get_stats.options(timeout=ANSWER_TIMEOUT_S)()
    except (TimeoutError, *GONE):
        return None  # it is being restarted; the display keeps what it knows


def _problem(jobs: dict[str, JobInfo]) -> str:
    """Why the run cannot go on, if it cannot."""
    for name in (_COORDINATOR, _TRAIN):
        if JobStatus.finished(jobs[name].status):
            return f"job {name} {jobs[name].status}: {jobs[name].error_message or 'no reason'}"
    rollouts = [info for name, info in jobs.items() if name not in (_COORDINATOR, _TRAIN)]
    if all(JobStatus.finished(info.status) for info in rollouts):
        errors = sorted({info.error_message or str(info.status) for info in rollouts})
        return f"no rollout worker is left: {'; '.join(errors)}"
    return ""
