"""``fray job``: list, show, logs, stop, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fray.cli.options import (
    Cluster,
    ClusterName,
    JobIdArgument,
    Json,
    complete_job_id,
    require_place,
)
from fray.cluster.types import JobStatus  # noqa: TC001 - typer reads it

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.control import JobReport
    from fray.ids import JobId

LIST_LENGTH = 50

app = typer.Typer(help="Look at jobs, and stop them.")


async def find_job(cluster: AsyncFrayCluster, given: str) -> JobReport:
    """The job that somebody means by the beginning of its id.

    Args:
        cluster: Where it is.
        given: What they wrote.

    Raises:
        Failure: There is none, or there are several.
    """
    from fray.cli.jobids import resolve_id
    from fray.errors import JobNotFoundError
    from fray.ids import JobId

    try:
        return await cluster.report(JobId(given))
    except JobNotFoundError:  # not a whole id
        reports = {str(report.job_id): report for report in await cluster.jobs.jobs(None, None)}
        return reports[resolve_id(given, list(reports))]


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
    from fray.cli.reports import job_json, job_table, select_jobs
    from fray.runtime.clock import SystemClock

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            reports = await connected.jobs.jobs(None, namespace)
        chosen = select_jobs(
            reports, statuses=status or (), user=user, with_actors=actors, newest=newest
        )
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
            report = await find_job(connected, job)
        if as_json:
            print_json(job_json(report))
            return
        print_facts(job_facts(report, SystemClock().time()))
        print_line("")
        print_table(task_table(report))

    run_async(show)


@app.command("why")
def why_job(
    job: JobIdArgument,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Say why a job does not run yet, or why it ended."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line
    from fray.cli.reports import why

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            report = await find_job(connected, job)
        if as_json:
            print_json(
                {
                    "job_id": report.job_id,
                    "status": report.status.value,
                    "waits_for": list(report.waits_for),
                    "error": report.error or None,
                }
            )
            return
        for line in why(report):
            print_line(line)

    run_async(show)


@app.command("logs")
def job_logs(
    job: JobIdArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    task: Annotated[
        int | None,
        typer.Option("--task", "-t", help="Only this task.", min=0, show_default=False),
    ] = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Print what a job has printed."""
    from fray.cli.connecting import connection, run_async

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            report = await find_job(connected, job)
            await _print_logs(connected, report, follow, task, as_json)

    run_async(show)


async def _print_logs(
    cluster: AsyncFrayCluster, report: JobReport, follow: bool, task: int | None, as_json: bool
) -> None:
    import asyncio
    from contextlib import aclosing

    from fray.cli.following import lines_of
    from fray.cli.output import LinePrinter, note
    from fray.cli.views import log_event, prefixed

    several = len(report.tasks) > 1 and task is None
    printer = LinePrinter()
    lines = lines_of(cluster, report.job_id, task_index=task, follow=follow, tell=note)

    async def read() -> None:
        try:
            async with aclosing(lines) as each:
                async for line in each:
                    await printer.put(log_event(line) if as_json else prefixed(line, several))
        finally:
            printer.close()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(printer.run())
    except BaseExceptionGroup as group:  # as if there were none
        raise group.exceptions[0] from None


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
        typer.Option(metavar="SECONDS", help="From the notice to the kill.", min=0),
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
            found = [await find_job(connected, each) for each in jobs]
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


__all__ = ["app", "find_job"]
