"""The simulated side of the process seam: attempts are simulated processes.

It does for `fray.testing.attempts` what the subprocess launcher does for real processes, and both
pass one conformance suite. What an attempt runs is looked up by its command line: a simulation
starts no program of the real machine.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from fray.cluster.worker.launcher import Exit, LaunchSpec, Usage
from fray.errors import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

    from fray.ids import AttemptId
    from fray.testing.attempts import HostAttempts, SimAttempt, TaskProgram
    from fray.testing.process import SimProcess

LAUNCH_S = (0.005, 0.05)
"""From the call to the program's first line: forking and starting an interpreter. Uniform."""

PROCESS_BYTES = 30 << 20
"""What a simulated process is said to use: an interpreter with fray in it."""


class SimRunning:
    """One attempt, seen from one agent; see `fray.cluster.worker.launcher.Running`.

    Args:
        attempt: The attempt.
    """

    def __init__(self, attempt: SimAttempt) -> None:
        self.attempt = attempt
        self._seen: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        attempt.ended.add_done_callback(self._ended)

    def __repr__(self) -> str:
        return repr(self.attempt)

    @property
    def attempt_id(self) -> AttemptId:
        """See `Running.attempt_id`."""
        return self.attempt.spec.attempt_id

    @property
    def pid(self) -> int:
        """See `Running.pid`."""
        return self.attempt.main.pid

    @property
    def started_at(self) -> float:
        """See `Running.started_at`."""
        return self.attempt.started_at

    @property
    def exit(self) -> Exit | None:
        """See `Running.exit`."""
        return self.attempt.exit

    async def wait(self) -> Exit:
        """See `Running.wait`."""
        return await asyncio.shield(self._seen)

    async def stop(self, grace_s: float | None = None) -> Exit:
        """See `Running.stop`."""
        grace_s = self.attempt.spec.stop_grace_s if grace_s is None else grace_s
        if not grace_s >= 0:
            raise ValueError(f"a grace of {grace_s} s: it must be at least 0")
        self.attempt.stop(grace_s)
        return await self.wait()

    async def kill(self) -> Exit:
        """See `Running.kill`."""
        return await self.stop(0)

    def usage(self) -> Usage:
        """See `Running.usage`. Nothing is measured: each process counts alike, and computes not."""
        count = len(self.attempt.living())
        return Usage(0.0, count * PROCESS_BYTES, count)

    def close(self) -> None:
        """Watches no longer; the attempt runs on."""
        if not self._seen.done():
            self._seen.set_exception(
                ClusterError(f"the launcher was closed; attempt {self.attempt_id} runs on")
            )
            self._seen.exception()  # it is no bug that nobody waits

    def _ended(self, ended: asyncio.Future[Exit]) -> None:
        if not self._seen.done():
            self._seen.set_result(ended.result())


class SimLauncher:
    """Implements `fray.cluster.worker.launcher.Launcher` with simulated processes.

    Args:
        attempts: Those of the agent's host.
        agent: The agent's process; when it ends, however, the host has no agent any more.
        root: The directory of the run directories.
        programs: What a spec runs; None where the host has no such program.
    """

    def __init__(
        self,
        attempts: HostAttempts,
        agent: SimProcess,
        root: Path,
        programs: Callable[[LaunchSpec], TaskProgram | None],
    ) -> None:
        self._host = attempts
        self._agent = agent
        self._root = root.absolute()
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._programs = programs
        self._running: dict[AttemptId, SimRunning] = {}
        self._launching: dict[AttemptId, Path] = {}
        self._closed = False
        attempts.agent_came(self)
        agent.on_exit(lambda _: attempts.agent_gone(self))

    def __repr__(self) -> str:
        return f"<SimLauncher on {self._host.host.name}: {len(self._running)} known>"

    @property
    def limits_memory(self) -> bool:
        """See `Launcher.limits_memory`. Simulated processes have no memory of their own."""
        return False

    async def launch(self, spec: LaunchSpec) -> SimRunning:
        """See `Launcher.launch`."""
        self._check_open()
        program = self._check(spec)
        self._launching[spec.attempt_id] = spec.run_dir
        try:
            clock = self._agent.clock
            await clock.sleep(clock.random.uniform(*LAUNCH_S))
            await self._barrier(spec.attempt_id)
            self._check_open()
            if spec.start_by is not None and clock.monotonic() > spec.start_by:
                raise OSError(errno.ESTALE, "it would begin after the host's lease")
            spec.run_dir.mkdir(mode=0o700, exist_ok=True)
            attempt = self._host.launch(spec, program)
        finally:
            del self._launching[spec.attempt_id]
        running = self._running[spec.attempt_id] = SimRunning(attempt)
        return running

    async def _barrier(self, attempt_id: AttemptId) -> None:
        """The point ``launch.<attempt>``, where a test may stop the agent."""
        if self._agent.barriers is not None:
            passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            point = f"launch.{attempt_id}"
            self._agent.barriers.pass_by(self._agent, point, lambda: passed.set_result(None))
            await passed

    def _check(self, spec: LaunchSpec) -> TaskProgram:
        known = self._host.attempts
        if not spec.argv:
            raise ValueError("argv is empty: there is no program to run")
        if spec.attempt_id in known or spec.attempt_id in self._launching:
            raise ValueError(f"attempt {spec.attempt_id} was launched before")
        if spec.run_dir.parent != self._root:
            raise ValueError(f"run_dir {spec.run_dir} is not directly below {self._root}")
        used = [attempt.spec.run_dir for attempt in known.values()]
        if spec.run_dir in used or spec.run_dir in self._launching.values():
            raise FileExistsError(errno.EEXIST, "a run directory serves once", str(spec.run_dir))
        if spec.cwd is not None and not os.path.isdir(spec.cwd):
            raise FileNotFoundError(errno.ENOENT, "no such working directory", spec.cwd)
        program = self._programs(spec)
        if program is None:
            raise FileNotFoundError(
                errno.ENOENT,
                "no such program in this simulation: give it one with sim_cluster.programs[…]",
                spec.argv[0],
            )
        return program

    async def adopt(self) -> list[SimRunning]:
        """See `Launcher.adopt`."""
        self._check_open()
        for attempt_id, attempt in self._host.attempts.items():
            if attempt_id not in self._running:
                self._running[attempt_id] = SimRunning(attempt)
        return sorted(self._running.values(), key=lambda one: (one.started_at, one.attempt_id))

    async def forget(self, attempt_id: AttemptId) -> None:
        """See `Launcher.forget`."""
        attempt = self._host.attempts.get(attempt_id)
        if attempt is None:
            return
        if attempt.exit is None:
            raise ValueError(f"attempt {attempt_id} still runs")
        del self._host.attempts[attempt_id]
        self._running.pop(attempt_id, None)
        shutil.rmtree(attempt.spec.run_dir)

    async def close(self, kill: bool) -> None:
        """See `Launcher.close`."""
        self._closed = True
        if kill:
            for running in list(self._running.values()):
                await running.kill()
        for running in self._running.values():
            running.close()
        self._host.agent_gone(self)

    def _check_open(self) -> None:
        if self._closed:
            raise ClusterError("the launcher was closed")


__all__ = ["SimLauncher", "SimRunning"]
