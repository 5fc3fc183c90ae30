"""From the end of a process to the reason why a task is gone. Pure.

The reader of these messages sees nothing else: they say what happened, who may have done it, and
what to look at.
"""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass
from typing import Literal

from fray.errors import DeathCause, DeathKind, JobStopped
from fray.runtime.guarded import is_a, plain_text

StopReason = Literal["requested", "terminated", "orphaned", "fenced", "never started"]
"""Who stopped it: an agent; a SIGTERM to its supervisor (the host's service manager); nobody, for
no agent was there for too long; nobody, for the host's lease ran out; or the agent died while it
launched it."""

OutOfMemory = Literal["limit", "host"]
"""What was exhausted: the attempt's own limit, or (very likely) the memory of its host, or of the
container that the agent runs in."""

_STOPPED: dict[StopReason, str] = {
    "requested": "stopped on request",
    "terminated": "stopped by a SIGTERM to its supervisor, as when the host shuts down",
    "orphaned": "stopped because its host had no agent for too long",
    "fenced": "stopped because its host could not reach the controller for too long",
    "never started": "never started: its agent died while launching it",
}

_SIGNAL_HINTS: dict[int, str] = {
    signals.SIGKILL: "not sent by fray: by a person or another program, or by the kernel",
    signals.SIGTERM: "not sent by fray: by a person or another program",
    signals.SIGINT: "not sent by fray: by a person or another program",
    signals.SIGSEGV: "a crash in native code: a library, a driver, or the interpreter",
    signals.SIGBUS: "often a full /dev/shm, or a mapped file that was truncated",
    signals.SIGABRT: "native code gave up; the end of the log says why",
    signals.SIGILL: "native code for another kind of CPU",
    signals.SIGXFSZ: "a file grew beyond the limit of its size",
    signals.SIGXCPU: "over its limit of CPU time",
}

_SHELL_SIGNAL_BASE = 128

STOPPED_EXIT_CODE = _SHELL_SIGNAL_BASE + signals.SIGTERM
"""What a shell says of a process that SIGTERM ended."""

MESSAGE_CHARS_MAX = 4000
"""What is told of a failure in its own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The facts about an end, as a supervisor saw them.

    Attributes:
        exit_code: Of the main process, where it exited.
        signal: What ended the main process, where a signal did.
        out_of_memory: What memory was exhausted, if any.
        stop_reason: Who stopped it, if anybody did before it ended.
        memory_limit_bytes: The enforced limit, where there was one.
        survivors: The processes that could not be killed.
    """

    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: OutOfMemory | None = None
    stop_reason: StopReason | None = None
    memory_limit_bytes: int | None = None
    survivors: tuple[int, ...] = ()


def death_cause(ending: Ending) -> DeathCause | None:
    """Why an attempt is gone.

    A stop on request outranks the exit code, for a program may answer SIGTERM in any way. Memory
    outranks the code and the signal, which only follow from it; but a program that lost a child for
    want of memory and nevertheless exits with 0 has succeeded.

    Args:
        ending: The facts.

    Returns:
        None for success.
    """
    if ending.stop_reason is not None:
        return _cause(DeathKind.STOPPED, f"{_STOPPED[ending.stop_reason]}{_how(ending)}", ending)
    if ending.exit_code == 0:
        return None
    if ending.out_of_memory is not None:
        return _cause(DeathKind.OUT_OF_MEMORY, _memory_message(ending), ending)
    if ending.signal is not None:
        hint = _SIGNAL_HINTS.get(ending.signal)
        message = f"killed by {signal_name(ending.signal)}{f' ({hint})' if hint else ''}"
        return _cause(DeathKind.SIGNAL, message, ending)
    if ending.exit_code is not None:
        return _cause(DeathKind.APP_ERROR, code_message(ending.exit_code), ending)
    return _cause(DeathKind.UNKNOWN, "ended in a way that nobody saw", ending)


