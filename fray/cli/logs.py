"""``fray job logs``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from fray.cli.options import Cluster, ClusterName, JobIdArgument, Json, require_place

if TYPE_CHECKING:
    from fray.cli.connecting import Place
    from fray.cluster.base import LogLine, LogRange


def job_logs(
    job: JobIdArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    task: Annotated[
        int | None,
        typer.Option("--task", "-t", help="Only this task.", min=0, show_default=False),
    ] = None,
    attempt: Annotated[
        int | None,
        typer.Option(help="Only this attempt, from 0. Default: all.", min=0, show_default=False),
    ] = None,
    tail: Annotated[
        int | None,
        typer.Option("--tail", "-n", help="Only the last lines.", min=0, show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only what was printed since: 10m, 2h, 1d, or 2026-01-31T12:00. To some seconds.",
            show_default=False,
        ),
    ] = None,
    offset: Annotated[
        int, typer.Option(help="From this byte of the last attempt's output on.", min=0)
    ] = 0,
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Read the log archive there, without any controller.",
            show_default=False,
        ),
    ] = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Print what a job has printed."""
    from fray.cli.connecting import run_async
    from fray.cli.errors import UsageFailure
    from fray.cluster.base import LogRange
    from fray.runtime.clock import SystemClock

    since_at = None if since is None else parse_since(since, SystemClock().time())
    where = LogRange(attempt=attempt, tail_lines=tail, offset=offset, since=since_at)
    if archive is not None:
        if follow or cluster or cluster_name:
            raise UsageFailure("--archive reads files alone: without --follow and --cluster")
        run_async(lambda: _from_archive(archive, job, task, where, as_json))
        return
    place = require_place(cluster, cluster_name)
    run_async(lambda: _from_cluster(place, job, follow, task, where, as_json))


def parse_since(text: str, now: float) -> float:
    """A point in time, as people write it.

    Args:
        text: A span before now, as ``90``, ``10m`` or ``1d``; or a date and time (ISO 8601).
        now: Seconds since 1970.

    Returns:
        Seconds since 1970.

    Raises:
        UsageFailure: It is neither.
    """
    from datetime import datetime

    from fray.cli.durations import span_of
    from fray.cli.errors import UsageFailure

    span_s = span_of(text)
    if span_s is not None:
        return now - span_s
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError as exc:
        raise UsageFailure(
            f"--since is a span before now (90s, 10m, 2h, 1d) or a time (2026-01-31T12:00), not "
            f"{text!r}"
        ) from exc


async def _from_cluster(
    place: Place, job: str, follow: bool, task: int | None, where: LogRange, as_json: bool
) -> None:
    from fray.cli.connecting import connection
    from fray.cli.following import lines_of
    from fray.cli.jobs import find_job
    from fray.cli.output import note

    async with connection(place) as connected:
        report = await find_job(connected, job)
        lines = lines_of(
            connected, report.job_id, task_index=task, follow=follow, where=where, tell=note
        )
        await _print(lines, len(report.tasks) > 1 and task is None, as_json)


async def _from_archive(
    location: str, job: str, task: int | None, where: LogRange, as_json: bool
) -> None:
    from fray.cli.jobids import resolve_id
    from fray.cluster.archive.offline import ArchivedJob, archived_lines
    from fray.cluster.archive.reader import ArchiveReader
    from fray.cluster.archive.store import open_store
    from fray.ids import JobId

    reader = ArchiveReader(open_store(location))
    job_id = JobId(job)
    if not await reader.attempts(job_id):
        job_id = JobId(resolve_id(job, [str(each) for each in await reader.jobs()]))
    report = await ArchivedJob(reader).report(job_id)

    async def lines() -> AsyncGenerator[LogLine]:
        async for line in archived_lines(reader, job_id, task_index=task, where=where):
            yield line

    await _print(lines(), len(report.tasks) > 1 and task is None, as_json)


async def _print(lines: AsyncGenerator[LogLine], several: bool, as_json: bool) -> None:
    from fray.cli.output import LinePrinter
    from fray.cli.views import log_event, prefixed

    printer = LinePrinter()

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


__all__ = ["job_logs", "parse_since"]
