"""Real processes for the tests of a worker: started, found, and shown to be gone."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

pytest.register_assert_rewrite("tests.cluster.worker.launcher_conformance")

from .subprocess_harness import MARK, SubprocessHarness, marked_processes  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRACE_S = 5.0
"""Supervisors end by themselves, a moment after they have told how their attempt ended."""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Marks all that the test starts, and fails the test if anything of it is left."""
    mark = str(tmp_path)
    monkeypatch.setenv(MARK, mark)
    yield mark
    deadline = time.monotonic() + GRACE_S
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.1)
    told = [(process.pid, process.cmdline()) for process in left if process.is_running()]
    for process in left:
        process.kill()
    assert not told, "the test left processes behind"


@pytest.fixture
def harness(tmp_path: Path, mark: str) -> SubprocessHarness:
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    return SubprocessHarness(tmp_path)
