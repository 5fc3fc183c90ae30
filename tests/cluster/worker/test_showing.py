"""What actors print in processes of their own is seen where their driver's user looks."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fray
from fray.cluster.worker.showing import LINE_BYTES_MAX, show_output
from fray.runtime.clock import SystemClock

if TYPE_CHECKING:
    import pytest

clock = SystemClock()


@fray.actor
class Talker:
    def say(self) -> None:
        print("on stdout")
        print("on stderr", file=sys.stderr)

    def on_stop(self) -> None:
        raise ValueError("cannot stop")


async def until_shown(words: str, out: io.StringIO) -> None:
    async with asyncio.timeout(30):
        while words not in out.getvalue():
            await asyncio.sleep(0.02)


async def test_output_of_an_actor_in_a_process_is_shown_as_it_comes_and_so_is_its_last_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    async with fray.connect("local?use_processes=1"):
        talker: Any = await Talker.options(name="talker").remote()
        await talker.say.remote()
        await until_shown("[talker] on stderr\n", out)
        assert out.getvalue() == "[talker] on stdout\n[talker] on stderr\n"
        await talker.stop()
        await until_shown("[talker] ValueError: cannot stop\n", out)
    assert all(line.startswith("[talker] ") for line in out.getvalue().splitlines())


async def test_output_that_was_printed_just_before_the_cluster_ends_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    async with fray.connect("local?use_processes=1"):
        await Talker.options(name="talker").remote().say.remote()
    assert "[talker] on stderr\n" in out.getvalue()


async def shown(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    await show_output(path, "x", clock, lambda: True)
    return out.getvalue()


async def test_lines_are_shown_whole_and_the_last_one_also_without_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.write_bytes("ä\n\nb\xff".encode("latin-1"))
    assert await shown(log, monkeypatch) == "[x] \N{REPLACEMENT CHARACTER}\n[x] \n[x] b�\n"
    long = "y" * (LINE_BYTES_MAX * 9)
    log.write_text(f"{long}\nz\n")
    text = await shown(log, monkeypatch)
    assert text.replace("[x] ", "").replace("\n", "") == f"{long}z"
    assert text.endswith("\n[x] z\n")


async def test_output_that_nobody_can_read_any_more_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.write_text("hello\n")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    await show_output(log, "x", clock, lambda: True)
