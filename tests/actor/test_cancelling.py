"""Cancelling and deadlines where methods run on real threads, which nobody can interrupt."""

from __future__ import annotations

import asyncio
import threading

import pytest

import fray
from fray.errors import CallCancelled, DeadlineExceeded

SOON_S = 20.0
ENDED: dict[str, threading.Event] = {}


@fray.actor
class Worker:
    async def work(self, begun: str, name: str) -> None:
        ENDED[begun].set()
        try:
            await asyncio.sleep(SOON_S)
        except asyncio.CancelledError:
            ENDED[name].set()
            raise

    def delegate(self, worker, begun: str, name: str) -> str:
        try:
            worker.work(begun, name)
        except (CallCancelled, DeadlineExceeded):
            return "told"
        return "never told"

    def wait_for_the_flag(self, begun: str, name: str) -> None:
        ENDED[begun].set()
        while not fray.cancelled():
            threading.Event().wait(0.001)
        ENDED[name].set()

    def ready(self) -> bool:
        return True


@pytest.fixture
async def workers():
    ENDED.clear()
    ENDED.update((name, threading.Event()) for name in ("begun", "ended"))
    async with fray.connect("local"):
        a, b = Worker.remote(), Worker.remote()
        await asyncio.gather(a.ready.remote(), b.ready.remote())
        yield a, b


async def until(name: str) -> None:
    assert await asyncio.to_thread(ENDED[name].wait, SOON_S / 2), f"not {name}"


async def test_time_that_is_up_sets_the_flag_of_a_plain_method(workers):
    a, _ = workers
    with pytest.raises(DeadlineExceeded):
        await a.wait_for_the_flag.options(timeout=0.1).remote("begun", "ended")
    await until("ended")
    assert await a.ready.remote()


async def test_cancelling_sets_the_flag_of_a_plain_method(workers):
    a, _ = workers
    call = a.wait_for_the_flag.remote("begun", "ended")
    await until("begun")
    call.cancel()
    await until("ended")
    assert await a.ready.remote()


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_what_a_plain_method_is_blocked_for_is_cancelled_with_it(workers, how):
    a, b = workers
    timeout = 1 if how == "deadline" else 60
    call = a.delegate.options(timeout=timeout).remote(b, "begun", "ended")
    await until("begun")
    if how == "deadline":
        with pytest.raises(DeadlineExceeded):
            await call
    else:
        call.cancel()
    await until("ended")
    assert await asyncio.gather(a.ready.remote(), b.ready.remote()) == [True, True]
