"""The actor of one attempt at a task on Ray; made by Ray, in its processes.

The task is a process of its own below that actor, so that what it prints is its log, and so that it
can be ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fray.cluster.bundles import unpack_workspace
from fray.cluster.rayimport import import_ray
from fray.cluster.worker.exits import code_message, signal_name

STOP_S = 5.0
"""What a task has to end after SIGTERM."""

SEND_S = 0.1
"""How often output is sent to the book."""


@dataclass(frozen=True)
class RayTask:
    """What one task of a job is, as its actor needs it.

    Attributes:
        job_id: Of which job.
        index: Which task of it.
        argv: The program; None for a function.
        payload: The packed function and arguments.
        bundle: The packed project folder; empty for none.
        variables: Environment variables of its own.
        options: Ray's options of its actor.
    """

    job_id: str
    index: int
    argv: tuple[str, ...] | None
    payload: bytes
    bundle: bytes
    variables: Mapping[str, str]
    options: Mapping[str, Any]

    def attempt_id(self, number: int) -> str:
        """The id of an attempt at it.

        Args:
            number: Which, from 0.
        """
        return f"{self.job_id}/{self.index}#{number}"


class Runner:
    """The actor of one attempt at a task; made by Ray.

    Args:
        keeper: The keeper's handle.
        task: The task.
        number: Which attempt at it, from 0.
    """

    def __init__(self, keeper: Any, task: RayTask, number: int) -> None:
        self._keeper = keeper
        self._task = task
        self._number = number
        self._process: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def run(self) -> str | None:
        """Runs the task to its end.

        Returns:
            Why it failed; None if it did not.
        """
        task = self._task
        with tempfile.TemporaryDirectory(prefix="fray-task-") as folder:
            path = Path(folder, "entrypoint")
            path.write_bytes(task.payload)
            me = (sys.executable, "-m", "fray.cluster.raytask", str(os.getpid()), str(path))
            argv = (*me, *(task.argv or ()))
            project = Path(folder, "project")
            project.mkdir()
            if task.bundle:
                unpack_workspace(task.bundle, project)
            ray_address: str = import_ray().get_runtime_context().gcs_address
            variables = {
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "RAY_ADDRESS": ray_address,
                **task.variables,
                "FRAY_ATTEMPT": str(self._number),
                "FRAY_ATTEMPT_ID": task.attempt_id(self._number),
            }
            if task.bundle:
                paths = (str(project), str(project / "src"), variables.get("PYTHONPATH", ""))
                variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
            process = self._process = subprocess.Popen(
                argv,
                env=variables,
                cwd=project if task.bundle else None,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            if self._stopped.is_set():
                self._kill(signal.SIGKILL)
            threading.Thread(target=self._clear_away, args=(process,), daemon=True).start()
            self._pass_on(process)
            code = process.wait()
            error = Path(f"{path}.error")
            if code == 0:
                return None
            if error.exists():
                return error.read_text()
        return f"killed by {signal_name(-code)}" if code < 0 else code_message(code)

    def _clear_away(self, process: subprocess.Popen[str]) -> None:
        """Ends with a task what it has started and left: that would keep its output open."""
        process.wait()
        self._kill(signal.SIGKILL)

    def _pass_on(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        lines: list[str] = []
        lock = threading.Lock()
        over = threading.Event()
        ray, task = import_ray(), self._task

        def send() -> None:
            with lock:
                told = lines.copy()
                lines.clear()
            if told:
                # Waited for: the book is to have all output before it hears of the end.
                ray.get(self._keeper.ask.remote("jobs", "said", task.job_id, task.index, told))

        def send_often() -> None:
            while not over.wait(SEND_S):
                send()

        sender = threading.Thread(target=send_often, daemon=True)
        sender.start()
        for line in process.stdout:
            with lock:
                lines.append(line.rstrip("\n"))
        over.set()
        sender.join()
        send()

    def stop(self) -> None:
        """Ends the task: SIGTERM to its processes, SIGKILL after a while."""
        self._stopped.set()
        process = self._process
        if process is None:
            return
        self._kill(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._kill(signal.SIGKILL)

    def _kill(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


__all__ = ["RayTask", "Runner"]
