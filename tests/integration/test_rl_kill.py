"""The reinforcement learning example, while its processes are killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TARGET_RETURN = 250
"""Far below what the example learns in the end, and far above what it cannot help."""

MARK = "RL_KILL_TEST"
"""An environment variable, by which the processes of a run are found."""

DEADLINE_S = 150.0
KILL_AT_STEP = 5

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(DEADLINE_S + 30),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("jax", "optax", "gymnasium")),
        reason="needs fray-actors[examples]",
    ),
]


class Demo:
    """A run of the example in a process of its own."""

    def __init__(self, output: Path, process: subprocess.Popen[str]) -> None:
        self._checkpoints = output / "checkpoints"
        self._process = process
        self._until = time.monotonic() + DEADLINE_S

    def steps(self) -> list[int]:
        """Of the checkpoints that are there, in order."""
        if not self._checkpoints.exists():
            return []
        return sorted(int(path.name.partition("-")[2]) for path in self._checkpoints.iterdir())

    def pids(self, role: str) -> list[int]:
        """The processes of one of its jobs, as their environments tell."""
        mark = f"{MARK}={self._checkpoints.parent}"
        found: list[int] = []
        for path in Path("/proc").iterdir():
            if not path.name.isdigit():
                continue
            try:
                variables = (path / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has ended
                continue
            jobs = [v for v in variables if v.startswith(f"FRAY_JOB_NAME=rl-{role}-")]
            if jobs and mark in variables:
                found.append(int(path.name))
        return found

    def until(self, condition: Callable[[], object], what: str) -> None:
        while not condition():
            assert self._process.poll() is None, f"the example has ended before {what}"
            assert time.monotonic() < self._until, f"not in time: {what}"
            time.sleep(0.01)

    def kill(self, role: str) -> None:
        """Kills a job's process, and waits until the job has another."""
        [pid] = self.pids(role)
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: any(p != pid for p in self.pids(role)), f"{role} is started again")

    def end(self) -> str:
        """Waits for its end; gives what it printed."""
        printed, _ = self._process.communicate(timeout=self._until - time.monotonic())
        assert self._process.returncode == 0, printed
        return printed


@contextmanager
def demo(output: Path) -> Generator[Demo]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "examples.rl"),
            *("--output", str(output)),
            *("--target", str(TARGET_RETURN)),
            *("--max-minutes", str(DEADLINE_S / 60)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), MARK: str(output)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Demo(output, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # it takes its jobs along
            process.communicate(timeout=60)


@pytest.mark.parametrize("role", ["rollout-0", "train", "coordinator"])
def test_example_learns_although_one_of_its_processes_is_killed(tmp_path: Path, role: str):
    with demo(tmp_path / "run") as run:
        run.until(lambda: run.steps()[-1:] >= [KILL_AT_STEP], "some steps were made")
        known = run.steps()
        run.kill(role)
        run.until(lambda: run.steps()[-1] > known[-1] + 2, "learning goes on")
        later = set(run.steps()) - set(known)
        assert min(later) > known[-1]  # nothing is learnt from the beginning again
        printed = run.end()
    assert "solved: mean return" in printed
    if role == "train":  # another worker may not have had anything to report again
        assert "restarts: 1" in printed
