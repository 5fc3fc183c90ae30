from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest

from fray.cli import output
from fray.cli.reports import host_table, job_table
from fray.cluster.types import JobStatus

from .samples import NOW, host, job

if TYPE_CHECKING:
    from fray.cli.reports import Table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, table: Table) -> str:
    monkeypatch.setattr("sys.stdout", stream)
    output.print_table(table)
    return stream.getvalue()


def test_what_is_no_terminal_gets_whole_rows_without_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = [host("h" * 300, "lost")]
    lines = printed(monkeypatch, io.StringIO(), host_table(long)).splitlines()
    assert len(lines) == 2
    assert "h" * 300 in lines[1]
    assert "\x1b" not in lines[1]


def test_terminal_gets_colours_unless_somebody_does_not_want_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)
    table = host_table([host(health="lost")])
    assert "\x1b[31mlost" in printed(monkeypatch, Terminal(), table)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in printed(monkeypatch, Terminal(), table)


def test_what_users_write_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = job(status=JobStatus.FAILED, error="[red]list[int] :smile:")
    text = printed(monkeypatch, io.StringIO(), job_table([failed], NOW))
    assert "[red]list[int] :smile:" in text


async def test_lines_are_printed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr(output, "LINES_WAITING_MAX", 10)
    printer = output.LinePrinter()
    lines = [str(number) for number in range(1000)]

    async def put() -> None:
        for line in lines:
            await printer.put(line)
        printer.close()

    await asyncio.gather(put(), printer.run())
    assert stream.getvalue().splitlines() == lines
    assert printer.printed_lines == 1000


async def test_closed_output_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    printer = output.LinePrinter()
    await printer.put("x")
    printer.close()
    with pytest.raises(output.OutputClosed):
        await printer.run()
