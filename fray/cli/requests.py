"""From the arguments of `fray run` to a job request. Pure but for looking whether files exist."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from fray.cli.envfile import parse_env_file
from fray.cli.errors import UsageFailure
from fray.cluster.accelerators import AUTO_GPU
from fray.cluster.devices import CpuConfig, DeviceConfig, GpuConfig, ResourceConfig, TpuConfig
from fray.cluster.entrypoint import Entrypoint
from fray.cluster.environment import EnvironmentConfig
from fray.cluster.environment_sender import check_environment
from fray.cluster.types import JobRequest
from fray.errors import InvalidRequestError
from fray.ids import ReservationId

if TYPE_CHECKING:
    from fray.cluster.priority import PriorityLike

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
        disk: Likewise.
        gpus: Per task, as in ``2``, ``0.5``, ``H100`` or ``H100:8``.
        tpu: The slice of each replica, as in ``v5litepod-16``.
        replicas: How many.
        env: Variables: ``NAME=value``, or ``NAME`` for the value that it has here.
        env_file: A file of such lines; the command line has the last word.
        working_dir: The project folder; None for the current one.
        packages: Requirements on top of the project's.
        extras: Of the project.
        image: A Docker image, in place of the project.
        max_retries: How often each task may fail and be started again.
        max_preemptions: How often each may lose its host or its place, and be started again.
        evictable: Whether it may be stopped to make room for others.
        regions: Where it may run; none is anywhere.
        detach: Whether nobody waits for it.
        zones: Likewise.
        constraints: What its hosts must be, as in ``rack=r1``.
        preferences: What they had better be, as in ``rack=r1`` or, with a weight, ``5:rack=r1``.
        priority: A band or a number; None for normal.
        time_limit_s: How long an attempt may run; None for ever.
        queue_limit_s: How long it may wait; None for ever.
        reservation: Whose resources it uses; None finds one.
        ports: Names of ports that each task gets.
    """

    command: Sequence[str]
    is_program: bool = False
    name: str | None = None
    cpus: float = 1
    memory: str | None = None
    disk: str | None = None
    gpus: str | None = None
    tpu: str | None = None
    replicas: int = 1
    env: Sequence[str] = ()
    env_file: Path | None = None
    working_dir: Path | None = None
    packages: Sequence[str] = ()
    extras: Sequence[str] = ()
    image: str | None = None
    max_retries: int = 0
    max_preemptions: int = 100
    evictable: bool = True
    regions: Sequence[str] = ()
    detach: bool = False
    zones: Sequence[str] = ()
    constraints: Sequence[str] = ()
    preferences: Sequence[str] = ()
    priority: str | None = None
    time_limit_s: float | None = None
    queue_limit_s: float | None = None
    reservation: str | None = None
    ports: Sequence[str] = ()


def job_request(arguments: RunArguments, *, cwd: Path, environ: Mapping[str, str]) -> JobRequest:
    """The job that is asked for.

    Args:
        arguments: What stands on the command line.
        cwd: The current folder.
        environ: The variables here.

    Raises:
        UsageFailure: Something makes no sense, or does not exist.
    """
    _check_image(arguments)
    workspace = None if arguments.image else _workspace(arguments.working_dir, cwd)
    command = _command(arguments, workspace, cwd)
    try:
        environment = EnvironmentConfig.create(
            workspace=None if workspace is None else str(workspace),
            docker_image=arguments.image,
            pip_packages=arguments.packages,
            env_vars=_variables(arguments, cwd, environ),
            extras=arguments.extras,
        )
        check_environment(environment, "the job")
        return JobRequest(
            name=arguments.name or _job_name(command),
            entrypoint=Entrypoint.from_binary(command[0], command[1:]),
            resources=resources_of(arguments),
            environment=environment,
            max_retries_failure=arguments.max_retries,
            max_retries_preemption=arguments.max_preemptions,
            evictable=arguments.evictable,
            ports=tuple(arguments.ports),
            detached=arguments.detach,
            priority=parse_level(arguments.priority),
            time_limit_s=arguments.time_limit_s,
            queue_limit_s=arguments.queue_limit_s,
            reservation_id=ReservationId(arguments.reservation) if arguments.reservation else None,
        )
    except InvalidRequestError as exc:
        raise UsageFailure(str(exc)) from exc


