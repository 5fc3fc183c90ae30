"""From what the controller wants to run to what the launcher starts: its files and variables."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.worker.environment import TaskIdentity, attempt_environment
from fray.cluster.worker.launcher import LaunchSpec
from fray.cluster.worker.taskfile import HostedActor, TaskFile, TaskKind
from fray.runtime.jsoncodec import json_loads

if TYPE_CHECKING:
    from fray.cluster.controller.desired import AttemptSpec
    from fray.cluster.hosttimes import HostTimes
    from fray.cluster.worker.lease import HostLease
    from fray.ids import AttemptId


class Preparation:
    """What is common to all attempts of a host.

    Args:
        agent_address: This host's agent.
        controller: The controller's ``host:port``.
        home: Where run directories and logs go.
        token_file: The token that tasks use.
        lease: The host's.
    """

    def __init__(
        self,
        *,
        agent_address: str,
        controller: str,
        home: Path,
        token_file: str,
        lease: HostLease,
    ) -> None:
        self._agent_address = agent_address
        self._controller = controller
        self._run = home / "run"
        self._logs = home / "logs"
        self._token_file = token_file
        self._lease = lease

    def make_directories(self) -> None:
        """Makes what all attempts lie in.

        Raises:
            OSError: It cannot be made.
        """
        for directory in (self._run, self._logs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def run_dir(self, attempt_id: AttemptId) -> Path:
        """An attempt's run directory.

        Args:
            attempt_id: The attempt.
        """
        return self._run / _file_name(attempt_id)

    def log_path(self, attempt_id: AttemptId) -> Path:
        """Where an attempt's output goes.

        Args:
            attempt_id: The attempt.
        """
        return self._logs / f"{_file_name(attempt_id)}.log"

    def prepare(
        self,
        spec: AttemptSpec,
        payload: bytes,
        variables: Mapping[str, str],
        ports: Mapping[str, int],
        times: HostTimes,
    ) -> LaunchSpec:
        """Writes down who an attempt is, and says how it is started.

        Args:
            spec: The attempt.
            payload: The packed function or class, empty for a program.
            variables: The user's own environment variables.
            ports: Its ports, by what they are for.
            times: How long the host may be silent.

        Raises:
            OSError: The run directory cannot be written.
            PayloadError: What the job says of its actor makes no sense.
        """
        job = spec.job
        run_dir = self.run_dir(spec.attempt_id)
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lease_s = times.lease_s + times.supervisor_margin_s
        self._task_file(spec, ports, lease_s).write(run_dir, payload)
        return LaunchSpec(
            attempt_id=spec.attempt_id,
            argv=job.program.command or _task_command(run_dir),
            run_dir=run_dir,
            log_path=self.log_path(spec.attempt_id),
            env=self._environment(spec, variables, ports, lease_s),
            cwd=_existing(job.hints.get("workspace"), job.hints.get("cwd")),
            memory_limit_bytes=None,
            # For the time in which there is no agent, or none that does anything.
            lease_path=self._lease.path,
            lease_s=lease_s,
            stop_grace_s=times.fence_grace_s,
            # Who gave this host up while it stood still has given the attempt to another.
            start_by=self._lease.heard_at + times.lease_s,
        )

    def _task_file(self, spec: AttemptSpec, ports: Mapping[str, int], lease_s: float) -> TaskFile:
        job = spec.job
        actor = None
        kind = TaskKind.PROGRAM if job.program.command else TaskKind.FUNCTION
        if job.actor is not None:
            kind = TaskKind.ACTOR
            actor = json_loads(job.hints["actor"].encode(), HostedActor)
        return TaskFile(
            kind=kind,
            attempt_id=spec.attempt_id,
            number=spec.number,
            job_id=job.job_id,
            job_name=job.name,
            user=job.user,
            task_index=spec.task_index,
            namespace=job.namespace,
            agent_address=self._agent_address,
            cluster_address=self._controller,
            token_file=self._token_file,
            isolation=job.hints.get("isolation", "process"),
            actor=actor,
            ports=ports,
            lease_path=str(self._lease.path),
            lease_s=lease_s,
        )

    def _environment(
        self, spec: AttemptSpec, user: Mapping[str, str], ports: Mapping[str, int], lease_s: float
    ) -> dict[str, str]:
        job = spec.job
        identity = TaskIdentity(
            job_id=job.job_id,
            job_name=job.name,
            replica_id=spec.replica_id,
            replica_count=job.resources.replicas,
            task_index=spec.task_index,
            num_tasks=job.num_tasks,
            attempt=spec.number,
            namespace=job.namespace,
            cluster_address=self._controller,
            cluster_spec=f"fray://{self._controller}",
            token_file=self._token_file,
            ports=ports,
        )
        variables = attempt_environment(identity, user=user)
        variables["FRAY_AGENT_ADDRESS"] = self._agent_address
        variables["FRAY_USER"] = job.user
        variables["FRAY_LEASE_FILE"] = str(self._lease.path)
        variables["FRAY_LEASE_S"] = str(lease_s)
        variables.setdefault("PYTHONUNBUFFERED", "1")  # a log that is followed shows each line
        paths = json_loads(job.hints.get("sys_path", "[]").encode(), list[str])
        extra = [p for p in paths if os.path.isdir(p)]
        known = [p for p in variables.get("PYTHONPATH", "").split(os.pathsep) if p]
        if extra:
            variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*known, *extra]))
        return variables


def _task_command(run_dir: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "fray.cluster.worker.task", str(run_dir))


def _existing(*paths: str | None) -> str | None:
    """The first of some directories that exists on this host."""
    return next((p for p in paths if p and os.path.isdir(p)), None)


def _file_name(attempt_id: AttemptId) -> str:
    """An attempt's id as one path component: slashes would be directories."""
    return attempt_id.replace("/", "_").replace("#", "-")


__all__ = ["Preparation"]
