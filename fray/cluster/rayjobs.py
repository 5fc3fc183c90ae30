"""Jobs on Ray: what its keeper knows of them, and has done for them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fray.cluster.rayimport import import_ray
from fray.cluster.rayrunner import SEND_S, RayTask, Runner
from fray.cluster.types import JobInfo, JobStatus, TaskStatus
from fray.errors import DeathCause, DeathKind, JobNotFoundError
from fray.ids import JobId
from fray.runtime.tasks import Scope

LINES_MAX = 10_000
"""Lines of a job's output that are kept, its last ones."""

ENDED_MAX = 1_000
"""So many jobs are remembered that have ended, the last ones."""


class Attempts(Protocol):
    """Whoever is told of attempts."""

    def attempt_began(self, attempt_id: str) -> None:
        """One begins.

        Args:
            attempt_id: Which.
        """
        ...

    def attempt_ended(self, attempt_id: str, cause: DeathCause) -> None:
        """One has ended: nothing of it is left.

        Args:
            attempt_id: Which.
            cause: Why.
        """
        ...


@dataclass(frozen=True)
class RayJob:
    """A job, as the book is given it.

    Attributes:
        job_id: Its id.
        name: The name that was asked for.
        tasks: Its tasks.
        failures: How often each task may fail and be started again.
        losses: How often the process or host of each may be lost.
    """

    job_id: str
    name: str
    tasks: tuple[RayTask, ...]
    failures: int
    losses: int


