"""From what the controller wants to run to what the launcher starts: its files and variables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.types import GpuConfig, TpuConfig
from fray.cluster.worker.devices import device_share, membership, memory_limit_bytes
from fray.cluster.worker.environment import TaskIdentity, attempt_environment
from fray.cluster.worker.envs import container
from fray.cluster.worker.envs.container import Container
from fray.cluster.worker.envs.manager import Surroundings
from fray.cluster.worker.launcher import LaunchSpec
from fray.cluster.worker.shipping import begin_note
from fray.cluster.worker.taskfile import HostedActor, TaskFile, TaskKind
from fray.cluster.worker.tidying import drop_old_logs
from fray.cluster.worker.tokens import TOKEN_FILE
from fray.runtime.jsoncodec import json_loads

if TYPE_CHECKING:
    from fray.cluster.controller.desired import AttemptSpec
    from fray.cluster.controller.specs import JobSpec
    from fray.cluster.hosttimes import HostTimes
    from fray.cluster.resources import Resources
    from fray.cluster.worker.accounts import Account, TaskAccounts
    from fray.cluster.worker.lease import HostLease
    from fray.ids import AttemptId


class Preparation:
    """What is common to all attempts of a host.

    Args:
        agent_address: This host's agent.
        controller: The controller's ``host:port``.
        home: Where run directories and logs go.
        token_file: The token that all tasks use; empty where each has its own.
        lease: The host's.
        accounts: Under which accounts tasks run; None for the agent's own.
        capacity: All that the host has; None where its accelerators are virtual.
        gpu_tokens: See `device_share`.
    """

    def __init__(
        self,
        *,
        agent_address: str,
        controller: str,
        home: Path,
        token_file: str,
        lease: HostLease,
        accounts: TaskAccounts | None = None,
        capacity: Resources | None = None,
        gpu_tokens: Sequence[str] = (),
    ) -> None:
        self._accounts = accounts
        self._agent_address = agent_address
        self._controller = controller
        self._run = home / "run"
        self._logs = home / "logs"
        self._token_file = token_file
        self._lease = lease
        self._capacity = capacity
        self._gpu_tokens = gpu_tokens

    def make_directories(self) -> None:
        """Makes what all attempts lie in.

        Raises:
            OSError: It cannot be made.
        """
        for directory in (self._run, self._logs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def owner_of(self, job: JobSpec) -> tuple[int, int] | None:
        """Whose the files of a job's attempts are, user and group; None for the agent's own.

        Args:
            job: The job.

        Raises:
            ClusterError: There is no account for its user.
        """
        account = self.account_of(job)
        return None if account is None else (account.uid, account.gid)

    def account_of(self, job: JobSpec) -> Account | None:
        """Under which account a job's attempts run; None for the agent's own.

        Args:
            job: The job.

        Raises:
            ClusterError: There is no account for its user.
        """
        return None if self._accounts is None else self._accounts.of(job.user)

    def run_dir(self, attempt_id: AttemptId) -> Path:
        """An attempt's run directory.

        Args:
            attempt_id: The attempt.
        """
        return self._run / _file_name(attempt_id)

    @property
    def logs(self) -> Path:
        """Where all logs are."""
        return self._logs

    def token_path(self, attempt_id: AttemptId) -> Path:
        """Where an attempt's own token goes; the directory is made.

        Args:
            attempt_id: The attempt.

        Raises:
            OSError: It cannot be made.
        """
        run_dir = self.run_dir(attempt_id)
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return run_dir / TOKEN_FILE

    def _token_file_of(self, attempt_id: AttemptId) -> str:
        return self._token_file or str(self.run_dir(attempt_id) / TOKEN_FILE)

    def log_path(self, attempt_id: AttemptId) -> Path:
        """Where an attempt's output goes.

        Args:
            attempt_id: The attempt.
        """
        return self._logs / f"{_file_name(attempt_id)}.log"

    def drop_old_logs(self, keep: Iterable[AttemptId], age_s: float) -> int:
        """Drops the output of attempts that ended long ago; gives how many files.

        Args:
            keep: Attempts whose output stays.
            age_s: How long output is kept, in seconds.

        Raises:
            OSError: The logs cannot be read or changed.
        """
        return drop_old_logs(self._logs, {_file_name(each) for each in keep}, age_s)

    def prepare(
        self,
        spec: AttemptSpec,
        payload: bytes,
        variables: Mapping[str, str],
        ports: Mapping[str, int],
        times: HostTimes,
        surroundings: Surroundings | None = None,
    ) -> LaunchSpec:
        """Writes down who an attempt is, and says how it is started.

        Args:
            spec: The attempt.
            payload: The packed function or class, empty for a program.
            variables: The user's own environment variables.
            ports: Its ports, by what they are for.
            times: How long the host may be silent.
            surroundings: Where it runs; None in the agent's own environment, on what files there
                are.

        Raises:
            OSError: The run directory, or the host's lease, cannot be written.
            PayloadError: What the job says of its actor makes no sense.
        """
        self._lease.check()
        job = spec.job
        around = surroundings or Surroundings()
        run_dir = self.run_dir(spec.attempt_id)
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        begin_note(self.log_path(spec.attempt_id), spec.attempt_id)
        lease_s = times.lease_s + times.supervisor_margin_s
        owner, account = self.owner_of(job), self.account_of(job)
        self._task_file(spec, around, ports, lease_s).write(run_dir, payload, owner=owner)
        python = container.PYTHON if around.image else around.python
        argv = job.program.command or _task_command(python, run_dir)
        env = self._environment(spec, around, variables, ports, lease_s)
        cleanup_argv: tuple[str, ...] = ()
        if around.image:
            contained = self._container(spec, around.image, argv)
            argv, env = container.run_command(contained, env)
            cleanup_argv = container.cleanup(contained)
        return LaunchSpec(
            attempt_id=spec.attempt_id,
            argv=tuple(argv),
            run_dir=run_dir,
            log_path=self.log_path(spec.attempt_id),
            env=env,
            cwd=around.code or _existing(job.hints.get("workspace"), job.hints.get("cwd")),
            memory_limit_bytes=memory_limit_bytes(spec) if self._capacity else None,
            # An interpreter that the agent starts may read more, and with a user's own packages it
            # would be that user's code in the agent's account.
            may_prestart=not (job.program.command or around.image or account),
            cleanup_argv=cleanup_argv,
            # For the time in which there is no agent, or none that does anything.
            lease_path=self._lease.path,
            lease_s=lease_s,
            stop_grace_s=times.fence_grace_s,
            # Who gave this host up while it stood still has given the attempt to another.
            start_by=self._lease.heard_at + times.lease_s,
            # Only the agent may speak to Docker's daemon; the container is the account's.
            user=None if account is None or around.image else account.name,
            opens_run_dir=account is not None,
        )

    def _container(self, spec: AttemptSpec, image: str, command: Sequence[str]) -> Container:
        devices: tuple[str, ...] = ()
        match spec.job.resources.device:
            case GpuConfig():
                devices = ("--gpus", "all")
            case TpuConfig():
                devices = ("--privileged",)
            case _:
                pass
        return Container(
            name=container.container_name(spec.attempt_id),
            image=image,
            command=command,
            run_dir=self.run_dir(spec.attempt_id),
            readable=tuple(file for file in (self._token_file, str(self._lease.path)) if file),
            devices=devices,
            owner=self.owner_of(spec.job),
        )

    def _task_file(
        self, spec: AttemptSpec, around: Surroundings, ports: Mapping[str, int], lease_s: float
    ) -> TaskFile:
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
            token_file=self._token_file_of(spec.attempt_id),
            # Another environment needs a process, whatever else would do without.
            isolation="process"
            if around.venv or around.image
            else job.hints.get("isolation", "process"),
            actor=actor,
            ports=ports,
            held=around.held,
            lease_path=str(self._lease.path),
            lease_s=lease_s,
            python=job.hints.get("python", ""),
        )

    def _environment(
        self,
        spec: AttemptSpec,
        around: Surroundings,
        user: Mapping[str, str],
        ports: Mapping[str, int],
        lease_s: float,
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
            token_file=self._token_file_of(spec.attempt_id),
            ports=ports,
        )
        known = self._capacity
        variables = attempt_environment(
            identity,
            user=user,
            membership=membership(spec) if known else None,
            devices=device_share(spec, known, self._gpu_tokens) if known else None,
        )
        variables["FRAY_AGENT_ADDRESS"] = self._agent_address
        variables["FRAY_USER"] = job.user
        variables["FRAY_LEASE_FILE"] = str(self._lease.path)
        variables["FRAY_LEASE_S"] = str(lease_s)
        variables.setdefault("PYTHONUNBUFFERED", "1")  # a log that is followed shows each line
        if around.image:  # what is in it is found as the image says
            return variables
        extra = _import_paths(job.hints, around.code)
        known = [p for p in variables.get("PYTHONPATH", "").split(os.pathsep) if p]
        if extra:
            variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*known, *extra]))
        if around.venv:
            variables["VIRTUAL_ENV"] = around.venv
            before = variables.get("PATH") or os.environ.get("PATH", os.defpath)
            variables["PATH"] = os.pathsep.join((os.path.join(around.venv, "bin"), before))
        return variables


def _import_paths(hints: Mapping[str, str], code: str) -> list[str]:
    """Where a task finds modules: as whoever launched it did, as far as that is here.

    Of a project that was sent here it is the same folders of it, and no others.
    """
    paths = json_loads(hints.get("sys_path", "[]").encode(), list[str])
    if code:
        there = hints.get("workspace") or hints.get("cwd", "")
        inside = [os.path.relpath(p, there) for p in paths if Path(p).is_relative_to(there)]
        paths = [os.path.normpath(os.path.join(code, p)) for p in (*inside, ".", "src")]
    return [p for p in dict.fromkeys(paths) if os.path.isdir(p)]


def _task_command(python: str, run_dir: Path) -> tuple[str, ...]:
    return (python, "-m", "fray.cluster.worker.task", str(run_dir))


def _existing(*paths: str | None) -> str | None:
    """The first of some directories that exists on this host."""
    return next((p for p in paths if p and os.path.isdir(p)), None)


def _file_name(attempt_id: AttemptId) -> str:
    """An attempt's id as one path component: slashes would be directories."""
    return attempt_id.replace("/", "_").replace("#", "-")


__all__ = ["Preparation"]
