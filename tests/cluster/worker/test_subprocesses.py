"""What only real processes can show."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import pwd
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import uvloop

from fray.cluster.worker.logs import read_log
from fray.cluster.worker.shim import cgroups, procfs, records
from fray.cluster.worker.shim.system import LogTrimmer
from fray.errors import DeathKind

from .launcher_conformance import ENDLESS, Program
from .subprocess_harness import SubprocessHarness, container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fray.cluster.worker.attempts import SupervisedAttempt
    from fray.cluster.worker.launcher import LaunchSpec
    from fray.cluster.worker.subprocesses import SubprocessLauncher

pytestmark = pytest.mark.integration

AGENT = """
import asyncio, sys
from pathlib import Path
from fray.cluster.worker.launcher import LaunchSpec
from fray.cluster.worker.subprocesses import SubprocessLauncher
from fray.runtime.clock import SystemClock

async def main(directory, count, argv):
    launcher = SubprocessLauncher(directory / "run", SystemClock())
    for number in range(count):
        running = await launcher.launch(LaunchSpec(
            attempt_id=f"a{number}", argv=tuple(argv), run_dir=directory / "run" / f"a{number}",
            log_path=directory / "logs" / f"a{number}.log",
        ))
        print(running.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
"""


@contextlib.contextmanager
def agent(
    harness: SubprocessHarness, count: int, *argv: str, group: cgroups.Group | None = None
) -> Iterator[subprocess.Popen[str]]:
    """An agent in a process of its own; leaving the block kills it with kill -9."""
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(harness.root.parent), str(count), *argv],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=group.enter if group is not None else None,
    )
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def read_pid(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def attempt_record(spec: LaunchSpec) -> dict[str, object]:
    return json.loads((spec.run_dir / records.ATTEMPT).read_bytes())


def supervisor_of(spec: LaunchSpec) -> psutil.Process:
    pid = attempt_record(spec)["supervisor_pid"]
    assert isinstance(pid, int)
    return psutil.Process(pid)


def is_running(pid: int) -> bool:
    stat = procfs.read_stat(pid)
    return stat is not None and not stat.ended


async def launch(
    harness: SubprocessHarness, launcher: SubprocessLauncher, spec: LaunchSpec
) -> SupervisedAttempt:
    """Launches, and waits for the first output."""
    running = await launcher.launch(spec)
    await harness.until(lambda: harness.log(spec) != b"")
    return running


class TestAgentsComeAndGo:
    async def test_agent_that_is_killed_disturbs_nothing(self, harness: SubprocessHarness):
        spec = harness.spec("a0", Program())
        code = "read x < fifo; exit 7"
        os.mkfifo(harness.root.parent / "fifo")
        directory = harness.root.parent
        with agent(harness, 1, "/bin/sh", "-c", f"cd {directory}; {code}") as process:
            pid = read_pid(process)
        assert process.returncode == -signal.SIGKILL
        launcher = harness.launcher()
        [adopted] = await launcher.adopt()
        assert adopted.pid == pid
        assert is_running(pid)
        assert adopted.exit is None
        with (directory / "fifo").open("w") as fifo:
            fifo.write("go on\n")
        end = await adopted.wait()
        assert (end.exit_code, end.attempt_id) == (7, "a0")
        assert harness.processes(spec) == 0
        await launcher.close(kill=True)

    @pytest.mark.parametrize("milliseconds", [0, 3, 7, 15, 30])
    async def test_nothing_runs_unknown_after_an_agent_is_killed_while_it_launches(
        self, harness: SubprocessHarness, mark: str, milliseconds: int
    ):
        with agent(harness, 1000, "/bin/sleep", "1000") as process:
            read_pid(process)
            await asyncio.sleep(milliseconds / 1000)  # any moment will do
        launcher = harness.launcher()
        adopted = await launcher.adopt()
        assert adopted
        known = {attempt.pid for attempt in adopted}

        def settled() -> bool:
            # What was half launched gives up by itself; its zygote ends with its agent.
            mine = [p for p in psutil.process_iter() if _is_shim(p, mark)]
            return len(mine) == sum(1 for attempt in adopted if attempt.exit is None)

        await harness.until(settled)
        running = {
            process.pid
            for attempt in harness.root.iterdir()
            for process in harness.tree(_spec_in(harness, attempt.name))
        }
        assert running <= known
        await launcher.close(kill=True)

    async def test_what_cannot_be_read_does_not_hide_the_others(
        self, harness: SubprocessHarness, caplog: pytest.LogCaptureFixture
    ):
        first = harness.launcher()
        await launch(harness, first, harness.spec("good", ENDLESS))
        await first.close(kill=False)
        newer, broken = harness.root / "newer", harness.root / "broken"
        for directory, text in ((newer, '{"version": 99}'), (broken, '{"version": 1}')):
            directory.mkdir()
            (directory / records.ATTEMPT).write_text(text)
        (harness.root / "empty").mkdir()
        (harness.root / "file").touch()
        second = harness.launcher()
        assert [a.attempt_id for a in await second.adopt()] == ["me/good-7f3a/0#0"]
        assert "newer fray" in caplog.text
        assert str(broken) in caplog.text
        await second.close(kill=True)

    @pytest.fixture
    def innocent(self) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(["/bin/sleep", "1000"])
        yield process
        process.kill()
        process.wait()

    async def test_recycled_pid_is_never_touched(
        self, harness: SubprocessHarness, innocent: subprocess.Popen[bytes]
    ):
        stat = procfs.read_stat(innocent.pid)
        assert stat is not None
        ids = {"pid": innocent.pid, "supervisor_pid": innocent.pid}
        self.forge(harness, "recycled", stat.start_time - 1, procfs.boot_id(), ids)
        self.forge(harness, "rebooted", stat.start_time, "another boot", ids)
        launcher = harness.launcher()
        rebooted, recycled = await launcher.adopt()
        end = await rebooted.wait()
        assert end.cause is not None
        assert end.cause.kind is DeathKind.HOST_LOST
        end = await recycled.wait()
        assert end.cause is not None
        assert end.cause.kind is DeathKind.UNKNOWN
        assert end.survivors == ()
        await rebooted.kill()
        await recycled.kill()
        assert rebooted.usage().processes == recycled.usage().processes == 0
        assert innocent.poll() is None
        await launcher.close(kill=True)
        assert innocent.poll() is None

    def forge(
        self, harness: SubprocessHarness, name: str, start: int, boot: str, ids: dict[str, int]
    ) -> None:
        directory = harness.root / name
        directory.mkdir(parents=True)
        os.mkfifo(directory / records.LIFE)
        times = {"start_time": start, "supervisor_start_time": start, "started_at": 1.0}
        record = {"attempt_id": name, "boot_id": boot, **ids, **times}
        records.write(str(directory), records.ATTEMPT, record)

    async def test_no_descriptor_is_left_open(self, harness: SubprocessHarness):
        before = len(os.listdir("/proc/self/fd"))
        launcher = harness.launcher()
        for number in range(5):
            spec = harness.spec(f"n{number}", Program(exit_code=0))
            await (await launcher.launch(spec)).wait()
        with pytest.raises(FileNotFoundError):
            await launcher.launch(harness.spec("bad", None, "/no/such/program"))
        await launch(harness, launcher, harness.spec("endless", ENDLESS))
        await launcher.close(kill=True)
        assert len(os.listdir("/proc/self/fd")) == before


def _is_shim(process: psutil.Process, mark: str) -> bool:
    try:
        return (
            process.name().startswith("fray-") and process.environ().get("FRAY_TEST_MARK") == mark
        )
    except psutil.Error:
        return False


def _spec_in(harness: SubprocessHarness, name: str) -> LaunchSpec:
    return harness.spec(name, ENDLESS)


class TestWhatTheTaskFinds:
    async def test_task_has_a_session_of_its_own_and_nothing_of_its_parents(
        self, harness: SubprocessHarness
    ):
        code = (
            "import os, json\n"
            "status = dict(l.split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)\n"
            "print(json.dumps([os.getpid(), os.getsid(0), os.getpgid(0), os.getcwd(),"
            " sorted(map(int, os.listdir('/proc/self/fd')))[:-1],"
            " os.readlink('/proc/self/fd/0'), status['SigBlk'].strip(), os.read(0, 1).decode()]))"
        )
        launcher = harness.launcher()
        spec = harness.python("a", code)
        end = await (await launcher.launch(spec)).wait()
        pid, *rest = json.loads(harness.log(spec))
        assert end.cause is None
        assert rest == [pid, pid, "/", [0, 1, 2], "/dev/null", "0" * 16, ""]
        await launcher.close(kill=True)

    async def test_task_ignores_no_signal_although_its_agent_does(self, harness: SubprocessHarness):
        previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
        try:
            launcher = harness.launcher()
            spec = harness.spec("a", None, "/bin/grep", "SigIgn", "/proc/self/status")
            await (await launcher.launch(spec)).wait()
            name, ignored = harness.log(spec).split()
            glibcs_own = 0b11 << 31  # 32 and 33: no program can say what it does with them
            assert (name, int(ignored, 16) & ~glibcs_own) == (b"SigIgn:", 0)
            await launcher.close(kill=True)
        finally:
            signal.signal(signal.SIGHUP, previous)

    async def test_task_begins_in_the_directory_of_its_spec(self, harness: SubprocessHarness):
        launcher = harness.launcher()
        cwd = str(harness.root.parent)
        spec = dataclasses.replace(harness.spec("a", None, "/bin/pwd"), cwd=cwd)
        await (await launcher.launch(spec)).wait()
        assert harness.log(spec).decode().strip() == cwd
        await launcher.close(kill=True)

    async def test_program_is_looked_up_in_the_path_of_its_own_environment(
        self, harness: SubprocessHarness
    ):
        folder = harness.root.parent / "bin"
        folder.mkdir()
        (folder / "greet").write_text("#!/bin/sh\necho hello\n")
        (folder / "greet").chmod(0o755)
        launcher = harness.launcher()
        spec = dataclasses.replace(harness.spec("a", None, "greet"), env={"PATH": str(folder)})
        await (await launcher.launch(spec)).wait()
        assert harness.log(spec) == b"hello\n"
        await launcher.close(kill=True)

    async def test_values_of_variables_are_in_no_file_and_on_no_command_line(
        self, harness: SubprocessHarness, mark: str
    ):
        launcher = harness.launcher()
        spec = harness.spec("a", ENDLESS)
        spec = dataclasses.replace(spec, env={"TOKEN": "hunter2-hunter2"})
        await launch(harness, launcher, spec)
        shims = [process for process in psutil.process_iter() if _is_shim(process, mark)]
        assert len(shims) == 2
        for process in (*shims, *harness.tree(spec)):
            assert "hunter2" not in " ".join(process.cmdline())
        for path in harness.root.rglob("*.json"):
            assert "hunter2" not in path.read_text()
        await launcher.close(kill=True)

    @pytest.mark.parametrize("how", ["stopped", "its supervisor was killed", "no such program"])
    async def test_variables_are_gone_before_the_end_is_told(
        self, harness: SubprocessHarness, how: str
    ):
        launcher = harness.launcher()
        spec = dataclasses.replace(harness.spec("a", ENDLESS), env={"TOKEN": "hunter2-hunter2"})
        if how == "no such program":
            with pytest.raises(FileNotFoundError):
                await launcher.launch(dataclasses.replace(spec, argv=("/no/such/program",)))
        else:
            running = await launch(harness, launcher, spec)
            assert b"hunter2" in (spec.run_dir / records.ENVIRON).read_bytes()
            if how == "stopped":
                await running.stop(0)
            else:
                supervisor_of(spec).kill()
                await running.wait()
        kept = [path.name for path in spec.run_dir.iterdir() if path.is_file()]
        assert records.ENVIRON not in kept
        await launcher.close(kill=True)

    async def test_files_of_an_attempt_are_private(self, harness: SubprocessHarness):
        launcher = harness.launcher()
        spec = harness.spec("a", Program(exit_code=0))
        await (await launcher.launch(spec)).wait()
        for directory in (harness.root, spec.run_dir):
            assert directory.stat().st_mode & 0o777 == 0o700
        for path in (*spec.run_dir.iterdir(), spec.log_path):
            assert path.stat().st_mode & 0o777 == 0o600
        await launcher.close(kill=True)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    async def test_task_runs_under_the_account_of_its_spec(self, harness: SubprocessHarness):
        code = "id -un; id -Gn; echo $HOME; echo err >> /dev/stderr"
        spec = harness.spec("a", None, "/bin/sh", "-c", code)
        spec = dataclasses.replace(spec, user="nobody")
        launcher = harness.launcher()
        end = await (await launcher.launch(spec)).wait()
        assert end.cause is None
        name, groups, home, error = harness.log(spec).decode().splitlines()
        assert (name, error) == ("nobody", "err")
        assert "root" not in groups
        assert home == pwd.getpwnam("nobody").pw_dir
        endless = dataclasses.replace(harness.spec("b", ENDLESS), user="nobody")
        running = await launch(harness, launcher, endless)
        assert (await running.stop(5)).signal == signal.SIGTERM
        await launcher.close(kill=True)

    async def test_unknown_account_is_refused(self, harness: SubprocessHarness):
        launcher = harness.launcher()
        spec = dataclasses.replace(harness.spec("a", ENDLESS), user="no-such-user")
        with pytest.raises(ValueError, match="no-such-user"):
            await launcher.launch(spec)
        await launcher.close(kill=True)


class TestTree:
    async def test_process_that_hides_everything_about_itself_is_found(
        self, harness: SubprocessHarness
    ):
        # A daemon: no environment, a session of its own, no parent, deaf to SIGTERM.
        hidden = (
            "import os, signal, time\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork() == 0:\n"
            "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "        print(os.getpid(), flush=True)\n"
            "        time.sleep(1000)\n"
            "    os._exit(0)\n"
            "os.wait()\n"
        )
        argv = f"[sys.executable, '-c', {hidden!r}]"
        code = f"import os, sys; os.execve(sys.executable, {argv}, {{}})"
        spec = dataclasses.replace(harness.python("a", code), stop_grace_s=0.1)
        launcher = harness.launcher()
        running = await launch(harness, launcher, spec)
        pid = int(harness.log(spec))
        end = await running.wait()
        assert end.cause is None
        assert not is_running(pid)
        await launcher.close(kill=True)

    async def test_moving_target_is_caught(self, harness: SubprocessHarness):
        # Each process lives for two milliseconds and leaves a successor in a new session.
        code = (
            "import os, time\n"
            "print('ready', flush=True)\n"
            "while True:\n"
            "    if os.fork():\n"
            "        os._exit(0)\n"
            "    os.setsid()\n"
            "    time.sleep(0.002)\n"
        )
        spec = dataclasses.replace(harness.python("a", code), stop_grace_s=0.05)
        launcher = harness.launcher()
        end = await (await launcher.launch(spec)).wait()
        assert (end.exit_code, end.survivors) == (0, ())
        assert harness.processes(spec) == 0
        await launcher.close(kill=True)

    async def test_leftovers_may_clean_up_after_their_main_process(
        self, harness: SubprocessHarness
    ):
        code = "trap 'echo cleaned; exit' TERM; echo up; sleep 1000 & wait"
        program = f'setsid /bin/sh -c "{code}" & while ! [ -s "$LOG" ]; do sleep 0.01; done; exit 3'
        spec = harness.spec("a", None, "/bin/sh", "-c", program)
        spec = dataclasses.replace(spec, env={"LOG": str(spec.log_path)}, stop_grace_s=30)
        launcher = harness.launcher()
        end = await (await launcher.launch(spec)).wait()
        assert end.exit_code == 3
        assert harness.log(spec) == b"up\ncleaned\n"
        await launcher.close(kill=True)

    async def test_what_the_kernel_will_not_kill_is_named(self, harness: SubprocessHarness):
        freezer = Path("/sys/fs/cgroup/freezer") / f"fray-test-{os.getpid()}"
        try:
            freezer.mkdir()
        except OSError:
            pytest.skip("no process can be made unkillable here: no writable freezer cgroup (v1)")
        try:
            launcher = harness.launcher(kill_timeout_s=0.3)
            spec = harness.spec("a", ENDLESS)
            running = await launch(harness, launcher, spec)
            (freezer / "cgroup.procs").write_text(str(running.pid))
            (freezer / "freezer.state").write_text("FROZEN")
            end = await running.stop(0)
            assert end.survivors == (running.pid,)
            assert end.cause is not None
            assert f"may hold devices: pid {running.pid}" in str(end.cause)
        finally:
            (freezer / "freezer.state").write_text("THAWED")
            await harness.until(lambda: not (freezer / "cgroup.procs").read_text())
            freezer.rmdir()
        await harness.until(lambda: not is_running(running.pid))
        await launcher.close(kill=True)


class TestShimsFail:
    async def test_killed_supervisor_takes_its_whole_tree_along(self, harness: SubprocessHarness):
        launcher = harness.launcher()
        program = Program(prints="ready\n", detaches_child=True, on_sigterm="ignore")
        spec = harness.spec("a", program)
        running = await launch(harness, launcher, spec)
        await harness.until(lambda: harness.processes(spec) >= 3)
        supervisor_of(spec).kill()
        end = await running.wait()
        assert harness.processes(spec) == 0
        assert (end.exit_code, end.signal) == (None, None)
        assert end.cause is not None
        assert end.cause.kind is DeathKind.UNKNOWN
        assert "supervisor process was killed" in str(end.cause)
        await launcher.close(kill=True)

    async def test_supervisor_that_hangs_cannot_hold_up_a_stop(self, harness: SubprocessHarness):
        launcher = harness.launcher(kill_timeout_s=0.2)
        spec = harness.spec("a", Program(prints="ready\n", detaches_child=True))
        running = await launch(harness, launcher, spec)
        supervisor_of(spec).suspend()
        end = await running.stop(0.1)
        assert harness.processes(spec) == 0
        assert end.cause is not None
        assert end.cause.kind is DeathKind.UNKNOWN
        await launcher.close(kill=True)

    async def test_service_manager_that_terminates_the_supervisor_stops_the_task(
        self, harness: SubprocessHarness
    ):
        launcher = harness.launcher()
        spec = harness.spec("a", Program(prints="ready\n", on_sigterm=5))
        running = await launch(harness, launcher, spec)
        supervisor_of(spec).terminate()
        end = await running.wait()
        assert end.exit_code == 5
        assert end.cause is not None
        assert end.cause.kind is DeathKind.STOPPED
        await launcher.close(kill=True)

    async def test_killed_zygote_is_replaced_and_harms_no_attempt(
        self, harness: SubprocessHarness, mark: str
    ):
        launcher = harness.launcher()
        running = await launch(harness, launcher, harness.spec("a", ENDLESS))
        [zygote] = [
            process
            for process in psutil.process_iter()
            if _is_shim(process, mark) and process.name() == "fray-zygote"
        ]
        zygote.kill()
        await harness.until(lambda: not is_running(zygote.pid))
        second = await launcher.launch(harness.spec("b", Program(exit_code=4)))
        assert (await second.wait()).exit_code == 4
        assert running.exit is None
        assert (await running.kill()).signal == 9
        await launcher.close(kill=True)

    async def test_cancelled_launch_leaves_nothing_running(self, harness: SubprocessHarness):
        launcher = harness.launcher()
        specs = [harness.spec(f"n{number}", ENDLESS) for number in range(8)]
        for number, spec in enumerate(specs):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.001 * number):
                    running = await launcher.launch(spec)
                    await running.kill()
        await harness.until(lambda: all(harness.processes(spec) == 0 for spec in specs))
        # A supervisor that had not begun yet gives up without a word.
        await launcher.close(kill=True)
        assert all(harness.processes(spec) == 0 for spec in specs)


def _groups_beside(group: cgroups.Group) -> list[str]:
    return [str(path) for path in Path(group.path).parent.iterdir()]


class TestMemory:
    @pytest.fixture
    def launcher(self, harness: SubprocessHarness) -> SubprocessLauncher:
        launcher = harness.launcher()
        if not launcher.limits_memory:
            pytest.skip("no writable memory cgroup")
        return launcher

    async def test_child_killed_for_memory_is_told_although_its_parent_only_fails(
        self, harness: SubprocessHarness, launcher: SubprocessLauncher
    ):
        code = (
            "import os, sys\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    b = bytearray(400 << 20)\n"
            "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]) == -9)\n"
        )
        spec = dataclasses.replace(harness.python("a", code), memory_limit_bytes=64 << 20)
        running = await launcher.launch(spec)
        group = attempt_record(spec)["group"]
        end = await running.wait()
        assert end.cause is not None
        assert end.out_of_memory
        if end.exit_code is not None:  # in version 2 the whole tree is killed
            assert end.exit_code == 1
            assert end.cause.message.endswith("exited with code 1")
        assert end.cause.kind is DeathKind.OUT_OF_MEMORY
        assert isinstance(group, list)
        await harness.until(lambda: not Path(group[0]).exists())
        await launcher.close(kill=True)

    async def test_memory_of_the_agents_own_container_is_told_as_likely(
        self, harness: SubprocessHarness, launcher: SubprocessLauncher
    ):
        parent = cgroups.usable_parent()
        assert parent is not None
        group = container(parent, 128 << 20)
        try:
            code = "b = bytearray(400 << 20); print('not killed')"
            task = (sys.executable, "-I", "-S", "-c", code)
            with agent(harness, 1, *task, group=group) as process:
                read_pid(process)
                spec = harness.spec("a0", ENDLESS)
                await harness.until(lambda: (spec.run_dir / records.EXIT).exists())
            [adopted] = await launcher.adopt()
            end = await adopted.wait()
            assert end.out_of_memory
            assert end.cause is not None
            assert (end.signal, end.cause.kind) == (9, DeathKind.OUT_OF_MEMORY)
            assert "very likely out of memory" in str(end.cause)
            await launcher.close(kill=True)
        finally:
            await harness.until(group.remove)

    async def test_kill_minus_nine_under_a_limit_is_no_memory_problem(
        self, harness: SubprocessHarness, launcher: SubprocessLauncher
    ):
        spec = dataclasses.replace(harness.spec("a", ENDLESS), memory_limit_bytes=64 << 20)
        running = await launch(harness, launcher, spec)
        assert 0 < running.usage().memory_bytes < 64 << 20
        os.kill(running.pid, signal.SIGKILL)
        end = await running.wait()
        assert not end.out_of_memory
        assert end.cause is not None
        assert end.cause.kind is DeathKind.SIGNAL
        await launcher.close(kill=True)

    async def test_memory_group_of_a_killed_supervisor_is_emptied_and_removed(
        self, harness: SubprocessHarness, launcher: SubprocessLauncher
    ):
        program = Program(prints="ready\n", detaches_child=True)
        spec = dataclasses.replace(harness.spec("a", program), memory_limit_bytes=64 << 20)
        running = await launch(harness, launcher, spec)
        group = cgroups.Group(*attempt_record(spec)["group"])  # pyright: ignore
        assert running.pid in group.pids()
        supervisor_of(spec).kill()
        await running.wait()
        assert group.pids() == []
        await launcher.forget(spec.attempt_id)
        assert group.path not in _groups_beside(group)
        await launcher.close(kill=True)


async def test_cpu_time_of_the_whole_tree_is_counted(harness: SubprocessHarness):
    burn = "import time\nwhile time.process_time() < 0.2: pass\n"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-S', '-c', {burn!r}])\n"
    launcher = harness.launcher()
    running = await launcher.launch(harness.python("a", code + burn))
    await harness.until(lambda: running.usage().cpu_s > 0)
    end = await running.wait()
    assert 0.35 <= end.cpu_s < 5  # in ticks of 10 ms
    assert running.usage().cpu_s == end.cpu_s
    assert end.ended_at >= running.started_at
    await launcher.close(kill=True)


async def test_flood_of_output_is_bounded_on_disk(harness: SubprocessHarness):
    code = "import os\nfor n in range(40000): os.write(1, b'%099d\\n' % n)\n"
    spec = dataclasses.replace(harness.python("a", code), log_bytes_max=LogTrimmer.BYTES_MIN)
    launcher = harness.launcher()
    assert (await (await launcher.launch(spec)).wait()).cause is None
    stat = spec.log_path.stat()
    assert stat.st_size == 4_000_000
    if stat.st_blocks * 512 >= stat.st_size:
        pytest.skip("this file system cannot free the middle of a file")
    assert stat.st_blocks * 512 <= LogTrimmer.BYTES_MIN + 64 * 1024
    chunk = read_log(spec.log_path, 1_000_000, 10_000_000)
    assert chunk.data.endswith(b"%099d\n" % 39999)
    assert chunk.dropped_bytes > 2_000_000
    await launcher.close(kill=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip("no small disk can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_full_disk_neither_ends_a_task_nor_hides_how_it_ended(mark: str, small_disk: Path):
    harness = SubprocessHarness(small_disk)
    code = (
        "import os, sys, time\n"
        "try:\n"
        "    while True: os.write(1, b'x' * 65536)\n"
        "except OSError as error:\n"
        "    time.sleep(1.2)\n"  # so that the supervisor looks at its log on the full disk
        "    sys.exit(error.errno)\n"
    )
    launcher = harness.launcher()
    spec = dataclasses.replace(harness.python("a", code), log_bytes_max=1 << 30)
    end = await (await launcher.launch(spec)).wait()
    assert end.exit_code == errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        await launcher.launch(harness.spec("b", ENDLESS))
    await launcher.close(kill=True)


def test_launcher_works_on_a_uvloop_in_any_thread(harness: SubprocessHarness):
    ends: list[int | None] = []

    async def main() -> None:
        launcher = harness.launcher()
        spec = harness.spec("a", Program(prints="ready\n", on_sigterm=5))
        running = await launch(harness, launcher, spec)
        ends.append((await running.stop(30)).exit_code)
        await launcher.close(kill=True)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert ends == [5]


async def test_attempt_whose_folder_its_task_has_removed_can_be_forgotten(
    harness: SubprocessHarness,
):
    launcher = harness.launcher()
    spec = harness.spec("gone", None, "/bin/sh", "-c", 'rm -r "$FRAY_RUN_DIR"')
    running = await launcher.launch(spec)
    ended = await running.wait()
    assert ended.cause is not None
    await launcher.forget(spec.attempt_id)
    assert await launcher.adopt() == []
    await launcher.close(kill=True)
