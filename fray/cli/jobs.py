"""``fray job``: list, show, logs, stop, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fray.cli.durations import parse_grace
from fray.cli.logs import job_logs
from fray.cli.options import (
    Cluster,
    ClusterName,
    JobIdArgument,
    Json,
    complete_job_id,
    require_place,
)
from fray.cluster.types import JobStatus
from fray.wording import counted

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.reports import JobReport
    from fray.ids import JobId

LIST_LENGTH = 50

app = typer.Typer(help="Look at jobs, and stop them.")


async def find_job(cluster: AsyncFrayCluster, given: str, *, by_name: bool = True) -> JobReport:
    """The job that somebody means by a part of its id.

    Args:
        cluster: Where it is.
        given: What they wrote.
        by_name: See `find_task`.

    Raises:
        Failure: There is none, there are several, or it is one task of a job.
    """
    from fray.cli.errors import Failure

    report, task = await find_task(cluster, given, by_name=by_name)
    if task is not None:
        raise Failure(f"{given} is one task of job {report.job_id}; give the job")
    return report


async def find_task(
    cluster: AsyncFrayCluster, given: str, task: int | None = None, *, by_name: bool = True
) -> tuple[JobReport, int | None]:
    """The job, or the task of one (``JOB/3``), that somebody means.

    Args:
        cluster: Where it is.
        given: What they wrote.
        task: The task that they have named otherwise.
        by_name: Whether the name that several jobs have had means the only one of them that has
            not ended, else the newest; which it is, is told on stderr.

    Raises:
        Failure: There is none, there are several, or the job has no such task.
    """
    from fray.cli.errors import Failure
    from fray.cli.jobids import named, resolve_task
    from fray.cli.output import note
    from fray.cluster.control import JobQuery
    from fray.errors import JobNotFoundError
    from fray.ids import JobId

    try:
        return await cluster.report(JobId(given)), task
    except JobNotFoundError as exc:  # not a whole id, or one that is forgotten
        known = await cluster.jobs.ids(JobQuery())
        alike = named(given, known, await _unfinished(cluster)) if by_name else None
        if alike is not None:
            meant, count = alike
            note(f"{meant} is meant, of {count} jobs named {given}")
            return await cluster.report(JobId(meant)), task
        job_id, index = resolve_task(given, known, otherwise=str(exc))
        report = await cluster.report(JobId(job_id))
    if index is not None and index >= len(report.tasks):
        raise Failure(
            f"job {job_id} has {counted(len(report.tasks), 'task')}, from 0; there is no {given}"
        )
    return report, index if task is None else task


async def _unfinished(cluster: AsyncFrayCluster) -> list[JobId]:
    from fray.cluster.control import JobQuery

    return await cluster.jobs.ids(JobQuery(statuses=(JobStatus.PENDING, JobStatus.RUNNING)))


@app.command("list")
def list_jobs(
    status: Annotated[
        list[JobStatus] | None,
        typer.Option("--status", "-s", help="Only these; may be repeated.", show_default=False),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.", show_default=False)] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Only of this namespace.", show_default=False)
    ] = None,
    actors: Annotated[bool, typer.Option("--actors", help="Also those that run an actor.")] = False,
    newest: Annotated[
        int, typer.Option("--newest", "-n", help="At most so many; 0 for all.", min=0)
    ] = LIST_LENGTH,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """List jobs, the newest last."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line, print_table
    from fray.cli.reports import job_json, job_table
    from fray.cluster.control import JobQuery
    from fray.runtime.clock import SystemClock

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        query = JobQuery(
            statuses=tuple(status or ()),
            namespace=namespace or "",
            user=user or "",
            with_actors=actors,
            newest=newest,
        )
        async with connection(place) as connected:
            chosen = [report async for report in connected.reports(query)]
        if as_json:
            print_json([job_json(report) for report in chosen])
        elif chosen:
            print_table(job_table(chosen, SystemClock().time()))
        else:
            print_line("no jobs")

    run_async(show)


@app.command("show")
def show_job(
    job: JobIdArgument,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Show a job and its tasks."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_facts, print_json, print_line, print_table
    from fray.cli.reports import job_facts, job_json, task_table
    from fray.runtime.clock import SystemClock

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            report, task = await find_task(connected, job)
        if as_json:
            print_json(job_json(report, task))
            return
        print_facts(job_facts(report, SystemClock().time()))
        print_line("")
        print_table(task_table(report, task))

    run_async(show)


@app.command("why")
def why_job(
    job: JobIdArgument,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Say why a job, or a task of it, does not run, or why it ended."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line
    from fray.cli.reports import why
    from fray.cli.schedreports import explanation_json, explanation_lines

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            report, task = await find_task(connected, job)
            told = None
            if report.waits_for:
                told = await connected.scheduler.why(report.job_id)
        if as_json:
            print_json(
                {
                    "job_id": report.job_id,
                    "status": report.status.value,
                    "waits_for": list(report.waits_for),
                    "error": report.error or None,
                    "scheduling": explanation_json(told) if told is not None else None,
                }
            )
            return
        for line in why(report, task):
            print_line(line)
        for line in explanation_lines(told) if told is not None else ():
            print_line(f"  {line}")

    run_async(show)


app.command("logs")(job_logs)


@app.command("stop")
def stop_jobs(
    jobs: Annotated[
        list[str],
        typer.Argument(
            metavar="JOB...", help="Ids, or their beginnings.", autocompletion=complete_job_id
        ),
    ],
    grace: Annotated[
        float,
        typer.Option(metavar="DURATION", help="From the notice to the kill.", parser=parse_grace),
    ] = 30.0,
    wait: Annotated[bool, typer.Option(help="Return when they have stopped.")] = True,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Stop jobs, and the jobs that they launched."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line
    from fray.cli.reports import job_json

    place = require_place(cluster, cluster_name)

    async def stop() -> None:
        async with connection(place) as connected:
            found = [await find_job(connected, each, by_name=False) for each in jobs]
            open_jobs = {r.job_id for r in found if not r.status.finished()}
            for report in found:
                if report.job_id in open_jobs:
                    await connected.jobs.stop(report.job_id, "`fray job stop`", grace)
            if wait:
                found = [await _stopped(connected, report.job_id) for report in found]
        if as_json:
            print_json([job_json(report) for report in found])
            return
        for report in found:
            stopping = "stopping" if not report.status.finished() else report.status.value
            already = "" if report.job_id in open_jobs else "had already ended: "
            print_line(f"{report.job_id}: {already}{stopping}")

    run_async(stop)


async def _stopped(cluster: AsyncFrayCluster, job_id: JobId) -> JobReport:
    while True:
        report = await cluster.jobs.wait(job_id, wait_s=10.0)
        if report.status.finished():
            return report


__all__ = ["app", "find_job", "find_task"]
