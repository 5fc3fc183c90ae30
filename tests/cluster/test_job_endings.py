"""How a function ends is told in one way, in a thread of the driver and in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator

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
