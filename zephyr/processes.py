"""Runs tasks in processes of this machine, one for each core."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, cast

from zephyr.errors import WorkerDied, WorkerTraceback
from zephyr.executors import Ended, Key, StageRef
from zephyr.staff import Staff, Worker

if TYPE_CHECKING:
    from zephyr.task import Task
    from zephyr.worker import Answer


EXIT_S = 5.0
"""So long a process may take to end that cannot be heard any more."""


class _Process(Worker):
    """A process, and the way to it."""

    def __init__(self) -> None:
        super().__init__()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            # Not by `multiprocessing`, which would run the user's program once more in it.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "zephyr.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            )
            self.connection: Connection = Connection(ours.detach())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()

    def death(self) -> str:
        """Why it is gone."""
        self.connection.close()
        try:
            code = self.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code < 0:
            return f"process {self.process.pid} was killed by {signal.Signals(-code).name}"
        return f"process {self.process.pid} exited with {code}"


class ProcessExecutor:
    """Runs tasks in worker processes; one that dies is replaced.

    Args:
        max_workers: How many there are at most, ≥ 1.
    """

    in_process = False
    speculates = True
    retries = False

    def __init__(self, max_workers: int) -> None:
        self._staff = Staff(_Process, max_workers)

    def begin(self, num_tasks: int) -> None:
        """See `Executor`."""
        self._staff.grow(num_tasks)

    @property
    def room(self) -> int:
        """See `Executor`."""
        return len(self._staff.idle())

    def start(self, key: Key, stage: StageRef, task: Task) -> None:
        """See `Executor`."""
        worker = self._staff.idle()[0]
        worker.key = key
        try:
            worker.connection.send_bytes(pickle.dumps((stage.path, task)))
        except (BrokenPipeError, ConnectionResetError):
            return  # it is dead, which is heard next

    def wait(self, timeout_s: float) -> list[Ended]:
        """See `Executor`."""
        workers: dict[Any, _Process] = {each.connection: each for each in self._staff.workers}
        ended: list[Ended] = []
        for connection in wait(list(workers), timeout_s):
            worker = workers[connection]
            try:
                answer = worker.connection.recv_bytes()
            except (EOFError, OSError):  # between two answers, or within one
                ended += self._staff.replace(worker, WorkerDied(worker.death()))
            else:
                ended += self._hear(worker, answer)
        return ended

    def _hear(self, worker: _Process, answer: bytes) -> list[Ended]:
        key = self._staff.release(worker)
        if key is None:
            return []
        result, error, told = cast("Answer", pickle.loads(answer))
        if error is not None:  # pickling keeps neither its traceback nor its causes
            error.__cause__ = WorkerTraceback(told)
        return [Ended(key, result, error)]

    def abandon(self, key: Key) -> None:
        """See `Executor`."""
        self._staff.abandon(key)

    def close(self) -> None:
        """See `Executor`. Nothing is written after that."""
        for worker in self._staff.workers:
            worker.kill()
        self._staff.workers.clear()


__all__ = ["ProcessExecutor"]
