"""Which folders of environments are kept, which go, and what is left of a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fray.cluster.shelflimits import ShelfLimits
from fray.cluster.worker.envs.shelf import Shelf, note_builder, remove, size_of
from fray.errors import InvalidRequestError
from fray.runtime.clock import SystemClock


class Ticking(SystemClock):
    """Every look at it is a second later."""

    now = 1e9

    def time(self) -> float:
        self.now += 1
        return self.now


def shelf(folder: Path, **limits: int) -> Shelf:
    made = Shelf(folder, Ticking(), ShelfLimits(**limits))
    made.recover()
    return made


def put(on: Shelf, key: str, size: int = 1) -> Path:
    path = on.new(key)
    (path / "content").write_bytes(b"x" * size)
    on.finish(key, path, size_of(path))
    return path


def kept(on: Shelf, *keys: str) -> str:
    return "".join(key for key in keys if on._items.get(key))


def test_the_least_recently_used_goes_first(tmp_path):
    on = shelf(tmp_path, count_max=2)
    for key in "abc":
        put(on, key)
    on.find("a")
    remove(on.take_out())
    assert kept(on, *"abc") == "ac"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_in_use_never_goes(tmp_path):
    on = shelf(tmp_path, count_max=1)
    for key in "abc":
        put(on, key)
        on.hold(key, f"task {key}")
    assert on.take_out() == []
    on.release("task a")
    on.release("task c")
    remove(on.take_out())
    assert kept(on, *"abc") == "b"


def test_bytes_are_bounded_too(tmp_path):
    on = shelf(tmp_path, size_bytes_max=250)
    for key in "abcd":
        put(on, key, 100)
    remove(on.take_out())
    assert kept(on, *"abcd") == "cd"


def test_an_agent_s_environment_may_set_how_many_bytes_are_kept():
    cluster = ShelfLimits(count_max=3, size_bytes_max=9)
    assert cluster.on_host({}) == cluster
    assert cluster.on_host({"FRAY_ENVIRONMENTS_SIZE_MAX": "2k"}) == ShelfLimits(3, 2048)
    with pytest.raises(InvalidRequestError, match="FRAY_ENVIRONMENTS_SIZE_MAX must be a number"):
        cluster.on_host({"FRAY_ENVIRONMENTS_SIZE_MAX": "much"})


@pytest.mark.parametrize("values", [{"count_max": 0}, {"size_bytes_max": 0}, {"count_max": True}])
def test_bounds_that_make_no_sense_are_refused(values):
    with pytest.raises(InvalidRequestError, match="environments keeps"):
        ShelfLimits(**values)


def test_the_next_agent_finds_what_is_whole_and_when_it_was_used(tmp_path):
    on = shelf(tmp_path)
    for key in "abc":
        put(on, key)
    on.find("a")
    half = on.new("d")
    (half / "content").write_text("half")
    again = shelf(tmp_path, count_max=2)
    assert not half.exists()
    remove(again.take_out())
    assert kept(again, *"abcd") == "ac"


def test_a_builder_that_outlived_its_agent_is_ended(tmp_path):
    on = shelf(tmp_path)
    half = on.new("d")
    builder = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        note_builder(half, builder.pid)
        shelf(tmp_path)
        assert builder.wait(30) == -9
        assert not half.exists()
    finally:
        builder.kill()
        builder.wait()


def test_a_builder_s_pid_that_is_another_s_now_is_left_alone(tmp_path):
    on = shelf(tmp_path)
    half = on.new("d")
    note_builder(half, os.getpid())
    path = half / "builder.json"
    path.write_text(path.read_text().replace('"start_time": ', '"start_time": 1'))
    shelf(tmp_path)  # or this process would be gone now
    assert not half.exists()


def test_a_folder_that_was_removed_by_hand_is_made_anew(tmp_path):
    on = shelf(tmp_path)
    remove([put(on, "a")])
    assert on.find("a") is None
