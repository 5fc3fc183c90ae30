"""What `.remote(...)` gives: awaited, blocked for, listened to, cancelled, forgotten."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
import types
from typing import Any

import pytest

import fray
from fray.actor.future import ActorFuture
from fray.errors import BlockingCallError, CallCancelled, PayloadError
from fray.runtime.payload import Payload

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.leftovers("the module's cluster keeps idle threads"),
]


@fray.actor(max_concurrency=8)
class Worker:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()

    def add(self, a: int, b: int = 1) -> int:
        return a + b

    def wait(self) -> str:
        self.entered.set()
        assert self.gate.wait(30)
        return "opened"

    @fray.method(concurrent=True)
    def has_entered(self) -> bool:
        return self.entered.wait(30)

    @fray.method(concurrent=True)
    def open(self) -> None:
        self.gate.set()

    async def sleep(self) -> None:
        self.entered.set()
        await asyncio.sleep(60)

    def fail(self) -> None:
        raise ValueError("boom")

    def weigh(self, thing: bytes) -> int:
        return len(thing)

    def numbers(self, count: int) -> Any:
        yield from range(count)

    def endless(self) -> Any:
        number = 0
        while True:
            yield number
            number += 1

    def give(self, value: Any) -> Any:
        return value


class Unreadable:
    """Whoever unpickles it on the program's first thread is interrupted by Ctrl-C."""

    def __reduce__(self) -> Any:
        return _unpickle, ()


def _unpickle() -> Unreadable:
    if threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt
    return Unreadable()


@pytest.fixture
def worker() -> Any:
    handle = Worker.remote()
    yield handle
    handle.open()
    handle.kill().result(timeout=10)


# ---- listening


def test_a_callback_that_raises_is_logged_and_harms_no_other_call(
    worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = worker.wait.remote()
    waiting.add_done_callback(lambda _: 1 / 0)
    other = worker.wait.remote()
    told = threading.Event()
    waiting.add_done_callback(lambda _: told.set())
    worker.open()
    assert waiting.result(timeout=10) == "opened"
    assert other.result(timeout=10) == "opened"
    assert told.wait(10)
    assert "a callback of Worker.wait failed" in caplog.text


async def test_a_callback_from_an_event_loop_runs_on_that_loop(worker: Any) -> None:
    called: asyncio.Future[tuple[ActorFuture[Any], int]] = (
        asyncio.get_running_loop().create_future()
    )
    future = worker.add.remote(1)
    future.add_done_callback(lambda f: called.set_result((f, threading.get_ident())))
    assert await called == (future, threading.get_ident())


def test_a_callback_that_was_removed_is_not_called(worker: Any) -> None:
    called: list[object] = []
    future = worker.wait.remote()
    future.add_done_callback(called.append)
    future.add_done_callback(called.append)
    assert future.remove_done_callback(called.append) == 2
    worker.open()
    assert future.result(timeout=10) == "opened"
    assert called == []


def test_a_callback_of_a_stream_waits_for_its_end(worker: Any) -> None:
    done = threading.Event()
    stream = worker.endless.remote()
    stream.add_done_callback(lambda _: done.set())
    items = iter(stream)
    assert [next(items) for _ in range(200)] == list(range(200))
    assert not done.is_set()
    items.close()
    assert done.wait(10)


async def test_items_are_taken_from_an_iterator_whose_end_closes_the_generator(worker: Any) -> None:
    with pytest.raises(TypeError, match=r"it = aiter\(Worker\.endless\.remote\("):
        await anext(worker.endless.remote())
    items = aiter(worker.endless.remote())
    assert [await anext(items), await anext(items)] == [0, 1]
    await items.aclose()  # type: ignore[attr-defined]
    assert await worker.add.remote(1) == 2


def test_who_asks_again_and_again_with_a_timeout_leaves_nothing_behind(worker: Any) -> None:
    future = worker.wait.remote()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            future.result(timeout=0)
        fray.wait([future], timeout=0)
    assert not future._callbacks
    assert not future._done_callbacks


# ---- many at once


async def test_asyncio_waits_for_calls_as_for_its_own_futures(worker: Any) -> None:
    slow = worker.sleep.remote()
    done, pending = await asyncio.wait(
        [slow, worker.add.remote(1)], return_when=asyncio.FIRST_COMPLETED
    )
    assert [await f for f in done] == [2]
    assert pending == {slow}
    assert await asyncio.gather(worker.add.remote(1), worker.add.remote(2)) == [2, 3]
    assert await asyncio.shield(worker.add.remote(5)) == 6
    assert sorted([await f for f in asyncio.as_completed([worker.add.remote(7)])]) == [8]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slow, 0.001)


