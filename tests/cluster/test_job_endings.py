"""How a function ends is told in one way, in a thread of the driver and in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from fray.cluster import Entrypoint, JobRequest, JobStatus, LocalCluster, ResourceConfig


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no comment")


def leave(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


async def leave_the_loop(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


def fail(exc: BaseException) -> None:
    raise exc


async def go_on(mark: Path) -> None:
    await asyncio.sleep(0)
    await asyncio.to_thread(mark.touch)


def count() -> Generator[int]:
    yield 1


@pytest.fixture(params=[False, True], ids=["thread", "process"])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(use_processes=request.param) as cluster:
        yield cluster


def ends(cluster: LocalCluster, *entrypoints: Entrypoint) -> list[tuple[JobStatus, str | None]]:
    requests = [JobRequest("job", e, ResourceConfig.with_cpu(cpu=1)) for e in entrypoints]
    infos = cluster.wait([cluster.launch(request) for request in requests])
    return [(info.status, info.error_message) for info in infos]


def failed(told: str) -> tuple[JobStatus, str]:
    return (JobStatus.FAILED, f"task 0 failed: {told} on local")


def test_an_exit_code_is_told_as_the_operating_system_tells_it(cluster: LocalCluster) -> None:
    expected = {
        3: failed("exited with code 3"),
        -1: failed("exited with code 255"),
        1 << 70: failed("exited with code 255"),
        "no data": failed("exited with code 1: no data"),
        None: (JobStatus.SUCCEEDED, None),
        256: (JobStatus.SUCCEEDED, None),
    }
    entrypoints = [Entrypoint.from_callable(leave, args=[code]) for code in expected]
    assert ends(cluster, *entrypoints) == list(expected.values())
    assert ends(cluster, Entrypoint.from_callable(leave_the_loop, args=[3])) == [expected[3]]


def test_an_exception_is_told_by_its_name_and_text_whatever_that_is(cluster: LocalCluster) -> None:
    expected = {
        ValueError("seven"): failed("ValueError: seven"),
        ValueError("\udcff"): failed("ValueError: \\udcff"),
        Mute(): failed("Mute: (its str() raised RuntimeError)"),
        KeyError(): failed("KeyError"),
    }
    entrypoints = [Entrypoint.from_callable(fail, args=[exc]) for exc in expected]
    assert ends(cluster, *entrypoints) == list(expected.values())


def test_a_coroutine_that_a_plain_function_returns_is_run_to_its_end(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    (end,) = ends(cluster, Entrypoint.from_callable(lambda: go_on(mark)))
    assert end == (JobStatus.SUCCEEDED, None)
    assert mark.exists()


def test_a_generator_that_a_plain_function_returns_is_a_failure(cluster: LocalCluster) -> None:
    (end,) = ends(cluster, Entrypoint.from_callable(lambda: count()))
    assert end == failed(
        "TypeError: the job's function returned a generator (count), of which nothing has run: "
        "iterate over it in the function"
    )
