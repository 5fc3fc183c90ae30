"""Whoever waits long for an actor learns what it is doing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

import fray
from fray.runtime.activity import ActorActivity, ask_activity

if TYPE_CHECKING:
    from fray.actor.directory import Endpoint


@fray.actor
class Model:
    async def train(self, hours: float) -> str:
        await asyncio.sleep(hours * 3600)
        return "trained"

    async def train_with(self, other) -> str:
        return await other.train.remote(1)

    async def predict(self) -> str:
        return "predicted"


def endpoint_of(actor) -> Endpoint:
    [endpoint] = actor.route.endpoints
    return endpoint


async def activity(cluster, actor) -> ActorActivity | None:
    endpoint = endpoint_of(actor)
    process = cluster.system.process
    return await ask_activity(process, endpoint.process_id, endpoint.address, endpoint.actor_id)


async def test_a_process_tells_what_its_actor_is_busy_with_without_a_turn_of_it(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    model, other = await Model.options(name="model").remote(), await Model.remote()
    assert str(await activity(sim_cluster, model)) == "idle"
    calls = [model.train_with.remote(other), *(model.predict.remote() for _ in range(3))]
    await asyncio.sleep(61 * 60 - 2 * 60)
    told = await activity(sim_cluster, model)
    assert told is not None
    assert (told.state, told.running, told.waiting) == ("running", 1, 3)
    assert str(told) == (
        "busy in train_with for 59m00s, where it waits for Model.train; 3 calls wait"
    )
    assert await asyncio.gather(*calls) == ["trained", *["predicted"] * 3]


async def test_a_process_that_does_not_answer_is_told_from_an_actor_that_is_busy(sim_cluster):
    await sim_cluster.add_hosts(1)
    model = await Model.remote()
    assert await model.predict.remote() == "predicted"
    sim_cluster.freeze(sim_cluster.process_of(model))
    with pytest.raises(TimeoutError, match="does not answer within 2 s"):
        await activity(sim_cluster, model)
    sim_cluster.thaw(sim_cluster.process_of(model))
    assert await activity(sim_cluster, model) is not None


async def test_whoever_waits_long_is_told_now_and_then_what_the_actor_is_busy_with(
    sim_cluster, caplog
):
    caplog.set_level(logging.INFO, logger="fray")
    await sim_cluster.add_hosts(1)
    model = await Model.options(name="model").remote()
    assert await model.train.remote(1) == "trained"
    reports = [r.getMessage() for r in caplog.records if "are waiting" in r.getMessage()]
    assert 5 <= len(reports) <= 10  # at growing intervals
    assert reports[0].startswith("calls to model are waiting: it is busy in train for 1")
    caplog.clear()
    for _ in range(100):  # many short calls are no reason for a report
        assert await model.predict.remote() == "predicted"
        await asyncio.sleep(0.5)
    assert not [r for r in caplog.records if "are waiting" in r.getMessage()]


async def test_nobody_but_the_caller_can_ask_about_a_call_or_end_it(sim_cluster):
    """Numbers are those of a link: another's call cannot be named."""
    await sim_cluster.add_hosts(1)
    model = await Model.remote()
    training = model.train.remote(0.1)
    await asyncio.sleep(1)
    async with sim_cluster.connect() as stranger:
        from fray.runtime.activity import RUNTIME
        from fray.runtime.builtin import question

        endpoint = endpoint_of(model)
        process = stranger.system.process
        for number in range(10):
            call = question("break_cycle", number, "a lie")
            process.send(endpoint.process_id, endpoint.address, RUNTIME, call)
        for args in (("x",), (1, 2, 3), ({},), ()):
            call = question("probe", *args)
            process.send(endpoint.process_id, endpoint.address, RUNTIME, call)
        await asyncio.sleep(1)
    assert await training == "trained"
