"""Calls to the control plane: how long they may take."""

from __future__ import annotations

import asyncio

from fray.actor.directory import ActorKey
from fray.actor.system import ActorSystem
from fray.cluster.connect import make_process
from fray.cluster.control import NamesApi
from fray.cluster.controlcalls import control
from fray.cluster.controller.tree import CONTROL_CELL


class SlowNames:
    """Names, where an actor needs a while to stop."""

    async def stop_actor(self, key: ActorKey, grace_s: float) -> bool:
        await asyncio.sleep(0.3)
        return True


async def test_stopping_an_actor_may_take_its_grace_on_top_of_the_usual_time() -> None:
    async with make_process("token", label="test") as process:
        cell = process.host("names/1", label="names", options=CONTROL_CELL)
        await cell.start(SlowNames)
        system = ActorSystem(process, None, namespace="")
        names = control(NamesApi, system, process.address, "names", timeout_s=0.1)
        assert await names.stop_actor(ActorKey("n", name="a"), grace_s=10.0)
        system.close()
