"""An agent that is started again: as the same life of its host, or as a new one."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fray.actor.system import ActorSystem
from fray.cluster.connect import make_process
from fray.cluster.control import ClusterFacts
from fray.cluster.controller.journal import MemoryStore
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.controller.tree import Controller
from fray.cluster.worker.agent import Agent
from fray.cluster.worker.hosts import host_resources
from fray.cluster.worker.service import serve_agent
from fray.cluster.worker.subprocesses import SubprocessLauncher
from fray.errors import InvalidRequestError
from fray.ids import WorkerId
from fray.runtime.process import Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Host:
    """A controller, and one host whose agent comes and goes."""

    process: Process
    home: Path
    boot_ids: list[str] = field(default_factory=lambda: ["first"])

    @asynccontextmanager
    async def agent(self, declared: str, *, slots: int | None = None) -> AsyncIterator[None]:
        async with make_process("token", label="agent") as process:
            system = ActorSystem(process, None, namespace="")
            capacity = host_resources(declared).capacity
            agent = Agent(
                system,
                WorkerSpec(WorkerId("w"), process.address, capacity, slots=slots),
                self.boot_ids[-1],
                controller=self.process.address,
                launcher=SubprocessLauncher(self.home / "run", clock=process.clock),
                home=self.home,
                token_file="",
                remember_boot_id=self.boot_ids.append,
            )
            await serve_agent(process, agent)
            try:
                await agent.ready()
                yield
            finally:
                await agent.close(kill=False)  # as one that is killed: it says no goodbye
                system.close()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with make_process("token", label="controller") as process:
        facts = ClusterFacts("test", local=False)
        controller = Controller(process, MemoryStore(), tmp_path / "blobs", facts)
        await controller.start()
        try:
            yield Host(process, tmp_path)
        finally:
            await controller.close()


async def test_an_agent_that_is_started_again_goes_on_with_the_life_of_its_host(host: Host) -> None:
    for _ in range(2):
        async with host.agent('{"cpu": 4}'):
            pass
    assert host.boot_ids == ["first"]


async def test_a_host_that_comes_back_with_other_resources_begins_a_new_life(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    async with host.agent('{"cpu": 4}'):
        pass
    async with host.agent('{"cpu": 8}'):
        pass
    assert len(host.boot_ids) == 2
    assert "worker w cannot change its capacity while it lives" in caplog.text
    async with host.agent('{"cpu": 8}'):  # and goes on with that one
        pass
    assert len(host.boot_ids) == 2


async def test_a_host_that_makes_no_sense_says_why_rather_than_try_for_ever(host: Host) -> None:
    with pytest.raises(InvalidRequestError, match="worker w must have a slot, not 0"):
        async with host.agent("", slots=0):
            pass


def test_what_is_found_of_a_disk_does_not_change_while_it_fills_up() -> None:
    assert host_resources().capacity.disk_bytes == shutil.disk_usage("/").total
