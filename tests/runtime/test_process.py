"""The door between a process's loop and other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from fray.cluster.connect import make_process
from fray.errors import BlockingCallError, ClusterClosed

if TYPE_CHECKING:
    from fray.runtime.process import Process

WHO: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    made = make_process("token", label="tested")
    await made.start()
    yield made
    await made.close()


def in_thread(fn: Any, *args: Any) -> None:
    """Runs a function on another thread, while the loop does nothing."""
    thread = threading.Thread(target=fn, args=args)
    thread.start()
    thread.join()


async def test_what_another_thread_posts_runs_in_order_on_the_loop(process: Process):
    ran: list[int] = []
    done = asyncio.Event()

    def post_some() -> None:
        for number in range(100):
            process.post(ran.append, number)
        process.post(done.set)

    in_thread(post_some)
    assert ran == []
    await done.wait()
    assert ran == list(range(100))


async def test_what_was_posted_after_something_that_fails_runs_all_the_same(process: Process):
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    done = asyncio.Event()

    def post_some() -> None:
        process.post(lambda: 1 / 0)
        process.post(done.set)

    in_thread(post_some)
    await done.wait()
    assert [str(context["exception"]) for context in told] == ["division by zero"]


async def test_what_is_posted_before_the_end_runs_and_what_comes_later_is_refused(process: Process):
    ran: list[str] = []
    in_thread(process.post, ran.append, "before")
    await process.close()
    assert ran == ["before"]
    refused: list[ClusterClosed] = []

    def post_late() -> None:
        try:
            process.post(ran.append, "late")
        except ClusterClosed as exc:
            refused.append(exc)

    in_thread(post_late)
    await asyncio.sleep(0)
    assert ran == ["before"]
    assert len(refused) == 1


async def test_whoever_blocks_for_the_loop_is_told_that_the_process_ends(process: Process):
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    blocked = asyncio.create_task(asyncio.to_thread(process.run, forever))
    await begun.wait()
    await process.close()
    with pytest.raises(ClusterClosed, match="tested has shut down"):
        await blocked
    with pytest.raises(ClusterClosed, match="tested has shut down"):
        await asyncio.to_thread(process.run, forever)


async def test_what_runs_for_a_thread_sees_the_context_of_that_thread(process: Process):
    async def who() -> str:
        return WHO.get()

    def ask(name: str) -> str:
        WHO.set(name)
        return process.run(who)

    asked = [asyncio.to_thread(ask, name) for name in ("a", "b", "c")]
    assert await asyncio.gather(*asked) == ["a", "b", "c"]


async def test_time_that_is_up_ends_what_was_waited_for(process: Process):
    cancelled = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        await asyncio.to_thread(process.run, forever, timeout_s=0.01)
    await cancelled.wait()


async def test_blocking_on_the_loop_itself_is_refused(process: Process):
    async def nothing() -> None: ...

    with pytest.raises(BlockingCallError):
        process.run(nothing)
