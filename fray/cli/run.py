"""``fray run``."""

# ruff: noqa: TC001, TC002 - typer reads the types of the options

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from fray.cli.options import (
    Cluster,
    ClusterName,
    ConstraintOption,
    Json,
    Priority,
    ReservationOption,
    TimeLimit,
    Zone,
    find_place,
)
from fray.cli.runoptions import (
    Command,
    Cpus,
    Detach,
    Disk,
    DryRun,
    Env,
    EnvFile,
    Evictable,
    Extras,
    Gpus,
    Image,
    MaxPreemptions,
    MaxRetries,
    Memory,
    Name,
    Namespace,
    Packages,
    Ports,
    Preferences,
    QueueLimit,
    Region,
    Replicas,
    SubmissionId,
    Tpu,
    WorkingDir,
)

if TYPE_CHECKING:
    from fray.cli.connecting import Place

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


def run(
    ctx: typer.Context,
    command: Command = None,
    name: Name = None,
    cpus: Cpus = 1,
    memory: Memory = None,
    disk: Disk = None,
    gpus: Gpus = None,
    tpu: Tpu = None,
    replicas: Replicas = 1,
    env: Env = None,
    env_file: EnvFile = None,
    working_dir: WorkingDir = None,
    package: Packages = None,
    extra: Extras = None,
    image: Image = None,
    max_retries: MaxRetries = 0,
    max_preemptions: MaxPreemptions = 100,
    evictable: Evictable = True,
    port: Ports = None,
    region: Region = None,
    zone: Zone = None,
    constraint: ConstraintOption = None,
    prefer: Preferences = None,
    priority: Priority = None,
    time_limit: TimeLimit = None,
    queue_limit: QueueLimit = None,
    reservation: ReservationOption = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    namespace: Namespace = None,
    submission_id: SubmissionId = None,
    detach: Detach = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Run a script or program as a job, and show its output.

    Without a cluster it runs on one inside this process.

    Ctrl-C stops the job, a second one kills it. The exit code is the job's.
    """
    from fray.cli.connecting import run_async
    from fray.cli.launching import Launch, follow, preview, submit
    from fray.cli.requests import RunArguments, job_request
    from fray.cluster.base import check_submission_id

    arguments = RunArguments(
        command=command or (),
        is_program=bool(ctx.meta.get(_IS_PROGRAM)),
        name=name,
        cpus=cpus,
        memory=memory,
        disk=disk,
        gpus=gpus,
        tpu=tpu,
        replicas=replicas,
        env=env or (),
        env_file=env_file,
        working_dir=working_dir,
        packages=package or (),
        extras=extra or (),
        image=image,
        max_retries=max_retries,
        max_preemptions=max_preemptions,
        evictable=evictable,
        regions=region or (),
        detach=detach,
        zones=zone or (),
        constraints=constraint or (),
        preferences=prefer or (),
        priority=priority,
        time_limit_s=time_limit,
        queue_limit_s=queue_limit,
        reservation=reservation,
        ports=port or (),
    )
    request = job_request(arguments, cwd=Path.cwd(), environ=os.environ)
    check_submission_id(submission_id)
    place = find_place(cluster, cluster_name) or _inside_this_process()
    launch = Launch(place, request, namespace, submission_id)
    act = preview if dry_run else submit if detach else follow
    return run_async(lambda: act(launch, as_json))


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


__all__ = ["run"]