@dataclass
class _Entry:
    job: RayJob
    submission: str
    status: JobStatus
    tasks: list[TaskStatus]
    error_message: str | None = None
    lines: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    dropped: int = 0
    runners: dict[int, Any] = field(default_factory=dict[int, Any])
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False

    def info(self) -> JobInfo:
        return JobInfo(
            JobId(self.job.job_id), self.status, list(self.tasks), self.job.name, self.error_message
        )

    def change(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class JobBook:
    """Knows all jobs of a Ray cluster. Lives in its keeper.

    Args:
        attempts: Told of the beginning and the end of each attempt.
    """

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._jobs: dict[str, _Entry] = {}
        self._ended: deque[str] = deque()
        self._scope = Scope("jobs on ray")
        self._submissions: dict[str, list[str]] = {}

    async def launch(
        self, jobs: list[RayJob], bundles: list[dict[str, float]], strategy: str, submission: str
    ) -> list[str]:
        """Begins jobs.

        Args:
            jobs: They.
            bundles: What a placement group for all of their tasks has; none for no such group.
            strategy: Of the placement group.
            submission: Launching again under this id gives the jobs of the first time.

        Returns:
            Their ids.
        """
        known = self._submissions.get(submission)
        if known is not None:
            return known
        ids = self._submissions[submission] = [job.job_id for job in jobs]
        entries: list[_Entry] = []
        for job in jobs:
            tasks = [TaskStatus(JobStatus.PENDING) for _ in job.tasks]
            entries.append(_Entry(job, submission, JobStatus.PENDING, tasks))
            self._jobs[job.job_id] = entries[-1]
        self._scope.spawn(self._run_all(entries, bundles, strategy), name="jobs")
        return ids

    async def poll(self, job_id: str) -> JobInfo | None:
        """A job; None where there is none.

        Args:
            job_id: Its id.
        """
        found = self._jobs.get(job_id)
        return found.info() if found is not None else None

    async def list_jobs(self) -> list[JobInfo]:
        """All jobs, oldest first."""
        return [entry.info() for entry in self._jobs.values()]

    async def wait(self, job_id: str, timeout_s: float) -> JobInfo | None:
        """A job once it has finished, or after a time.

        Args:
            job_id: Its id.
            timeout_s: The time, in seconds.
        """
        entry = self._jobs.get(job_id)
        if entry is None:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not JobStatus.finished(entry.status):
                    await entry.changed.wait()
        return entry.info()

    async def lines(
        self, job_id: str, since: int, timeout_s: float
    ) -> tuple[list[tuple[int, str]], int, bool]:
        """Output of a job, with the index of its task; waits for some.

        Args:
            job_id: Its id.
            since: From this line on.
            timeout_s: How long to wait, in seconds.

        Returns:
            The lines, where to go on, and whether these were the last.

        Raises:
            JobNotFoundError: There is no such job.
        """
        entry = self._jobs.get(job_id)
        if entry is None:
            raise no_such_job(job_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while since >= entry.dropped + len(entry.lines):
                    if JobStatus.finished(entry.status):
                        break
                    await entry.changed.wait()
        found = entry.lines[max(since - entry.dropped, 0) :]
        end = entry.dropped + len(entry.lines)
        return found, end, JobStatus.finished(entry.status)

    async def said(self, job_id: str, task: int, lines: list[str]) -> None:
        """A task has printed.

        Args:
            job_id: Of which job.
            task: Which task.
            lines: What.
        """
        entry = self._jobs[job_id]
        entry.lines.extend((task, line) for line in lines)
        surplus = len(entry.lines) - LINES_MAX
        if surplus > 0:
            del entry.lines[:surplus]
            entry.dropped += surplus
        entry.change()

    async def terminate(self, job_id: str) -> bool:
        """Has a job stopped.

        Args:
            job_id: Its id.

        Returns:
            Whether there is one.
        """
        entry = self._jobs.get(job_id)
        if entry is None:
            return False
        if not JobStatus.finished(entry.status) and not entry.stopping:
            entry.stopping = True
            entry.error_message = "it was terminated"
            await self._stop(entry)
            entry.change()
        return True

    async def _stop(self, entry: _Entry) -> None:
        for index, runner in entry.runners.items():
            if entry.tasks[index].status is JobStatus.RUNNING:
                runner.stop.remote()
            else:  # Ray has not started it yet, and may never do so
                import_ray().kill(runner)

    async def _run_all(
        self, entries: list[_Entry], bundles: list[dict[str, float]], strategy: str
    ) -> None:
        try:
            await self._run_group(entries, bundles, strategy)
        except Exception as exc:  # what Ray refuses to make: whoever waits for the jobs is told
            for entry in entries:
                entry.error_message = entry.error_message or f"{type(exc).__name__}: {exc}"
                for index, task in enumerate(entry.tasks):
                    if not JobStatus.finished(task.status):
                        await self._task_ended(entry, index, entry.error_message)

    async def _run_group(
        self, entries: list[_Entry], bundles: list[dict[str, float]], strategy: str
    ) -> None:
        ray = import_ray()
        group: Any = None
        try:
            if bundles:
                group = ray.util.placement_group(bundles, strategy=strategy)
                await self._placed(group, entries)
            numbers = itertools.count()
            async with Scope("tasks") as scope:
                for entry in entries:
                    for task in entry.job.tasks:
                        bundle = next(numbers)
                        options = dict(task.options)
                        if group is not None:
                            options |= {
                                "placement_group": group,
                                "placement_group_bundle_index": bundle,
                            }
                        scope.spawn(self._run_task(entry, task, options), name=task.job_id)
                await scope.finished()
        finally:
            if group is not None:
                ray.util.remove_placement_group(group)

    async def _placed(self, group: Any, entries: list[_Entry]) -> None:
        async def ready() -> None:
            await group.ready()

        placed = self._scope.spawn(ready(), name="placement group")
        while not placed.done() and not all(entry.stopping for entry in entries):
            await asyncio.wait([placed], timeout=SEND_S)
        placed.cancel()

    async def _run_task(self, entry: _Entry, task: RayTask, options: dict[str, Any]) -> None:
        failures = losses = 0
        error: str | None = None
        while entry.error_message is None:
            attempt_id = task.attempt_id(failures + losses)
            self._attempts.attempt_began(attempt_id)
            was_lost, error = await self._try(entry, task, options, failures + losses)
            self._attempts.attempt_ended(attempt_id, _cause(error, was_lost, entry.stopping))
            if error is None or entry.error_message is not None:
                break
            failures, losses = failures + (not was_lost), losses + was_lost
            over = losses > entry.job.losses if was_lost else failures > entry.job.failures
            limit = entry.job.losses if was_lost else entry.job.failures
            if over and limit >= 0:
                break
            entry.tasks[task.index] = TaskStatus(JobStatus.PENDING, error)
            entry.change()
        await self._task_ended(entry, task.index, error)

    async def _try(
        self, entry: _Entry, task: RayTask, options: dict[str, Any], number: int
    ) -> tuple[bool, str | None]:
        ray = import_ray()
        me = ray.get_runtime_context().current_actor
        remote: Any = ray.remote(Runner)
        try:
            runner = remote.options(max_concurrency=2, **options).remote(me, task, number)
        except (TypeError, ValueError) as exc:
            return False, f"Ray refuses to start it: {exc}"
        entry.runners[task.index] = runner
        try:
            await runner.__ray_ready__.remote()
            if entry.stopping:
                return False, "it was terminated"
            entry.tasks[task.index] = TaskStatus(JobStatus.RUNNING)
            entry.status = JobStatus.RUNNING
            entry.change()
            return False, await runner.run.remote()
        except ray.exceptions.RayActorError as exc:
            return True, f"its process on Ray was lost: {str(exc).splitlines()[0]}"
        except Exception as exc:  # also what its environment could not be made of
            return False, f"{type(exc).__name__}: {exc}"
        finally:
            del entry.runners[task.index]
            ray.kill(runner)

    async def _task_ended(self, entry: _Entry, index: int, error: str | None) -> None:
        if entry.stopping:
            status = JobStatus.STOPPED
        else:
            status = JobStatus.SUCCEEDED if error is None else JobStatus.FAILED
        entry.tasks[index] = TaskStatus(status, error)
        if status is JobStatus.FAILED and entry.error_message is None:
            entry.error_message = f"task {index} failed: {error}"
            await self._stop(entry)
        if all(JobStatus.finished(task.status) for task in entry.tasks):
            found = [task.status for task in entry.tasks]
            for worst in (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.SUCCEEDED):
                if worst in found:
                    entry.status = worst
                    break
            self._job_ended(entry)
        entry.change()

    def _job_ended(self, entry: _Entry) -> None:
        """Keeps what may be asked of a job that has ended, and of the last ones only."""
        entry.job = replace(entry.job, tasks=())  # with its project, and its function
        self._ended.append(entry.job.job_id)
        while len(self._ended) > ENDED_MAX:
            oldest = self._jobs.pop(self._ended.popleft())
            self._submissions.pop(oldest.submission, None)


def no_such_job(job_id: str) -> JobNotFoundError:
    """What is raised for a job that nobody knows.

    Args:
        job_id: Its id.
    """
    return JobNotFoundError(f"no job on this Ray has the id {job_id!r}")


def _cause(error: str | None, was_lost: bool, was_stopped: bool) -> DeathCause:
    """Of an attempt's end, for whoever calls what it has served."""
    if was_stopped:
        return DeathCause(DeathKind.STOPPED, "its job was terminated")
    if error is None:
        return DeathCause(DeathKind.STOPPED, "its process has ended")
    return DeathCause(DeathKind.HOST_LOST if was_lost else DeathKind.APP_ERROR, error)


__all__ = ["Attempts", "JobBook", "RayJob", "no_such_job"]
