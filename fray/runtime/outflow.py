"""When what a connection has to say leaves: batching per tick, and not more than the link takes.

What is said while a message is being taken in leaves together when that is done. Answers of a busy
actor wait for each other a little. While the link is full nothing is pulled from the connection,
which keeps small calls ahead of large ones.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fray.runtime.connection import Connection
    from fray.runtime.transport import Link

HELD_ANSWERS_MAX = 64
HELD_S = 0.001
"""Answers of an actor that has more calls waiting are held for each other: at most so many, and so
long. An actor whose methods take longer than this is not slowed down by it."""

FLUSH_BYTES = 512 << 10
"""Pulled from the connection at once: small enough that a call queued next waits little."""


class Outflow:
    """From one connection to its link.

    Args:
        connection: What has something to say.
        link: Where it leaves.

    Attributes:
        receiving: Whether a message is being taken in; whoever does that flushes afterwards.
    """

    def __init__(self, connection: Connection, link: Link) -> None:
        self.receiving = False
        self._connection = connection
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._armed = False
        self._held = 0
        self._holding: asyncio.TimerHandle | None = None
        self._full = False

    def touch(self) -> None:
        """Something was said: the first of a tick leaves at once, the rest at its end."""
        if self.receiving or self._armed:
            return
        self._armed = True
        self._loop.call_soon(self._tick)
        self.flush()

    def touch_lazily(self) -> None:
        """An answer was said, and more are about to follow, one per tick: they leave together."""
        self._held += 1
        if self._held >= HELD_ANSWERS_MAX:
            self.flush()
        elif self._holding is None and not self.receiving:
            self._holding = self._loop.call_later(HELD_S, self.flush)

    def _tick(self) -> None:
        self._armed = False
        self.flush()

    def flush(self) -> None:
        """Sends as much as the link takes."""
        self._held = 0
        self._hold_nothing()
        while self._connection.has_output and not self._full:
            for message in self._connection.messages(FLUSH_BYTES):
                self._full = not self._link.send(message) or self._full

    def writable(self) -> None:
        """The link has drained."""
        self._full = False
        self.flush()

    def say_last(self) -> None:
        """Sends what the connection still has to say, its goodbye above all, however full."""
        self.writable()

    def stop(self) -> None:
        """The link is gone: nothing leaves any more."""
        self._full = True
        self._hold_nothing()

    def _hold_nothing(self) -> None:
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None


__all__ = ["FLUSH_BYTES", "HELD_ANSWERS_MAX", "HELD_S", "Outflow"]
