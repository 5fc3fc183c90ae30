"""Worker processes of this machine: what they raise, print, import, and that they end."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from zephyr import Dataset, PipelineError, ProcessBackend

ONE = Dataset.from_list([0])


class Unpicklable(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def test_an_exception_that_cannot_be_pickled_is_told() -> None:
    def fail(_: int) -> Any:
        raise Unpicklable(1, 2)

    with pytest.raises(RuntimeError, match="Unpicklable: 1 and 2") as told:
        ProcessBackend().execute(ONE.map(fail))
    assert "raised by map(fail) at item 0 of shard 0 of 1" in told.value.__notes__[0]
    assert "in fail" in str(told.value.__cause__)


def test_a_worker_that_exits_is_told() -> None:
    def leave(_: int) -> Any:
        os._exit(3)

    with pytest.raises(PipelineError, match=r"shard 0 is lost: 4 workers died.*exited with 3"):
        ProcessBackend().execute(ONE.map(leave))


def test_a_worker_that_dies_while_it_answers_is_replaced(tmp_path: Path) -> None:
    marker = str(tmp_path / "died")

    def die_within_the_answer(n: int) -> int:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return n
        os.write(int(sys.argv[1]), struct.pack("!i", 1000) + b"the beginning of an answer")
        os._exit(9)

    backend = ProcessBackend()
    assert backend.execute(ONE.map(die_within_the_answer)) == [0]
    assert backend.last_stats.lost == 1


PROGRAM = """
import sys
from zephyr import Dataset, ProcessBackend
from beside import triple          # what the program imports, its workers can

class Point:                       # its own classes and functions travel by value
    def __init__(self, x):
        self.x = x

def make(n):
    sys.stdout.write(f"at {n}\\n")  # whole, whether or not output is buffered
    return Point(triple(n))

if "again" in sys.argv:
    raise SystemExit("the program was run once more")
points = ProcessBackend().execute(Dataset.from_list([1, 2]).map(make))
assert all(type(point) is Point for point in points)
print(sum(point.x for point in points))
"""


def test_a_program_needs_no_guard_around_its_main_part(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def triple(n):\n    return 3 * n\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["9", "at 1", "at 2"]
    told = [line for line in done.stderr.splitlines() if not line.startswith("zephyr: stage ")]
    assert told == []


def test_workers_end_when_their_driver_is_killed(tmp_path: Path) -> None:
    script = f"""
        import os, pathlib, time
        from zephyr import Dataset, ProcessBackend
        def hold(n):
            pathlib.Path({str(tmp_path)!r}, str(n)).write_text(str(os.getpid()))
            time.sleep(0.5)
            return n
        ProcessBackend(scratch={str(tmp_path / "scratch")!r}).execute(
            Dataset.from_list(list(range(200))).map(hold))
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    first = tmp_path / "0"
    deadline = time.monotonic() + 30
    while not (first.exists() and first.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker = psutil.Process(int(first.read_text()))
    driver.kill()
    driver.wait()
    worker.wait(30)
