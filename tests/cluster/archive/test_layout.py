"""Which file of the log archive holds what, and what goes when there is too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cluster.archive.layout import (
    SEGMENT_BYTES,
    Entry,
    LogRetention,
    attempt_folder,
    attempt_of,
    by_job,
    check_path,
    expired,
    packed,
    segment_path,
    segment_start,
    surplus,
    unpacked,
)
from fray.cluster.archive.marks import MARKS_MAX, Marks
from fray.errors import InvalidRequestError, PayloadError
from fray.ids import AttemptId, JobId

DAY_S = 86400.0


def test_attempt_and_its_folder_name_each_other():
    attempt_id = AttemptId("ann/train-7f3a/3#12")
    folder = attempt_folder(attempt_id)
    assert folder == "ann/train-7f3a/3-12"
    assert attempt_of(folder) == attempt_id
    assert attempt_of("ann/train-7f3a") is None
    assert attempt_of("3-12") is None


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a//b", "a/./b", "", "a\0b", "a\\b", "a" * 2000]
)
def test_path_that_leads_elsewhere_is_refused(path: str):
    with pytest.raises(InvalidRequestError, match="no path of the log archive"):
        check_path(path)


@given(st.integers(0, 10**19))
def test_segments_sort_as_their_offsets(start: int):
    assert segment_start(segment_path("a/b/0-0", start)) == start
    assert segment_path("x", start) < segment_path("x", start + 1)


def test_other_files_are_no_segments():
    assert segment_start("a/b/0-0/about.json") is None


@given(st.binary(max_size=2000))
def test_segment_is_what_was_printed(data: bytes):
    assert unpacked(packed(data)) == data


def test_damaged_segment_is_told():
    with pytest.raises(PayloadError, match="damaged"):
        unpacked(packed(b"hello")[:-9])


@given(st.integers(0, 60), st.integers(4, 40))
def test_what_is_too_much_of_an_attempt_goes_from_its_middle(count: int, segments_max: int):
    starts = [n * SEGMENT_BYTES for n in range(count)]
    gone = surplus(starts, segments_max * SEGMENT_BYTES)
    left = [start for start in starts if start not in gone]
    assert len(left) == min(count, segments_max)
    assert left[: segments_max // 4] == starts[: segments_max // 4]
    assert left[-1:] == starts[-1:]
    assert gone == sorted(gone)


def entries(*jobs: tuple[str, int, float]) -> list[Entry]:
    return [Entry(f"ann/{name}/0-0/end.json", size, at) for name, size, at in jobs]


def gone(found: list[Entry], live: set[str], now: float, keep: LogRetention) -> list[str]:
    ids = frozenset(JobId(f"ann/{name}") for name in live)
    return [job.job_id.removeprefix("ann/") for job in expired(by_job(found), ids, now, keep)]


def test_oldest_ended_jobs_go_until_the_rest_fits():
    found = entries(("c", 40, 3.0), ("a", 40, 1.0), ("b", 40, 2.0))
    assert gone(found, set(), 10.0, LogRetention(bytes_max=100)) == ["a"]
    assert gone(found, set(), 10.0, LogRetention(bytes_max=50)) == ["a", "b"]
    assert gone(found, set(), 10.0, LogRetention(bytes_max=120)) == []


def test_what_still_runs_stays_however_old_and_large():
    found = entries(("a", 1000, 1.0), ("b", 1, 2.0))
    assert gone(found, {"a"}, 1e9, LogRetention(bytes_max=10, age_max_s=DAY_S)) == ["b"]


def test_what_is_too_old_goes_though_there_is_room():
    found = entries(("a", 1, 0.0), ("b", 1, 5 * DAY_S))
    assert gone(found, set(), 10 * DAY_S, LogRetention(age_max_s=7 * DAY_S)) == ["a"]


def test_files_of_no_job_are_left_alone():
    assert by_job([Entry("README", 1), Entry("ann/x/notes.txt", 1)]) == []


@given(st.lists(st.tuples(st.floats(0.1, 9), st.integers(1, 99)), max_size=1500))
def test_marks_never_skip_what_was_printed_since(steps: list[tuple[float, int]]):
    marks, time, size = Marks(), 0.0, 0
    known = [(0.0, 0)]
    for wait_s, printed in steps:
        time, size = time + wait_s, size + printed
        marks.add(time, size)
        known.append((time, size))
    assert len(marks) <= MARKS_MAX
    for at, printed in known[:: max(len(known) // 20, 1)]:
        assert marks.offset_at(at) <= printed
