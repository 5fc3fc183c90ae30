"""The attempts of a simulated host: what its kernel and its supervisors know of them.

An attempt's processes and the record of how it ended outlive the agent that launched it, so they
belong to the host. What is done to an attempt happens at once; what becomes of it is written down
when nothing of its tree is left, as the real supervisors do
(`fray.cluster.worker.shim.supervisor`).

A program is a coroutine function that runs in a simulated process of its own. It is given the
`Execution` that it is part of.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from fray.cluster.worker import exits
from fray.cluster.worker.environment import inherited
from fray.cluster.worker.launcher import Exit, LaunchSpec
from fray.cluster.worker.logs import LogWriter
from fray.cluster.worker.shim import records
from fray.testing.environ import VARIABLES
from fray.testing.process import ExitKind

if TYPE_CHECKING:
    from fray.cluster.worker.exits import StopReason
    from fray.ids import AttemptId
    from fray.testing.lanes import SimHandle
    from fray.testing.process import ProcessExit, SimHost, SimProcess
    from fray.testing.world import World

SIGKILL = 9
SIGTERM = 15

LOOK_S = 1.0
"""How late a supervisor may notice that a lease has run out."""

TaskProgram: TypeAlias = "Callable[[Execution], Coroutine[Any, Any, int | None]]"
"""What a simulated attempt runs; gives its exit code, None for 0."""


class Execution:
    """An attempt, as the program that it runs sees it.

    Attributes:
        spec: What was launched: arguments, environment, directories.
        process: The simulated process of the program.
        log: Where its standard output and error go.
    """

    def __init__(self, attempt: SimAttempt, process: SimProcess) -> None:
        self.spec = attempt.spec
        self.process = process
        self.log = attempt.log
        self._attempt = attempt

    def print(self, text: str) -> None:
        """Writes to its standard output.

        Args:
            text: Complete with its newlines.
        """
        self.log.append(text.encode())

    def spawn(self, program: TaskProgram, name: str = "child") -> SimProcess:
        """Starts a process that is part of the attempt, in a session of its own.

        Args:
            program: What it runs.
            name: For people.
        """
        return self._attempt.spawn(program, name)


class SimAttempt:
    """One attempt on a simulated host: its processes, and how it ended.

    Attributes:
        spec: What was launched.
        started_at: In seconds since 1970, by the host's clock.
        log: Where its output goes.
        main: Its main process.
        processes: All processes of its tree that ever were, the main one first.
        ended: Done when nothing of it is left.
    """

    def __init__(self, world: World, host: SimHost, spec: LaunchSpec, program: TaskProgram) -> None:
        self.spec = spec
        self.host = host
        self.started_at = host.time.time()
        self.log = LogWriter(spec.log_path, spec.log_bytes_max)
        self.processes: list[SimProcess] = []
        self.ended: asyncio.Future[Exit] = world.loop.create_future()
        self._world = world
        self._main_exit: ProcessExit | None = None
        self._stop_reason: StopReason | None = None
        self._kill_at = float("inf")
        self._killing: SimHandle | None = None
        self._heard_at = host.time.monotonic()
        self._variables = {
            **inherited(os.environ),
            **spec.env,
            records.MARKER_ATTEMPT: spec.attempt_id,
            records.MARKER_RUN_DIR: str(spec.run_dir),
        }
        self.main = self.spawn(program, _process_name(spec.attempt_id))
        self._look_at_lease()

    def __repr__(self) -> str:
        ended = self.exit
        state = "running" if ended is None else f"ended: {ended.cause or 'success'}"
        if self._main_exit is not None and self._main_exit.with_host:
            state = "was lost with the host"
        return f"<SimAttempt {self.spec.attempt_id} on {self.host.name} {state}>"

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while anything of it is left."""
        return self.ended.result() if self.ended.done() else None

    def living(self) -> list[SimProcess]:
        """Its processes that there are at present."""
        return [process for process in self.processes if process.exit is None]

    def spawn(self, program: TaskProgram, name: str) -> SimProcess:
        """Starts a process of its tree.

        Args:
            program: What it runs.
            name: For people.
        """

        async def run(process: SimProcess) -> int | None:
            VARIABLES.set(dict(self._variables))
            return await program(Execution(self, process))

        process = self._world.process(self.host, run, name=name, check=False)
        self.processes.append(process)
        process.on_exit(self._process_ended)
        return process

    # ---- stopping

    def stop(self, grace_s: float, reason: StopReason = "requested") -> None:
        """SIGTERM to its main process, SIGKILL to its whole tree; the earliest deadline holds.

        Args:
            grace_s: Seconds between the two, at least 0, which skips SIGTERM.
            reason: On whose account.
        """
        if self.ended.done():
            return
        if self._main_exit is None and self.main.exit is None:
            self._stop_reason = self._stop_reason or reason
            if grace_s > 0:
                self._world.loop.thaw_lane(self.main.lane)  # SIGCONT
                self.main.stop()
        self._kill_in(grace_s)

    def _kill_in(self, grace_s: float) -> None:
        loop = self._world.loop
        if loop.time() + grace_s >= self._kill_at:
            return
        self._kill_at = loop.time() + grace_s
        if self._killing is not None:
            self._killing.cancel()
        if grace_s <= 0:
            self._kill()
        else:
            # Outside of all processes: the supervisor is none of theirs.
            context = loop.main_lane.context.copy()
            self._killing = loop.call_at(self._kill_at, self._kill, context=context)

    def _kill(self) -> None:
        for process in self.living():
            process.crash()

    def _look_at_lease(self) -> None:
        """Stops it at the end of its host's lease. Looks only when that can have come."""
        if self.spec.lease_path is None or self.ended.done():
            return
        heard_at = records.read_lease(str(self.spec.lease_path))
        now = self.host.time.monotonic()
        if heard_at is not None and heard_at <= now:
            self._heard_at = max(self._heard_at, heard_at)
        left_s = self._heard_at + self.spec.lease_s - now
        if left_s < 0 and not self._host_is_frozen():
            self.stop(max(left_s + self.spec.stop_grace_s, 0.0), "fenced")
            return
        loop = self._world.loop
        delay_s = self.host.time.virtual_delay(max(left_s, 0.0)) + LOOK_S
        loop.call_later(delay_s, self._look_at_lease, context=loop.main_lane.context.copy())

    def _host_is_frozen(self) -> bool:
        """Whether nothing runs on the host, and so no supervisor either."""
        return all(process.frozen for process in self.host.processes.values())

    # ---- ending

    def _process_ended(self, _: ProcessExit) -> None:
        if self._main_exit is None and self.main.exit is not None:
            self._main_exit = self.main.exit
            for process in self.living():  # nothing of the tree outlives its main process
                process.stop()
            self._kill_in(self.spec.stop_grace_s)
        if self._main_exit is not None and not self.living() and not self.ended.done():
            if self._killing is not None:
                self._killing.cancel()
            self.log.close()
            self.ended.set_result(self._exit_of(self._main_exit))

    def _exit_of(self, ended: ProcessExit) -> Exit:
        code, signal = _status(ended)
        cause = exits.death_cause(
            exits.Ending(exit_code=code, signal=signal, stop_reason=self._stop_reason)
        )
        if ended.with_host:
            code, signal, cause = None, None, exits.rebooted()
        return Exit(
            attempt_id=self.spec.attempt_id,
            exit_code=code,
            signal=signal,
            out_of_memory=False,
            cause=cause,
            ended_at=0.0 if ended.with_host else self.host.time.time(),
        )


