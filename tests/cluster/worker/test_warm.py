"""Tasks that are forked from an interpreter that was started before: as good as new ones."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import signal
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fray.cluster.blobs import pack
from fray.cluster.worker.launcher import LaunchSpec
from fray.cluster.worker.taskfile import TaskFile, TaskKind
from fray.errors import DeathKind
from fray.ids import AttemptId
from fray.runtime.serialization import dumps_call
from tests.integration.real_cluster import is_gone, until

if TYPE_CHECKING:
    from fray.cluster.worker.subprocesses import SubprocessLauncher

    from .subprocess_harness import SubprocessHarness

pytestmark = [pytest.mark.integration]


class Warm:
    """A launcher whose interpreter is started, and tasks for it."""

    def __init__(self, harness: SubprocessHarness, launcher: SubprocessLauncher) -> None:
        self.harness = harness
        self.launcher = launcher
        self.count = 0

    async def ready(self) -> int:
        """The process of the interpreter, once it is ready."""
        zygote = self.launcher._warm._zygotes[sys.executable]
        await until(zygote.is_ready, "the interpreter is ready")
        assert zygote._process is not None
        return zygote._process.pid

    def spec(self, function: Callable[..., Any], *args: Any, **env: str) -> LaunchSpec:
        self.count += 1
        run_dir = self.harness.root / f"a{self.count}"
        run_dir.mkdir(mode=0o700, parents=True)
        task = TaskFile(
            TaskKind.FUNCTION, f"me/j-{self.count}/0#0", 0, "me/j", "j", "me", 0, "n", "", "", ""
        )
        task.write(run_dir, pack(dumps_call(function, args, {}, what="it")))
        return LaunchSpec(
            attempt_id=AttemptId(task.attempt_id),
            argv=(sys.executable, "-m", "fray.cluster.worker.task", str(run_dir)),
            run_dir=run_dir,
            log_path=self.harness.logs / f"a{self.count}.log",
            env={"PYTHONUNBUFFERED": "1", **env},
            may_prestart=True,
        )

    async def run(self, function: Callable[..., Any], *args: Any, **env: str) -> list[str]:
        spec = self.spec(function, *args, **env)
        running = await self.launcher.launch(spec)
        ended = await running.wait()
        text = spec.log_path.read_text()
        assert ended.cause is None, (ended, text)
        return text.splitlines()


@pytest.fixture
async def warm(harness: SubprocessHarness) -> AsyncIterator[Warm]:
    launcher = harness.launcher(prestart=(sys.executable,))  # type: ignore[arg-type]
    warm = Warm(harness, launcher)
    await warm.ready()
    yield warm
    await launcher.close(kill=True)


def by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a notebook would send: the tests are not on the tasks' path."""
    function.__module__ = "__main__"
    return function


@by_value
def who() -> None:
    main = os.path.basename(sys.modules["__main__"].__file__ or "")
    print(main, os.getpid() == os.getsid(0) == os.getpgrp(), threading.active_count())
    open_ = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1]
    print([os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) for fd in open_ if fd > 2])
    print(
        signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        signal.getsignal(signal.SIGPIPE),
    )


async def test_a_task_is_forked_into_a_session_of_its_own_with_nothing_left_open(warm):
    lines = await warm.run(who)
    assert lines == ["warm.py True 1", "['stacks.txt']", "True 1"]  # for `fray stack`


@by_value
def show(names: list[str]) -> None:
    print([os.environ.get(name) for name in names], os.getcwd(), sys.path[:2], time.tzname[0])
    print(os.popen(f"echo ${names[0]}").read().strip())


async def test_it_has_its_own_variables_folder_and_paths_and_none_of_the_interpreter_s(
    warm, tmp_path, monkeypatch
):
    names = ["A", "B", "FRAY_ATTEMPT_ID"]
    here = tmp_path / "here"
    here.mkdir()
    spec = warm.spec(show, names, A="1", PYTHONPATH="lib", TZ="XYZ-1")
    spec = replace(spec, cwd=str(here))
    await (await warm.launcher.launch(spec)).wait()
    told = f"['1', None, '{spec.attempt_id}'] {here} ['{here}', '{here}/lib'] XYZ"
    assert spec.log_path.read_text().splitlines() == [told, "1"]


@by_value
def leave_traces() -> None:
    print(getattr(os, "trace", None), os.environ.get("TRACE"))
    os.trace = "left"  # type: ignore[attr-defined]
    os.environ["TRACE"] = "left"


async def test_no_task_sees_what_another_has_done(warm):
    for _ in range(2):
        assert await warm.run(leave_traces) == ["None None"]


