"""``fray run``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand

from fray.cli.options import Cluster, ClusterName, Json, find_place

if TYPE_CHECKING:
    from fray.cli.connecting import Place
    from fray.cluster.types import JobRequest

_IS_PROGRAM = "fray.is_program"


class RunCommand(TyperCommand):
    """Notes whether what is to be run stands behind ``--``, which otherwise leaves no trace."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        rest = super().parse_args(ctx, args)
        command: list[str] = ctx.params.get("command") or []
        before = len(given) - len(command) - 1
        ctx.meta[_IS_PROGRAM] = before >= 0 and given[before] == "--"
        return rest


Command: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SCRIPT.py [ARGS]... | -- PROGRAM [ARGS]...",
        help="A Python script and its arguments, or any program behind --.",
        show_default=False,
    ),
]
Name: TypeAlias = Annotated[
    str | None, typer.Option(help="The job's name. Default: the script's.", show_default=False)
]
Cpus: TypeAlias = Annotated[float, typer.Option(help="CPUs per replica.", min=0)]
Memory: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Memory per replica, as in 8g.", show_default=False),
]
Gpus: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="[MODEL:]N", help="GPUs per replica, as in 2 or H100:8.", show_default=False
    ),
]
Tpu: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TYPE", help="A TPU slice per replica: v5litepod-16.", show_default=False),
]
Replicas: TypeAlias = Annotated[int, typer.Option(help="How many replicas (slices).", min=1)]
Env: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        "-e",
        metavar="NAME[=VALUE]",
        help="A variable for the job; without a value, the one that it has here.",
        show_default=False,
    ),
]
WorkingDir: TypeAlias = Annotated[
    Path | None, typer.Option(help="The project folder. Default: this one.", show_default=False)
]
MaxRetries: TypeAlias = Annotated[
    int, typer.Option(help="How often each task may fail and start again; -1 for ever.", min=-1)
]
Region: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Where it may run; may be repeated.", show_default=False),
]
Namespace: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Of its actors' names. Default: a fresh one.", show_default=False),
]
Detach: TypeAlias = Annotated[
    bool, typer.Option("--detach", "-d", help="Print the job's id and leave it running.")
]


def run(
    ctx: typer.Context,
    command: Command = None,
    name: Name = None,
    cpus: Cpus = 1,
    memory: Memory = None,
    gpus: Gpus = None,
    tpu: Tpu = None,
    replicas: Replicas = 1,
    env: Env = None,
    working_dir: WorkingDir = None,
    max_retries: MaxRetries = 0,
    region: Region = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    namespace: Namespace = None,
    detach: Detach = False,
    as_json: Json = False,
) -> int:
    """Run a script or program as a job, and show its output.

    Without a cluster it runs on one inside this process.

    Ctrl-C stops the job, a second one kills it. The exit code is the job's.
    """
    from fray.cli.connecting import run_async
    from fray.cli.requests import RunArguments, job_request

    arguments = RunArguments(
        command=command or (),
        is_program=bool(ctx.meta.get(_IS_PROGRAM)),
        name=name,
        cpus=cpus,
        memory=memory,
        gpus=gpus,
        tpu=tpu,
        replicas=replicas,
        env=env or (),
        working_dir=working_dir,
        max_retries=max_retries,
        regions=region or (),
        detach=detach,
    )
    request = job_request(arguments, cwd=Path.cwd(), environ=os.environ)
    place = find_place(cluster, cluster_name) or _inside_this_process()
    if detach:
        return run_async(lambda: _submit(place, request, namespace, as_json))
    return run_async(lambda: _follow(place, request, namespace, as_json))


def _inside_this_process() -> Place:
    from fray.cli.connecting import LOCAL, Place, died
    from fray.cli.output import note
    from fray.cluster.home import all_homes

    for home in died(all_homes())[:1]:
        note(
            f"the controller of cluster {home.name} is dead (`fray up` starts it again);"
            " running on a cluster inside this process"
        )
    return Place(LOCAL)


async def _submit(place: Place, request: JobRequest, namespace: str | None, as_json: bool) -> int:
    from fray.cli.connecting import connection
    from fray.cli.errors import Failure
    from fray.cli.output import json_line, note, print_line

    if place.is_local:
        raise Failure(
            "--detach needs a cluster that outlives this command; `fray up` starts one here"
        )
    async with connection(place, namespace=namespace, fresh_namespace=not namespace) as cluster:
        job_id = await cluster.launch(request)
        if as_json:
            print_line(json_line({"job_id": job_id, "cluster": cluster.address}))
            return 0
        print_line(job_id)
        if sys.stderr.isatty():
            note(f"`fray job logs -f {job_id}` shows its output")
    return 0


async def _follow(place: Place, request: JobRequest, namespace: str | None, as_json: bool) -> int:
    from fray.cli.connecting import connection
    from fray.cli.daemons import activate_interpreter
    from fray.cli.following import Foreground
    from fray.cli.views import JsonView, TextView
    from fray.runtime.clock import SystemClock

    if place.is_local:
        activate_interpreter(os.environ)
    clock = SystemClock()
    view = JsonView() if as_json else TextView(clock)
    try:
        async with connection(place, namespace=namespace, fresh_namespace=not namespace) as cluster:
            foreground = Foreground(cluster, request, view, clock)
            code = await foreground.run()
    finally:
        view.close()
    if foreground.left:
        # Whatever could not be stopped, a thread that prints to a stuck terminal included, would
        # hold up an orderly exit.
        sys.stderr.flush()
        os._exit(code)
    return code


__all__ = ["run"]
