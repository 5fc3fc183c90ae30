"""Keys as bytes: equal where Python says so, sorted as Python sorts, the same in every process."""

from __future__ import annotations

import enum
import math
import os
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr.keys import encode_key, encoded_of, partition_of, stand_in

ROOT = Path(__file__).resolve().parents[2]
numbers = st.one_of(
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False),
    st.booleans(),
    st.integers(-5, 5).map(float),
)
texts = st.one_of(st.text(), st.text(alphabet="\0a\xff", max_size=4))
elements = st.one_of(numbers, texts)


def agree(a: Any, b: Any) -> None:
    left, right = encode_key(a), encode_key(b)
    assert (left == right, left < right) == (a == b, a < b)


@given(numbers, numbers)
def test_numbers_keep_their_order_and_equality(a: Any, b: Any) -> None:
    agree(a, b)


@given(texts, texts)
def test_strings_keep_their_order_and_equality(a: str, b: str) -> None:
    agree(a, b)
    agree((a, 1), (b, 1))


@given(st.binary(max_size=5), st.binary(max_size=5))
def test_bytes_keep_their_order_and_equality(a: bytes, b: bytes) -> None:
    agree(a, b)
    agree((a, 1), (b, 1))


@given(st.tuples(numbers, texts, numbers), st.tuples(numbers, texts, numbers))
def test_tuples_keep_their_order_and_equality(a: Any, b: Any) -> None:
    agree(a, b)
    agree(a[:2], b)


@given(st.dates(), st.dates(), st.datetimes(), st.datetimes())
def test_times_keep_their_order_and_equality(a: date, b: date, c: datetime, d: datetime) -> None:
    agree(a, b)
    agree(c, d)


def test_one_moment_in_two_zones_is_one_key() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert encode_key(moment) == encode_key(moment.astimezone(timezone(timedelta(hours=5))))


@given(elements, elements)
def test_keys_of_other_types_are_other_keys(a: Any, b: Any) -> None:
    assert (encode_key(a) == encode_key(b)) == (a == b)


def test_what_is_not_a_number_is_one_key_at_the_end() -> None:
    assert encode_key(math.nan) == encode_key(float("nan")) > encode_key(math.inf)


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("special", "plain"),
    [
        (np.int32(7), 7),
        (np.float32(0.5), 0.5),
        (np.str_("a"), "a"),
        (np.bool_(True), True),
        (Colour.RED, 1),
        (bytearray(b"x"), b"x"),
    ],
)
def test_numbers_of_numpy_and_enumerations_are_the_plain_ones(special: Any, plain: Any) -> None:
    assert encode_key(special) == encode_key(plain)


@pytest.mark.parametrize("key", [{"a": 1}, {1}, object(), 1j])
def test_what_has_no_order_is_refused_as_a_key(key: Any) -> None:
    with pytest.raises(TypeError, match="a key is None, a bool"):
        encode_key(key)


@given(elements, elements)
def test_what_stands_for_keys_is_equal_where_their_bytes_are(a: Any, b: Any) -> None:
    assert (stand_in(a) == stand_in(b)) == (encode_key(a) == encode_key(b))
    assert encoded_of(stand_in(a)) == encode_key(a)


def test_a_string_of_another_class_stands_for_the_same_key() -> None:
    class Shouted(str):
        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = str.__hash__

    name = stand_in(Shouted("a\ud800"))
    assert type(name) is str
    assert name == "a\ud800"
    assert encoded_of(name) == encode_key("a\ud800")


KEYS = ["a", 1, 2.5, None, ("x", 3), b"y", uuid.UUID(int=5), date(2026, 1, 2)]

_PRINT = """
import sys; sys.path.insert(0, {root!r})
from tests.zephyr.test_keys import KEYS, encode_key, partition_of
print([(encode_key(key).hex(), partition_of(encode_key(key), 7)) for key in KEYS])
"""


def test_keys_are_the_same_in_every_process() -> None:
    here = [(encode_key(key).hex(), partition_of(encode_key(key), 7)) for key in KEYS]
    environ = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", _PRINT.format(root=str(ROOT))],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == str(here), done.stderr


def test_keys_spread_over_partitions() -> None:
    sizes = [0] * 16
    for n in range(16_000):
        sizes[partition_of(encode_key(f"user-{n}"), 16)] += 1
    for n in range(16_000):
        sizes[partition_of(encode_key(n), 16)] += 1
    assert max(sizes) < 1.3 * min(sizes)
