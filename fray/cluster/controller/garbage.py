"""When a controller's garbage is collected: rarely, for a collection halts all else.

The interpreter collects as objects become many, young ones often and all of them whenever the heap
has grown by a quarter. With thirty thousand tasks the one takes five milliseconds while a plan is
made, the other a tenth of a second. But what the ledger drops has no cycles and goes without it, so
here all is collected now and then, and nothing in between.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

LOOK_S = 10.0
"""At least so long between two collections."""

SHARE = 0.001
"""Of the time, at the most, that collections take, unless the heap grows."""

GROWTH_MAX = 1_000_000
"""So many objects more than after the last collection are a reason for the next one."""


async def collect_garbage(clock: Clock) -> None:
    """Takes collections over from the interpreter, for as long as this runs.

    For a process that is a controller and nothing else. What is there at the start, such as all
    that was imported, is taken never to become garbage.

    Args:
        clock: The process's clock.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    collected_at, took_s = clock.monotonic(), 0.0
    try:
        while True:
            await clock.sleep(LOOK_S)
            now = clock.monotonic()
            if now < collected_at + took_s / SHARE and gc.get_count()[0] < GROWTH_MAX:
                continue
            gc.collect()
            collected_at = clock.monotonic()
            took_s = collected_at - now
    finally:
        gc.enable()
        gc.unfreeze()


__all__ = ["GROWTH_MAX", "LOOK_S", "SHARE", "collect_garbage"]
