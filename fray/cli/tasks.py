"""``fray task``: list, show, exec; ``fray stack``."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fray.cli.options import Cluster, ClusterName, Json, complete_job_id, require_place
from fray.cluster.reports import JobReport
from fray.wording import counted

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.reports import AttemptPlace, TaskReport
    from fray.cluster.usage import AttemptUse

app = typer.Typer(help="Look at the tasks of jobs, and into them.")

TaskArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="A job's id or the beginning of it, and /INDEX where it has several tasks.",
        autocompletion=complete_job_id,
    ),
]

_INDEXED = re.compile(r"(.+)/(\d+)")


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task that somebody means.

    Attributes:
        report: Its job.
        index: Which task of it.
    """

    report: JobReport
    index: int

    @property
    def task(self) -> TaskReport:
        """What is told of it."""
        return self.report.tasks[self.index]

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.report.job_id}/{self.index}"

    def place(self) -> AttemptPlace:
        """Where it runs.

        Raises:
            Failure: It does not.
        """
        from fray.cli.errors import Failure

        attempts = self.task.attempts
        if not attempts or not attempts[-1].live or not attempts[-1].agent_address:
            raise Failure(f"task {self.label} does not run: it is {self.task.status.value}")
        return attempts[-1]


async def find_task(cluster: AsyncFrayCluster, given: str) -> FoundTask:
    """The task that somebody means.

    Args:
        cluster: Where it is.
        given: What they wrote: a job, or ``JOB/INDEX``.

    Raises:
        Failure: There is none, or there are several.
    """
    from fray.cli.errors import Failure
    from fray.cli.jobs import find_job

    match = _INDEXED.fullmatch(given)
    report = await find_job(cluster, match[1] if match else given)
    count = len(report.tasks)
    if match is None and count > 1:
        raise Failure(f"job {report.job_id} has {count} tasks: {report.job_id}/0 is the first one")
    index = int(match[2]) if match else 0
    if index >= count:
        raise Failure(f"job {report.job_id} has {counted(count, 'task')}, from 0")
    return FoundTask(report, index)


@app.command("list")
def list_tasks(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            help="Of this job. Default: of all that have not ended.",
            show_default=False,
            autocompletion=complete_job_id,
        ),
    ] = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """List tasks, and where they run."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.jobs import find_job
    from fray.cli.output import print_json, print_line, print_table
    from fray.cli.taskreports import task_json, tasks_table
    from fray.cluster.control import JobQuery
    from fray.cluster.types import JobStatus

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            if job is not None:
                reports = [await find_job(connected, job)]
            else:
                unfinished = (JobStatus.PENDING, JobStatus.RUNNING)
                query = JobQuery(statuses=unfinished)
                reports = [report async for report in connected.reports(query)]
        if as_json:
            print_json(
                [
                    task_json(report, index)
                    for report in reports
                    for index in range(len(report.tasks))
                ]
            )
        elif any(report.tasks for report in reports):
            print_table(tasks_table(reports))
        else:
            print_line("no tasks")

    run_async(show)


@app.command("show")
def show_task(
    task: TaskArgument,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Show a task: its attempts, and what it uses."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_facts, print_json, print_line, print_table
    from fray.cli.taskreports import attempt_table, task_facts, task_json

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            found = await find_task(connected, task)
            use = await _use_of(connected, found)
        if as_json:
            own = task_json(found.report, found.index)
            print_json(own | {"use": asdict(use) if use else None})
            return
        print_facts(task_facts(found.report, found.index, use))
        if found.task.attempts:
            print_line("")
            print_table(attempt_table(found.task))

    run_async(show)


async def _use_of(cluster: AsyncFrayCluster, found: FoundTask) -> AttemptUse | None:
    """What the task uses now, where its host tells."""
    from fray.errors import FrayError

    attempts = found.task.attempts
    if not attempts or not attempts[-1].live or not attempts[-1].agent_address:
        return None
    try:
        use = await cluster.agent(attempts[-1].agent_address).use()
    except FrayError:
        return None
    return next((a for a in use.attempts if a.attempt_id == attempts[-1].attempt_id), None)


@app.command(
    "exec", context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True}
)
def exec_in_task(
    task: TaskArgument,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[--] PROGRAM [ARGS]...", help="Default: a shell.", show_default=False
        ),
    ] = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
) -> int:
    """Run a program inside a running task: its variables, folder, account and memory limit.

    At a terminal it gets one. The exit code is the program's.
    """
    from fray.cli.connecting import connection, run_async
    from fray.cli.inside import run_inside

    place = require_place(cluster, cluster_name)
    given = list(command or ())
    argv = tuple(given[1:] if given[:1] == ["--"] else given) or ("/bin/sh",)

    async def run() -> int:
        async with connection(place) as connected:
            found = await find_task(connected, task)
            return await run_inside(connected, found.place(), argv)

    return run_async(run)


def stack(
    task: TaskArgument,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Show what the Python code of a running task is doing: the stacks of its threads and tasks."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json
    from fray.cluster.control import AgentApi
    from fray.cluster.controlcalls import control

    place = require_place(cluster, cluster_name)

    async def ask() -> tuple[str, str]:
        async with connection(place) as connected:
            found = await find_task(connected, task)
            where = found.place()
            agent = control(AgentApi, connected.system, where.agent_address, "agent")
            return found.label, await agent.stacks(where.attempt_id)

    label, told = run_async(ask)
    if as_json:
        print_json({"task": label, "stacks": told})
    else:
        sys.stdout.write(told)


__all__ = ["FoundTask", "app", "find_task", "stack"]
