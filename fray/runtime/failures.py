"""Why something in a tree of supervisors ended, with all that led to it.

A `DeathCause` is one sentence that crosses the wire. Within a process more is known: which child,
what it raised and where, and what its own children had done before. A `Failure` keeps that, and
`explain` tells it to whoever finds a process that has exited.

This room knows no asyncio, no supervisors and no clock.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from fray.errors import ActorDied, DeathCause, DeathKind, SupervisorFailed

FAILURES_TOLD_MAX = 5
"""So many of a supervisor's latest failures are kept for `explain`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of one thing, and what led to it.

    Attributes:
        name: What ended.
        cause: Why.
        error: What it raised in this process, where it did.
        because: The ends of its own children that led to it, the earliest first.
    """

    name: str
    cause: DeathCause
    error: BaseException | None = None
    because: tuple[Failure, ...] = ()

    @property
    def normal(self) -> bool:
        """Whether it ended because somebody wanted it to, or because it was done."""
        return self.cause.kind is DeathKind.STOPPED


def failure_to_start(name: str, exc: BaseException) -> Failure:
    """What a start function's exception says about the child.

    Args:
        name: Name of the child.
        exc: What it raised.
    """
    if isinstance(exc, ActorDied | SupervisorFailed):
        return Failure(name, exc.cause)
    cause = DeathCause(DeathKind.APP_ERROR, f"it failed to start: {sentence(exc)}")
    return Failure(name, cause, error=exc)


def sentence(exc: BaseException) -> str:
    """An exception's class and message, in one line.

    Args:
        exc: The exception.
    """
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def explain(failure: Failure) -> str:
    """Tells a failure with all that led to it, each level indented below what it caused.

    Args:
        failure: What happened.

    Returns:
        Lines without a final newline. A failure that repeats the one before it is only counted.
    """
    return "\n".join(_lines(failure, times=1))


def _lines(failure: Failure, times: int) -> list[str]:
    again = f" ({times} times)" if times > 1 else ""
    kind = failure.cause.kind.value.replace("_", " ")
    lines = [f"{failure.name} ended, {kind}: {failure.cause}{again}"]
    if failure.error is not None:
        told = "".join(traceback.format_exception(failure.error))
        lines.extend(f"  {line}" for line in told.splitlines())
    for each, count in _counted(failure.because):
        lines.extend(f"  {line}" for line in _lines(each, count))
    return lines


def _counted(failures: tuple[Failure, ...]) -> list[tuple[Failure, int]]:
    counted: list[tuple[Failure, int]] = []
    for failure in failures:
        if counted and (counted[-1][0].name, counted[-1][0].cause) == (failure.name, failure.cause):
            counted[-1] = (failure, counted[-1][1] + 1)
        else:
            counted.append((failure, 1))
    return counted


__all__ = ["FAILURES_TOLD_MAX", "Failure", "explain", "failure_to_start", "sentence"]
