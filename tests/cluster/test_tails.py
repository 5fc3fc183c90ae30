"""Following the output of a task, whatever becomes of its hosts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fray.cluster import Entrypoint, JobRequest, LocalCluster, ResourceConfig
from fray.cluster.archive.layout import END, Ending, attempt_folder, packed, segment_path
from fray.cluster.archive.reader import ArchiveReader
from fray.cluster.archive.store import DirectoryStore
from fray.cluster.base import ALL_OUTPUT, LogRange
from fray.cluster.control import LogPiece
from fray.cluster.reports import AttemptPlace, JobReport, TaskReport
from fray.cluster.tails import LINE_BYTES_MAX, Tail
from fray.cluster.types import JobStatus
from fray.errors import ClusterUnavailable, JobNotFoundError
from fray.ids import AttemptId, JobId, WorkerId
from fray.runtime.jsoncodec import json_dumps

JOB = JobId("me/job")


@dataclass
class Host:
    """An agent with one log. It may be away for some questions, or for ever."""

    log: bytes
    away: int = 0
    asked: int = 0

    async def read_log(self, attempt_id, offset, max_bytes, wait_s) -> LogPiece:
        self.asked += 1
        if self.away:
            self.away -= 1
            raise ClusterUnavailable("nobody answers")
        if offset < 0:
            offset = max(len(self.log) + offset, 0)
        data = self.log[offset : offset + max_bytes]
        return LogPiece(data, offset + len(data), not data, offset)


@dataclass
class Cluster:
    """What a tail asks."""

    places: list[AttemptPlace]
    hosts: dict[str, Host]
    moves: dict[str, str] = field(default_factory=dict)
    archived: ArchiveReader | None = None

    async def report(self, job_id: JobId) -> JobReport:
        task = TaskReport(JobStatus.SUCCEEDED, attempts=tuple(self.places))
        return JobReport(job_id, "job", "me", "n", JobStatus.SUCCEEDED, (task,))

    async def wait_a_moment(self, job_id: JobId, wait_s: float) -> None:
        await asyncio.sleep(0)

    def agent(self, address: str) -> Host:
        return self.hosts[address]

    def archive(self) -> ArchiveReader | None:
        return self.archived


def place(number: int, address: str, *, live: bool = False) -> AttemptPlace:
    attempt_id = AttemptId(f"{JOB}/0#{number}")
    return AttemptPlace(attempt_id, number, WorkerId(f"w{number}"), address, live, "")


async def told(
    cluster: Cluster, *, follow: bool = True, where: LogRange = ALL_OUTPUT
) -> list[tuple[int, str]]:
    tail = Tail(cluster, JOB, 0, follow=follow, where=where)
    return [(line.attempt, line.text) async for line in tail.lines()]


@pytest.mark.parametrize("follow", [True, False])
async def test_a_host_that_is_gone_takes_its_output_along_and_no_more(follow: bool) -> None:
    cluster = Cluster(
        [place(0, "gone:1"), place(1, "here:1")],
        {"gone:1": Host(b"", away=99), "here:1": Host(b"one\ntwo")},
    )
    assert await told(cluster, follow=follow) == [
        (0, "[fray] host w0 does not tell its output: nobody answers"),
        (1, "one"),
        (1, "two"),
    ]


async def test_an_agent_that_is_started_again_elsewhere_goes_on_where_it_was() -> None:
    cluster = Cluster([place(0, "new:1", live=True)], {"new:1": Host(b"a\nb\n")})
    old = Host(b"", away=99)
    cluster.hosts["old:1"] = old
    first = place(0, "old:1", live=True)

    class Moving(Cluster):
        async def report(self, job_id: JobId) -> JobReport:
            self.places = [place(0, "new:1", live=True)] if old.asked else [first]
            return await super().report(job_id)

    assert await told(Moving([], cluster.hosts)) == [(0, "a"), (0, "b")]


async def test_output_without_ends_of_lines_is_told_in_parts() -> None:
    size = 5 * LINE_BYTES_MAX + 17
    cluster = Cluster([place(0, "here:1")], {"here:1": Host(b"x" * size)})
    lines = await told(cluster)
    assert sum(len(text) for _, text in lines) == size
    assert max(len(text) for _, text in lines) <= 2 * LINE_BYTES_MAX


async def test_an_attempt_that_its_host_does_not_know_yet_is_waited_for() -> None:
    class Slow(Host):
        async def read_log(self, attempt_id, offset, max_bytes, wait_s) -> LogPiece:
            if self.away:
                self.away -= 1
                raise JobNotFoundError("no order came yet")
            return await super().read_log(attempt_id, offset, max_bytes, wait_s)

    cluster = Cluster([place(0, "here:1", live=True)], {"here:1": Slow(b"one\n", away=3)})
    assert await told(cluster) == [(0, "one")]


async def test_an_attempt_that_no_host_knows_has_no_output() -> None:
    class Forgetful(Host):
        async def read_log(self, attempt_id, offset, max_bytes, wait_s) -> LogPiece:
            raise JobNotFoundError("never heard of it")

    cluster = Cluster([place(0, "here:1"), place(1, "")], {"here:1": Forgetful(b"")})
    assert await told(cluster) == []


async def archive(tmp_path: Path, number: int, data: bytes, *, whole: bool) -> ArchiveReader:
    store = DirectoryStore(tmp_path)
    folder = attempt_folder(AttemptId(f"{JOB}/0#{number}"))
    await store.put(segment_path(folder, 0), packed(data))
    if whole:
        await store.put(f"{folder}/{END}", json_dumps(Ending(len(data), 1.0)))
    return ArchiveReader(store)


@pytest.mark.parametrize("follow", [True, False])
async def test_output_of_a_host_that_is_gone_comes_from_the_archive(
    tmp_path: Path, follow: bool
) -> None:
    places = [place(0, ""), place(1, "here:1")]
    cluster = Cluster(places, {"here:1": Host(b"two\n")})
    cluster.archived = await archive(tmp_path, 0, b"one\n", whole=True)
    assert await told(cluster, follow=follow) == [(0, "one"), (1, "two")]


async def test_what_a_lost_host_had_not_shipped_is_told_to_be_missing(tmp_path: Path) -> None:
    cluster = Cluster([place(0, "")], {})
    cluster.archived = await archive(tmp_path, 0, b"one\ntw", whole=False)
    assert await told(cluster) == [
        (0, "one"),
        (0, "tw"),
        (
            0,
            "[fray] host w0 cannot be asked; what it printed after this is not in the log archive",
        ),
    ]


async def test_host_that_dies_while_it_is_read_is_followed_into_the_archive(tmp_path: Path) -> None:
    class Dying(Host):
        async def read_log(self, attempt_id, offset, max_bytes, wait_s) -> LogPiece:
            if offset:
                raise ClusterUnavailable("nobody answers")
            return await super().read_log(attempt_id, offset, 4, wait_s)

    cluster = Cluster([place(0, "gone:1")], {"gone:1": Dying(b"one\ntwo\n")})
    cluster.archived = await archive(tmp_path, 0, b"one\ntwo\nthree\n", whole=True)
    assert await told(cluster) == [(0, "one"), (0, "two"), (0, "three")]


async def test_log_that_its_host_has_forgotten_comes_from_the_archive(tmp_path: Path) -> None:
    class Forgetful(Host):
        async def read_log(self, attempt_id, offset, max_bytes, wait_s) -> LogPiece:
            raise JobNotFoundError("never heard of it")

    cluster = Cluster([place(0, "here:1")], {"here:1": Forgetful(b"")})
    cluster.archived = await archive(tmp_path, 0, b"one\n", whole=True)
    assert await told(cluster) == [(0, "one")]


@pytest.mark.parametrize("lines", [0, 1, 7, 5000, 60_000])
async def test_last_lines_are_found_from_the_end(lines: int) -> None:
    printed = [str(n) for n in range(50_000)]
    host = Host("".join(f"{line}\n" for line in printed).encode())
    cluster = Cluster([place(0, "old:1"), place(1, "here:1")], {"here:1": host})
    found = await told(cluster, follow=False, where=LogRange(tail_lines=lines))
    assert [text for _, text in found] == (printed[-lines:] if lines else [])
    assert {attempt for attempt, _ in found} <= {1}


def chatter() -> None:
    for number in range(20_000):
        print(number)


def test_whoever_leaves_in_the_middle_leaves_no_tasks_behind() -> None:
    with LocalCluster() as cluster:
        job_id = cluster.launch(
            JobRequest(
                name="job",
                entrypoint=Entrypoint.from_callable(chatter),
                resources=ResourceConfig.with_cpu(cpu=1),
            )
        )
        cluster.wait(job_id)

        async def leave() -> int:
            before = len(asyncio.all_tasks())
            lines = cluster.asynchronous.logs(job_id)
            assert (await anext(lines)).text == "0"
            await asyncio.sleep(0)
            await lines.aclose()
            return len(asyncio.all_tasks()) - before

        assert cluster.system.run(leave) == 0
