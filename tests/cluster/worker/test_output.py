from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from fray.cluster.worker.logs import LogWriter
from fray.cluster.worker.output import routed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogWriter]:
    writer = LogWriter(tmp_path / "job.log")
    yield writer
    writer.close()


def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stands in place of the process's standard output and error.

    No fixture: between fixtures and test pytest puts its own streams in place.
    """
    console = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stderr", console)
    return console


def text(log: LogWriter) -> str:
    return log.path.read_text()


def in_thread(function: Callable[[], object]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_job_prints_into_its_log_and_everyone_else_where_they_did(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter
):
    console = screen(monkeypatch)
    inside, go_on = threading.Event(), threading.Event()

    def job() -> None:
        with routed(log):
            print("from the job")
            print("its errors", file=sys.stderr)
            inside.set()
            assert go_on.wait(10)

    thread = threading.Thread(target=job)
    thread.start()
    assert inside.wait(10)
    print("from the main thread")
    sys.stderr.write("its errors\n")
    go_on.set()
    thread.join(10)
    assert console.getvalue() == "from the main thread\nits errors\n"
    assert text(log) == "from the job\nits errors\n"


def test_streams_are_as_before_when_the_last_route_ends(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter, tmp_path: Path
):
    console = screen(monkeypatch)
    other = LogWriter(tmp_path / "other.log")
    with routed(log):
        with routed(other):
            print("inner")
            assert sys.stdout is not console
        print("outer")
        assert sys.stdout is not console
    assert sys.stdout is console
    assert sys.stderr is console
    other.close()
    assert (text(log), other.path.read_text()) == ("outer\n", "inner\n")


def test_streams_come_back_when_the_job_fails(monkeypatch: pytest.MonkeyPatch, log: LogWriter):
    console = screen(monkeypatch)
    with pytest.raises(KeyError), routed(log):
        print("no end of line", end="")
        raise KeyError
    assert sys.stdout is console
    assert text(log) == "no end of line"


def test_routes_may_end_in_any_order(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter, tmp_path: Path
):
    console = screen(monkeypatch)
    other = LogWriter(tmp_path / "other.log")
    first, second = routed(log), routed(other)
    one, two = contextvars.Context(), contextvars.Context()
    one.run(first.__enter__)
    two.run(second.__enter__)
    one.run(first.__exit__, None, None, None)
    two.run(print, "still routed")
    two.run(second.__exit__, None, None, None)
    other.close()
    assert sys.stdout is console
    assert other.path.read_text() == "still routed\n"


def test_lines_of_a_jobs_threads_are_written_whole(monkeypatch: pytest.MonkeyPatch, log: LogWriter):
    console = screen(monkeypatch)

    def chatter(letter: str) -> None:
        for _ in range(200):
            print(letter * 20, letter * 20, sep="-")

    previous = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    with routed(log):
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(chatter, letter))
            for letter in "abc"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    sys.setswitchinterval(previous)
    written = text(log).splitlines()
    assert sorted(written) == sorted([f"{x * 20}-{x * 20}" for x in "abc"] * 200)
    assert console.getvalue() == ""


def test_thread_that_a_job_starts_without_its_context_writes_to_the_console(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter
):
    console = screen(monkeypatch)
    if getattr(sys.flags, "thread_inherit_context", 0):
        pytest.skip("this Python's threads inherit their context")
    with routed(log):
        in_thread(lambda: print("whose am I?"))
    assert console.getvalue() == "whose am I?\n"
    assert text(log) == ""


async def test_asyncio_tasks_and_to_thread_belong_to_the_job(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter
):
    console = screen(monkeypatch)

    async def child() -> None:
        print("task")

    with routed(log):
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
        await asyncio.to_thread(print, "thread")
    assert text(log) == "task\nthread\n"
    assert console.getvalue() == ""


def test_unfinished_line_is_written_at_a_flush(monkeypatch: pytest.MonkeyPatch, log: LogWriter):
    screen(monkeypatch)
    with routed(log):
        print("50%", end="\r")
        assert text(log) == ""
        sys.stdout.flush()
        assert log.path.read_bytes() == b"50%\r"


def test_unfinished_lines_of_all_threads_are_written_at_the_end(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter
):
    screen(monkeypatch)
    with routed(log):
        context = contextvars.copy_context()
        in_thread(lambda: context.run(print, "theirs;", end=""))
        print("mine;", end="")
        sys.stdout.flush()
        assert text(log) == "mine;"
    assert text(log) == "mine;theirs;"


def test_endless_line_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch, log: LogWriter):
    screen(monkeypatch)
    with routed(log):
        for _ in range(100):
            sys.stdout.write("x" * 100)
        assert len(text(log)) > 8000


def test_bytes_and_text_keep_their_order(monkeypatch: pytest.MonkeyPatch, log: LogWriter):
    screen(monkeypatch)
    with routed(log):
        sys.stdout.write("text ")
        assert sys.stdout.buffer.write(b"bytes \xff ") == 8
        sys.stdout.writelines(["and ", "text\n"])
    assert log.path.read_bytes() == b"text bytes \xff and text\n"


def test_text_that_utf8_cannot_hold_is_escaped(monkeypatch: pytest.MonkeyPatch, log: LogWriter):
    screen(monkeypatch)
    with routed(log):
        print("\udcff")
    assert text(log) == "\\udcff\n"


def test_child_process_can_write_to_the_log(monkeypatch: pytest.MonkeyPatch, log: LogWriter):
    screen(monkeypatch)
    with routed(log):
        sys.stdout.write("before ")
        subprocess.run(["/bin/echo", "child"], stdout=sys.stdout, check=True, timeout=10)
        print("after")
    assert text(log) == "before child\nafter\n"


def test_log_is_no_terminal_and_says_what_it_is(monkeypatch: pytest.MonkeyPatch, log: LogWriter):
    screen(monkeypatch)
    with routed(log):
        out = sys.stdout
        assert not out.isatty()
        assert not out.closed
        assert (out.encoding, out.errors) == ("utf-8", "backslashreplace")
        assert (out.readable(), out.writable(), out.line_buffering) == (False, True, True)
        assert "1 routes" in repr(out)
        with pytest.raises(TypeError, match="must be str, not bytes"):
            out.write(b"x")  # pyright: ignore[reportArgumentType]


def test_what_only_the_stream_beneath_can_do_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter
):
    screen(monkeypatch)
    with routed(log):
        in_thread(lambda: print("x"))
        assert sys.stdout.getvalue() == "x\n"  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(AttributeError):
            sys.stdout.no_such_thing  # pyright: ignore[reportAttributeAccessIssue]


def test_handler_that_took_hold_of_the_stream_before_goes_on(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter
):
    console = screen(monkeypatch)
    logger = logging.Logger("early")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    with routed(log):
        logger.warning("during")
    logger.warning("after")
    assert console.getvalue() == "during\nafter\n"


def test_handler_that_takes_hold_of_the_stream_meanwhile_goes_on_later(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter
):
    console = screen(monkeypatch)
    logger = logging.Logger("late")
    with routed(log):
        logger.addHandler(logging.StreamHandler(sys.stderr))
        logger.warning("during")
    logger.warning("after")
    assert text(log) == "during\n"
    assert console.getvalue() == "after\n"


def test_stream_that_somebody_else_puts_there_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter
):
    console = screen(monkeypatch)
    theirs = io.StringIO()
    with routed(log):
        sys.stdout = theirs
    assert sys.stdout is theirs
    assert sys.stderr is console


def test_second_route_beneath_somebody_elses_stream_ends_alone(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter, tmp_path: Path
):
    console = screen(monkeypatch)
    other = LogWriter(tmp_path / "other.log")
    theirs = io.StringIO()
    first, second = routed(log), routed(other)
    one, two = contextvars.Context(), contextvars.Context()
    one.run(first.__enter__)
    sys.stdout = theirs
    two.run(second.__enter__)
    one.run(first.__exit__, None, None, None)
    two.run(print, "still routed")
    two.run(second.__exit__, None, None, None)
    other.close()
    assert other.path.read_text() == "still routed\n"
    assert sys.stdout is theirs
    assert sys.stderr is console


def test_process_without_streams_can_run_jobs(monkeypatch: pytest.MonkeyPatch, log: LogWriter):
    monkeypatch.setattr(sys, "stdout", None)
    with routed(log):
        print("to the log")
        in_thread(lambda: print("to nowhere"))
    assert sys.stdout is None
    assert text(log) == "to the log\n"


def test_what_an_abandoned_job_prints_after_its_log_is_closed_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, log: LogWriter
):
    console = screen(monkeypatch)
    with routed(log):
        print("before")
        log.close()
        print("after")
    assert text(log) == "before\n"
    assert console.getvalue() == ""
