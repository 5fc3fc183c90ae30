from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fray.cluster.worker.logs import FOLLOW_DELAY_MAX_S, LogChunk, LogWriter, follow, read_log
from fray.cluster.worker.shim.system import HOLE_ALIGN_BYTES, LogTrimmer, punch_hole
from fray.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KIB = 1024
BOUND = 4 * HOLE_ALIGN_BYTES


def lines(first: int, count: int) -> bytes:
    """Numbered lines of 64 bytes."""
    return b"".join(b"%063d\n" % number for number in range(first, first + count))


def read_all(path: Path, offset: int = 0, max_bytes: int = 64 * KIB) -> tuple[bytes, int]:
    data, dropped = b"", 0
    while True:
        chunk = read_log(path, offset, max_bytes)
        data += chunk.data
        dropped += chunk.dropped_bytes
        offset = chunk.next_offset
        if chunk.eof:
            return data, dropped


@pytest.fixture
def holes(tmp_path: Path) -> None:
    with (tmp_path / "probe").open("wb") as file:
        file.write(b"x" * HOLE_ALIGN_BYTES)
        file.flush()
        if not punch_hole(file.fileno(), 0, HOLE_ALIGN_BYTES):
            pytest.skip("this file system cannot free the middle of a file")


def test_log_that_does_not_exist_yet_is_empty(tmp_path: Path):
    assert read_log(tmp_path / "x") == LogChunk(b"", 0, eof=True)


