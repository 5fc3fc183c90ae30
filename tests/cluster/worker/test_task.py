"""A task's own process: how it is told to stop."""

from __future__ import annotations

import asyncio
import platform
import time
from typing import TYPE_CHECKING

import pytest

from fray.cluster import Entrypoint, JobRequest, JobStatus, LocalCluster, ResourceConfig
from fray.cluster.worker.envs.container import STATE_FILE, ran_out_of_memory
from fray.cluster.worker.taskfile import ERROR_FILE, read_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def sleep_on_the_loop(folder: Path) -> None:
    try:
        (folder / "up").touch()
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0.01)  # there is time to end in order
        (folder / "cleaned").touch()


def sleep_in_the_thread(folder: Path) -> None:
    try:
        (folder / "up").touch()
        time.sleep(1000)
    finally:
        (folder / "cleaned").touch()


def end_with(exc: BaseException) -> None:
    raise exc


def test_functions_of_another_python_are_refused_and_those_of_another_patch_level_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    major, minor, _ = platform.python_version_tuple()
    statuses: dict[str, JobStatus] = {}
    with LocalCluster(use_processes=True) as cluster:
        for version in (f"{major}.{minor}.99", f"{major}.99.1"):
            monkeypatch.setattr(platform, "python_version", lambda version=version: version)
            request = JobRequest("from-elsewhere", Entrypoint.from_callable(print, args=("hi",)))
            info = cluster.wait(cluster.launch(request))
            statuses[version] = info.status
    assert list(statuses.values()) == [JobStatus.SUCCEEDED, JobStatus.FAILED]
    assert f"Python {major}.99.1 has pickled what is to run here, on" in (info.error_message or "")


def test_what_a_task_makes_of_its_own_folder_disturbs_nobody_who_looks_there(
    tmp_path: Path,
) -> None:
    (tmp_path / ERROR_FILE).mkdir()
    (tmp_path / STATE_FILE).write_bytes(b"\xff")
    assert read_error(tmp_path) == ""
    assert not ran_out_of_memory(tmp_path)
    (tmp_path / STATE_FILE).unlink()
    (tmp_path / STATE_FILE).mkdir()
    assert not ran_out_of_memory(tmp_path)


def test_a_job_that_fails_is_told_of_in_the_same_words_in_a_thread_and_in_a_process() -> None:
    ends = [SystemExit(3), SystemExit(137), SystemExit("no data"), ValueError("no"), KeyError()]
    told: list[list[str]] = []
    for use_processes in (False, True):
        with LocalCluster(use_processes=use_processes) as cluster:
            jobs = [
                cluster.launch(JobRequest("job", Entrypoint.from_callable(end_with, args=(exc,))))
                for exc in ends
            ]
            told.append([info.error_message or "" for info in cluster.wait(jobs)])
    assert told[0] == told[1]
    words = ["exited with code 3", "SIGKILL", "code 1: no data", "ValueError: no", "KeyError"]
    assert [word in message for word, message in zip(words, told[0], strict=True)] == [True] * 5


@pytest.mark.parametrize("sleeps", [sleep_on_the_loop, sleep_in_the_thread])
def test_a_job_that_is_stopped_runs_its_finally_blocks_at_once(
    sleeps: Callable[[Path], object], tmp_path: Path
) -> None:
    with LocalCluster(use_processes=True) as cluster:
        job_id = cluster.launch(
            JobRequest(
                name="job",
                entrypoint=Entrypoint.from_callable(sleeps, args=(tmp_path,)),
                resources=ResourceConfig.with_cpu(cpu=1),
            )
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "up").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        told_at = time.monotonic()
        cluster.terminate(job_id)
        assert cluster.wait(job_id).status is JobStatus.STOPPED
        assert (tmp_path / "cleaned").exists()
        assert time.monotonic() - told_at < 20  # the grace is 30 s
