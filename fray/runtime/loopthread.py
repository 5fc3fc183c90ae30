"""An event loop in a thread of its own, for synchronous programs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fastest loop that there is here: uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def on_loop(loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine on another loop, and waits for it on this one.

    Args:
        loop: Where it runs.
        make: Makes it. It is cancelled when the caller is.
    """
    if loop is asyncio.get_running_loop():
        return await make()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), loop))


class LoopThread:
    """Runs one event loop in a daemon thread.

    Args:
        name: Of the thread, for people.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def __repr__(self) -> str:
        return f"<LoopThread {self._name}{'' if self._thread.is_alive() else ' ended'}>"

    def start(self) -> None:
        """Starts the thread; returns when its loop runs."""
        self._thread.start()
        self._ready.wait()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._ready.set()
        await self._stop.wait()

    def run(self, make: Callable[[], Coroutine[Any, Any, T]], timeout_s: float | None = None) -> T:
        """Runs a coroutine on the loop and blocks for it.

        Args:
            make: Makes the coroutine.
            timeout_s: Seconds; then it is cancelled. None for no limit.

        Raises:
            TimeoutError: The time is up.
            RuntimeError: The thread has ended.
        """
        if self._loop is None or not self._thread.is_alive():
            raise RuntimeError(f"the thread {self._name} has ended")
        future = asyncio.run_coroutine_threadsafe(make(), self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    async def run_async(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs a coroutine on the loop and awaits it on another, which goes on meanwhile.

        Args:
            make: Makes the coroutine. It is cancelled when the caller is.

        Raises:
            RuntimeError: The thread has ended.
        """
        if self._loop is None or not self._thread.is_alive():
            raise RuntimeError(f"the thread {self._name} has ended")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), self._loop))

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Ends the loop and the thread. May be called twice.

        Args:
            timeout_s: How long to wait for it, in seconds.

        Returns:
            Whether it has ended.
        """
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


__all__ = ["LoopThread", "new_event_loop", "on_loop"]
