"""What a program that runs for long keeps of actors that are gone."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

import pytest

import fray
from fray.errors import NameTakenError

if TYPE_CHECKING:
    from fray.cluster import LocalCluster

pytestmark = pytest.mark.leftovers("the module's cluster keeps idle threads")


@fray.actor
class Brief:
    def ping(self) -> str:
        return "pong"

    async def wait(self) -> None:
        await asyncio.Event().wait()


def routes_of(cluster: LocalCluster) -> int:
    gc.collect()
    return len(cluster.system.routes())


def until_routes_are(cluster: LocalCluster, expected: int) -> None:
    """The cluster's thread may hold one for a moment longer than whoever waits for its call."""
    deadline = time.monotonic() + 10
    while routes_of(cluster) != expected:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_nothing_is_kept_of_actors_whose_handles_are_gone(cluster: LocalCluster) -> None:
    before = routes_of(cluster)
    for _ in range(5):
        actor = Brief.remote()
        assert actor.ping() == "pong"
        actor.stop().result(timeout=10)
    del actor
    until_routes_are(cluster, before)


async def test_nothing_is_kept_of_actors_that_were_made_on_a_loop(cluster: LocalCluster) -> None:
    before = routes_of(cluster)
    for _ in range(5):
        actor = await Brief.remote()
        assert await actor.ping.remote() == "pong"
        await actor.kill()
    del actor
    await asyncio.sleep(0)
    until_routes_are(cluster, before)


def test_a_call_goes_on_when_the_last_handle_is_gone(cluster: LocalCluster) -> None:
    call: Any = Brief.remote().ping.remote()
    gc.collect()
    assert call.result(timeout=10) == "pong"


async def test_every_call_and_every_handle_is_told_that_the_name_was_taken(
    cluster: LocalCluster,
) -> None:
    first = await Brief.options(name="only").remote()
    second = Brief.options(name="only").remote()
    calls = [second.ping.remote() for _ in range(3)]
    for attempt in [*calls, second, second.ping.remote()]:
        with pytest.raises(NameTakenError):
            await attempt
    assert await first.ping.remote() == "pong"
    await first.kill()


def test_what_the_end_of_a_connection_leaves_unanswered_is_told_at_once() -> None:
    with fray.connect() as made:
        actor = Brief.remote()
        assert actor.ping() == "pong"
        waiting = actor.wait.remote()
    with pytest.raises(fray.ActorUnavailable, match="this connection to the cluster was closed"):
        waiting.result(timeout=0)
    assert made.system.closed
