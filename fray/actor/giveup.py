"""What becomes of a block, and of its caller, when a supervisor gives up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.errors import ChildFailed, FrayError, SupervisorFailed

if TYPE_CHECKING:
    from fray.runtime.failures import Failure


class Block:
    """The body of an ``async with``: cancelled, once, when the supervisor gives up."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("`async with fray.Supervisor(…)` is used in a task")
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._left = False
        self._cancelled = False

    def cancel(self) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if not self._left:
            self._cancelled = True
            self._task.cancel("the supervisor of this block has given up")

    def leave(self) -> bool:
        """The block is over. Says whether a cancellation that ended it was ours alone."""
        self._left = True
        return self._cancelled and self._task.uncancel() == 0


def failed(failure: Failure, *others: BaseException) -> SupervisorFailed:
    """A supervisor's failure as an exception, with all that led to it as its cause.

    Args:
        failure: Of a supervisor.
        *others: What else is to be told: it was raised by whoever relied on the supervisor.
    """
    exc = SupervisorFailed(failure.name, failure.cause)
    because = [*others, *(_exception_of(each) for each in failure.because)]
    if because:
        exc.__cause__ = BaseExceptionGroup(f"what ended {failure.name}", because)
    return exc


def _exception_of(failure: Failure) -> BaseException:
    if failure.because:
        return failed(failure)
    exc = ChildFailed(failure.name, failure.cause)
    if isinstance(failure.error, FrayError):
        exc.__cause__ = failure.error.__cause__
    else:
        exc.__cause__ = failure.error
    return exc


__all__ = ["Block", "failed"]
