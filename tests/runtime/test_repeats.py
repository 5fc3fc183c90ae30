"""What is kept of calls that may be repeated."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.runtime import repeats
from fray.runtime.callcontext import CallContext
from fray.runtime.calls import Invocation
from fray.runtime.payload import Payload
from fray.runtime.repeats import KEPT_S, NOBODY, Repeats

if TYPE_CHECKING:
    import pytest

    from fray.testing import Simulation


def call(key: bytes) -> Invocation:
    return Invocation(1, "pay", Payload(b""), NOBODY, context=CallContext(key=key))


async def test_outcomes_are_bounded_in_number_although_older_calls_still_run(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(repeats, "KEPT_MAX", 10)
    kept = Repeats(sim.clock)
    for number in range(20):
        assert kept.admit(call(b"runs %d" % number))
    for number in range(30):
        each = call(b"ended %d" % number)
        assert kept.admit(each)
        each.answer(True, Payload(b"done"))
    assert len(kept) == 20 + 10
    assert not kept.admit(call(b"ended 29"))  # answered with what came out
    assert kept.admit(call(b"ended 0"))  # forgotten


async def test_an_outcome_that_nobody_asks_for_is_forgotten_in_time(sim: Simulation):

    kept = Repeats(sim.clock)
    first = call(b"first")
    kept.admit(first)
    first.answer(True, Payload(b"done"))
    await asyncio.sleep(KEPT_S + 1)
    second = call(b"second")
    kept.admit(second)
    second.answer(True, Payload(b"done"))
    assert len(kept) == 1
