"""A group on a cluster of processes with two TPU slices, one of which is killed, and taken back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

import fray
from fray.cluster import Entrypoint, JobRequest, JobStatus, ReservationConfig, ResourceConfig
from fray.errors import SliceLost
from tests.integration.grouped import Member, hold
from tests.integration.real_cluster import RealCluster, driving

SLICE = "v4-16"  # of two hosts
HOSTS = [(name, index) for name in ("a", "b") for index in range(2)]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def resources(name: str, index: int) -> str:
    part = f'{{"name": "{name}", "type": "{SLICE}", "index": {index}}}'
    return f'{{"cpu": 64, "memory": "64g", "slice": {part}}}'


async def all_there(group: fray.Group) -> None:
    async with asyncio.timeout(60):
        while len(group.slices) < group.wanted:
            await group.changed()
            await group.barrier()


async def test_slices_that_are_killed_or_taken_back_leave_and_come_again(tmp_path: Path) -> None:
    cluster = RealCluster(tmp_path / "home")
    try:
        await cluster.start_controller()
        for name, index in HOSTS:
            await cluster.start_agent(f"{name}{index}", resources=resources(name, index))
        async with driving(cluster) as driver:
            least, most = (ResourceConfig.with_tpu(SLICE, slice_count=n) for n in (1, 2))
            await driver.create_reservation(ReservationConfig(least, most))
            async with fray.group(Member, tpu=SLICE, slices=2, shutdown_s=0.0) as group:
                await all_there(group)
                found = await group.environment.remote()
                assert [worker for worker, _ in found] == ["0", "1", "0", "1"]
                assert len({agent for _, agent in found}) == 4

                step = group.step.remote(2.0)
                os.kill(await group.members[-1].handle.pid.remote(), signal.SIGKILL)
                with pytest.raises(SliceLost, match="SIGKILL"):
                    await step
                assert await group.barrier()
                await all_there(group)
                assert [who.life for who in group.slices] == [1, 2]

                entrypoint = Entrypoint.from_callable(hold, args=(3.0,))
                urgent = await driver.launch(
                    JobRequest(
                        "urgent",
                        entrypoint,
                        resources=ResourceConfig.with_tpu(SLICE),
                        priority="critical",
                    )
                )
                await group.changed()
                epoch = group.epoch
                assert await group.barrier()
                assert (group.epoch, len(group.slices)) == (epoch + 1, 1)
                assert await group.step.remote(0.0) == [0.0, 0.0]
                await all_there(group)
                assert (await driver.poll(urgent)).status is JobStatus.SUCCEEDED
                assert await group.step.remote(0.0) == [0.0] * 4
    finally:
        await asyncio.to_thread(cluster.close)
