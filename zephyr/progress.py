"""Tells how far a pipeline is: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from zephyr.plan import StageCode

FIRST_LINE_S = 10.0
LINE_EVERY_S = 30.0


class Shown(Protocol):
    """How far one stage is."""

    def advance(self, shards: int, items: int) -> None:
        """Some more is done.

        Args:
            shards: So many shards.
            items: So many items came out of them.
        """
        ...

    def tick(self, running: int) -> None:
        """Time passes.

        Args:
            running: Attempts that run.
        """
        ...


class Progress(Protocol):
    """Is told of stages."""

    def stage(self, code: StageCode, shards: int) -> contextlib.AbstractContextManager[Shown]:
        """A stage begins, and ends with the block.

        Args:
            code: The stage.
            shards: How many it has.
        """
        ...


class _Lines:
    """Writes a line now and then."""

    def __init__(self, file: IO[str], now: Callable[[], float]) -> None:
        self._file, self._now = file, now

    @contextlib.contextmanager
    def stage(self, code: StageCode, shards: int) -> Generator[Shown]:
        yield _Line(self._file, self._now, code, shards)


class _Line:
    def __init__(
        self, file: IO[str], now: Callable[[], float], code: StageCode, shards: int
    ) -> None:
        self._file, self._now, self._code, self._shards = file, now, code, shards
        self._done = self._items = 0
        self._begun = now()
        self._next = self._begun + FIRST_LINE_S
        self._told = False

    def advance(self, shards: int, items: int) -> None:
        self._done += shards
        self._items += items
        if self._told and self._done == self._shards:
            self._write(0)

    def tick(self, running: int) -> None:
        if self._now() >= self._next and self._done < self._shards:
            self._next = self._now() + LINE_EVERY_S
            self._told = True
            self._write(running)

    def _write(self, running: int) -> None:
        took_s = self._now() - self._begun
        print(
            f"zephyr: stage {self._code.number}: {self._done}/{self._shards} shards, "
            f"{self._items:,} items, {running} running, {took_s:.0f} s ({self._code})",
            file=self._file,
            flush=True,
        )


class _Bars:
    """Bars, by rich."""

    def __init__(self, console: Any) -> None:
        self._console = console

    @contextlib.contextmanager
    def stage(self, code: StageCode, shards: int) -> Generator[Shown]:
        from rich import progress

        columns = (
            progress.TextColumn("stage {task.fields[number]}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("shards, {task.fields[items]:,} items"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.description}", markup=False),
        )
        with progress.Progress(*columns, console=self._console) as bars:
            task = bars.add_task(str(code), total=shards, number=code.number, items=0)
            yield _Bar(bars, task)


class _Bar:
    def __init__(self, bars: Any, task: Any) -> None:
        self._bars, self._task, self._items = bars, task, 0

    def advance(self, shards: int, items: int) -> None:
        self._items += items
        self._bars.update(self._task, advance=shards, items=self._items)

    def tick(self, running: int) -> None:
        del running


def make_progress(
    file: IO[str] | None = None, now: Callable[[], float] = time.monotonic
) -> Progress:
    """Bars where a terminal reads, lines elsewhere.

    Args:
        file: Where; None for standard error.
        now: The time, in seconds.
    """
    out = sys.stderr if file is None else file
    if out.isatty():
        from rich.console import Console

        return _Bars(Console(file=out))
    return _Lines(out, now)


__all__ = ["Progress", "Shown", "make_progress"]
