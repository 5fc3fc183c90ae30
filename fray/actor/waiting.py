"""Waiting for several calls at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from fray.actor.blocking import refuse_to_block
from fray.runtime import blocking
from fray.runtime.calls import CURRENT_INVOCATION
from fray.runtime.waits import begin_wait, end_wait
from fray.wording import counted

if TYPE_CHECKING:
    from fray.actor.future import ActorFuture


class Gathered:
    """Several futures as one: await it, or block with `result`. Order is that of the arguments."""

    def __init__(self, futures: Sequence[Any], return_exceptions: bool) -> None:
        self._futures = _check_futures("fray.gather", futures)
        self._return_exceptions = return_exceptions

    def __repr__(self) -> str:
        done = sum(f.done() for f in self._futures)
        return f"<Gathered {done}/{len(self._futures)} done>"

    def done(self) -> bool:
        """Whether all have their outcome."""
        return all(future.done() for future in self._futures)

    def cancel(self) -> None:
        """Cancels those that are not done."""
        for future in self._futures:
            future.cancel()

    def result(self, timeout: float | None = None) -> list[Any]:
        """Blocks until all are done, or one has failed.

        Args:
            timeout: Seconds to wait for all together; None for no limit.

        Raises:
            TimeoutError: The time is up; the calls go on.
            BaseException: What the first failed one raised, unless ``return_exceptions``.
        """
        pending = [future for future in self._futures if not future.done()]
        if pending and self._failed() is None:
            _refuse_to_block(pending, "fray.gather(…).result()", "await fray.gather(…)")
            self._block(pending, timeout)
        failed = self._failed()
        if failed is not None:
            return failed.result()  # which raises
        return [self._outcome(future) for future in self._futures]

    def _failed(self) -> Any:
        """The first one whose failure ends it all; None where there is none."""
        if self._return_exceptions:
            return None
        return next((f for f in self._futures if f.done() and f.failed), None)

    def _block(self, pending: list[ActorFuture[Any]], timeout: float | None) -> None:
        over = threading.Event()
        told = itertools.count(1)

        def look(future: ActorFuture[Any]) -> None:
            if next(told) >= len(pending) or (future.failed and not self._return_exceptions):
                over.set()

        with _noted(pending):
            in_time = _listen(pending, look, over, timeout)
        if not in_time:
            left = sum(not future.done() for future in pending)
            of = counted(len(self._futures), "call is", "calls are")
            raise TimeoutError(f"{left} of {of} not done")

    def _outcome(self, future: Any) -> Any:
        if not self._return_exceptions:
            return future.result()
        exc = future.exception()
        return future.result() if exc is None else exc

    def __await__(self) -> Generator[Any, None, list[Any]]:
        async def collect() -> list[Any]:
            return await asyncio.gather(*self._futures, return_exceptions=self._return_exceptions)

        return collect().__await__()


def gather(*futures: Any, return_exceptions: bool = False) -> Gathered:
    """Several futures as one.

    ``await fray.gather(a, b)`` on an event loop, ``fray.gather(a, b).result()`` elsewhere.

    Args:
        *futures: What ``.remote(...)`` gave.
        return_exceptions: Give exceptions in the list rather than raising the first.
    """
    return Gathered(futures, return_exceptions)


def wait(
    futures: Sequence[Any], num_returns: int = 1, timeout: float | None = None
) -> tuple[list[Any], list[Any]]:
    """Blocks until some of several calls have their outcome.

    Args:
        futures: What ``.remote(...)`` gave. For none, nothing is waited for.
        num_returns: How many must be done, between 1 and their number.
        timeout: Seconds to wait; None for no limit. When the time is up, fewer may be done.

    Returns:
        Exactly ``num_returns`` that are done (fewer after a timeout), and the others; each in the
        order in which they were given.

    Raises:
        ValueError: ``num_returns`` is out of bounds, or a future is given twice.
        BlockingCallError: An event loop runs on this thread.
    """
    given = _check(futures, num_returns)
    pending = [future for future in given if not future.done()]
    needed = num_returns - (len(given) - len(pending))
    if pending and needed > 0:
        _refuse_to_block(pending, "fray.wait(…)", "await fray.wait_async(…)")
        over = threading.Event()
        told = itertools.count(1)

        def look(_: ActorFuture[Any]) -> None:
            if next(told) >= needed:
                over.set()

        _listen(pending, look, over, timeout)
    return _split(given, num_returns)


async def wait_async(
    futures: Sequence[Any], num_returns: int = 1, timeout: float | None = None
) -> tuple[list[Any], list[Any]]:
    """The asynchronous `wait`.

    Args:
        futures: What ``.remote(...)`` gave.
        num_returns: How many must be done.
        timeout: Seconds to wait; None for no limit.
    """
    given = _check(futures, num_returns)
    pending = [future for future in given if not future.done()]
    needed = num_returns - (len(given) - len(pending))
    if pending and needed > 0:
        enough = asyncio.Event()
        told = itertools.count(1)

        def look(_: ActorFuture[Any]) -> None:  # on this loop
            if next(told) >= needed:
                enough.set()

        for future in pending:
            future.add_done_callback(look)
        try:
            async with asyncio.timeout(timeout):
                await enough.wait()
        except TimeoutError:
            pass  # then fewer are done: that is the answer
        finally:
            for future in pending:
                future.remove_done_callback(look)
    return _split(given, num_returns)


@contextlib.contextmanager
def _noted(pending: list[ActorFuture[Any]]) -> Generator[None]:
    """Where a served call blocks for all of these, call cycles through any of them are found."""
    invocation = CURRENT_INVOCATION.get()
    if invocation is None:
        yield
        return
    waits = {threading.Event(): future for future in pending}  # one each, as its identity
    for waiter, future in waits.items():
        begin_wait(invocation, waiter, future)
    pending[0].process.watch_waits()
    try:
        yield
    finally:
        for waiter in waits:
            end_wait(invocation, waiter)


def _listen(
    pending: list[ActorFuture[Any]], look: Any, over: threading.Event, timeout: float | None
) -> bool:
    """Has ``look`` called with each future that gets done, until that sets the event."""
    for future in pending:
        future.call_when_done(look)  # not on a notebook's loop, which is about to be blocked
    try:
        return blocking.wait(over, timeout)
    finally:  # who waits for the same futures again and again leaves nothing behind
        for future in pending:
            future.remove_done_callback(look)


def _refuse_to_block(pending: list[ActorFuture[Any]], what: str, instead: str) -> None:
    for process in {id(f.process): f.process for f in pending}.values():
        refuse_to_block(what, instead, process)


def _check_futures(what: str, futures: Sequence[Any]) -> list[Any]:
    for future in futures:
        if not callable(getattr(future, "done", None)):
            hint = f"; {what}(*futures) takes them one by one" if what == "fray.gather" else ""
            raise TypeError(f"{what} takes what .remote(...) gave, not {future!r}{hint}")
    return list(futures)


def _check(futures: Sequence[Any], num_returns: int) -> list[Any]:
    waiting = _check_futures("fray.wait", futures)
    if not 1 <= num_returns <= max(len(waiting), 1):
        raise ValueError(f"num_returns must be between 1 and {len(waiting)}, not {num_returns}")
    if len({id(f) for f in waiting}) != len(waiting):
        raise ValueError("a future was given twice")
    return waiting


def _split(futures: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
    ready = [f for f in futures if f.done()][:num_returns]
    chosen = {id(f) for f in ready}
    return ready, [f for f in futures if id(f) not in chosen]


__all__ = ["Gathered", "gather", "wait", "wait_async"]
