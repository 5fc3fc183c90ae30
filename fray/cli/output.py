"""What is printed: results on stdout, everything else on stderr.

Colours and cursor movements go to terminals only (``NO_COLOR`` and ``TERM=dumb`` are respected),
and what is not a terminal gets tables as wide as they are.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

import orjson

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from fray.cli.reports import Cell, Table

WIDTH_OF_NO_TERMINAL = 10_000

LINES_WAITING_MAX = 10_000
"""Of a job's output, while whatever reads ours is slow; then the job's lines are left where they
are until it has caught up."""


def print_json(value: Any) -> None:
    """Prints a result for scripts: indented, with a line end.

    Args:
        value: Plain JSON types.
    """
    _write(sys.stdout, orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def json_line(value: Any) -> str:
    """One event of a stream for scripts, without a line end.

    Args:
        value: Plain JSON types.
    """
    return orjson.dumps(value).decode()


def print_line(text: str) -> None:
    """Prints a result as it is.

    Args:
        text: Without its line end.
    """
    _write(sys.stdout, text + "\n")


def note(text: str) -> None:
    """Tells the person at the terminal something, on stderr.

    Args:
        text: One line.
    """
    with suppress(OutputClosed):  # then there is nobody to tell
        _write(sys.stderr, f"fray: {text}\n")


def print_error(text: str) -> None:
    """Says on stderr what went wrong.

    Args:
        text: One line.
    """
    note(text)


def print_table(table: Table, *, on_stderr: bool = False) -> None:
    """Prints a table.

    Args:
        table: With at least one column.
        on_stderr: Whether it is no result; else it goes to stdout.
    """
    console_of(sys.stderr if on_stderr else sys.stdout).print(rich_table(table))


def rich_table(table: Table) -> RichTable:
    """A table as rich shows it.

    Args:
        table: With at least one column.
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    last = len(table.columns) - 1
    for index, column in enumerate(table.columns):
        shown.add_column(column, no_wrap=index != last, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell.text, cell.style) for cell in row))
    return shown


def print_facts(facts: Sequence[tuple[str, Cell]]) -> None:
    """Prints names and what they stand for on stdout.

    Args:
        facts: The names are padded to the longest.
    """
    from rich.text import Text

    width = max((len(name) for name, _ in facts), default=0) + 2
    console = console_of(sys.stdout)
    for name, cell in facts:
        indented = cell.text.replace("\n", "\n" + " " * width)
        line = Text.assemble((name.ljust(width), "dim"), (indented, cell.style))
        console.print(line, soft_wrap=True)


def print_styled(cell: Cell) -> None:
    """Prints a line on stdout in its style.

    Args:
        cell: The line.
    """
    from rich.text import Text

    console_of(sys.stdout).print(Text(cell.text, cell.style), soft_wrap=True)


def console_of(stream: TextIO) -> Console:
    """A console of rich that suits a stream.

    Args:
        stream: stdout or stderr.
    """
    from rich.console import Console

    width = None if stream.isatty() else WIDTH_OF_NO_TERMINAL
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


class OutputClosed(Exception):
    """Nobody reads our output any more, as in ``fray job logs … | head``."""


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError as exc:
        raise OutputClosed from exc


class LinePrinter:
    """Prints lines on stdout from a thread, in order, so that a slow reader stops nothing else.

    Used on one event loop.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._room = asyncio.Condition()
        self._wake = asyncio.Event()
        self._closed = False
        self.printed_lines = 0

    async def put(self, line: str) -> None:
        """Takes a line; waits while too many wait.

        Args:
            line: Without its line end.
        """
        async with self._room:
            await self._room.wait_for(lambda: len(self._lines) < LINES_WAITING_MAX)
            self._lines.append(line)
            self._wake.set()

    def close(self) -> None:
        """Says that no more lines come: `run` ends after the last one."""
        self._closed = True
        self._wake.set()

    async def run(self) -> None:
        """Prints until `close`.

        Raises:
            OutputClosed: Nobody reads stdout any more.
        """
        while self._lines or not self._closed:
            await self._wake.wait()
            self._wake.clear()
            async with self._room:
                batch, self._lines = self._lines, []
                self._room.notify_all()
            if batch:
                await asyncio.to_thread(_write, sys.stdout, "\n".join(batch) + "\n")
                self.printed_lines += len(batch)


__all__ = [
    "LinePrinter",
    "OutputClosed",
    "console_of",
    "json_line",
    "note",
    "print_error",
    "print_facts",
    "print_json",
    "print_line",
    "print_styled",
    "print_table",
    "rich_table",
]
