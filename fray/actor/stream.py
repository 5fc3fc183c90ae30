"""What a generator method yields, as an iterator: for ``async for``, and for ``for``.

Items and credit are counted by the call's future; this only takes them, and closes what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from fray.actor.future import ActorFuture

T = TypeVar("T")


class Stream(AsyncIterator[T], Iterator[T]):
    """Iterates over what a generator method yields.

    Items come in order; an error comes after the items before it. When the iterator is dropped, its
    loop left, or the task that waits for an item cancelled, the generator at the actor is closed.
    """

    def __init__(self, future: ActorFuture[Any]) -> None:
        self._future = future
        self._over = False

    async def __anext__(self) -> T:
        while True:
            found, item = self._future.take_item()
            if found:
                return item
            if self._over or self._future.done():
                self._over = True
                self._future.stream_over()
                raise StopAsyncIteration
            try:
                await self._future.until_changed()
            except asyncio.CancelledError:  # nobody goes on reading, as with any async generator
                self.close()
                raise

    def __next__(self) -> T:
        while True:
            found, item = self._future.take_item()
            if found:
                return item
            if self._over or self._future.done():
                self._over = True
                self._future.stream_over()
                raise StopIteration
            self._future.wait_changed()

    async def aclose(self) -> None:
        """Closes the generator at the actor."""
        self.close()

    def close(self) -> None:
        """Closes the generator at the actor."""
        self._over = True
        self._future.cancel()

    def __del__(self) -> None:
        if not self._over and not self._future.done():
            self._future.cancel()


__all__ = ["Stream"]
