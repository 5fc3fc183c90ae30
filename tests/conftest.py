"""Makes sure that no test leaves threads or processes behind.

A test that may do so says why: `@pytest.mark.leftovers("the thread ignores requests to stop")`.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Generator
from pathlib import Path

import pytest

GRACE_S = 3.0
"""What ends by itself, such as a thread that is already told to, has this long."""

_BEFORE = pytest.StashKey[tuple[set[int], set[threading.Thread]]]()
_others: set[int] = set()
"""Processes known to be none of ours, to look at each only once."""
_MARKER = f"FRAY_TEST_RUN={uuid.uuid4().hex}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leftovers(why): may leave threads or processes behind")
    # Inherited by whatever the tests start, also by what detaches itself from its parents.
    name, _, value = _MARKER.partition("=")
    os.environ[name] = value


@pytest.fixture(autouse=True)
def _what_was_there(request: pytest.FixtureRequest) -> None:
    # A fixture, for it runs after those of the module and the session, whose things may stay.
    request.node.stash[_BEFORE] = (_started_processes(), set(threading.enumerate()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    yield  # every fixture of the test is gone now, its event loop included
    before = item.stash.get(_BEFORE, None)
    if before is None or item.get_closest_marker("leftovers"):
        return
    deadline = time.monotonic() + GRACE_S
    while left := _leftovers(*before):
        if time.monotonic() > deadline:
            pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)
        time.sleep(0.02)


def _leftovers(processes: set[int], threads: set[threading.Thread]) -> list[str]:
    new_processes = sorted(_started_processes() - processes)
    new_threads = [thread for thread in threading.enumerate() if thread not in threads]
    return [
        *(f"process {pid}: {_command(pid)}" for pid in new_processes),
        *(f"thread {thread.name}" for thread in new_threads),
    ]


def _started_processes() -> set[int]:
    """The living processes that any test of this run has started."""
    present = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
    _others.intersection_update(present)
    found: set[int] = set()
    for pid in present - _others:
        try:
            environment = Path("/proc", str(pid), "environ").read_bytes()
        except OSError:  # another user's, or it ended
            continue
        if _MARKER.encode() in environment.split(b"\0"):
            found.add(pid)
        elif environment:  # a zombie's is empty, and so is one whose program is just being loaded
            _others.add(pid)
    return found


def _command(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "(gone)"
