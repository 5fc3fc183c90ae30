"""An actor that writes down what it does, so that a test can count it, and the reader of that."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import fray

TICK_S = 0.02
FOR_EVER_S = 3600.0
PIECE_BYTES = 1 << 20


@fray.actor
class Witness:
    """Each of its processes, on whatever host, writes into one file.

    Args:
        path: The file. Lines of ``WHAT PID NUMBER TIME``; the clock is common to all processes.
    """

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.calls = 0
        self.produced = 0
        self.write("begins")
        threading.Thread(target=self.tick, daemon=True).start()

    def write(self, what: str, number: int = 0) -> None:
        line = f"{what} {os.getpid()} {number} {time.monotonic():.6f}\n"
        os.write(self.file, line.encode())  # at once: lines of several processes stay whole

    def tick(self) -> None:
        while True:
            time.sleep(TICK_S)
            self.write("lives")

    def pid(self) -> int:
        return os.getpid()

    async def note(self, number: int) -> int:
        """What a test counts: in their order, one after the other."""
        self.write("notes", number)
        return number

    async def note_slowly(self, number: int, takes_s: float) -> int:
        self.write("notes", number)
        await asyncio.sleep(takes_s)
        return number

    @fray.method(concurrent=True)
    async def hold(self, number: int) -> None:
        """A call that is in flight for as long as there is somebody to run it."""
        self.write("notes", number)
        await asyncio.sleep(FOR_EVER_S)

    @fray.method(concurrent=True)
    async def beat(self) -> int:
        """A sign of life, beside whatever else goes on."""
        return os.getpid()

    @fray.method(concurrent=True)
    async def big(self, size_bytes: int) -> bytes:
        return bytes(size_bytes)

    @fray.method(concurrent=True)
    async def stream(self, pieces: int) -> AsyncIterator[bytes]:
        for number in range(pieces):
            self.produced = number + 1
            yield number.to_bytes(4, "big") + bytes(PIECE_BYTES - 4)

    @fray.method(concurrent=True)
    async def has_produced(self) -> int:
        return self.produced

    @fray.method(concurrent=True)
    async def ask(self, other: Any, method: str) -> int:
        """Calls another actor."""
        return await getattr(other, method).remote()


class Record:
    """What witnesses have written.

    Args:
        path: Into which file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, int, int, float]]:
        """What, by which process, with which number, when."""
        found = []
        for line in self.path.read_text().splitlines():
            what, pid, number, at = line.split()
            found.append((what, int(pid), int(number), float(at)))
        return found

    def numbers(self) -> list[int]:
        """Of all that was noted, in the order in which it ran."""
        return [number for what, _, number, _ in self.lines() if what == "notes"]

    def pids(self) -> list[int]:
        """Of all processes that there ever were, in the order in which they began."""
        return [pid for what, pid, _, _ in self.lines() if what == "begins"]

    def lives(self) -> list[tuple[float, float]]:
        """From when to when each process was seen to live, the earliest first."""
        lives: dict[int, tuple[float, float]] = {}
        for _, pid, _, at in self.lines():
            lives[pid] = (lives.get(pid, (at, at))[0], at)
        return sorted(lives.values())

    def check_one_at_a_time(self) -> None:
        """No two processes of the actor lived at the same time."""
        lives = self.lives()
        for (_, end), (begin, _) in pairwise(lives):
            assert end < begin, f"one lived until {end}, and the next one from {begin}"

    def check_at_most_once(self, outcomes: dict[int, object]) -> None:
        """Nothing ran twice, and what has a result ran.

        Args:
            outcomes: By number; a result is that number.
        """
        ran = self.numbers()
        assert len(ran) == len(set(ran)), "something ran twice"
        answered = {number for number, outcome in outcomes.items() if outcome == number}
        assert answered <= set(ran)
