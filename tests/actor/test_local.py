"""Embedded clusters: what they leave behind, and what they do not wait for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import fray
from fray.cluster import local
from fray.cluster.worker.local import on_loop

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
