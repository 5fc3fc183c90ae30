"""Signals: "something has changed, look again"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class Signal:
    """Wakes whoever waits for a condition over shared state. For one loop."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def notify(self) -> None:
        """The state has changed: everybody looks again."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Waits for the next `notify`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until a condition holds.

        Args:
            condition: Looked at now, and after each `notify`.
            timeout_s: At most so long, in seconds.

        Returns:
            Whether it holds.
        """
        if condition():
            return True
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self.wait()
        except TimeoutError:
            return condition()
        return True


class Topics:
    """Signals by what has changed: who waits for one thing is not woken by all others.

    With ten thousand who wait, one that wakes them all at each change makes the square of it.
    For one loop.
    """

    def __init__(self) -> None:
        self._signals: dict[str, Signal] = {}
        self._waiting: dict[str, int] = {}

    def notify(self, topics: Iterable[str]) -> None:
        """These have changed: whoever waits for one of them looks again.

        Args:
            topics: What has changed.
        """
        for topic in topics:
            signal = self._signals.get(topic)
            if signal is not None:
                signal.notify()

    async def until(self, topic: str, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until a condition holds that depends on one topic only.

        Args:
            topic: What it depends on.
            condition: Looked at now, and after each `notify` of that topic.
            timeout_s: At most so long, in seconds.

        Returns:
            Whether it holds.
        """
        signal = self._signals.setdefault(topic, Signal())
        self._waiting[topic] = self._waiting.get(topic, 0) + 1
        try:
            return await signal.until(condition, timeout_s)
        finally:
            self._waiting[topic] -= 1
            if not self._waiting[topic]:
                del self._waiting[topic], self._signals[topic]


__all__ = ["Signal", "Topics"]