def _check_image(arguments: RunArguments) -> None:
    if arguments.image is None:
        return
    for option, given in (
        ("--working-dir", arguments.working_dir is not None),
        ("--package", bool(arguments.packages)),
        ("--extra", bool(arguments.extras)),
    ):
        if given:
            raise UsageFailure(
                f"--image and {option} exclude each other: an image has its own files and packages"
            )


def _variables(arguments: RunArguments, cwd: Path, environ: Mapping[str, str]) -> dict[str, str]:
    if arguments.env_file is None:
        return parse_variables(arguments.env, environ)
    path = cwd / arguments.env_file
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise UsageFailure(f"--env-file: {path} cannot be read: {why}") from exc
    from_file = parse_env_file(text, str(arguments.env_file), environ)
    return {**from_file, **parse_variables(arguments.env, environ)}


def _workspace(given: Path | None, cwd: Path) -> Path:
    folder = cwd / (given or "")
    if not folder.is_dir():
        raise UsageFailure(f"--working-dir: there is no folder {folder}")
    return Path(os.path.abspath(folder))


def _command(arguments: RunArguments, workspace: Path | None, cwd: Path) -> list[str]:
    if not arguments.command:
        raise UsageFailure("nothing to run: `fray run SCRIPT.py …` or `fray run -- PROGRAM …`")
    first, *rest = arguments.command
    if arguments.is_program or not first.endswith(".py"):
        if ("/" in first or not which(first)) and (cwd / first).is_dir():
            raise UsageFailure(f"{first} is a folder; give a script or a program to run")
        return [first, *rest]
    if workspace is None:  # it is in the image
        return [PYTHON, first, *rest]
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


def parse_level(text: str | None) -> PriorityLike | None:
    """A priority as it stands on a command line.

    Args:
        text: A band, or a number; None for none.
    """
    return int(text) if text is not None and text.isdecimal() else text


def resources_of(arguments: RunArguments) -> ResourceConfig:
    """What each replica needs.

    Args:
        arguments: What stands on the command line.

    Raises:
        InvalidRequestError: An amount makes no sense.
        UsageFailure: Options exclude each other.
    """
    resources = ResourceConfig(
        cpu=arguments.cpus,
        device=_device(arguments),
        replicas=arguments.replicas,
        regions=list(arguments.regions) or None,
        zones=list(arguments.zones) or None,
        constraints=tuple(arguments.constraints),
        preferences=parse_preferences(arguments.preferences),
    )
    if arguments.memory is not None:
        resources.ram = arguments.memory
    if arguments.disk is not None:
        resources.disk = arguments.disk
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


def parse_preferences(given: Sequence[str]) -> dict[str, float]:
    """Reads ``rack=r1`` or ``5:rack=r1``; of a repeated rule the last weight counts.

    Args:
        given: What somebody wrote.

    Raises:
        UsageFailure: A weight is no number above 0.
    """
    preferences: dict[str, float] = {}
    for each in given:
        before, colon, after = each.partition(":")
        # The names of labels have no colon, so one before any operator ends a weight.
        has_weight = bool(colon) and not set("=! ") & set(before.strip())
        weight = _number(before.strip()) if has_weight else 1.0
        if weight is None or not 0 < weight < math.inf:
            raise UsageFailure(f"--prefer is [WEIGHT:]RULE, as in 5:rack=r1, not {each!r}")
        preferences[(after if has_weight else each).strip()] = weight
    return preferences


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


__all__ = [
    "PYTHON",
    "RunArguments",
    "job_request",
    "parse_gpus",
    "parse_level",
    "parse_preferences",
    "parse_variables",
    "resources_of",
]
