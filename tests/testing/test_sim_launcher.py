"""The simulated launcher does what every launcher must do, and loses its attempts with the host."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from typing import TYPE_CHECKING

import pytest

from fray.cluster.worker.launcher import LaunchSpec
from fray.cluster.worker.shim.records import write_lease
from fray.errors import DeathKind
from fray.ids import AttemptId
from fray.testing.attempts import Execution, HostAttempts
from fray.testing.launcher import SimLauncher
from tests.cluster.worker.launcher_conformance import ENDLESS, LauncherConformance, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fray.cluster.worker.launcher import Running
    from fray.testing import SimProcess, Simulation
    from fray.testing.attempts import TaskProgram

ACT = "/bin/act"


class SimHarness:
    """A simulated host. Implements `launcher_conformance.Harness`."""

    def __init__(self, sim: Simulation, directory: Path) -> None:
        self.sim = sim
        self.root = directory / "run"
        self.logs = directory / "logs"
        self.host = sim.host("a")
        self.attempts = HostAttempts(sim, self.host)
        self.acts: dict[AttemptId, Program] = {}

    def launcher(self, agent: SimProcess | None = None) -> SimLauncher:
        return SimLauncher(self.attempts, agent or self.sim.driver, self.root, self.program)

    def program(self, spec: LaunchSpec) -> TaskProgram | None:
        if spec.argv[0] != ACT:
            return None
        act = self.acts[spec.attempt_id]
        return lambda execution: play(act, execution)

    def spec(self, name: str, program: Program) -> LaunchSpec:
        spec = LaunchSpec(
            attempt_id=AttemptId(f"me/{name}-7f3a/0#0"),
            argv=(ACT,),
            run_dir=self.root / name,
            log_path=self.logs / f"{name}.log",
        )
        self.acts.setdefault(spec.attempt_id, program)
        return spec

    def send_signal(self, running: Running, number: int) -> None:
        [main] = [p for p in self.host.processes.values() if p.pid == running.pid]
        {signal.SIGKILL: self.sim.crash, signal.SIGSTOP: self.sim.freeze}[number](main)

    def log(self, spec: LaunchSpec) -> bytes:
        return spec.log_path.read_bytes() if spec.log_path.exists() else b""

    def processes(self, spec: LaunchSpec) -> int:
        attempt = self.attempts.attempts.get(spec.attempt_id)
        return len(attempt.living()) if attempt is not None else 0

    def renew_lease(self, path: Path) -> None:
        write_lease(str(path), self.host.time.monotonic())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(3600):
            while not condition():
                await asyncio.sleep(0.01)


async def play(program: Program, execution: Execution) -> int | None:
    """Acts a program out."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    if program.on_sigterm == "ignore":
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
    elif program.on_sigterm is not None:
        loop.add_signal_handler(signal.SIGTERM, told.set)
    if program.detaches_child:
        execution.spawn(lambda child: play(Program(on_sigterm="ignore"), child))
    execution.print(program.prints)
    if program.prints_variable:
        execution.print(f"{execution.spec.env[program.prints_variable]}\n")
    if program.exit_code is not None:
        return program.exit_code
    await told.wait()
    assert isinstance(program.on_sigterm, int)
    return program.on_sigterm


@pytest.fixture
def harness(sim: Simulation, tmp_path: Path) -> Iterator[SimHarness]:
    harness = SimHarness(sim, tmp_path)
    yield harness
    harness.attempts.close()


class TestSimLauncher(LauncherConformance):
    """All of it, but for limits of memory, of which simulated processes have none."""


async def test_attempts_are_lost_with_their_host_and_told_so_to_the_next_agent(harness: SimHarness):
    launcher = harness.launcher()
    spec = harness.spec("a", ENDLESS)
    await launcher.launch(spec)
    harness.sim.crash("a")
    harness.sim.restart("a")
    await asyncio.sleep(1)
    [adopted] = await harness.launcher().adopt()
    end = await adopted.wait()
    assert (end.exit_code, end.signal) == (None, None)
    assert end.cause is not None
    assert end.cause.kind is DeathKind.HOST_LOST
    assert harness.processes(spec) == 0


async def test_attempt_of_a_crashed_agent_ends_after_its_time_unless_another_comes(
    harness: SimHarness,
):
    async def agent(process: SimProcess) -> None:
        launcher = harness.launcher(process)
        await launcher.adopt()
        if not harness.attempts.attempts:
            spec = harness.spec("a", Program(prints="ready\n", on_sigterm=5))
            await launcher.launch(dataclasses.replace(spec, orphan_timeout_s=60.0))
        await asyncio.Event().wait()

    first = harness.sim.process("a", agent)
    await harness.until(lambda: len(harness.attempts.attempts) == 1)
    [attempt] = harness.attempts.attempts.values()
    harness.sim.crash(first)
    await asyncio.sleep(50)
    second = harness.sim.process("a", agent)
    await asyncio.sleep(100)
    assert attempt.exit is None
    harness.sim.crash(second)
    await asyncio.sleep(61)
    assert attempt.exit is not None
    assert (attempt.exit.exit_code, attempt.exit.cause.kind) == (5, DeathKind.STOPPED)
