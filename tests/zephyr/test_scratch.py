"""What a driver that was killed has left goes with the next run; what is a live one's stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Generator
from dataclasses import asdict, replace
from pathlib import Path

import fsspec
import pytest

from zephyr import Dataset, ThreadpoolBackend, scratch
from zephyr.scratch import MARK, Owner, claim, is_dead, remove_abandoned

ROOT = Path(__file__).resolve().parents[2]
HERE = Owner("m1", "pid:[1]", 1000, 77, 500)

DRIVER = """
import sys, time
from zephyr import Dataset, ThreadpoolBackend

def wait(row):
    print("here", flush=True)
    time.sleep(60)

rows = Dataset.from_list([range(40_000)]).flat_map(lambda each: each)
ThreadpoolBackend(scratch=sys.argv[1]).execute(
    rows.group_by(lambda n: n % 7, lambda key, found: key, 1).map(wait)
)
"""


@pytest.fixture
def drivers() -> Generator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for driver in started:
        driver.kill()
        driver.communicate()


def start_driver(folder: Path) -> subprocess.Popen[str]:
    """A driver that is in its second stage, and stays there."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "here\n"
    return driver


def test_what_a_killed_driver_has_left_goes_with_the_next_run_and_a_live_ones_stays(
    tmp_path: Path, drivers: list[subprocess.Popen[str]]
) -> None:
    drivers += [start_driver(tmp_path)]
    (killed,) = tmp_path.iterdir()
    assert sum(path.stat().st_size for path in killed.rglob("*")) > 100_000
    drivers += [start_driver(tmp_path)]
    (live,) = set(tmp_path.iterdir()) - {killed}
    os.kill(drivers[0].pid, signal.SIGKILL)
    drivers[0].wait()

    assert ThreadpoolBackend(scratch=str(tmp_path)).execute(Dataset.from_list([1]).map(str)) == [
        "1"
    ]
    assert list(tmp_path.iterdir()) == [live]
    assert len(list(live.rglob("*"))) >= 3


@pytest.mark.parametrize(
    ("change", "started", "dead"),
    [
        ({}, {}, True),
        ({}, {77: 500}, False),
        ({}, {77: 501}, True),
        ({"machine": "m2"}, {}, False),
        ({"namespace": "pid:[2]"}, {}, False),
        ({"user": 1001}, {}, False),
    ],
)
def test_only_an_owner_of_this_very_machine_that_is_not_there_is_dead(
    change: dict[str, object], started: dict[int, int], dead: bool
) -> None:
    assert is_dead(replace(HERE, **change), HERE, started.get) is dead  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("place", ["folder", "store"])
def test_what_nobody_knows_anything_about_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    name = uuid.uuid4().hex
    root = str(tmp_path) if place == "folder" else f"memory://{name}"
    fs, within = fsspec.url_to_fs(root)
    mine = scratch._this_process()
    assert mine is not None
    dead = replace(mine, pid=1 << 23)
    marks = {
        "zephyr-mine": mine,
        "zephyr-dead": dead,
        "zephyr-elsewhere": replace(dead, machine="another"),
        "other-dead": dead,
    }
    for folder, owner in marks.items():
        fs.makedirs(f"{within}/{folder}", exist_ok=True)
        fs.pipe_file(f"{within}/{folder}/{MARK}", json.dumps(asdict(owner)).encode())
    fs.pipe_file(f"{within}/zephyr-file", b"x")
    claim(f"{root}/zephyr-claimed")
    with monkeypatch.context() as patched:  # as on a machine that does not tell
        patched.setattr(scratch, "_this_process", lambda: None)
        claim(f"{root}/zephyr-nameless")
    fs.makedirs(f"{within}/zephyr-unmarked")
    fs.pipe_file(f"{within}/zephyr-unmarked/data", b"x")
    fs.makedirs(f"{within}/zephyr-broken")
    fs.pipe_file(f"{within}/zephyr-broken/{MARK}", b"{")

    before = {path.rpartition("/")[2] for path in fs.ls(within, detail=False)}
    remove_abandoned(root)
    after = {path.rpartition("/")[2] for path in fs.ls(within, detail=False)}
    assert before - after == {"zephyr-dead"}
    assert len(after) == 8


def test_a_place_that_cannot_be_looked_at_does_not_end_a_run(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    remove_abandoned(str(path))
    assert path.read_text() == "x"
