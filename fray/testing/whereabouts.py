"""Where everything is in a simulated cluster, seen from outside: no message is sent to find out.

It also watches the promise that a cluster must never break, whatever fails: no task runs twice at
one time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fray.cluster.worker.taskfile import TASK_FILE, TaskFile

if TYPE_CHECKING:
    from fray.actor.handle import ActorHandle
    from fray.cluster.controller.book import Book
    from fray.ids import AttemptId
    from fray.testing.attempts import SimAttempt
    from fray.testing.hosts import WorkerHost
    from fray.testing.process import SimProcess
    from fray.testing.world import World


class Whereabouts:
    """Finds attempts and processes.

    Args:
        world: Where they are.
        workers: The hosts of the cluster, by name.
        violated: Told in words of each broken promise.
    """

    def __init__(
        self, world: World, workers: Mapping[str, WorkerHost], violated: Callable[[str], None]
    ) -> None:
        self._world = world
        self._workers = workers
        self._violated = violated
        self._tasks: dict[AttemptId, TaskFile] = {}
        self._of_task: dict[str, list[SimAttempt]] = {}

    def launched(self, attempt: SimAttempt) -> None:
        """An attempt starts.

        Args:
            attempt: The attempt; its processes have run nothing yet.
        """
        attempt_id = attempt.spec.attempt_id
        if (attempt.spec.run_dir / TASK_FILE).exists():
            self._tasks[attempt_id], _ = TaskFile.read(attempt.spec.run_dir)
        task = _task_of(attempt_id)
        others = [a for a in self._of_task.get(task, ()) if a is not attempt and a.living()]
        self._of_task[task] = [*others, attempt]
        for other in others:
            if _runs(other):
                self._violated(
                    f"{attempt_id} starts on {attempt.host.name} while {other.spec.attempt_id} "
                    f"of the same task still runs on {other.host.name}"
                )

    def living(self) -> list[SimAttempt]:
        """All attempts of which a process runs, by host and in order of their start.

        Those that are frozen are not among them: they do nothing.
        """
        return [
            attempt
            for worker in self._workers.values()
            for attempt in worker.attempts.attempts.values()
            if _runs(attempt)
        ]

    def processes_of(self, what: ActorHandle[Any] | str) -> list[SimProcess]:
        """The processes that an actor, a pool of actors or a job has at present.

        Args:
            what: A handle, or a job's id.
        """
        if isinstance(what, str):
            return [a.main for a in self._alive() if _job_of(a.spec.attempt_id) == what]
        made = [attempt.main for attempt in self._alive() if self._hosts(attempt, what)]
        return made or self._processes_at([e.address for e in what.route.endpoints])

    def _alive(self) -> list[SimAttempt]:
        """As `living`, with those that are frozen."""
        return [
            attempt
            for worker in self._workers.values()
            for attempt in worker.attempts.attempts.values()
            if attempt.main.exit is None
        ]

    def _hosts(self, attempt: SimAttempt, handle: ActorHandle[Any]) -> bool:
        """Whether an attempt is that of an actor which the cluster made."""
        task = self._tasks.get(attempt.spec.attempt_id)
        if task is None or task.actor is None:
            return False
        key = handle.key
        if key.actor_id:
            return task.actor.actor_id == key.actor_id
        return (task.actor.namespace, task.actor.name) == (key.namespace, key.name)

    def _processes_at(self, addresses: list[str]) -> list[SimProcess]:
        """Who listens at some addresses: the processes that host objects of their own."""
        found: dict[SimProcess, None] = {}
        for address in addresses:
            name, _, port = address.rpartition(":")
            door = self._world.network.hosts[name].doors.get(int(port))
            host = self._world.hosts[name]
            if door is not None and door.process_name == self._world.driver.name:
                found[self._world.driver] = None
            elif door is not None and door.process_name in host.processes:
                found[host.processes[door.process_name]] = None
        return list(found)

    def describe(self, book: Book | None) -> list[str]:
        """Jobs as the controller knows them, attempts as they are.

        Args:
            book: The controller's; None where it has not started yet.
        """
        lines: list[str] = []
        for job in book.ledger.tables.jobs.values() if book is not None else ():
            error = f": {job.error_message}" if job.error_message else ""
            lines.append(f"job {job.spec.job_id} {job.status}{error}")
        for name, worker in self._workers.items():
            state = "up" if worker.host.up else "DOWN"
            lines.append(f"worker {name} {state}")
            lines += [f"  {attempt!r}" for attempt in worker.attempts.attempts.values()]
        return lines


def _runs(attempt: SimAttempt) -> bool:
    return any(not process.frozen for process in attempt.living())


def _task_of(attempt_id: str) -> str:
    return attempt_id.rpartition("#")[0]


def _job_of(attempt_id: str) -> str:
    return _task_of(attempt_id).rpartition("/")[0]


__all__ = ["Whereabouts"]
