"""This machine as a host, for the tests of the real launcher."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fray.cluster.worker.launcher import LaunchSpec
from fray.cluster.worker.shim.cgroups import Group
from fray.cluster.worker.shim.records import write_lease
from fray.cluster.worker.subprocesses import SubprocessLauncher
from fray.ids import AttemptId
from fray.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.cluster.worker.launcher import Running

    from .launcher_conformance import Program

MARK = "FRAY_TEST_MARK"
DEADLINE_S = 30.0


def marked_processes(mark: str) -> list[psutil.Process]:
    """Everything that was started under a mark: tasks, their children, supervisors, zygotes."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def container(parent: Group, limit_bytes: int) -> Group:
    """A group for an agent and all that it starts, as a container is one; the caller removes it."""
    made = Group(f"{parent.path}/fray-test-{os.getpid()}", parent.version)
    made.create(limit_bytes)
    whole = Path(made.path, "memory.oom.group")  # of an attempt, all is killed: not of this one
    if whole.exists():
        whole.write_text("0")
    return made


class SubprocessHarness:
    """This machine, as a host. Implements `launcher_conformance.Harness`."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "run"
        self.logs = directory / "logs"
        self.clock = SystemClock()

    def launcher(self, **options: float) -> SubprocessLauncher:
        return SubprocessLauncher(self.root, self.clock, **options)

    def spec(self, name: str, program: Program | None = None, *argv: str) -> LaunchSpec:
        return LaunchSpec(
            attempt_id=AttemptId(f"me/{name}-7f3a/0#0"),
            argv=argv if program is None else ("/bin/sh", "-c", script(program)),
            run_dir=self.root / name,
            log_path=self.logs / f"{name}.log",
        )

    def python(self, name: str, code: str) -> LaunchSpec:
        return self.spec(name, None, sys.executable, "-I", "-S", "-c", code)

    def send_signal(self, running: Running, number: int) -> None:
        os.kill(running.pid, number)

    def log(self, spec: LaunchSpec) -> bytes:
        return spec.log_path.read_bytes() if spec.log_path.exists() else b""

    def processes(self, spec: LaunchSpec) -> int:
        return len(self.tree(spec))

    def tree(self, spec: LaunchSpec) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.environ().get("FRAY_RUN_DIR") == str(spec.run_dir):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def renew_lease(self, path: Path) -> None:
        write_lease(str(path), self.clock.monotonic())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.002)


def script(program: Program) -> str:
    """Acts a program out, in a shell."""
    lines: list[str] = []
    if program.on_sigterm == "ignore":
        lines.append("trap '' TERM")
    elif program.on_sigterm is not None:
        lines.append(f"trap 'exit {program.on_sigterm}' TERM")
    if program.detaches_child:
        setsid = shutil.which("setsid")
        lines.append(f"{setsid} /bin/sh -c 'trap \"\" TERM; while :; do sleep 1000; done' &")
    if program.prints:
        lines.append(f"printf %s {shlex.quote(program.prints)}")
    if program.prints_variable:
        lines.append(f'printf "%s\\n" "${program.prints_variable}"')
    if program.exit_code is not None:
        lines.append(f"exit {program.exit_code}")
    elif program.on_sigterm is None:
        lines.append("exec sleep 1000")
    else:
        lines.append("while :; do sleep 1000 & wait; done")
    return "\n".join(lines)
