"""Reading the log archive, and the stores under it."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from fray.cluster.archive.layout import (
    ABOUT,
    END,
    About,
    Ending,
    attempt_folder,
    packed,
    segment_path,
)
from fray.cluster.archive.offline import archived_lines
from fray.cluster.archive.reader import ArchiveReader
from fray.cluster.archive.store import (
    DirectoryStore,
    FsspecStore,
    Store,
    check_location,
    open_store,
)
from fray.cluster.base import LogRange
from fray.errors import ClusterUnavailable, InvalidRequestError, JobNotFoundError
from fray.ids import AttemptId, JobId
from fray.runtime.jsoncodec import json_dumps

JOB = JobId("ann/train-7f3a")
FIRST = AttemptId(f"{JOB}/0#0")


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return open_store(f"file://{tmp_path}/logs")
    return open_store(f"memory://{tmp_path.name}/logs")


async def write(store: Store, attempt_id: AttemptId, *segments: tuple[int, bytes]) -> None:
    for start, data in segments:
        await store.put(segment_path(attempt_folder(attempt_id), start), packed(data))


async def end(store: Store, attempt_id: AttemptId, size: int) -> None:
    await store.put(f"{attempt_folder(attempt_id)}/{END}", json_dumps(Ending(size, 1.0)))


async def everything(reader: ArchiveReader, attempt_id: AttemptId, offset: int, step: int) -> bytes:
    data = b""
    while True:
        piece = await reader.read(attempt_id, offset, step)
        data, offset = data + piece.data, piece.next_offset
        if not piece.data:
            assert piece.end
            return data


# ---- stores


async def test_store_gives_back_what_it_was_given(store: Store):
    assert await store.get("a/b/x") is None
    assert list(await store.list("")) == []
    await store.put("a/b/x", b"1")
    await store.put("a/b/x", b"22")
    await store.put("a/c", b"")
    assert await store.get("a/b/x") == b"22"
    assert [(e.path, e.size_bytes) for e in await store.list("")] == [("a/b/x", 2), ("a/c", 0)]
    assert [e.path for e in await store.list("a/b")] == ["a/b/x"]
    assert all(e.modified_at > 1e9 for e in await store.list(""))
    await store.remove(["a/b/x", "never/was"])
    assert [e.path for e in await store.list("")] == ["a/c"]


async def test_store_is_not_left(store: Store):
    for act in (store.get("../x"), store.put("/x", b""), store.remove(["a/../../x"])):
        with pytest.raises(InvalidRequestError):
            await act


async def test_directory_keeps_no_empty_folders_and_nothing_for_others(tmp_path: Path):
    store = DirectoryStore(tmp_path / "logs")
    await store.put("a/b/c", b"x")
    assert (tmp_path / "logs/a/b/c").stat().st_mode & 0o077 == 0
    assert (tmp_path / "logs").stat().st_mode & 0o077 == 0
    await store.remove(["a/b/c"])
    assert list((tmp_path / "logs").iterdir()) == []


async def test_store_that_cannot_write_says_so_and_may_be_asked_again(tmp_path: Path):
    (tmp_path / "logs").write_text("a file in the way")
    with pytest.raises(ClusterUnavailable, match="writing a/b failed"):
        await DirectoryStore(tmp_path / "logs").put("a/b", b"x")


@pytest.mark.parametrize("location", ["", " ", "://x", "s3://me:secret@bucket/logs"])
def test_location_that_cannot_be_is_refused_and_secrets_are_not_repeated(location: str):
    with pytest.raises(InvalidRequestError) as caught:
        check_location(location)
    assert "secret" not in str(caught.value)


def test_location_of_an_unknown_kind_is_told():
    with pytest.raises(InvalidRequestError, match="nosuchscheme"):
        open_store("nosuchscheme://x")


def test_location_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert check_location("logs") == str(tmp_path / "logs")
    assert check_location("memory://logs/") == "memory://logs"
    assert isinstance(open_store("memory://logs"), FsspecStore)


# ---- reading


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize("offset", [0, 4, 6, 11, 12])
async def test_output_is_read_from_any_offset(store: Store, offset: int, step: int):
    await write(store, FIRST, (0, b"one\ntw"), (6, b"o\nthree"))
    await end(store, FIRST, 12)
    whole = b"one\ntwo\nthree"
    assert await everything(ArchiveReader(store), FIRST, offset, step) == whole[offset:]


async def test_end_is_only_told_where_all_is_there(store: Store):
    reader = ArchiveReader(store)
    await write(store, FIRST, (0, b"one\n"))
    piece = await reader.read(FIRST, 4, 10)
    assert (piece.data, piece.end) == (b"", False)
    await write(store, FIRST, (0, b"one\ntwo\n"))  # the last segment grows
    assert (await reader.read(FIRST, 4, 10)).data == b"two\n"
    await end(store, FIRST, 8)
    assert (await reader.read(FIRST, 8, 10)).end


async def test_gap_is_one_line_that_says_how_much_is_missing(store: Store):
    await write(store, FIRST, (0, b"one\ntw"), (20, b"rest\nlast\n"))
    await end(store, FIRST, 30)
    data = await everything(ArchiveReader(store), FIRST, 0, 100)
    missing = b"[fray] 19 bytes of output were dropped here to bound this log\n"
    assert data == b"one\ntw\n" + missing + b"last\n"
    assert await everything(ArchiveReader(store), FIRST, 4, 100) == b"tw\n" + missing + b"last\n"


async def test_offsets_count_from_the_end_too(store: Store):
    await write(store, FIRST, (0, b"one\ntw"), (6, b"o\n"))
    assert (await ArchiveReader(store).read(FIRST, -2, 10)).data == b"o\n"
    assert (await ArchiveReader(store).read(FIRST, -99, 10)).data == b"one\ntw"


async def test_attempt_that_was_never_archived_is_not_found(store: Store):
    with pytest.raises(JobNotFoundError):
        await ArchiveReader(store).read(FIRST, 0, 10)


async def test_time_leads_to_an_offset(store: Store):
    about = About(FIRST, "w1", ((100.0, 10), (200.0, 20)))
    await store.put(f"{attempt_folder(FIRST)}/{ABOUT}", json_dumps(about))
    reader = ArchiveReader(store)
    assert [await reader.offset_at(FIRST, at) for at in (50, 150, 250)] == [0, 10, 20]
    assert await reader.offset_at(AttemptId(f"{JOB}/9#9"), 150) == 0


# ---- without a controller


async def told(
    store: Store, *, task: int | None = None, **where: int
) -> list[tuple[int, int, str]]:
    lines = archived_lines(ArchiveReader(store), JOB, task_index=task, where=LogRange(**where))
    return [(line.task_index, line.attempt, line.text) async for line in lines]


@pytest.fixture
async def job(store: Store) -> Store:
    """Two tasks; the first one was tried twice, and the host of its second try has died."""
    await write(store, AttemptId(f"{JOB}/0#0"), (0, b"a\nb\n"))
    await end(store, AttemptId(f"{JOB}/0#0"), 4)
    await write(store, AttemptId(f"{JOB}/0#1"), (0, b"c\nd"))
    await write(store, AttemptId(f"{JOB}/1#0"), (0, b"e\n"))
    await end(store, AttemptId(f"{JOB}/1#0"), 2)
    await write(store, AttemptId("ann/other-1111/0#0"), (0, b"x\n"))
    return store


LOST = "[fray] host ? cannot be asked; what it printed after this is not in the log archive"


async def test_job_is_read_without_any_controller(job: Store):
    assert await told(job) == [
        (0, 0, "a"),
        (0, 0, "b"),
        (0, 1, "c"),
        (0, 1, "d"),
        (0, 1, LOST),
        (1, 0, "e"),
    ]
    assert await ArchiveReader(job).jobs() == ["ann/train-7f3a", "ann/other-1111"]


READINGS: list[tuple[dict[str, int], list[tuple[int, int, str]]]] = [
    ({"task": 1}, [(1, 0, "e")]),
    ({"task": 0, "attempt": 0}, [(0, 0, "a"), (0, 0, "b")]),
    ({"task": 0, "attempt": 0, "tail_lines": 1}, [(0, 0, "b")]),
    ({"task": 0, "attempt": 0, "tail_lines": 0}, []),
    ({"task": 0, "attempt": 0, "tail_lines": 99}, [(0, 0, "a"), (0, 0, "b")]),
    ({"task": 0, "attempt": 0, "offset": 2}, [(0, 0, "b")]),
    ({"task": 0, "offset": 2}, [(0, 1, "d"), (0, 1, LOST)]),
]


@pytest.mark.parametrize(("how", "expected"), READINGS)
async def test_parts_of_it_are_read(
    job: Store, how: dict[str, int], expected: list[tuple[int, int, str]]
):
    assert await told(job, **how) == expected


@pytest.mark.parametrize("how", [{"task": 7}, {"task": 0, "attempt": 7}, {"task": 0, "offset": -1}])
async def test_what_is_not_there_is_told(job: Store, how: dict[str, int]):
    with pytest.raises(InvalidRequestError):
        await told(job, **how)


async def test_unknown_job_is_told(job: Store):
    with pytest.raises(JobNotFoundError, match="nothing of job"):
        async for _ in archived_lines(ArchiveReader(job), JobId("ann/no")):
            pass


def test_a_location_that_cannot_be_opened_is_told_as_an_archive_that_is_away() -> None:
    class WithoutCredentials(fsspec.AbstractFileSystem):
        cachable = False

        def __init__(self, **_: object) -> None:
            raise RuntimeError("no credentials")

    fsspec.register_implementation("closed", WithoutCredentials, clobber=True)
    with pytest.raises(ClusterUnavailable, match="closed://logs cannot be opened: RuntimeError"):
        open_store("closed://logs")