def test_reading_goes_on_where_the_last_chunk_ended(tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(b"hello world")
    first = read_log(path, 0, 5)
    assert first == LogChunk(b"hello", 5, eof=False)
    assert read_log(path, first.next_offset) == LogChunk(b" world", 11, eof=True)
    assert read_log(path, 11) == LogChunk(b"", 11, eof=True)
    assert read_log(path, 99) == LogChunk(b"", 99, eof=True)


@pytest.mark.parametrize(("offset", "size"), [(-1, 5), (0, 0)])
def test_impossible_reads_are_refused(tmp_path: Path, offset: int, size: int):
    with pytest.raises(ValueError):
        read_log(tmp_path / "x", offset, size)


def test_writer_appends_to_what_is_there(tmp_path: Path):
    path = tmp_path / "deep" / "log"
    for data in (b"one\n", b"two\n"):
        writer = LogWriter(path)
        writer.append(data)
        assert os.fstat(writer.fileno()).st_mode & 0o777 == 0o600
        writer.close()
    assert read_log(path).data == b"one\ntwo\n"


def test_closed_writer_forgets_what_comes_later(tmp_path: Path):
    writer = LogWriter(tmp_path / "log")
    writer.close()
    writer.close()
    writer.append(b"late")
    with pytest.raises(ValueError, match="closed"):
        writer.fileno()
    assert read_log(tmp_path / "log").data == b""


def test_threads_do_not_mix_within_a_piece(tmp_path: Path):
    writer = LogWriter(tmp_path / "log")
    pieces = [bytes([letter]) * 5000 + b"\n" for letter in b"abcd"]
    threads = [
        threading.Thread(target=lambda p=piece: [writer.append(p) for _ in range(20)])
        for piece in pieces
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    data, _ = read_all(tmp_path / "log")
    assert sorted(data.splitlines(keepends=True)) == sorted(pieces * 20)


def test_bound_that_is_too_small_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="bounded"):
        LogWriter(tmp_path / "log", BOUND - 1)


@pytest.mark.usefixtures("holes")
class TestBound:
    def write(self, path: Path, count: int) -> bytes:
        writer = LogWriter(path, BOUND)
        data = lines(0, count)
        for start in range(0, len(data), 4 * KIB):
            writer.append(data[start : start + 4 * KIB])
        writer.close()
        return data

    def test_disk_space_is_bounded_and_head_and_tail_are_kept(self, tmp_path: Path):
        path = tmp_path / "log"
        written = self.write(path, 100_000)  # 6 MB
        assert path.stat().st_size == len(written)
        assert path.stat().st_blocks * 512 <= BOUND + 64 * KIB
        kept, dropped = read_all(path)
        head, _, rest = kept.partition(b"[fray] ")
        marker, _, tail = rest.partition(b"\n")
        assert written.startswith(head)
        assert written.endswith(tail)
        assert len(head) >= BOUND // 4
        assert len(tail) >= BOUND // 2 - HOLE_ALIGN_BYTES
        assert marker == b"%d bytes of output were dropped here to bound this log" % dropped
        assert len(head) + dropped + len(tail) == len(written)

    def test_small_log_loses_nothing(self, tmp_path: Path):
        written = self.write(tmp_path / "log", BOUND // 64)
        assert read_all(tmp_path / "log") == (written, 0)

    def test_offsets_mean_the_same_bytes_before_and_after(self, tmp_path: Path):
        path = tmp_path / "log"
        written = self.write(path, 100_000)
        for offset in (0, 1000, len(written) - 1000):
            assert read_log(path, offset, 500).data == written[offset : offset + 500]

    def test_reader_whose_place_was_dropped_learns_how_much_it_missed(self, tmp_path: Path):
        path = tmp_path / "log"
        written = self.write(path, 100_000)
        chunk = read_log(path, BOUND, 64 * KIB)  # in the hole
        assert 0 < chunk.dropped_bytes < len(written) - BOUND
        _, _, data = chunk.data.lstrip(b"\n").partition(b"\n")
        position = BOUND + chunk.dropped_bytes
        assert data == written[position : chunk.next_offset]
        assert position % 64 == 0  # at the beginning of a line

    def test_marker_has_a_line_of_its_own(self, tmp_path: Path):
        path = tmp_path / "log"
        writer = LogWriter(path, BOUND)
        for _ in range(2000):
            writer.append(b"y" * KIB)  # no line ends anywhere
        writer.close()
        kept, _ = read_all(path)
        assert [line[:6] for line in kept.splitlines()] == [b"yyyyyy", b"[fray]", b"yyyyyy"]

    @settings(max_examples=25)
    @given(
        sizes=st.lists(st.integers(1, 300 * KIB), min_size=1, max_size=30),
        chunk=st.integers(1 * KIB, 200 * KIB),
    )
    def test_nothing_is_lost_unseen(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chunk: int
    ):
        path = tmp_path_factory.mktemp("log") / "log"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        trimmer = LogTrimmer(fd, BOUND)
        source = lines(0, sum(sizes) // 64 + 1)
        position = 0
        for size in sizes:
            os.write(fd, source[position : position + size])
            position += size
            trimmer.trim()
            kept = path.stat().st_blocks * 512
            assert kept <= BOUND + 2 * HOLE_ALIGN_BYTES
        os.close(fd)
        offset, told = 0, 0
        while offset < position:
            piece = read_log(path, offset, chunk)
            assert piece.next_offset > offset
            if piece.dropped_bytes:
                told += piece.dropped_bytes
                data = piece.data.lstrip(b"\n").partition(b"\n")[2]
            else:
                data = piece.data
            assert source[piece.next_offset - len(data) : piece.next_offset] == data
            assert offset + piece.dropped_bytes + len(data) == piece.next_offset
            offset = piece.next_offset


class JumpingClock(SystemClock):
    """Sleeps in no time, and does something at each sleep."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.sleeps: list[float] = []
        self._meanwhile = meanwhile

    async def sleep(self, delay_s: float) -> None:
        self.sleeps.append(delay_s)
        self._meanwhile()


async def test_follower_reads_all_that_was_written_before_the_end(tmp_path: Path):
    path = tmp_path / "log"
    events = iter([lambda: None, lambda: path.write_bytes(b"one\n"), lambda: None])
    over: list[bool] = []

    def meanwhile() -> None:
        step = next(events, None)
        if step is not None:
            step()
        else:
            with path.open("ab") as file:
                file.write(b"last words\n")
            over.append(True)

    clock = JumpingClock(meanwhile)
    got = [chunk.data async for chunk in follow(path, clock=clock, ended=lambda: bool(over))]
    assert b"".join(got) == b"one\nlast words\n"


async def test_follower_begins_where_it_is_told(tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    clock = SystemClock()
    got = [chunk async for chunk in follow(path, clock=clock, ended=lambda: True, offset=4)]
    assert got == [LogChunk(b"two\n", 8, eof=True)]


async def test_follower_looks_less_often_while_there_is_nothing(tmp_path: Path):
    path = tmp_path / "log"
    count = 0

    def meanwhile() -> None:
        nonlocal count
        count += 1
        if count == 8:
            path.write_bytes(b"x")

    clock = JumpingClock(meanwhile)
    async for _ in follow(path, clock=clock, ended=lambda: count >= 10):
        pass
    assert clock.sleeps[:7] == [
        0.01,
        0.02,
        0.04,
        0.08,
        0.16,
        FOLLOW_DELAY_MAX_S,
        FOLLOW_DELAY_MAX_S,
    ]
    assert clock.sleeps[8] == 0.01
