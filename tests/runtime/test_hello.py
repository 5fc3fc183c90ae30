from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.errors import LocalProtocolError, RemoteProtocolError
from fray.runtime.frames import Limits
from fray.runtime.hello import (
    Hello,
    common_features,
    common_version,
    decode_hello,
    encode_hello,
    no_common_version,
)

from .wired import hello

NAMES = st.text(min_size=1, max_size=40).filter(lambda name: name.isprintable())

ALLOWANCE = Limits().allowance


def hello_with(**changes: object) -> bytes:
    body = json.loads(encode_hello(hello("x"), ALLOWANCE))
    for key, value in changes.items():
        if value is ...:
            del body[key]
        else:
            body[key] = value
    return json.dumps(body).encode()


@given(
    st.builds(
        Hello,
        process_id=NAMES,
        boot_id=NAMES,
        address=st.text(max_size=20),
        session=st.text(max_size=20),
        python_version=st.text(max_size=20),
        fray_version=st.text(max_size=20),
        features=st.lists(st.text(max_size=20), max_size=10).map(tuple),
        protocol_min=st.integers(0, 5),
        protocol_max=st.integers(5, 10),
    )
)
def test_hello_says_the_same_on_both_sides(said: Hello) -> None:
    assert decode_hello(encode_hello(said, ALLOWANCE)) == (said, ALLOWANCE)


def test_unknown_keys_of_hello_are_ignored() -> None:
    raw = hello_with(colour="blue", limits={**json.loads(hello_with())["limits"], "more": 1})
    assert decode_hello(raw) == (hello("x"), ALLOWANCE)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not JSON"),
        (b"[" * 4000, "not JSON"),
        (b"[]", "must be an object, not list"),
        (b" " * 5000, "at most 4096"),
        (hello_with(process=...), "'process' must be a string, not null"),
        (hello_with(process=7), "'process' must be a string, not int"),
        (hello_with(process=""), "'process' is empty"),
        (hello_with(boot=""), "'boot' is empty"),
        (hello_with(address=None), "'address' must be a string, not null"),
        (hello_with(session="x" * 1025), "'session' is longer than 1024"),
        (hello_with(features="shm"), "'features' must be a list, not str"),
        (hello_with(features=["a", 1]), "'features' must be strings"),
        (hello_with(features=[""] * 65), "names 65 features"),
        (hello_with(protocol=1), "oldest, newest"),
        (hello_with(protocol=[1]), "oldest, newest"),
        (hello_with(protocol=[2, 1]), "oldest, newest"),
        (hello_with(protocol=[True, True]), "oldest, newest"),
        (hello_with(protocol=[1.0, 2.0]), "oldest, newest"),
        (hello_with(protocol=[-1, 2]), "oldest, newest"),
        (hello_with(limits=...), "'limits' must be an object, not null"),
        (hello_with(limits={}), "limit 'payload_bytes_max' must be a number"),
        (hello_with(limits={"payload_bytes_max": True}), "'payload_bytes_max'"),
        (hello_with(limits={"payload_bytes_max": 2**63}), "'payload_bytes_max'"),
        (
            hello_with(limits={**json.loads(hello_with())["limits"], "window_bytes": 4095}),
            "'window_bytes' must be a number from 4096 on, not 4095",
        ),
    ],
)
def test_a_hello_that_is_none_is_refused_with_the_field_at_fault(raw: bytes, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        decode_hello(raw)


@pytest.mark.parametrize(
    "ours",
    [
        Hello("", "boot"),
        Hello("process", ""),
        Hello("p" * 1025, "boot"),
        Hello("\ud800", "boot"),
        Hello("process", "boot", protocol_min=2, protocol_max=1),
        Hello("process", "boot", features=("f" * 1024,) * 5),
    ],
)
def test_a_hello_of_ours_that_nobody_would_take_is_our_own_error(ours: Hello) -> None:
    with pytest.raises(LocalProtocolError, match="our own HELLO"):
        encode_hello(ours, ALLOWANCE)


@pytest.mark.parametrize(
    ("ours", "theirs", "version"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 3), (2, 5), 3),
        ((4, 4), (2, 5), 4),
        ((1, 1), (2, 3), None),
        ((4, 5), (2, 3), None),
    ],
)
def test_the_newest_common_version_is_spoken(
    ours: tuple[int, int], theirs: tuple[int, int], version: int | None
) -> None:
    us = hello("us", protocol_min=ours[0], protocol_max=ours[1])
    them = hello("them", protocol_min=theirs[0], protocol_max=theirs[1])
    assert common_version(us, them) == common_version(them, us) == version


def test_without_a_common_version_the_older_side_is_told_to_upgrade() -> None:
    old = hello("old", fray_version="0.1")
    new = hello("new", fray_version="9.0", protocol_min=7, protocol_max=8)
    for reason in (no_common_version(old, new), no_common_version(new, old)):
        assert "1 to 1" in reason
        assert "7 to 8" in reason
        assert "(process-old)" in reason
    assert "this side" in no_common_version(old, new)
    assert "the other side" in no_common_version(new, old)


def test_features_are_those_that_both_know() -> None:
    ours, theirs = hello("a", features=("z", "b", "x")), hello("b", features=("x", "y", "z"))
    assert common_features(ours, theirs) == common_features(theirs, ours) == ("x", "z")
