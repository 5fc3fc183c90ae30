"""What an attempt in the driver's process leaves behind there: nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fray
from fray.cluster import Entrypoint, JobRequest, JobStatus, LocalCluster, ResourceConfig
from fray.cluster import directory as directory_module
from fray.cluster.worker import local as local_module
from fray.cluster.worker.logs import LogWriter
from fray.errors import ActorNotFoundError
from fray.rpc import FrayActorServer, fray_resolver


class Greeter:
    def hello(self) -> str:
        return "hello"


def register_and_return() -> None:
    FrayActorServer(fray_resolver()).register("greeter", Greeter())


def register_and_serve() -> None:
    server = FrayActorServer(fray_resolver())
    server.register("greeter", Greeter())
    server.serve()


def nothing() -> None:
    pass


def job(fn: Callable[[], None]) -> JobRequest:
    return JobRequest(
        name="job",
        entrypoint=Entrypoint.from_callable(fn),
        resources=ResourceConfig.with_cpu(cpu=1),
    )


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    monkeypatch.setattr(directory_module, "RENEW_S", 0.02)
    with LocalCluster() as cluster:
        yield cluster


def tasks_and_cells(cluster: LocalCluster) -> tuple[int, int]:
    async def count() -> tuple[int, int]:
        return len(asyncio.all_tasks()), len(cluster.system.process.cells)

    return cluster.system.run(count)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_actors_of_a_thread_job_end_with_it_though_the_process_lives_on(
    cluster: LocalCluster,
) -> None:
    before = tasks_and_cells(cluster)
    assert cluster.wait(cluster.launch(job(register_and_return))).status is JobStatus.SUCCEEDED
    until(lambda: tasks_and_cells(cluster) == before)
    with pytest.raises(ActorNotFoundError):
        cluster.resolver.lookup("greeter")


def test_a_stopped_thread_job_gives_its_names_up_before_anybody_hears_of_its_end(
    cluster: LocalCluster,
) -> None:
    job_id = cluster.launch(job(register_and_serve))
    until(
        lambda: bool(
            cluster.system.run(lambda: cluster.system.directory.list(cluster.get_namespace()))
        )
    )
    assert cluster.resolver.lookup("greeter").hello() == "hello"
    cluster.terminate(job_id)
    assert cluster.wait(job_id).status is JobStatus.STOPPED
    with pytest.raises(ActorNotFoundError):
        cluster.resolver.lookup("greeter")


def test_many_thread_jobs_leave_no_tasks(cluster: LocalCluster) -> None:
    before = tasks_and_cells(cluster)
    infos = cluster.wait([cluster.launch(job(nothing)) for _ in range(20)])
    assert {info.status for info in infos} == {JobStatus.SUCCEEDED}
    until(lambda: tasks_and_cells(cluster) == before)


@fray.actor
class Bitter:
    def ping(self) -> str:
        return "pong"

    async def on_stop(self) -> None:
        raise SystemExit("no goodbye")


def test_a_stop_hook_that_raises_is_logged_and_harms_nobody_else(
    cluster: LocalCluster, caplog: pytest.LogCaptureFixture
) -> None:
    bitter, other = Bitter.remote(), Bitter.remote()
    assert bitter.ping() == other.ping() == "pong"
    bitter.stop().result(timeout=10)
    assert "what Bitter does as it stops failed" in caplog.text
    assert "no goodbye" in caplog.text
    assert other.ping() == "pong"
    assert cluster.wait(cluster.launch(job(nothing))).status is JobStatus.SUCCEEDED
    caplog.clear()


def test_a_job_that_is_stopped_as_it_returns_ends_without_a_word(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned, decided = threading.Event(), threading.Event()
    close, gone = LogWriter.close, local_module._ThreadAttempt._gone
    asked: list[float] = []
    said: list[threading.ExceptHookArgs] = []

    def close_late(self: LogWriter) -> None:
        returned.set()
        decided.wait(30)
        close(self)

    async def gone_after_the_decision(self: Any, within_s: float) -> bool:
        asked.append(within_s)
        if len(asked) == 1:  # it is time to raise something in the thread
            return False
        decided.set()
        return await gone(self, within_s)

    monkeypatch.setattr(LogWriter, "close", close_late)
    monkeypatch.setattr(local_module._ThreadAttempt, "_gone", gone_after_the_decision)
    monkeypatch.setattr(threading, "excepthook", said.append)
    job_id = cluster.launch(job(nothing))
    assert returned.wait(30)
    cluster.terminate(job_id)
    assert cluster.wait(job_id).status.finished()
    assert said == []