class HostAttempts:
    """All attempts of a host, whoever launched them.

    Args:
        world: Where the host is.
        host: The host.
        on_launch: Told of each attempt before its first line runs; what it raises fails the test.

    Attributes:
        attempts: Those that were not forgotten, by id, in order of their start.
    """

    def __init__(
        self, world: World, host: SimHost, on_launch: Callable[[SimAttempt], None] | None = None
    ) -> None:
        self.world = world
        self.host = host
        self.attempts: dict[AttemptId, SimAttempt] = {}
        self._on_launch = on_launch
        self._agents: dict[object, None] = {}
        self._agents_seen = 0

    def __repr__(self) -> str:
        return f"<HostAttempts of {self.host.name}: {len(self.attempts)}>"

    def launch(self, spec: LaunchSpec, program: TaskProgram) -> SimAttempt:
        """Starts an attempt.

        Args:
            spec: What is launched.
            program: What it runs.

        Raises:
            OSError: Its log cannot be opened.
        """
        attempt = SimAttempt(self.world, self.host, spec, program)
        self.attempts[spec.attempt_id] = attempt
        if self._on_launch is not None:
            self._on_launch(attempt)
        return attempt

    def close(self) -> None:
        """Closes the logs of attempts that never ended."""
        for attempt in self.attempts.values():
            attempt.log.close()

    # ---- agents come and go

    def agent_came(self, agent: object) -> None:
        """There is an agent: attempts are no orphans.

        Args:
            agent: Whatever stands for it.
        """
        self._agents[agent] = None
        self._agents_seen += 1

    def agent_gone(self, agent: object) -> None:
        """An agent has ended. Attempts that may not be without one end after their time.

        Args:
            agent: As in `agent_came`; an unknown one does no harm.
        """
        if agent not in self._agents:
            return
        del self._agents[agent]
        if self._agents:
            return
        loop = self.world.loop
        for attempt in self.attempts.values():
            timeout_s = attempt.spec.orphan_timeout_s
            if timeout_s is not None and not attempt.ended.done():
                context = loop.main_lane.context.copy()
                seen = self._agents_seen
                loop.call_later(timeout_s, self._orphaned, attempt, seen, context=context)

    def _orphaned(self, attempt: SimAttempt, agents_seen: int) -> None:
        if self._agents_seen == agents_seen:
            attempt.stop(attempt.spec.stop_grace_s, "orphaned")


def _status(ended: ProcessExit) -> tuple[int | None, int | None]:
    """How a process ended, as ``wait`` tells it: exit code or signal."""
    match ended.kind:
        case ExitKind.CRASHED:
            return None, SIGKILL
        case ExitKind.STOPPED:
            return None, SIGTERM
        case ExitKind.RAISED:
            return 1, None
        case ExitKind.RETURNED:
            code = ended.value
            return (0 if code is None else code & 0xFF if isinstance(code, int) else 1), None


def _process_name(attempt_id: AttemptId) -> str:
    """``user/job/0#1`` as the name of a process: ``job.0#1``."""
    return attempt_id.partition("/")[2].replace("/", ".") or attempt_id


__all__ = ["Execution", "HostAttempts", "SimAttempt", "TaskProgram"]
