"""A signal: "something has changed, look again"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


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


__all__ = ["Signal"]
