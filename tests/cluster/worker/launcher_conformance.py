"""What every launcher must do: the real one and the simulated one run the same tests.

A side of the seam gives a `Harness`, in a fixture named ``harness``, to a class derived from
`LauncherConformance`. Programs are descriptions that a simulator can act out as well as a shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from typing import TYPE_CHECKING, Protocol

import pytest

from fray.errors import ClusterError, DeathKind
from fray.ids import AttemptId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fray.cluster.worker.launcher import Launcher, LaunchSpec, Running


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """What an attempt does.

    Attributes:
        prints: What it writes first.
        prints_variable: The environment variable whose value it writes then, on a line.
        detaches_child: Whether it starts a process in a session of its own that ignores SIGTERM and
            never ends.
        exit_code: What it exits with then; ``None`` runs until something ends it.
        on_sigterm: What it exits with at SIGTERM; ``None`` dies of it, ``"ignore"`` goes on.
    """

    prints: str = ""
    prints_variable: str = ""
    detaches_child: bool = False
    exit_code: int | None = None
    on_sigterm: int | str | None = None


class Harness(Protocol):
    """One side of the seam: a host on which agents come and go."""

    def launcher(self) -> Launcher:
        """A new incarnation of the agent's launcher on this host."""
        ...

    def spec(self, name: str, program: Program) -> LaunchSpec:
        """A spec that runs a program; the same for the same name."""
        ...

    def send_signal(self, running: Running, number: int) -> None:
        """What ``kill`` in a shell does to the main process."""
        ...

    def log(self, spec: LaunchSpec) -> bytes:
        """What is in its log."""
        ...

    def processes(self, spec: LaunchSpec) -> int:
        """How many processes of it there are, whether or not anybody knows of them."""
        ...

    def renew_lease(self, path: Path) -> None:
        """What an agent does that has just heard the controller."""
        ...

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something to become true; fails when it takes far too long."""
        ...


ENDLESS = Program(prints="ready\n")


class LauncherConformance:
    """Derive from it, and give it a ``harness`` fixture."""

    async def start(self, harness: Harness, launcher: Launcher, name: str, program: Program):
        spec = harness.spec(name, program)
        running = await launcher.launch(spec)
        await harness.until(lambda: harness.log(spec) != b"")
        return spec, running

    async def test_program_that_exits_with_zero_is_a_success(self, harness: Harness):
        launcher = harness.launcher()
        running = await launcher.launch(harness.spec("a", Program(exit_code=0)))
        end = await running.wait()
        assert end.attempt_id == running.attempt_id == harness.spec("a", Program()).attempt_id
        assert (end.exit_code, end.signal, end.out_of_memory, end.cause) == (0, None, False, None)
        assert end.survivors == ()
        assert running.exit == end
        await launcher.close(kill=True)

    async def test_exit_code_is_reported_as_the_programs_own_failure(self, harness: Harness):
        launcher = harness.launcher()
        running = await launcher.launch(harness.spec("a", Program(exit_code=3)))
        end = await running.wait()
        assert (end.exit_code, end.signal) == (3, None)
        assert end.cause is not None
        assert end.cause.kind is DeathKind.APP_ERROR
        assert end.cause.exit_code == 3
        assert "exited with code 3" in str(end.cause)
        await launcher.close(kill=True)

    async def test_kill_minus_nine_is_told_as_a_signal(self, harness: Harness):
        launcher = harness.launcher()
        _, running = await self.start(harness, launcher, "a", ENDLESS)
        assert running.exit is None
        harness.send_signal(running, signal.SIGKILL)
        end = await running.wait()
        assert (end.exit_code, end.signal, end.out_of_memory) == (None, 9, False)
        assert end.cause is not None
        assert (end.cause.kind, end.cause.signal) == (DeathKind.SIGNAL, 9)
        assert str(end.cause).startswith("killed by SIGKILL (signal 9)")
        await launcher.close(kill=True)

    async def test_everyone_who_waits_learns_the_end_also_long_after(self, harness: Harness):
        launcher = harness.launcher()
        _, running = await self.start(harness, launcher, "a", ENDLESS)
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(running.wait()) for _ in range(3)]
            await asyncio.sleep(0)
            harness.send_signal(running, signal.SIGKILL)
        ends = [wait.result() for wait in waits]
        assert ends == [await running.wait()] * 3
        await launcher.close(kill=True)

    async def test_cancelled_wait_harms_nobody(self, harness: Harness):
        launcher = harness.launcher()
        spec, running = await self.start(harness, launcher, "a", ENDLESS)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await running.wait()
        assert running.exit is None
        assert harness.processes(spec) > 0
        assert (await running.kill()).signal == 9
        await launcher.close(kill=True)

    async def test_stop_lets_a_program_finish_in_its_own_way(self, harness: Harness):
        launcher = harness.launcher()
        program = Program(prints="ready\n", on_sigterm=5)
        spec, running = await self.start(harness, launcher, "a", program)
        end = await running.stop(30)
        assert (end.exit_code, end.signal) == (5, None)
        assert end.cause is not None
        assert (end.cause.kind, end.cause.exit_code) == (DeathKind.STOPPED, 5)
        assert harness.processes(spec) == 0
        await launcher.close(kill=True)

    async def test_stop_that_a_program_obeys_with_zero_is_still_a_stop(self, harness: Harness):
        launcher = harness.launcher()
        program = Program(prints="ready\n", on_sigterm=0)
        _, running = await self.start(harness, launcher, "a", program)
        end = await running.stop(30)
        assert end.cause is not None
        assert (end.exit_code, end.cause.kind) == (0, DeathKind.STOPPED)
        await launcher.close(kill=True)

    async def test_stop_kills_what_ignores_it_after_the_grace(self, harness: Harness):
        launcher = harness.launcher()
        program = Program(prints="ready\n", on_sigterm="ignore")
        spec, running = await self.start(harness, launcher, "a", program)
        end = await running.stop(0.1)
        assert end.cause is not None
        assert (end.signal, end.cause.kind) == (9, DeathKind.STOPPED)
        assert harness.processes(spec) == 0
        await launcher.close(kill=True)

    async def test_second_stop_hastens_the_first_and_never_delays_it(self, harness: Harness):
        launcher = harness.launcher()
        program = Program(prints="ready\n", on_sigterm="ignore")
        _, running = await self.start(harness, launcher, "a", program)
        async with asyncio.TaskGroup() as group:
            patient = group.create_task(running.stop(3600))
            await asyncio.sleep(0)
            hasty = await running.kill()
            late = await running.stop(3600)
        assert patient.result() == hasty == late
        assert hasty.signal == 9
        await launcher.close(kill=True)

    async def test_stop_after_the_end_changes_nothing(self, harness: Harness):
        launcher = harness.launcher()
        running = await launcher.launch(harness.spec("a", Program(exit_code=0)))
        end = await running.wait()
        assert await running.stop(1) == end
        assert await running.kill() == end
        assert end.cause is None
        await launcher.close(kill=True)

    async def test_cancelled_stop_is_carried_out(self, harness: Harness):
        launcher = harness.launcher()
        _, running = await self.start(harness, launcher, "a", ENDLESS)
        stop = asyncio.ensure_future(running.stop(30))
        await asyncio.sleep(0)
        stop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stop
        assert (await running.wait()).signal == signal.SIGTERM
        await launcher.close(kill=True)

    async def test_negative_grace_is_refused(self, harness: Harness):
        launcher = harness.launcher()
        _, running = await self.start(harness, launcher, "a", ENDLESS)
        with pytest.raises(ValueError):
            await running.stop(-1)
        assert running.exit is None
        await launcher.close(kill=True)

    async def test_nothing_of_the_tree_is_left_when_its_main_process_exits(self, harness: Harness):
        launcher = harness.launcher()
        program = Program(prints="ready\n", detaches_child=True, exit_code=0)
        spec = dataclasses.replace(harness.spec("a", program), stop_grace_s=0.1)
        end = await (await launcher.launch(spec)).wait()
        assert end.cause is None
        assert harness.processes(spec) == 0
        await launcher.close(kill=True)

    async def test_nothing_of_the_tree_is_left_when_it_is_killed_from_outside(
        self, harness: Harness
    ):
        launcher = harness.launcher()
        program = Program(prints="ready\n", detaches_child=True)
        spec = dataclasses.replace(harness.spec("a", program), stop_grace_s=0.1)
        running = await launcher.launch(spec)
        await harness.until(lambda: harness.processes(spec) >= 2)
        harness.send_signal(running, signal.SIGKILL)
        assert (await running.wait()).signal == 9
        assert harness.processes(spec) == 0
        await launcher.close(kill=True)

    async def test_nothing_of_the_tree_is_left_after_a_stop(self, harness: Harness):
        launcher = harness.launcher()
        program = Program(prints="ready\n", detaches_child=True)
        spec, running = await self.start(harness, launcher, "a", program)
        await harness.until(lambda: harness.processes(spec) >= 2)
        await running.stop(0.1)
        assert harness.processes(spec) == 0
        await launcher.close(kill=True)

    async def test_output_goes_to_the_log_behind_what_is_there(self, harness: Harness):
        launcher = harness.launcher()
        first = harness.spec("a", Program(prints="one\n", exit_code=0))
        await (await launcher.launch(first)).wait()
        second = dataclasses.replace(
            harness.spec("b", Program(prints="two\n", exit_code=0)), log_path=first.log_path
        )
        await (await launcher.launch(second)).wait()
        assert harness.log(first) == b"one\ntwo\n"
        await launcher.close(kill=True)

    async def test_environment_of_the_spec_arrives(self, harness: Harness):
        launcher = harness.launcher()
        spec = harness.spec("a", Program(prints_variable="FRAY_GREETING", exit_code=0))
        spec = dataclasses.replace(spec, env={**spec.env, "FRAY_GREETING": "hello = \u00e9"})
        await (await launcher.launch(spec)).wait()
        assert harness.log(spec).decode() == "hello = \u00e9\n"
        await launcher.close(kill=True)

    async def test_missing_program_is_an_error_that_names_it(self, harness: Harness):
        launcher = harness.launcher()
        spec = dataclasses.replace(harness.spec("a", ENDLESS), argv=("/no/such/program",))
        with pytest.raises(FileNotFoundError, match="/no/such/program"):
            await launcher.launch(spec)
        assert harness.processes(spec) == 0
        assert await launcher.adopt() == []
        await launcher.close(kill=True)

    async def test_missing_working_directory_is_an_error_that_names_it(self, harness: Harness):
        launcher = harness.launcher()
        spec = dataclasses.replace(harness.spec("a", ENDLESS), cwd="/no/such/directory")
        with pytest.raises(FileNotFoundError, match="/no/such/directory"):
            await launcher.launch(spec)
        assert await launcher.adopt() == []
        await launcher.close(kill=True)

    async def test_failed_launch_may_be_tried_again_in_the_same_directory(self, harness: Harness):
        launcher = harness.launcher()
        spec = harness.spec("a", Program(exit_code=0))
        with pytest.raises(FileNotFoundError):
            await launcher.launch(dataclasses.replace(spec, argv=("/no/such/program",)))
        assert (await (await launcher.launch(spec)).wait()).cause is None
        await launcher.close(kill=True)

    async def test_run_directory_serves_one_attempt_only(self, harness: Harness):
        launcher = harness.launcher()
        spec = harness.spec("a", Program(exit_code=0))
        await (await launcher.launch(spec)).wait()
        other = dataclasses.replace(spec, attempt_id=AttemptId("me/other-7f3a/0#0"))
        with pytest.raises(FileExistsError):
            await launcher.launch(other)
        await launcher.close(kill=True)

    async def test_attempt_id_serves_once(self, harness: Harness):
        launcher = harness.launcher()
        spec = harness.spec("a", Program(exit_code=0))
        again = dataclasses.replace(spec, run_dir=harness.spec("b", ENDLESS).run_dir)
        first = launcher.launch(spec)
        second = launcher.launch(again)
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert sorted(type(result) is ValueError for result in results) == [False, True]
        with pytest.raises(ValueError, match="before"):
            await launcher.launch(again)
        await launcher.close(kill=True)

    async def test_halted_program_can_be_stopped_gently(self, harness: Harness):
        launcher = harness.launcher()
        program = Program(prints="ready\n", on_sigterm=5)
        _, running = await self.start(harness, launcher, "a", program)
        harness.send_signal(running, signal.SIGSTOP)
        assert (await running.stop(30)).exit_code == 5
        await launcher.close(kill=True)

    async def test_spec_that_is_wrong_in_itself_is_refused(self, harness: Harness):
        launcher = harness.launcher()
        spec = harness.spec("a", ENDLESS)
        with pytest.raises(ValueError):
            await launcher.launch(dataclasses.replace(spec, argv=()))
        with pytest.raises(ValueError):
            await launcher.launch(dataclasses.replace(spec, run_dir=spec.run_dir / "deeper"))
        assert await launcher.adopt() == []
        await launcher.close(kill=True)

    async def test_many_attempts_are_launched_at_once(self, harness: Harness):
        launcher = harness.launcher()
        specs = [harness.spec(f"n{code}", Program(exit_code=code)) for code in range(20)]
        attempts = await asyncio.gather(*(launcher.launch(spec) for spec in specs))
        ends = await asyncio.gather(*(attempt.wait() for attempt in attempts))
        assert [end.exit_code for end in ends] == list(range(20))
        await launcher.close(kill=True)

    async def test_attempt_outlives_its_agent_and_is_adopted(self, harness: Harness):
        first = harness.launcher()
        spec, running = await self.start(harness, first, "a", ENDLESS)
        await first.close(kill=False)
        assert harness.processes(spec) > 0
        second = harness.launcher()
        [adopted] = await second.adopt()
        assert adopted.attempt_id == spec.attempt_id
        assert (adopted.pid, adopted.started_at) == (running.pid, running.started_at)
        assert adopted.exit is None
        harness.send_signal(adopted, signal.SIGKILL)
        assert (await adopted.wait()).signal == 9
        await second.close(kill=True)

    async def test_adopted_attempt_can_be_stopped(self, harness: Harness):
        first = harness.launcher()
        program = Program(prints="ready\n", on_sigterm=5)
        spec, _ = await self.start(harness, first, "a", program)
        await first.close(kill=False)
        second = harness.launcher()
        [adopted] = await second.adopt()
        assert (await adopted.stop(30)).exit_code == 5
        assert harness.processes(spec) == 0
        await second.close(kill=True)

    async def test_attempt_that_ended_while_no_agent_was_there_is_adopted_too(
        self, harness: Harness
    ):
        first = harness.launcher()
        spec, running = await self.start(harness, first, "a", ENDLESS)
        await first.close(kill=False)
        harness.send_signal(running, signal.SIGKILL)
        await harness.until(lambda: harness.processes(spec) == 0)
        second = harness.launcher()
        [adopted] = await second.adopt()
        assert (await adopted.wait()).signal == 9
        await second.close(kill=True)

    async def test_ended_attempt_is_told_until_it_is_forgotten(self, harness: Harness):
        first = harness.launcher()
        spec = harness.spec("a", Program(prints="x\n", exit_code=4))
        await (await first.launch(spec)).wait()
        await first.close(kill=True)
        for _ in range(2):
            launcher = harness.launcher()
            [adopted] = await launcher.adopt()
            assert (await adopted.wait()).exit_code == 4
            await launcher.close(kill=False)
        launcher = harness.launcher()
        await launcher.adopt()
        await launcher.forget(spec.attempt_id)
        await launcher.forget(spec.attempt_id)
        await launcher.forget(AttemptId("unknown/0#0"))
        assert await launcher.adopt() == []
        await launcher.close(kill=False)
        assert await harness.launcher().adopt() == []
        assert harness.log(spec) == b"x\n"

    async def test_running_attempt_cannot_be_forgotten(self, harness: Harness):
        launcher = harness.launcher()
        spec, running = await self.start(harness, launcher, "a", ENDLESS)
        with pytest.raises(ValueError):
            await launcher.forget(spec.attempt_id)
        assert await launcher.adopt() == [running]
        await launcher.close(kill=True)

    async def test_adoption_tells_attempts_in_order_of_their_start(self, harness: Harness):
        first = harness.launcher()
        names = ["c", "a", "b"]
        for name in names:
            await self.start(harness, first, name, ENDLESS)
        await first.close(kill=False)
        second = harness.launcher()
        adopted = await second.adopt()
        ids = [harness.spec(name, ENDLESS).attempt_id for name in names]
        assert [attempt.attempt_id for attempt in adopted] == ids
        await second.close(kill=True)

    async def test_closing_with_kill_leaves_nothing(self, harness: Harness):
        launcher = harness.launcher()
        spec, running = await self.start(harness, launcher, "a", ENDLESS)
        other, _ = await self.start(harness, launcher, "b", ENDLESS)
        await launcher.close(kill=True)
        assert harness.processes(spec) == harness.processes(other) == 0
        assert running.exit is not None
        await launcher.close(kill=True)

    async def test_closed_launcher_ends_waits_and_refuses_work(self, harness: Harness):
        launcher = harness.launcher()
        _, running = await self.start(harness, launcher, "a", ENDLESS)
        wait = asyncio.ensure_future(running.wait())
        await asyncio.sleep(0)
        await launcher.close(kill=False)
        with pytest.raises(ClusterError, match="runs on"):
            await wait
        with pytest.raises(ClusterError, match="closed"):
            await launcher.launch(harness.spec("b", ENDLESS))
        successor = harness.launcher()
        await successor.adopt()
        await successor.close(kill=True)

    async def test_usage_counts_processes_and_ends_with_the_attempt(self, harness: Harness):
        launcher = harness.launcher()
        program = Program(prints="ready\n", detaches_child=True)
        spec, running = await self.start(harness, launcher, "a", program)
        await harness.until(lambda: harness.processes(spec) >= 2)
        usage = running.usage()
        assert usage.processes >= 2
        assert usage.memory_bytes > 0
        assert usage.cpu_s >= 0
        end = await running.kill()
        after = running.usage()
        assert (after.processes, after.memory_bytes, after.cpu_s) == (0, 0, end.cpu_s)
        await launcher.close(kill=True)

    async def test_attempt_without_an_agent_stops_after_its_orphan_timeout(self, harness: Harness):
        first = harness.launcher()
        spec = dataclasses.replace(harness.spec("a", ENDLESS), orphan_timeout_s=0.0)
        await first.launch(spec)
        await first.close(kill=False)
        await harness.until(lambda: harness.processes(spec) == 0)
        second = harness.launcher()
        [adopted] = await second.adopt()
        end = await adopted.wait()
        assert end.cause is not None
        assert end.cause.kind is DeathKind.STOPPED
        assert "no agent" in str(end.cause)
        await second.close(kill=True)

    async def test_attempt_ends_with_the_lease_of_its_host(self, harness: Harness):
        launcher = harness.launcher()
        spec = harness.spec("a", Program(prints="ready\n", on_sigterm=5))
        path = spec.log_path.parent.parent / "lease"
        spec = dataclasses.replace(spec, lease_path=path, lease_s=1.2)
        running = await launcher.launch(spec)
        for _ in range(20):
            harness.renew_lease(path)
            await asyncio.sleep(0.1)
        assert running.exit is None
        end = await running.wait()
        assert end.exit_code == 5
        assert end.cause is not None
        assert end.cause.kind is DeathKind.STOPPED
        assert "could not reach the controller" in str(end.cause)
        await launcher.close(kill=True)

    async def test_attempt_that_would_begin_too_late_does_not_begin(self, harness: Harness):
        launcher = harness.launcher()
        spec = harness.spec("a", Program(prints="here\n", exit_code=0))
        with pytest.raises(OSError, match="after the host's lease"):
            await launcher.launch(dataclasses.replace(spec, start_by=0.0))
        assert harness.processes(spec) == 0
        assert harness.log(spec) == b""
        assert (await (await launcher.launch(spec)).wait()).cause is None
        assert harness.log(spec) == b"here\n"
        await launcher.close(kill=True)

    async def test_memory_limit_is_told_as_out_of_memory(self, harness: Harness):
        launcher = harness.launcher()
        if not launcher.limits_memory:
            pytest.skip("this host lets nobody limit memory: no writable memory cgroup")
        await self.exceed_memory(harness, launcher)
        await launcher.close(kill=True)

    async def exceed_memory(self, harness: Harness, launcher: Launcher) -> None:
        """Runs an attempt over its limit, and checks what is told. Each side has its own way."""
        raise NotImplementedError
