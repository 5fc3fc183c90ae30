"""What an attempt's process finds in its run directory: what to do, and who it is.

The agent writes it, the task reads it (`fray.cluster.worker.task`), and so does the launcher of
jobs that run in threads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.identity import Identity
from fray.errors import PayloadError
from fray.runtime.cell_options import MAILBOX_CALLS_MAX, CellOptions
from fray.runtime.jsoncodec import json_dumps, json_loads

if TYPE_CHECKING:
    from fray.actor.options import ActorOptions

TASK_FILE = "task.json"
PAYLOAD_FILE = "payload.bin"
ERROR_FILE = "error.json"


class TaskKind(StrEnum):
    """What an attempt does."""

    FUNCTION = "function"
    ACTOR = "actor"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True)
class HostedActor:
    """An actor, as the process that hosts it needs to know it.

    Attributes:
        actor_id: Its id, the same over all restarts.
        label: For people.
        name: Its exclusive name; empty for none.
        namespace: Where its name goes.
        max_concurrency: See `ActorOptions`.
        mailbox_calls_max: See `ActorOptions`.
        thread_affinity: See `ActorOptions`.
        reentrant: See `ActorOptions`.
    """

    actor_id: str
    label: str
    name: str = ""
    namespace: str = ""
    max_concurrency: int = 1
    mailbox_calls_max: int = MAILBOX_CALLS_MAX
    thread_affinity: bool = False
    reentrant: bool = False

    @classmethod
    def of(cls, actor_id: str, label: str, namespace: str, options: ActorOptions) -> HostedActor:
        """What of an actor's options its host needs.

        Args:
            actor_id: The actor.
            label: For people.
            namespace: Where its name goes.
            options: Its options.
        """
        return cls(
            actor_id,
            label,
            options.name or "",
            namespace,
            options.max_concurrency,
            options.mailbox_calls_max or MAILBOX_CALLS_MAX,
            options.thread_affinity,
            options.reentrant,
        )

    def cell_options(self) -> CellOptions:
        """How its cell runs it."""
        return CellOptions(
            max_concurrency=self.max_concurrency,
            mailbox_calls_max=self.mailbox_calls_max,
            thread_affinity=self.thread_affinity,
            reentrant=self.reentrant,
        )


@dataclass(frozen=True, slots=True)
class TaskFile:
    """One attempt.

    Attributes:
        kind: What it does.
        attempt_id: Which attempt.
        number: Which try of its task, from 0.
        job_id: Its job.
        job_name: The job's name.
        user: Whose job.
        task_index: Which task of the job.
        namespace: In which its actors are.
        agent_address: The agent of its host.
        cluster_address: The controller.
        token_file: Where the token for the cluster is.
        isolation: ``process``, or ``thread`` where the local cluster may run it in a thread.
        actor: Of an actor's attempt.
        ports: Its ports, by what they are for: its agent's successor learns of them here.
        held: What it uses of its host's environments, likewise.
        lease_path: The file of its host's lease.
        lease_s: For how long that counts after it was renewed, in seconds.
        python: The version of Python that has pickled what it runs; empty where nobody says.
    """

    kind: TaskKind
    attempt_id: str
    number: int
    job_id: str
    job_name: str
    user: str
    task_index: int
    namespace: str
    agent_address: str
    cluster_address: str
    token_file: str
    isolation: str = "process"
    actor: HostedActor | None = None
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    held: tuple[str, ...] = ()
    lease_path: str = ""
    lease_s: float = 0.0
    python: str = ""

    def identity(self) -> Identity:
        """Who the attempt is towards its cluster."""
        return Identity(
            self.user,
            self.namespace,
            job_id=self.job_id,
            attempt_id=self.attempt_id,
            incarnation=self.number + 1,
            task_index=self.task_index,
            agent_address=self.agent_address,
            # In a thread it stands still, and goes on, together with its agent and controller.
            lease_path="" if self.isolation == "thread" else self.lease_path,
            lease_s=self.lease_s,
        )

    def write(self, run_dir: Path, payload: bytes, *, owner: tuple[int, int] | None = None) -> None:
        """Writes it, and what it runs, readable by its owner alone.

        Args:
            run_dir: An existing directory.
            payload: The packed function or class, empty for a program.
            owner: Who that is, user and group; by default this process's. The directory stays
                ours, so the file for the reason of a failure is made, too.
        """
        files = {PAYLOAD_FILE: payload, TASK_FILE: json_dumps(self)}
        if owner is not None:
            files[ERROR_FILE] = b""
        for name, data in files.items():
            path = run_dir / name
            path.touch(mode=0o600)
            path.write_bytes(data)
            if owner is not None:
                os.chown(path, *owner)

    @classmethod
    def read(cls, run_dir: Path) -> tuple[TaskFile, bytes]:
        """Reads it, and what it runs.

        Args:
            run_dir: Where `write` put it.
        """
        return read_task(run_dir), (run_dir / PAYLOAD_FILE).read_bytes()


def read_task(run_dir: Path) -> TaskFile:
    """Who an attempt is, without what it runs.

    Args:
        run_dir: The attempt's.

    Raises:
        PayloadError: The file makes no sense.
        OSError: It cannot be read.
    """
    return json_loads((run_dir / TASK_FILE).read_bytes(), TaskFile)


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed, in its own words: an exit code tells little."""

    message: str


def write_error(run_dir: Path, message: str) -> None:
    """Leaves the reason of a failure for the agent.

    Args:
        run_dir: The attempt's.
        message: Why the task failed; text that UTF-8 can carry.
    """
    temporary = run_dir / f"{ERROR_FILE}.{os.getpid()}"
    try:
        temporary.write_bytes(json_dumps(TaskError(message)))
        temporary.replace(run_dir / ERROR_FILE)
    except PermissionError:  # the directory is root's; this file is ours
        (run_dir / ERROR_FILE).write_bytes(json_dumps(TaskError(message)))


def read_error(run_dir: Path) -> str:
    """The reason that `write_error` left; empty where there is none.

    Args:
        run_dir: The attempt's.
    """
    try:
        return json_loads((run_dir / ERROR_FILE).read_bytes(), TaskError).message
    except (OSError, PayloadError):  # there is none, or the task has made something else of it
        return ""


__all__ = [
    "ERROR_FILE",
    "PAYLOAD_FILE",
    "TASK_FILE",
    "HostedActor",
    "TaskError",
    "TaskFile",
    "TaskKind",
    "read_error",
    "read_task",
    "write_error",
]