@by_value
def end_in_order() -> None:
    def late() -> None:
        time.sleep(0.2)
        print("thread")

    atexit.register(print, "atexit")
    threading.Thread(target=late).start()
    sys.stdout.write("no end of line")


async def test_it_ends_as_an_interpreter_does(warm):
    assert await warm.run(end_in_order) == ["no end of linethread", "atexit"]


@by_value
def tell_what_was_imported() -> None:
    import fray.cluster.current
    import fray.cluster.remote
    import fray.runtime.loopthread

    fray.runtime.loopthread.new_event_loop().close()
    # What was there before the fork is frozen, which the collector does not list.
    print(sorted(m.__name__ for m in gc.get_objects() if isinstance(m, types.ModuleType)))


async def test_a_task_that_connects_to_its_cluster_finds_all_that_fray_needs_imported(warm):
    assert await warm.run(tell_what_was_imported) == ["[]"]


@by_value
def fail(how: str) -> None:
    if how == "raise":
        raise ValueError("no")
    if how == "exit":
        sys.exit(7)
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("how", "kind", "code", "number"),
    [
        ("raise", DeathKind.APP_ERROR, 1, None),
        ("exit", DeathKind.APP_ERROR, 7, None),
        ("signal", DeathKind.SIGNAL, None, signal.SIGSEGV),
    ],
)
async def test_its_end_is_told_as_that_of_a_new_process(warm, how, kind, code, number):
    ended = await (await warm.launcher.launch(warm.spec(fail, how))).wait()
    assert ended.cause is not None
    assert (ended.cause.kind, ended.exit_code, ended.signal) == (kind, code, number)


@by_value
def wait_to_be_stopped(path: str) -> None:
    try:
        print("up")
        time.sleep(1000)
    finally:
        open(path, "w").close()


async def test_it_is_stopped_through_its_finally_blocks(warm, tmp_path):
    spec = warm.spec(wait_to_be_stopped, str(tmp_path / "cleaned"))
    running = await warm.launcher.launch(spec)
    await until(lambda: "up" in spec.log_path.read_text(), "it runs")
    ended = await running.stop()
    assert ended.cause is not None
    assert ended.cause.kind is DeathKind.STOPPED
    assert (tmp_path / "cleaned").exists()


@by_value
def hide_a_child(path: str) -> None:
    pid = os.fork()
    if pid == 0:
        os.setsid()  # in no session and no process group of the task
        with open(path, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(1000)
    time.sleep(1000)


async def test_what_a_killed_supervisor_leaves_behind_is_found(warm, tmp_path):
    path = tmp_path / "pid"
    running = await warm.launcher.launch(warm.spec(hide_a_child, str(path)))
    await until(lambda: path.exists() and bool(path.read_text()), "the child runs")
    psutil.Process(running.pid).parent().kill()
    ended = await running.wait()
    assert "its supervisor process was killed" in str(ended.cause)
    assert is_gone(running.pid)
    assert is_gone(int(path.read_text()))


@by_value
def say_hash_seed() -> None:
    print(sys.flags.hash_randomization, os.path.basename(sys.modules["__main__"].__file__ or ""))


async def test_what_only_a_new_process_can_be_given_gets_one(warm):
    assert await warm.run(say_hash_seed, PYTHONHASHSEED="0") == ["0 task.py"]
    assert await warm.run(say_hash_seed, LD_BIND_NOW="1") == ["1 task.py"]
    assert await warm.run(say_hash_seed, SSL_CERT_FILE="/elsewhere.pem") == ["1 task.py"]
    assert await warm.run(say_hash_seed) == ["1 warm.py"]


async def test_a_killed_interpreter_is_replaced_and_no_launch_fails(warm):
    psutil.Process(await warm.ready()).kill()
    for _ in range(2):
        assert (await warm.run(say_hash_seed))[0].endswith(".py")
    await warm.ready()
    assert await warm.run(say_hash_seed) == ["1 warm.py"]


async def test_a_task_outlives_its_interpreter(warm, tmp_path):
    spec = warm.spec(wait_to_be_stopped, str(tmp_path / "cleaned"))
    running = await warm.launcher.launch(spec)
    await until(lambda: "up" in spec.log_path.read_text(), "it runs")
    psutil.Process(await warm.ready()).kill()
    await asyncio.sleep(0)
    assert psutil.pid_exists(running.pid)
    await running.stop()


@by_value
def say_user() -> None:
    print(os.getuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_it_can_be_another_user_s(warm):
    spec = replace(warm.spec(say_user), user="nobody")
    await (await warm.launcher.launch(spec)).wait()
    # The run directory is root's alone here, which shows who it was that tried to read it.
    assert "PermissionError" in spec.log_path.read_text()
