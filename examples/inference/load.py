"""Callers that never rest, and what they go through."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import fray
from examples.inference.pool import generate

PROMPTS = (
    "The value of the expression ",
    "A class definition is ",
    "If the object has no ",
    "The following operators ",
)


@dataclass(frozen=True, slots=True)
class Served:
    """One text that a caller has had.

    Attributes:
        began_s: When it was asked for, since the load began.
        first_s: How long its first piece took.
        ended_s: When the last one came, since the load began.
        length: In bytes, without the prompt.
        retried: How often another server had to take over.
    """

    began_s: float
    first_s: float
    ended_s: float
    length: int
    retried: int


@dataclass(slots=True)
class Load:
    """All that some callers go through.

    Attributes:
        served: Every text that was had.
        errors: What else calls ended with.
        sample: The last text.
        began_at: When it began, on the monotonic clock.
    """

    served: list[Served] = field(default_factory=list[Served])
    errors: list[str] = field(default_factory=list[str])
    sample: str = ""
    began_at: float = field(default_factory=time.monotonic)

    def now_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began_at

    async def run(self, server: Any, callers: int, over: asyncio.Event) -> None:
        """Calls until it is over.

        Args:
            server: A handle to the pool.
            callers: How many call at the same time.
            over: Ends it.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(self._call(server, random.Random(number), over))

    async def _call(self, server: Any, dice: random.Random, over: asyncio.Event) -> None:
        while not over.is_set():
            prompt, length = dice.choice(PROMPTS), dice.randint(20, 120)
            began, first, retried = time.monotonic(), 0.0, list[str]()
            data = bytearray()
            try:
                async for piece in generate(server, prompt, length, dice.randrange(1000), retried):
                    first = first or time.monotonic() - began
                    data += piece
            except fray.FrayError as exc:
                self.errors.append(str(exc))
                await asyncio.sleep(0.1)
                continue
            began_s = began - self.began_at
            self.served.append(Served(began_s, first, self.now_s(), len(data), len(retried)))
            self.sample = prompt + data.decode(errors="replace")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of all lies; 0 where there is none.

    Args:
        values: In any order.
        share: 0 to 1.
    """
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0
