"""Arithmetic on resources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cluster.resources import Resources, format_bytes, parse_bytes, total
from fray.errors import InvalidRequestError

amounts = st.integers(0, 1 << 40)
by_name = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 8000))
vectors = st.builds(Resources, amounts, amounts, amounts, by_name, by_name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8g", 8 << 30),
        ("8G", 8 << 30),
        ("8GB", 8 << 30),
        ("8Gi", 8 << 30),
        ("8 GiB", 8 << 30),
        ("128m", 128 << 20),
        ("1.5GiB", 3 << 29),
        ("512k", 512 << 10),
        ("2t", 2 << 40),
        ("100", 100),
        ("100b", 100),
        ("0", 0),
        (4096, 4096),
        ("0.3k", 308),
    ],
)
def test_memory_is_read_in_powers_of_1024_however_it_is_spelled(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "g", "8x", "-1g", "1,5g", "1e9", "8 g b", None, 1.5, True, -1, "∞"]
)
def test_a_bad_amount_says_what_a_good_one_looks_like(text):
    with pytest.raises(
        InvalidRequestError, match=r"ram must be a number with a unit, such as '8g'"
    ):
        parse_bytes(text, what="ram")


@given(st.integers(0, 1 << 50))
def test_formatting_stays_within_a_thousandth_of_the_amount(amount):
    assert parse_bytes(format_bytes(amount)) == pytest.approx(amount, rel=1e-3, abs=1)


@given(vectors, vectors)
def test_what_is_taken_and_given_back_leaves_no_trace(left, right):
    assert left + right - right == left
    assert hash(left + right - right) == hash(left)


@given(vectors, vectors)
def test_a_part_is_within_the_whole(left, right):
    whole = left + right
    assert left.within(whole)
    assert right.within(whole)
    assert whole.within(left) == (right == Resources())


@given(st.lists(vectors, max_size=5))
def test_the_order_of_a_sum_does_not_matter(parts):
    assert total(parts) == total(reversed(parts))


def test_a_vector_describes_itself_to_people():
    some = Resources(1500, 8 << 30, 0, {"H100": 500}, {"v6e": 4})
    assert some.describe() == "1.5 cpus, 8GiB memory, 0.5 H100 gpus, 4 v6e chips"
    assert Resources().describe() == "nothing"