def test_waiting_for_no_calls_at_all_returns_at_once() -> None:
    assert fray.wait([], timeout=10) == ([], [])
    assert fray.gather().result(timeout=10) == []


async def test_waiting_for_no_calls_at_all_returns_at_once_on_a_loop() -> None:
    assert await fray.wait_async([], timeout=10) == ([], [])
    assert await fray.gather() == []


def test_wait_gives_as_many_as_were_asked_for(worker: Any) -> None:
    quick = [worker.add.remote(n) for n in range(3)]
    slow = worker.wait.remote()
    ready, rest = fray.wait([slow, *quick], num_returns=2, timeout=10)
    assert len(ready) == 2
    assert len(rest) == 2
    assert slow in rest


def test_gather_ends_with_the_first_failure(worker: Any) -> None:
    waiting = worker.wait.remote()
    with pytest.raises(ValueError, match="boom"):
        fray.gather(waiting, worker.fail.remote()).result(timeout=10)
    assert not waiting.done()


# ---- blocking


async def test_blocking_on_the_loop_that_it_waits_for_is_refused_even_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with fray.connect():
        mine = await Worker.remote()
        future = mine.sleep.remote()
        notebook: Any = types.ModuleType("IPython")
        notebook.get_ipython = object
        monkeypatch.setitem(sys.modules, "IPython", notebook)
        for block in (
            lambda: mine.add(1),
            future.result,
            future.exception,
            lambda: next(iter(mine.numbers.remote(3))),
            lambda: fray.wait([future]),
            lambda: fray.gather(future).result(),
        ):
            with pytest.raises(BlockingCallError):
                block()


async def test_blocking_in_a_notebook_is_what_it_looks_like(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BlockingCallError):
        worker.add(1)
    notebook: Any = types.ModuleType("IPython")
    notebook.get_ipython = object
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    assert worker.add(1) == 2
    assert fray.wait([worker.add.remote(2)])[0][0].result() == 3
    assert fray.gather(worker.add.remote(2)).result() == [3]
    assert list(worker.numbers.remote(3)) == [0, 1, 2]


def test_a_future_that_is_done_keeps_no_arguments(worker: Any) -> None:
    futures = [worker.weigh.remote(bytes(1 << 20)) for _ in range(8)]
    assert [future.result() for future in futures] == [1 << 20] * 8
    end = time.monotonic() + 10
    while kept := sum(map(is_large_payload, gc.get_objects())):
        assert time.monotonic() < end, kept


def is_large_payload(thing: object) -> bool:
    return type(thing) is Payload and thing.nbytes >= 1 << 20


def test_an_interrupted_unpickling_never_passes_for_a_result(worker: Any) -> None:
    future = worker.give.remote(Unreadable())
    with pytest.raises(KeyboardInterrupt):
        future.result(timeout=10)
    with pytest.raises(PayloadError, match="interrupted"):
        future.result(timeout=10)


# ---- cancelling, and forgetting


def test_an_interrupted_blocking_call_is_cancelled(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ActorFuture[Any]] = []

    def interrupted(self: ActorFuture[Any], timeout: float | None = None) -> None:
        made.append(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ActorFuture, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.sleep()
    assert isinstance(made[0].exception(timeout=10), CallCancelled)


def test_a_failure_that_nobody_looks_at_is_logged_once(
    worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        gc.collect()
        looked = [r.message for r in caplog.records if "nobody looked" in r.message]
        return [message for message in looked if "Worker.fail" in message]

    future = worker.fail.remote()
    fray.wait([future], timeout=10)
    del future
    deadline = time.monotonic() + 10
    while not told():  # the cluster's thread may hold it for a moment longer
        assert time.monotonic() < deadline
        time.sleep(0.001)
    [message] = told()
    assert "boom" in message


def test_the_end_of_the_cluster_is_no_news_about_each_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with fray.connect():
        mine = Worker.remote()
        mine.sleep.remote()
        assert mine.has_entered()
    gc.collect()
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