def exit_status(code: object) -> int:
    """The exit status of a process that ends by ``sys.exit(code)``: the interpreter's rule.

    Args:
        code: Of the `SystemExit`.

    Returns:
        0 to 255, as the operating system would tell: its lowest eight bits.
    """
    if code is None:
        return 0
    if not isinstance(code, int):
        return 1
    if not -(1 << 63) <= code < 1 << 63:  # the interpreter has no room for it
        return 255
    return int(code) & 0xFF


def raised(exc: BaseException) -> DeathCause | None:
    """Why a task is gone whose function raised this, wherever it ran.

    Args:
        exc: What it raised; it may do anything when it is asked for its text.

    Returns:
        None for success, which ``sys.exit(0)`` is.
    """
    if is_a(exc, JobStopped):
        return DeathCause(DeathKind.STOPPED, plain_text(exc), STOPPED_EXIT_CODE)
    if not isinstance(exc, SystemExit):
        name = plain_text(type(exc).__name__, 300)
        text = plain_text(exc, MESSAGE_CHARS_MAX)
        return DeathCause(DeathKind.APP_ERROR, f"{name}: {text}" if text else name, 1)
    status = exit_status(exc.code)
    if status == 0:
        return None
    message = code_message(status)
    if not isinstance(exc.code, int):
        text = plain_text(exc.code, MESSAGE_CHARS_MAX)
        message += f": {text}" if text.strip() else " (sys.exit was given an empty message)"
    return DeathCause(DeathKind.APP_ERROR, message, status)


def rebooted() -> DeathCause:
    """Why an attempt is gone whose host was booted anew since."""
    return DeathCause(kind=DeathKind.HOST_LOST, message="its host was rebooted while it ran")


def unsupervised(detail: str = "", survivors: tuple[int, ...] = ()) -> DeathCause:
    """Why an attempt is gone whose supervisor ended without a word.

    Args:
        detail: What is known of it, for people.
        survivors: The processes that could not be killed.
    """
    message = "its supervisor process was killed, so its exit status is unknown"
    if detail:
        message = f"its supervisor process failed: {detail}"
    return DeathCause(kind=DeathKind.UNKNOWN, message=message + _survivors(survivors))


def signal_name(number: int) -> str:
    """What people call a signal: ``SIGKILL (signal 9)``.

    Args:
        number: At least 1.
    """
    try:
        return f"{signals.Signals(number).name} (signal {number})"
    except ValueError:  # a real-time signal has a number only
        return f"signal {number}"


def _cause(kind: DeathKind, message: str, ending: Ending) -> DeathCause:
    return DeathCause(
        kind=kind,
        message=message + _survivors(ending.survivors),
        exit_code=ending.exit_code,
        signal=ending.signal,
    )


def _how(ending: Ending) -> str:
    if ending.signal is not None:
        return f": ended by {signal_name(ending.signal)}"
    if ending.exit_code is not None:
        return f": exited with code {ending.exit_code}"
    return ""


def _memory_message(ending: Ending) -> str:
    if ending.out_of_memory == "host":
        what = "very likely out of memory: the kernel killed processes of its host for lack of it"
    elif ending.memory_limit_bytes is None:
        what = "out of memory: the kernel killed a process of it at its limit"
    else:
        limit = _gib(ending.memory_limit_bytes)
        what = f"out of memory: the kernel killed a process of it at its limit of {limit}"
    return what + _how(ending)


def code_message(code: int) -> str:
    """What people are told of an exit code.

    Args:
        code: Not 0.
    """
    message = f"exited with code {code}"
    if _SHELL_SIGNAL_BASE < code < _SHELL_SIGNAL_BASE + signals.NSIG:
        message += f", which is how a shell reports {signal_name(code - _SHELL_SIGNAL_BASE)}"
    return message


def _survivors(pids: tuple[int, ...]) -> str:
    if not pids:
        return ""
    listed = ", ".join(map(str, pids[:10]))
    return f"; could not be killed and may hold devices: pid {listed}"


def _gib(size_bytes: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


__all__ = [
    "STOPPED_EXIT_CODE",
    "Ending",
    "OutOfMemory",
    "StopReason",
    "code_message",
    "death_cause",
    "exit_status",
    "raised",
    "rebooted",
    "signal_name",
    "unsupervised",
]
