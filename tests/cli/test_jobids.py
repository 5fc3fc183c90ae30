from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cli.errors import Failure
from fray.cli.jobids import named, resolve_id, resolve_task

KNOWN = ["ann/train-7f3a", "ann/train-81bc", "bob/eval-1234", "bob/eval-1234/0", "ann/bob"]
KNOWN += ["cid/rl-55", "cid/rl-55/rollout-1", "cid/rl-55/rollout-1/eval-2"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ann/train-7f3a", "ann/train-7f3a"),
        ("ann/train-7", "ann/train-7f3a"),
        ("train-8", "ann/train-81bc"),
        ("bob/eval-1234", "bob/eval-1234"),
        ("eval-1234", "bob/eval-1234"),
        ("ann/b", "ann/bob"),
        ("bob", "ann/bob"),
        ("7f3a", "ann/train-7f3a"),
        ("rl", "cid/rl-55"),
        ("rl-55/rollout", "cid/rl-55/rollout-1"),
        ("rollout-1", "cid/rl-55/rollout-1"),
        ("eval-2", "cid/rl-55/rollout-1/eval-2"),
    ],
)
def test_beginning_of_an_id_means_the_only_one_that_fits(given: str, meant: str) -> None:
    assert resolve_id(given, KNOWN) == meant


def test_several_that_fit_are_listed_newest_first() -> None:
    with pytest.raises(Failure, match="'train' may be any of ann/train-81bc, ann/train-7f3a;"):
        resolve_id("train", KNOWN)


def test_list_of_those_that_fit_is_short() -> None:
    known = [f"ann/train-{n:04}" for n in range(100)]
    with pytest.raises(Failure) as raised:
        resolve_id("train", known)
    assert "ann/train-0099" in str(raised.value)
    assert "and 92 more" in str(raised.value)


@pytest.mark.parametrize("given", ["nothing", "", "ann/train-7f3ab"])
def test_none_that_fits_is_told_with_what_to_do(given: str) -> None:
    with pytest.raises(Failure, match="`fray job list` shows them"):
        resolve_id(given, KNOWN)


@given(st.lists(st.from_regex(r"[ab]/[ab]{1,4}", fullmatch=True), unique=True), st.data())
def test_a_whole_id_always_means_itself(known: list[str], data: st.DataObject) -> None:
    for each in known:
        assert resolve_id(each, known) == each
    given_text = data.draw(st.text("ab/", min_size=1, max_size=4))
    try:
        found = resolve_id(given_text, known)
    except Failure:
        return
    assert found in known
    assert given_text in found


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("cid/rl-55/3", ("cid/rl-55", 3)),
        ("rl-55/rollout-1/0", ("cid/rl-55/rollout-1", 0)),
        ("rollout-1/12", ("cid/rl-55/rollout-1", 12)),
        ("rl", ("cid/rl-55", None)),
        ("7f3a/1", ("ann/train-7f3a", 1)),
        ("bob/eval-1234/0", ("bob/eval-1234/0", None)),
    ],
)
def test_a_number_at_the_end_means_a_task(given: str, meant: tuple[str, int | None]) -> None:
    assert resolve_task(given, KNOWN) == meant


def test_a_job_that_is_forgotten_is_told_as_the_cluster_tells_it() -> None:
    with pytest.raises(Failure, match="it is forgotten; `fray job list`"):
        resolve_task("dan/x-1", KNOWN, otherwise="it is forgotten")


RUNS = ["ann/train-01", "bob/train-02", "ann/train-03", "ann/trainer-04", "ann/x-05/train-06"]


@pytest.mark.parametrize(
    ("given", "unfinished", "meant"),
    [
        ("train", [], ("ann/x-05/train-06", 4)),
        ("train", ["ann/train-01"], ("ann/train-01", 4)),
        ("train", ["ann/train-01", "ann/trainer-04"], ("ann/train-01", 4)),
        ("train", ["ann/train-01", "bob/train-02"], None),
        ("ann/train", [], ("ann/train-03", 2)),
        ("trainer", [], None),
        ("trai", [], None),
        ("train-01", [], None),
        ("nothing", [], None),
    ],
)
def test_name_of_several_jobs_means_the_one_that_lives_else_the_newest(
    given: str, unfinished: list[str], meant: tuple[str, int] | None
) -> None:
    assert named(given, RUNS, unfinished) == meant
