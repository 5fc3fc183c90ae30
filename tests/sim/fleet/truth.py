"""What really ran, whatever anybody says of it: every attempt that any host has ever started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.testing.attempts import SimAttempt
from fray.testing.process import ExitKind
from tests.sim.fleet.shapes import HOST_CPUS, config_of

if TYPE_CHECKING:
    from fray.cluster.controller.state import Ledger
    from fray.testing import SimCluster
    from fray.testing.process import ProcessExit


@dataclass(eq=False, slots=True)
class Life:
    """One attempt, as its host's kernel knows it.

    Attributes:
        attempt_id: Which.
        job_id: Whose.
        job: The name of that.
        index: Of which task.
        number: Which try at it, from 0.
        gang: The gang that it is part of; "" for none.
        attempt: It.
        born_at: In virtual seconds.
        died_at: When its main process ended; None while that runs.
        frozen: Whether it stood still when it was last looked at, or has not been looked at yet.
    """

    attempt_id: str
    job_id: str
    job: str
    index: int
    number: int
    gang: str
    attempt: SimAttempt
    born_at: float
    died_at: float | None = None
    frozen: bool = True

    @property
    def host(self) -> str:
        """The name of its host."""
        return self.attempt.host.name

    @property
    def runs(self) -> bool:
        """Whether anything of it can do anything."""
        return any(not process.frozen for process in self.attempt.living())

    @property
    def end(self) -> str:
        """``returned``, ``failed``, ``killed``, ``stopped``, ``lost`` or, still, ``running``."""
        exit = self.attempt.main.exit
        return "running" if exit is None else _end_of(exit)


def _end_of(exit: ProcessExit) -> str:
    if exit.with_host:
        return "lost"
    if exit.kind is ExitKind.RETURNED:
        return "failed" if exit.value else "returned"
    return {ExitKind.RAISED: "failed", ExitKind.CRASHED: "killed"}.get(exit.kind, "stopped")


class Truth:
    """All lives of a world, and what is wrong with them when they begin.

    Args:
        cluster: The world.

    Attributes:
        lives: By attempt.
        broken: Broken promises, as sentences.
        drained: Hosts that nothing new may come to, and the attempts that they had before.
    """

    def __init__(self, cluster: SimCluster) -> None:
        self.drained: dict[str, list[str]] = {}
        self.lives: dict[str, Life] = {}
        self.broken: list[str] = []
        self._cluster = cluster
        cluster.on_launch.append(self._launched)

    def ledger(self) -> Ledger | None:
        """That of the controller that runs; None where none does."""
        host = self._cluster._controller
        if host is None or host.process is None or host.process.exit is not None:
            return None
        return host.book.ledger if host.book is not None else None

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self._cluster.now

    def running(self) -> list[Life]:
        """Those that can do anything."""
        return [life for life in self.lives.values() if life.runs]

    def of_job(self, job_id: str) -> list[Life]:
        """All of a job, in order of their beginning.

        Args:
            job_id: Which.
        """
        return [life for life in self.lives.values() if life.job_id == job_id]

    def drain(self, host: str) -> None:
        """Somebody was told that nothing new comes to a host any more.

        Args:
            host: Its name.
        """
        ledger = self.ledger()
        if ledger is not None:
            attempts = ledger.tables.attempts.values()
            self.drained[host] = [a.attempt_id for a in attempts if a.worker_id == host]

    def _launched(self, attempt: SimAttempt) -> None:
        env, attempt_id = attempt.spec.env, attempt.spec.attempt_id
        job_id, number = env["FRAY_JOB_ID"], int(env["FRAY_ATTEMPT"])
        hosts = int(env["FRAY_NUM_TASKS"]) // int(env["FRAY_REPLICA_COUNT"])
        gang = f"{job_id}/r{env['FRAY_REPLICA_ID']}" if hosts > 1 else ""
        index = int(env["FRAY_TASK_INDEX"])
        life = Life(
            attempt_id,
            job_id,
            env["FRAY_JOB_NAME"],
            index,
            number,
            gang,
            attempt,
            self._cluster.now,
        )

        def died(_: object) -> None:
            life.died_at = self._cluster.now

        attempt.main.on_exit(died)
        if attempt_id in self.lives:
            where = self.lives[attempt_id].host
            self.broken.append(f"{attempt_id} starts on {life.host}, and did so on {where} before")
        if attempt_id not in self.drained.get(life.host, [attempt_id]):
            self.broken.append(f"{attempt_id} starts on {life.host}, which is drained")
        self.lives[attempt_id] = life
        self._judge_host(life)
        self._judge_gang(life)
        self._judge_group(life)

    def _judge_host(self, life: Life) -> None:
        """Nobody gets what another process has, nor all together more than there is."""
        here = [each for each in self.lives.values() if each.host == life.host]
        here = [each for each in here if each.attempt.living() and each.job != "tally"]
        cpus = sum(config_of(each.job).cpu for each in here)
        if cpus > HOST_CPUS:
            names = [each.attempt_id for each in here]
            self.broken.append(f"{life.host} has {HOST_CPUS} cpus, and runs {names}")
        gangs = dict.fromkeys(each.gang for each in here if each.gang)
        if len(gangs) > 1:
            self.broken.append(f"the chips of {life.host} belong to {list(gangs)}")
        has: Counter[str] = Counter()
        for each in here:
            share = 0.5 if each.job.startswith("half-") else 1.0
            devices = each.attempt.spec.env.get("CUDA_VISIBLE_DEVICES", "")
            has.update({device: share for device in devices.split(",") if device})
        if any(share > 1.0 for share in has.values()):
            self.broken.append(f"{life.attempt_id} starts, and of {life.host}'s GPUs go {has}")

    def _judge_gang(self, life: Life) -> None:
        if not life.gang:
            return
        env = life.attempt.spec.env
        hosts = env["TPU_WORKER_HOSTNAMES"].split(",")
        if hosts[int(env["TPU_WORKER_ID"])] != life.host:
            self.broken.append(f"{life.attempt_id} starts on {life.host}, and is told of {hosts}")
        for other in self.running():
            if other.gang == life.gang and other.number != life.number:
                self.broken.append(
                    f"{life.attempt_id} starts on {life.host} while {other.attempt_id}, of another "
                    f"life of its gang, still runs on {other.host}"
                )

    def _judge_group(self, life: Life) -> None:
        """All of a group have places when the first of them starts, and near each other."""
        ledger = self.ledger()
        job = ledger.tables.jobs.get(life.job_id) if ledger is not None else None
        group = ledger.tables.groups.get(job.group_id) if ledger and job is not None else None
        if ledger is None or group is None:
            return
        for job_id in group.job_ids:
            other = ledger.tables.jobs[job_id]
            if other.verdict is None and not all(task.attempts for task in ledger.tasks(job_id)):
                self.broken.append(
                    f"{life.attempt_id} starts, and {job_id}, of the same group, has no place yet"
                )
        here = life.attempt.host
        for other in self.running():
            there = other.attempt.host
            if other.job_id not in group.job_ids or other is life:
                continue
            far = group.same_region and here.region != there.region
            far = far or (group.same_zone and here.zone != there.zone)
            if far:
                self.broken.append(
                    f"{life.attempt_id} starts on {here} far from {other.attempt_id} on {there}, "
                    "and their group wants to be near each other"
                )
