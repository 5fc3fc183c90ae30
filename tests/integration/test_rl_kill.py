"""The reinforcement learning example, while its processes are killed, and others are added."""

from __future__ import annotations

import importlib.util
import json
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

SOLVED_RETURN = 475
"""What it learns in the end: long enough for all that is to happen meanwhile."""

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
        """The processes of one of its actors, as what they are marked with tells."""
        run_dirs = f"FRAY_RUN_DIR={_scratch(self._checkpoints.parent)}/"
        found: list[int] = []
        for path in Path("/proc").iterdir():
            if not path.name.isdigit():
                continue
            try:
                variables = (path / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has ended
                continue
            attempts = [v for v in variables if v.startswith("FRAY_ATTEMPT_ID=")]
            here = any(v.startswith(run_dirs) for v in variables)
            if here and any(f"/{role}-" in attempt for attempt in attempts):
                found.append(int(path.name))
        return found

    def changes(self) -> list[tuple[int, str]]:
        """What became of which rollout worker."""
        path = self._checkpoints.parent / "crew.json"
        told = json.loads(path.read_text()) if path.exists() else []
        return [(each["worker"], each["what"]) for each in told]

    def until(self, condition: Callable[[], object], what: str) -> None:
        while not condition():
            assert self._process.poll() is None, f"the example has ended before {what}"
            assert time.monotonic() < self._until, f"not in time: {what}"
            time.sleep(0.01)

    def kill(self, role: str) -> None:
        """Kills an actor's process, and waits until the actor has another."""
        [pid] = self.pids(role)
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: any(p != pid for p in self.pids(role)), f"{role} is started again")

    def end(self) -> str:
        """Waits for its end; gives what it printed."""
        printed, _ = self._process.communicate(timeout=self._until - time.monotonic())
        assert self._process.returncode == 0, printed
        return printed


def _scratch(output: Path) -> Path:
    """Where a run keeps what its cluster needs, so that its processes can be told from others'."""
    scratch = output / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


@contextmanager
def demo(output: Path, target: int) -> Generator[Demo]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "examples.rl"),
            *("--output", str(output)),
            *("--target", str(target)),
            *("--max-minutes", str(DEADLINE_S / 60)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(_scratch(output))},
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


def kill_and_go_on(run: Demo, role: str) -> None:
    known = run.steps()
    run.kill(role)
    run.until(lambda: run.steps()[-1] > known[-1] + 2, "learning goes on")
    later = set(run.steps()) - set(known)
    assert min(later) > known[-1]  # nothing is learnt from the beginning again


@pytest.mark.parametrize("role", ["learner", "curriculum"])
def test_example_learns_although_one_of_its_processes_is_killed(tmp_path: Path, role: str):
    with demo(tmp_path / "run", TARGET_RETURN) as run:
        run.until(lambda: run.steps()[-1:] >= [KILL_AT_STEP], "some steps were made")
        kill_and_go_on(run, role)
        printed = run.end()
    assert "solved: mean return" in printed
    if role == "learner":
        assert "restarts: 1" in printed


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is no room for a second one")
def test_rollout_workers_are_added_and_killed_while_it_learns(tmp_path: Path):
    with demo(tmp_path / "run", SOLVED_RETURN) as run:
        run.until(lambda: (1, "added") in run.changes(), "a second worker is added")
        kill_and_go_on(run, "rollout-0")
        assert "solved: mean return" in run.end()
        changes = run.changes()
    assert changes[:3] == [(0, "started"), (1, "added"), (0, "lost")]
