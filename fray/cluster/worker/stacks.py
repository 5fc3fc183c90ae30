"""What the Python code of an attempt is doing: the stacks of its threads and tasks.

Two ways. py-spy, where it is installed (``fray-actors[debug]``) and may look, sees any Python
process from outside. A process that fray runs itself (a function, an actor) also answers a signal:
its handler is C code of the interpreter's (`faulthandler`), so it works while some code computes
and lets nobody else run; what its event loop's tasks wait for is added when that comes to it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from fray.errors import InvalidRequestError
from fray.wording import counted

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

STACK_SIGNAL = signal.SIGRTMIN + 12
"""Used by nobody: the C library and other debuggers take the first and the last ones."""

STACKS_FILE = "stacks.txt"

PYSPY_TIMEOUT_S = 20.0

ANSWER_S = 3.0
"""How long a process is waited for that was asked by a signal."""

SETTLE_S = 0.3
"""After so long without more the answer is whole."""

LOOK_S = 0.02

_TASKS_MAX = 200

_file: TextIO | None = None


def answer_signals(run_dir: Path) -> None:
    """From here on this process writes its stacks into a file when it is asked to.

    On the main thread.

    Args:
        run_dir: The attempt's; there goes the file.
    """
    global _file
    _file = (run_dir / STACKS_FILE).open("w", encoding="utf-8")
    # The interpreter's own handler runs when Python code can run; the C one at once, before it.
    signal.signal(STACK_SIGNAL, _add_tasks)
    signal.siginterrupt(STACK_SIGNAL, False)
    faulthandler.register(STACK_SIGNAL, file=_file, all_threads=True, chain=True)


def _add_tasks(number: int, frame: FrameType | None) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # a plain function: its threads are all there is
    if _file is None:
        return
    tasks = list(asyncio.all_tasks(loop))
    print(f"\n{counted(len(tasks), 'task')} of the event loop:", file=_file)
    for task in tasks[:_TASKS_MAX]:
        print("", file=_file)
        task.print_stack(file=_file)
    _file.flush()


async def stacks_of(pid: int, run_dir: Path, clock: Clock) -> str:
    """The stacks of an attempt's processes, for people.

    Args:
        pid: Its main process.
        run_dir: Its run directory.
        clock: For waiting.

    Raises:
        InvalidRequestError: There is no way to tell; the message says what to install.
    """
    told, why = await _by_pyspy(pid)
    if told:
        return told
    path = run_dir / STACKS_FILE
    if path.exists() and _answers(pid):
        return await _by_signal(pid, path, clock)
    raise InvalidRequestError(
        f"the stacks of process {pid} cannot be told: it is a program of its own, and {why}"
    )


async def _by_pyspy(pid: int) -> tuple[str, str]:
    """What py-spy says; else why it does not."""
    path = shutil.which("py-spy", path=os.pathsep.join([_beside(), os.environ.get("PATH", "")]))
    if path is None:
        return "", "py-spy is not installed on its host (pip install 'fray-actors[debug]')"
    command = [path, "dump", "--pid", str(pid), "--subprocesses"]
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PYSPY_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return "", f"py-spy failed: {exc}"
    if done.returncode == 0 and done.stdout.strip():
        return done.stdout, ""
    lines = done.stderr.strip().splitlines() or ["no reason given"]
    return "", f"py-spy failed: {lines[-1].strip()}"


def _beside() -> str:
    return os.path.dirname(sys.executable)


def _answers(pid: int) -> bool:
    """Whether a process catches the signal: else it would kill it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (STACK_SIGNAL - 1) & 1)


async def _by_signal(pid: int, path: Path, clock: Clock) -> str:
    begins_at = os.stat(path).st_size
    try:
        os.kill(pid, STACK_SIGNAL)
    except OSError as exc:
        raise InvalidRequestError(f"process {pid} cannot be asked: {exc.strerror}") from exc
    size, since = begins_at, clock.monotonic()
    deadline = since + ANSWER_S
    while clock.monotonic() < deadline:
        await clock.sleep(LOOK_S)
        now_size = os.stat(path).st_size
        if now_size != size:
            size, since = now_size, clock.monotonic()
        elif size > begins_at and clock.monotonic() - since >= SETTLE_S:
            break
    if size == begins_at:
        raise InvalidRequestError(f"process {pid} does not answer: it hangs inside the kernel")
    with path.open(encoding="utf-8", errors="replace") as file:
        file.seek(begins_at)
        return f"Process {pid}\n{file.read()}"


__all__ = ["STACKS_FILE", "STACK_SIGNAL", "answer_signals", "stacks_of"]
