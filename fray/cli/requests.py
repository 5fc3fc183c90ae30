"""From the arguments of `fray run` to a job request. Pure but for looking whether files exist."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from fray.cli.errors import UsageFailure
from fray.cluster.accelerators import AUTO_GPU
from fray.cluster.devices import CpuConfig, DeviceConfig, GpuConfig, ResourceConfig, TpuConfig
from fray.cluster.entrypoint import Entrypoint
from fray.cluster.environment import EnvironmentConfig
from fray.cluster.types import JobRequest
from fray.errors import InvalidRequestError

PYTHON = "python"
"""Found on the host that runs the job: there it is the interpreter that its worker runs in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArguments:
    """What stands on the command line of `fray run`.

    Attributes:
        command: A script and its arguments, or a program and its arguments.
        is_program: Whether it stood behind ``--``: then it is a program, whatever its name.
        name: Of the job; None names it after the script or program.
        cpus: Per task.
        memory: Per task, as in ``8g``; None takes the default.
        gpus: Per task, as in ``2``, ``0.5``, ``H100`` or ``H100:8``.
        tpu: The slice of each replica, as in ``v5litepod-16``.
        replicas: How many.
        env: Variables: ``NAME=value``, or ``NAME`` for the value that it has here.
        working_dir: The project folder; None for the current one.
        max_retries: How often each task may fail and be started again.
        regions: Where it may run; none is anywhere.
        detach: Whether nobody waits for it.
    """

    command: Sequence[str]
    is_program: bool = False
    name: str | None = None
    cpus: float = 1
    memory: str | None = None
    gpus: str | None = None
    tpu: str | None = None
    replicas: int = 1
    env: Sequence[str] = ()
    working_dir: Path | None = None
    max_retries: int = 0
    regions: Sequence[str] = ()
    detach: bool = False


def job_request(arguments: RunArguments, *, cwd: Path, environ: Mapping[str, str]) -> JobRequest:
    """The job that is asked for.

    Args:
        arguments: What stands on the command line.
        cwd: The current folder.
        environ: The variables here.

    Raises:
        UsageFailure: Something makes no sense, or does not exist.
    """
    workspace = _workspace(arguments.working_dir, cwd)
    command = _command(arguments, workspace, cwd)
    try:
        return JobRequest(
            name=arguments.name or _job_name(command),
            entrypoint=Entrypoint.from_binary(command[0], command[1:]),
            resources=_resources(arguments),
            environment=EnvironmentConfig.create(
                workspace=str(workspace), env_vars=parse_variables(arguments.env, environ)
            ),
            max_retries_failure=arguments.max_retries,
            detached=arguments.detach,
        )
    except InvalidRequestError as exc:
        raise UsageFailure(str(exc)) from exc


def _workspace(given: Path | None, cwd: Path) -> Path:
    folder = cwd / (given or "")
    if not folder.is_dir():
        raise UsageFailure(f"--working-dir: there is no folder {folder}")
    return Path(os.path.abspath(folder))


def _command(arguments: RunArguments, workspace: Path, cwd: Path) -> list[str]:
    if not arguments.command:
        raise UsageFailure("nothing to run: `fray run SCRIPT.py …` or `fray run -- PROGRAM …`")
    first, *rest = arguments.command
    if arguments.is_program or not first.endswith(".py"):
        if ("/" in first or not which(first)) and (cwd / first).is_dir():
            raise UsageFailure(f"{first} is a folder; give a script or a program to run")
        return [first, *rest]
    # Like every path on a command line it is seen from here, but it runs in the project folder.
    here, there = cwd / first, workspace / first
    script = here if here.is_file() else there
    if not script.is_file():
        raise UsageFailure(f"there is no script {first!r} in {cwd}")
    script = Path(os.path.abspath(script))
    inside = script.is_relative_to(workspace)
    return [PYTHON, str(script.relative_to(workspace) if inside else script), *rest]


def _job_name(command: Sequence[str]) -> str:
    is_script = command[0] == PYTHON and len(command) > 1 and command[1].endswith(".py")
    name = Path(command[1]).stem if is_script else Path(command[0]).name
    cleaned = "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip(".-")
    return cleaned or "job"


def _resources(arguments: RunArguments) -> ResourceConfig:
    resources = ResourceConfig(
        cpu=arguments.cpus,
        device=_device(arguments),
        replicas=arguments.replicas,
        regions=list(arguments.regions) or None,
    )
    if arguments.memory is not None:
        resources.ram = arguments.memory
    resources.validate()
    return resources


def _device(arguments: RunArguments) -> DeviceConfig:
    if arguments.gpus and arguments.tpu:
        raise UsageFailure("--gpus and --tpu exclude each other: a task has one kind of device")
    if arguments.tpu:
        return TpuConfig(arguments.tpu)
    if arguments.gpus and arguments.gpus != "0":
        return parse_gpus(arguments.gpus)
    return CpuConfig()


def parse_gpus(text: str) -> GpuConfig:
    """Reads ``2``, ``0.5``, ``H100`` or ``H100:8``.

    Args:
        text: What somebody wrote.

    Raises:
        UsageFailure: It is none of these.
    """
    variant, colon, number = text.partition(":")
    if not colon and _number(variant) is not None:
        variant, number = AUTO_GPU, variant
    count = _number(number) if colon or number else 1.0
    if not variant or count is None:
        raise UsageFailure(f"--gpus is a number, a model or both, as in 2 or H100:8, not {text!r}")
    try:
        return GpuConfig(variant, count=int(count) if count % 1 == 0 else count)
    except InvalidRequestError as exc:
        raise UsageFailure(f"--gpus: {exc}") from exc


def _number(text: str) -> float | None:
    try:
        return float(text) if text[:1].isdigit() or text[:1] == "." else None
    except ValueError:
        return None


def parse_variables(given: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Reads variables; of a repeated name the last one counts.

    Args:
        given: ``NAME=value``, or ``NAME`` for the value that it has in ``environ``.
        environ: The variables here.

    Raises:
        UsageFailure: One has no name, or no value here. Values are not in the message.
    """
    variables: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name:
            raise UsageFailure("--env is NAME=value, or NAME for the value here; a name is missing")
        if not equals:
            if name not in environ:
                raise UsageFailure(f"--env {name}: the variable is not set here; give {name}=value")
            value = environ[name]
        variables[name] = value
    return variables


__all__ = ["PYTHON", "RunArguments", "job_request", "parse_gpus", "parse_variables"]
