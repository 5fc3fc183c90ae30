"""A job in the foreground: its output as it comes, its progress, and Ctrl-C.

The job does not depend on whoever follows it: a controller that is away for a while is waited for,
and output that was shown before is not shown again.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from fray.cli.exits import SIGNAL_BASE, failed_tasks, job_exit_code
from fray.cli.output import LinePrinter, OutputClosed
from fray.cluster.base import ALL_OUTPUT, LogRange
from fray.cluster.control import AgentApi, JobsApi
from fray.cluster.controlcalls import control
from fray.cluster.controller.commands import STOP_GRACE_S
from fray.cluster.worker.launcher import LOG_BYTES_MAX
from fray.cluster.worker.logs import dropped_bytes_of
from fray.errors import ClusterUnavailable, FrayError
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.cluster.base import LogLine
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.reports import JobReport
    from fray.cluster.types import JobRequest
    from fray.errors import DeathCause
    from fray.ids import JobId
    from fray.runtime.clock import Clock

PENDING_LOOK_S = 0.5
RUNNING_LOOK_S = 2.0
"""How long one question for a job's end waits: its progress is shown in between."""

OBITUARY_TIMEOUT_S = 3.0

STOP_TIMEOUT_S = 10.0
"""How long somebody who wants to go away waits for a controller that does not answer."""

AWAY_MAX_S = 600.0
"""How long a controller may be away before the command gives up; the job goes on in any case."""

OUTPUT_GRACE_S = 10.0
"""How long the rest of an ended job's output may take without a line, before it is given up."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class View(Protocol):
    """Shows a job to a person or a script. Its methods do not block, but for a slow terminal."""

    def submitted(self, job_id: JobId, address: str) -> None:
        """The job is known to the cluster."""
        ...

    def progress(self, report: JobReport) -> None:
        """The job is like this now; called again and again."""
        ...

    def line(self, line: LogLine) -> str:
        """What is printed for a line of the job's."""
        ...

    def told(self, text: str) -> None:
        """Something that is not about the job itself."""
        ...

    def finished(self, report: JobReport, exit_code: int) -> None:
        """The job has ended, and all its output is printed."""
        ...


