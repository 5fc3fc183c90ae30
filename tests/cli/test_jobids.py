from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cli.errors import Failure
from fray.cli.jobids import resolve_id

KNOWN = ["ann/train-7f3a", "ann/train-81bc", "bob/eval-1234", "bob/eval-1234/0", "ann/bob"]


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
