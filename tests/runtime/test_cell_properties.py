"""Whatever callers and the host of an actor do, every call is answered once, and truly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fray.errors import CallError, Started
from fray.runtime.cell import CellState
from fray.testing import simulate

from .hosted import BYE, Actors, Call, call, concurrent

if TYPE_CHECKING:
    from fray.testing import Simulation

LONG_S = 10.0
ENOUGH_S = 1e4


class Busy:
    """Notes which calls begin, and how many run at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.began: list[int] = []
        self.began_in_turn: list[int] = []
        self.running = 0

    def begin(self, number: int, *, in_turn: bool = True) -> None:
        assert number not in self.began, "it ran twice"
        self.began.append(number)
        if in_turn:
            self.began_in_turn.append(number)
            self.running += 1
            assert self.running <= self.limit

    def end(self) -> None:
        self.running -= 1

    def plain(self, number: int) -> int:
        self.begin(number)
        self.end()
        return number

    def plain_failure(self, number: int) -> None:
        self.begin(number)
        self.end()
        raise ValueError(number)

    async def quick(self, number: int) -> int:
        self.begin(number)
        self.end()
        return number

    async def slow(self, number: int) -> int:
        self.begin(number)
        try:
            await asyncio.sleep(LONG_S)
        finally:
            self.end()
        return number

    async def cleaning(self, number: int) -> int:
        self.begin(number)
        try:
            await asyncio.sleep(LONG_S)
        finally:
            await asyncio.sleep(0.1)
            self.end()
        return number

    async def endless(self, number: int) -> None:
        self.begin(number)
        try:
            await asyncio.Event().wait()
        finally:
            self.end()

    async def exits(self, number: int) -> None:
        self.begin(number)
        self.end()
        raise SystemExit(number)

    async def stream(self, number: int) -> AsyncIterator[int]:
        self.begin(number)
        try:
            for i in range(100):
                yield i
        finally:
            self.end()

    def plain_stream(self, number: int) -> Iterator[int]:
        self.begin(number)
        try:
            yield from range(100)
        finally:
            self.end()

    @concurrent
    async def beside(self, number: int) -> int:
        self.begin(number, in_turn=False)
        await asyncio.sleep(0.5)
        return number

    @concurrent
    def plain_beside(self, number: int) -> int:
        self.begin(number, in_turn=False)
        return number


METHODS = [name for name in vars(Busy) if not name.startswith("_") and name not in ("begin", "end")]

steps = st.one_of(
    st.tuples(st.just("call"), st.sampled_from([*METHODS, "nothing"])),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("grant"), st.integers(0, 30)),
    st.tuples(st.just("sleep"), st.sampled_from([0.0, 3e-4, 0.2, 15.0])),
)
ends = st.one_of(
    st.tuples(st.just("stop"), st.sampled_from([0.0, 1.0, 30.0, 1000.0])),
    st.tuples(st.just("kill"), st.just(0.0)),
)


@settings(max_examples=300)
@given(
    seed=st.integers(0, 1000),
    script=st.lists(steps, max_size=40),
    start_at=st.integers(0, 10),
    end=ends,
    max_concurrency=st.integers(1, 3),
    mailbox_calls_max=st.sampled_from([2, 1000]),
)
def test_every_call_is_answered_once_and_truly(
    seed: int,
    script: list[tuple[str, Any]],
    start_at: int,
    end: tuple[str, float],
    max_concurrency: int,
    mailbox_calls_max: int,
):
    async def main(sim: Simulation) -> None:
        actors = Actors(sim)
        cell = actors.new(max_concurrency=max_concurrency, mailbox_calls_max=mailbox_calls_max)
        busy = Busy(max_concurrency)
        calls: list[Call] = []
        gone: set[int] = set()
        async with asyncio.TaskGroup() as group:
            for index, (what, value) in enumerate(script):
                if index == start_at:
                    group.create_task(cell.start(lambda: busy))
                if what == "call":
                    calls.append(call(cell, value, len(calls)))
                elif what == "sleep":
                    await asyncio.sleep(value)
                elif value < len(calls) and what == "cancel" and not calls[value].done:
                    gone.add(value)
                    calls[value].cancel()
                elif value < len(calls) and what == "grant":
                    calls[value].invocation.grant(50, 1000)
            if len(script) <= start_at:
                group.create_task(cell.start(lambda: busy))
            await asyncio.sleep(1)  # or the end might come before the start
            assert cell.state is CellState.RUNNING
            if end[0] == "stop":
                await cell.stop(BYE, grace_s=end[1])
            else:
                cell.kill(BYE)
        await asyncio.sleep(ENOUGH_S)
        check(busy, calls, gone, in_order=max_concurrency == 1)
        assert (busy.running, cell.statistics().running, cell.statistics().waiting) == (0, 0, 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(seed, main)


def check(busy: Busy, calls: list[Call], gone: set[int], *, in_order: bool) -> None:
    for number, each in enumerate(calls):
        assert each.done is (number not in gone)
        if not each.done:
            continue
        exc = each.ended.exception()
        if isinstance(exc, CallError) and exc.started is Started.NO:
            assert number not in busy.began, f"{each.invocation.method} had begun: {exc!r}"
        if each.outcome in ("result", "end", "error"):
            assert number in busy.began
    if in_order:
        assert busy.began_in_turn == sorted(busy.began_in_turn)