class Foreground:
    """Runs one job, and gives what the command ends with.

    The first signal stops the job, the second kills it, the third leaves it.

    Args:
        cluster: Where it runs.
        request: The job.
        view: Shows it.
        clock: For how long the cluster is away.
        submission_id: See `Cluster.launch`.
    """

    def __init__(
        self,
        cluster: AsyncFrayCluster,
        request: JobRequest,
        view: View,
        clock: Clock,
        submission_id: str | None = None,
    ) -> None:
        self._clock = clock
        self._cluster = cluster
        self._request = request
        self._submission_id = submission_id
        self._view = view
        self._scope = Scope("foreground", on_error=_told_by_whoever_waits)
        self._printer = LinePrinter()
        self._job_id: JobId | None = None
        self._signals: list[int] = []
        self._main: asyncio.Task[object] | None = None
        self._dropped_bytes = 0
        self.left = False

    async def run(self) -> int:
        """Submits the job, shows it until it has ended.

        Returns:
            The exit code: see `job_exit_code`. After a third signal the job may still run, and
            ``left`` is set.

        Raises:
            FrayError: It was not accepted, or the cluster is away for good.
            OutputClosed: Nobody reads stdout any more; the job was told to stop.
        """
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        try:
            async with self._scope:
                return await self._run()
        except OutputClosed:  # as if SIGPIPE had ended a program
            if self._job_id is not None:
                await self._stop(STOP_GRACE_S)
            raise
        except asyncio.CancelledError:
            if not self.left or self._main is None:
                raise
            self._main.uncancel()
            return SIGNAL_BASE + self._signals[0]
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    async def _run(self) -> int:
        job_id = await self._cluster.launch(self._request, submission_id=self._submission_id)
        self._job_id = job_id
        self._view.submitted(job_id, self._cluster.address)
        if self._signals:
            self._order_stop(STOP_GRACE_S)
        report = await self._cluster.report(job_id)
        self._view.progress(report)
        printing = self._scope.spawn(self._printer.run(), name="print")
        reading = self._scope.spawn(self._read(job_id), name="read")
        watching = self._scope.spawn(self._watch(job_id), name="watch")
        await _until(watching, watching, reading, printing)
        await self._rest_of_output(reading, printing)
        report = watching.result()
        causes = {} if self._signals else await self._causes(report)
        interrupted_by = self._signals[0] if self._signals else None
        if self._dropped_bytes:
            self._view.told(
                f"{self._dropped_bytes} bytes of the output are missing, as marked there: of each "
                f"task's, {LOG_BYTES_MAX >> 20} MiB are kept, from its beginning and its end"
            )
        code = job_exit_code(report, causes, interrupted_by=interrupted_by)
        self._view.finished(report, code)
        return code

    # ---- output and progress

    async def _read(self, job_id: JobId) -> None:
        try:
            async with aclosing(lines_of(self._cluster, job_id, tell=self._view.told)) as lines:
                async for line in lines:
                    self._dropped_bytes += dropped_bytes_of(line.text)
                    await self._printer.put(self._view.line(line))
        finally:
            self._printer.close()

    async def _watch(self, job_id: JobId) -> JobReport:
        heard_at = self._clock.monotonic()
        away = False
        wait_s = PENDING_LOOK_S
        while True:
            try:
                report = await self._cluster.jobs.wait(job_id, wait_s=wait_s)
            except ClusterUnavailable as exc:
                if self._clock.monotonic() - heard_at > AWAY_MAX_S:
                    raise ClusterUnavailable(f"{exc}; {job_id} may still run") from exc
                if not away:
                    self._view.told("the controller does not answer; the job goes on without it")
                away = True
                continue
            heard_at = self._clock.monotonic()
            away = False
            self._view.progress(report)
            if report.status.finished():
                return report
            wait_s = PENDING_LOOK_S if report.started_at is None else RUNNING_LOOK_S

    async def _rest_of_output(
        self, reading: asyncio.Task[None], printing: asyncio.Task[None]
    ) -> None:
        """Waits for the rest of an ended job's output, as long as some comes."""
        both = {reading, printing}
        printed_lines = -1
        while (
            not all(task.done() for task in both) and printed_lines != self._printer.printed_lines
        ):
            printed_lines = self._printer.printed_lines
            await asyncio.wait(both, timeout=OUTPUT_GRACE_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in both:
                if task.done():
                    task.result()
        if not reading.done():
            self._view.told("the rest of the output cannot be read: its host does not answer")
            reading.cancel()
            await asyncio.wait(both)

    async def _causes(self, report: JobReport) -> dict[int, DeathCause]:
        """Why tasks failed, as their hosts remember it."""
        causes: dict[int, DeathCause] = {}
        for index in failed_tasks(report)[:1]:  # the first one decides
            attempts = report.tasks[index].attempts
            if not attempts or not attempts[-1].agent_address:
                continue
            agent = control(
                AgentApi,
                self._cluster.system,
                attempts[-1].agent_address,
                "agent",
                timeout_s=OBITUARY_TIMEOUT_S,
            )
            try:
                cause = await agent.obituary(attempts[-1].attempt_id, wait_s=0.0)
            except FrayError:  # the host is gone, and what it knew
                continue
            if cause is not None:
                causes[index] = cause
        return causes

    # ---- signals

    def _signalled(self, number: int) -> None:
        self._signals.append(number)
        count = len(self._signals)
        what = self._job_id or f"job {self._request.name}"
        if count == 1:
            self._view.told(f"stopping {what}; Ctrl-C again kills it")
            self._order_stop(STOP_GRACE_S)
        elif count == 2 and self._job_id is not None:
            self._view.told(f"killing {what}")
            self._order_stop(0.0)
        else:
            self._leave()

    def _leave(self) -> None:
        what = self._job_id or f"job {self._request.name}"
        self._view.told(f"leaving; {what} may still run (`fray job stop`)")
        self.left = True
        if self._main is not None:
            self._main.cancel()

    def _order_stop(self, grace_s: float) -> None:
        if self._job_id is not None:  # else as soon as it is submitted
            self._scope.spawn(self._stop(grace_s), name="stop")

    async def _stop(self, grace_s: float) -> None:
        assert self._job_id is not None
        try:
            jobs = control(
                JobsApi,
                self._cluster.system,
                self._cluster.address,
                "jobs",
                timeout_s=STOP_TIMEOUT_S,
            )
            await jobs.stop(self._job_id, "`fray run` was interrupted", grace_s)
        except FrayError as exc:
            self._view.told(f"{self._job_id} could not be told to stop: {exc}")
            if self._signals:  # whoever wants to go away is not kept by a cluster that has gone
                self._leave()


async def lines_of(
    cluster: AsyncFrayCluster,
    job_id: JobId,
    *,
    task_index: int | None = None,
    follow: bool = True,
    where: LogRange = ALL_OUTPUT,
    tell: Callable[[str], None],
) -> AsyncGenerator[LogLine]:
    """What a job prints, each line once, however often the cluster is away in between.

    Args:
        cluster: Where the job is.
        job_id: The job.
        task_index: Only this task; None for all.
        follow: Go on until the job has finished; else stop at the present end.
        where: Which part of it.
        tell: Told of what a person should know.

    Raises:
        JobNotFoundError: It is unknown.
        InvalidRequestError: It has no such task.
        ClusterUnavailable: The cluster does not answer; not raised while following.
    """
    shown: Counter[tuple[int, int]] = Counter()
    over = False
    while True:
        before = Counter(shown)
        try:
            async for line in cluster.logs(
                job_id, task_index=task_index, follow=follow, where=where
            ):
                key = (line.task_index, line.attempt)
                if before[key] > 0:
                    before[key] -= 1
                    continue
                shown[key] += 1
                yield line
            return
        except ClusterUnavailable as exc:
            if not follow:
                raise
            if over:
                tell(f"the rest of the output cannot be read: {exc}")
                return
            if where.tail_lines:  # where its last lines began then is not known any more
                tell("the cluster was away: some lines may be missing here")
                where = replace(where, tail_lines=0)
                shown.clear()
            over = await _is_over(cluster, job_id)  # then all of it is there, for one more try


async def _is_over(cluster: AsyncFrayCluster, job_id: JobId) -> bool:
    try:
        return (await cluster.report(job_id)).status.finished()
    except ClusterUnavailable:
        return False


async def _until(ended: asyncio.Task[JobReport], *tasks: asyncio.Task[Any]) -> None:
    """Waits until one task has ended; the failure of any of the others is raised at once."""
    while not ended.done():
        waiting = [task for task in tasks if not task.done()]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()


def _told_by_whoever_waits(name: str, exc: BaseException) -> None:
    """Failures of these tasks are raised by `Foreground.run`, which awaits them."""


__all__ = ["Foreground", "View", "lines_of"]
