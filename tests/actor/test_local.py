"""Embedded clusters: what they leave behind, and what they do not wait for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import fray
from fray.cluster import local
from fray.cluster.worker.local import on_loop
from fray.runtime.activity import ask_activity

if TYPE_CHECKING:
    import pytest


async def test_the_end_of_a_cluster_does_not_block_the_loop_on_which_its_actors_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    mine = asyncio.get_running_loop()
    stop: Any = local._Embedded._stop
    stopped = False

    async def stop_what_is_there(embedded: Any) -> None:
        """An actor is there still, which can only be ended on the driver's loop."""
        nonlocal stopped
        await on_loop(mine, lambda: asyncio.sleep(0))
        await stop(embedded)
        stopped = True

    monkeypatch.setattr(local._Embedded, "_stop", stop_what_is_there)
    async with asyncio.timeout(10), fray.connect("local"):
        pass
    assert stopped
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []


@fray.actor
class Slow:
    async def wait(self) -> None:
        await asyncio.Event().wait()


async def test_an_actor_in_the_own_process_tells_what_it_is_busy_with():
    async with fray.connect("local") as cluster:
        slow = await Slow.remote()
        call = slow.wait.remote()
        [endpoint] = slow.route.endpoints
        process = cluster.system.process
        assert endpoint.process_id == process.process_id
        told = await ask_activity(process, endpoint.process_id, endpoint.address, slow.actor_id)
        assert told is not None
        assert (told.label, told.busy_in, told.running) == ("Slow", "wait", 1)
        call.cancel()
