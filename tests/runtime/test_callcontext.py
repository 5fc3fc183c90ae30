"""The bytes in which a call's context travels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.errors import LocalProtocolError, RemoteProtocolError
from fray.runtime.callcontext import CHAIN_MAX, KEY_BYTES_MAX, NO_CONTEXT, CallContext
from fray.runtime.frames import CONTEXT_BYTES_MAX

KEYS = st.binary(max_size=KEY_BYTES_MAX)
CHAINS = st.lists(st.integers(0, (1 << 64) - 1), max_size=8).map(tuple)
CONTEXTS = st.builds(CallContext, KEYS, CHAINS)


@given(CONTEXTS)
def test_a_context_arrives_as_it_was_sent(context):
    assert CallContext.decode(context.encode()) == context


def test_a_call_that_says_nothing_of_itself_costs_nothing():
    assert NO_CONTEXT.encode() == b""
    assert CallContext.decode(b"") is NO_CONTEXT


@given(st.binary(max_size=64))
def test_garbage_is_refused_or_is_the_one_encoding_of_something(raw):
    try:
        context = CallContext.decode(raw)
    except RemoteProtocolError:
        return
    assert context.encode() == raw


@given(CONTEXTS.filter(lambda context: context != NO_CONTEXT), st.data())
def test_a_context_that_was_cut_short_or_has_more_is_refused(context, data):
    raw = context.encode()
    for broken in (raw[: data.draw(st.integers(1, len(raw) - 1))], raw + b"\0"):
        with pytest.raises(RemoteProtocolError):
            CallContext.decode(broken)


def test_of_a_chain_without_end_the_innermost_links_travel():
    chain = tuple(range(CHAIN_MAX + 10))
    raw = CallContext(b"k" * KEY_BYTES_MAX, chain).encode()
    assert len(raw) <= CONTEXT_BYTES_MAX
    assert CallContext.decode(raw).chain == chain[10:]


@pytest.mark.parametrize(
    "context", [CallContext(b"k" * 256), CallContext(b"", (-1,)), CallContext(b"", (1 << 64,))]
)
def test_what_cannot_travel_is_refused_here(context):
    with pytest.raises(LocalProtocolError):
        context.encode()
