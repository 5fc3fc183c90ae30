"""``fray top``: what hosts and tasks use, live."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from fray.cli.options import Cluster, ClusterName, Json, require_place
from fray.cli.toptable import SortBy

if TYPE_CHECKING:
    from fray.cli.connecting import Place
    from fray.cli.toptable import HostRow
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.reports import HostReport

ASK_TIMEOUT_S = 3.0
"""A host that does not answer in time is shown without figures."""

ASKED_AT_ONCE = 64

SPAN_S = 1.2
"""Between two looks, where only one picture is wanted: what is used is a difference."""


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one picture and leave.")] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", help="Between two looks.", min=1)
    ] = 2.0,
    sort: Annotated[SortBy, typer.Option(help="What the tasks are sorted by.")] = SortBy.CPU,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> int:
    """Show what hosts and tasks use: CPU, memory, accelerators. Ctrl-C leaves."""
    import sys

    from fray.cli.connecting import run_async

    place = require_place(cluster, cluster_name)
    if once or as_json or not sys.stdout.isatty():
        return run_async(lambda: _show_once(place, sort, as_json))
    try:
        return run_async(lambda: _show_live(place, sort, every))
    except KeyboardInterrupt:
        return 0


async def ask_hosts(cluster: AsyncFrayCluster) -> list[HostRow]:
    """All hosts, and what they tell of themselves.

    Args:
        cluster: Whose.
    """
    from fray.cli.toptable import HostRow, Problem
    from fray.errors import FrayError, PermissionDeniedError

    at_once = asyncio.Semaphore(ASKED_AT_ONCE)

    async def ask(report: HostReport) -> HostRow:
        if report.health == "lost" or not report.address:
            return HostRow(report, None, Problem.LOST)
        try:
            async with at_once, asyncio.timeout(ASK_TIMEOUT_S):
                return HostRow(report, await cluster.agent(report.address).use())
        except TimeoutError:
            return HostRow(report, None, Problem.SILENT)
        except PermissionDeniedError:
            return HostRow(report, None, Problem.REFUSED)
        except FrayError as exc:
            return HostRow(report, None, Problem.FAILED, str(exc))

    return list(await asyncio.gather(*(ask(report) for report in await cluster.fleet.hosts())))


async def _show_once(place: Place, sort: SortBy, as_json: bool) -> int:
    from fray.cli.connecting import connection
    from fray.cli.output import print_json, print_line, print_table
    from fray.cli.toptable import (
        host_rows_notes,
        host_rows_table,
        sorted_tasks,
        task_rows_table,
        top_json,
    )
    from fray.runtime.clock import SystemClock

    clock = SystemClock()
    async with connection(place) as connected:
        await ask_hosts(connected)
        await clock.sleep(SPAN_S)
        rows = await ask_hosts(connected)
    if as_json:
        print_json(top_json(rows))
        return 0
    print_table(host_rows_table(rows))
    for line in host_rows_notes(rows):
        print_line(line)
    tasks = sorted_tasks(rows, sort)
    if tasks:
        print_line("")
        print_table(task_rows_table(tasks, clock.time()))
    return 0


async def _show_live(place: Place, sort: SortBy, every_s: float) -> int:
    import sys

    from rich.console import Group
    from rich.live import Live

    from fray.cli.connecting import connection
    from fray.cli.output import console_of, rich_table
    from fray.cli.toptable import (
        host_rows_notes,
        host_rows_table,
        sorted_tasks,
        task_rows_table,
    )
    from fray.runtime.clock import SystemClock

    clock = SystemClock()
    async with connection(place) as connected:
        await ask_hosts(connected)
        await clock.sleep(SPAN_S)
        with Live(console=console_of(sys.stdout), screen=True, auto_refresh=False) as live:
            while True:
                rows = await ask_hosts(connected)
                tasks = sorted_tasks(rows, sort)
                live.update(
                    Group(
                        rich_table(host_rows_table(rows)),
                        *host_rows_notes(rows),
                        "",
                        rich_table(task_rows_table(tasks, clock.time())),
                    ),
                    refresh=True,
                )
                await clock.sleep(every_s)


__all__ = ["ask_hosts", "top"]
