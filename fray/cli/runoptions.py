"""Options of `fray run`; some are those of other commands, too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from fray.cli.durations import parse_duration

MAX_RETRIES_MAX = 1_000_000_000

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
EnvFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="More of them: NAME=VALUE, a line each.", show_default=False),
]
Packages: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--package",
        metavar="REQUIREMENT",
        help="A package on top of the project's, as in einops>=0.8; may be repeated.",
        show_default=False,
    ),
]
Extras: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--extra",
        metavar="NAME",
        help="An extra of the project; may be repeated.",
        show_default=False,
    ),
]
Image: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="IMAGE", help="A Docker image, in place of the project.", show_default=False
    ),
]
MaxRetries: TypeAlias = Annotated[
    int,
    typer.Option(
        help="How often each task may fail and start again; -1 for ever.",
        min=-1,
        max=MAX_RETRIES_MAX,
    ),
]
Ports: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--port",
        metavar="NAME",
        help="A port of each task, whose number is in FRAY_PORT_NAME; may be repeated.",
        show_default=False,
    ),
]
Region: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Where it may run; may be repeated.", show_default=False),
]
Namespace: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Of its actors' names. Default: a fresh one.", show_default=False),
]
DryRun: TypeAlias = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would run where, and why; start nothing."),
]
Detach: TypeAlias = Annotated[
    bool, typer.Option("--detach", "-d", help="Print the job's id and leave it running.")
]
Disk: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Disk per replica, as in 10g.", show_default="1g"),
]
MaxPreemptions: TypeAlias = Annotated[
    int,
    typer.Option(
        help="How often each task may lose its host, or its place to others, and start again;"
        " -1 for ever.",
        min=-1,
        max=MAX_RETRIES_MAX,
    ),
]
Evictable: TypeAlias = Annotated[
    bool, typer.Option(help="Whether it may be stopped for a job of a higher band.")
]
Preferences: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--prefer",
        metavar="[WEIGHT:]RULE",
        help="What its hosts had better be, as in 5:rack=r1; may be repeated.",
        show_default=False,
    ),
]
QueueLimit: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="DURATION",
        help="How long it may wait until a task of it runs, as in 10m; else it fails.",
        parser=parse_duration,
        show_default=False,
    ),
]
SubmissionId: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Names this launch: under the same ID it gets the job of the first time.",
        show_default=False,
    ),
]

__all__ = [
    "MAX_RETRIES_MAX",
    "Command",
    "Cpus",
    "Detach",
    "Disk",
    "DryRun",
    "Env",
    "EnvFile",
    "Evictable",
    "Extras",
    "Gpus",
    "Image",
    "MaxPreemptions",
    "MaxRetries",
    "Memory",
    "Name",
    "Namespace",
    "Packages",
    "Ports",
    "Preferences",
    "QueueLimit",
    "Region",
    "Replicas",
    "SubmissionId",
    "Tpu",
    "WorkingDir",
]
