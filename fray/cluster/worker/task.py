"""A task's own process: ``python -m fray.cluster.worker.task RUN_DIR``.

A plain function runs on the main thread, and gets a connection (with a loop in a thread of its own)
when it first uses one. An ``async def`` function, and an actor, run on the main thread's loop.

SIGTERM asks for an end: a function sees `JobStopped`, which unwinds it through its ``finally``
blocks; an ``async def`` function is cancelled, which does the same; an actor drains, runs
``on_stop`` and ends. Whoever does not end in time is killed.
"""

from __future__ import annotations

import asyncio
import inspect
import platform
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fray.cluster.blobs import unpack
from fray.cluster.entrypoint import rest_of
from fray.cluster.worker import exits
from fray.cluster.worker.stacks import answer_signals
from fray.cluster.worker.stopping import read_note
from fray.cluster.worker.taskfile import TaskFile, TaskKind, write_error
from fray.errors import DeathKind, JobStopped, PayloadError
from fray.runtime.guarded import plain_text
from fray.runtime.loopthread import new_event_loop
from fray.runtime.serialization import loads
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.cluster.base import AsyncCluster

STOPPED = "the job was told to stop"


def check_python(pickled_by: str) -> None:
    """Refuses what another Python has pickled: its code is for that one, and might crash this one.

    Patch levels may differ, and programs, which are not pickled, know nothing of this.

    Args:
        pickled_by: The version; empty where nobody says.

    Raises:
        PayloadError: It is of another minor version than this one.
    """
    here = platform.python_version()
    if pickled_by and pickled_by.split(".")[:2] != here.split(".")[:2]:
        raise PayloadError(
            f"Python {pickled_by} has pickled what is to run here, on Python {here}: functions and "
            "classes travel between equal minor versions only (patch levels may differ). Launch it "
            "from the version that hosts have, or give hosts the other one"
        )


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    raise JobStopped(STOPPED)


def _run_function(payload: bytes) -> None:
    from fray.cluster.current import close_connections

    signal.signal(signal.SIGTERM, _on_sigterm)
    fn, args, kwargs = loads(unpack(payload), what="the entrypoint")
    try:
        if inspect.iscoroutinefunction(fn):
            _run_on_loop(lambda: fn(*args, **kwargs))
        else:
            rest = rest_of(fn(*args, **kwargs))
            if rest is not None:
                _run_on_loop(lambda: rest)
    finally:
        close_connections()


def _run_on_loop(make: Callable[[], Awaitable[object]]) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run_async(make))


async def _run_async(make: Callable[[], Awaitable[object]]) -> None:
    from fray.cluster.current import connect

    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel(STOPPED)

    # What a signal's handler raises would get lost between two callbacks of the loop.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    try:
        async with connect():
            await make()
    except asyncio.CancelledError:
        if stopped:
            raise JobStopped(STOPPED) from None
        raise


async def _run_actor(task: TaskFile, payload: bytes, run_dir: Path) -> None:
    from fray.cluster.current import connect

    await serve_actor(task, payload, connect(), run_dir)


async def serve_actor(
    task: TaskFile,
    payload: bytes,
    connection: AbstractAsyncContextManager[AsyncCluster],
    run_dir: Path,
) -> None:
    """Hosts an actor until it stops, or until SIGTERM asks for that.

    Args:
        task: Which actor.
        payload: The packed class and arguments.
        connection: Gives the task's connection to its cluster.
        run_dir: The attempt's: there lies why it is to stop.

    Raises:
        BaseException: What its constructor or ``on_start`` raised, or what it died of later.
    """
    from fray.cluster.worker.hosting import host_actor

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with connection as cluster:
        assert task.actor is not None
        cell = await host_actor(cluster.system, task.actor, task.number + 1, payload)
        async with Scope("actor") as scope:
            stopping = scope.spawn(stop.wait(), name="stop")
            await asyncio.wait((stopping, cell.stopped), return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            note = read_note(run_dir)
            await cell.stop(note.cause, grace_s=note.drain_s)
        if cell.failure is not None:
            raise cell.failure


def exit_code_of(exc: BaseException, run_dir: Path) -> int:
    """The exit code of a task that raised; says why, in the log and to the agent.

    Args:
        exc: What it raised.
        run_dir: The attempt's.
    """
    cause = exits.raised(exc)
    if cause is None:
        return 0
    if cause.kind is not DeathKind.STOPPED:
        print_failure(exc)
        write_error(run_dir, cause.message)
    assert cause.exit_code is not None
    return cause.exit_code


def print_failure(exc: BaseException) -> None:
    """Tells whoever reads a task's output what its function raised, as the interpreter would.

    Args:
        exc: What it raised.
    """
    if isinstance(exc, PayloadError):
        print(f"fray: {exc}", file=sys.stderr)
    elif not isinstance(exc, SystemExit):
        traceback.print_exception(exc)
    elif not isinstance(exc.code, int):
        print(plain_text(exc.code), file=sys.stderr)


def main() -> int:
    """Entry point; gives the exit code."""
    run_dir = Path(sys.argv[1])
    task, payload = TaskFile.read(run_dir)
    answer_signals(run_dir)
    try:
        check_python(task.python)
        if task.kind is TaskKind.ACTOR:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(_run_actor(task, payload, run_dir))
        else:
            _run_function(payload)
    except BaseException as exc:
        return exit_code_of(exc, run_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
