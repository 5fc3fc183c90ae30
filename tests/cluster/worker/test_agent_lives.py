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
from fray.cluster.worker.lives import ANEW_RESET_S, LIVES_MAX, Lives, lives_of, remember_life
from fray.cluster.worker.service import serve_agent
from fray.cluster.worker.shim import procfs
from fray.cluster.worker.subprocesses import SubprocessLauncher
from fray.errors import InvalidRequestError
from fray.ids import WorkerId
from fray.runtime.clock import SystemClock
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
    async def agent(
        self, declared: str, *, slots: int | None = None, kill: bool = False
    ) -> AsyncIterator[None]:
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
                earlier=tuple(reversed(self.boot_ids[:-1])),
                remember_boot_id=self.boot_ids.append,
            )
            await serve_agent(process, agent)
            try:
                await agent.ready()
                yield
            finally:
                await agent.close(kill=kill)  # else as one that is killed: it says no goodbye
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


async def test_another_host_of_the_same_name_is_refused_and_the_first_goes_on(
    host: Host, tmp_path: Path
) -> None:
    async with host.agent('{"cpu": 4}'):
        elsewhere = Host(host.process, tmp_path / "elsewhere", ["other"])
        with pytest.raises(InvalidRequestError, match="host w is already here, at 127"):
            async with elsewhere.agent('{"cpu": 4}'):
                pass
    async with host.agent('{"cpu": 4}'):
        pass
    assert host.boot_ids == ["first"]


async def test_a_host_that_boots_is_let_in_at_once_since_it_knows_its_last_life(host: Host) -> None:
    async with host.agent('{"cpu": 4}'):
        pass
    host.boot_ids += ["never told", "after another boot"]
    async with host.agent('{"cpu": 4}'):
        pass
    assert host.boot_ids[-1] == "after another boot"


async def test_an_agent_that_left_begins_a_new_life_without_a_false_alarm(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    async with host.agent('{"cpu": 4}', kill=True):
        pass
    async with host.agent('{"cpu": 4}'):
        pass
    assert len(host.boot_ids) == 2
    assert "ending all tasks" not in caplog.text
    assert "begins anew" not in caplog.text


async def test_a_host_that_was_given_up_while_nothing_ran_there_raises_no_alarm(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    async with host.agent('{"cpu": 4}', kill=True):
        pass
    host.boot_ids.pop()  # as if its agent had been killed just after it took its leave
    async with host.agent('{"cpu": 4}'):
        pass
    assert len(host.boot_ids) == 2
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_lives_that_are_fenced_one_after_the_other_begin_ever_later() -> None:
    clock = SteppedClock()
    lives = Lives(clock, "first")
    for pause_s in (1, 2, 4, 8, 10, 10):
        lives.fence()
        lives.fence()  # once more while it cannot reach the controller: that is no new fault
        before = clock.monotonic()
        await lives.pause()
        await lives.pause()
        assert clock.monotonic() - before == pause_s
        lives.is_new = False
    clock.now += ANEW_RESET_S
    lives.fence()
    before = clock.monotonic()
    await lives.pause()
    assert clock.monotonic() - before == 1
    assert len(lives.earlier) == 13


class SteppedClock(SystemClock):
    """One on which a sleep takes no time and moves it on."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self.now += delay_s


def test_a_folder_remembers_the_lives_of_its_host_over_boots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "boot_id", lambda: "kernel-1")
    assert lives_of(tmp_path, "a") == ("a",)
    assert lives_of(tmp_path, "b") == ("a",)
    remember_life(tmp_path, "c")
    assert lives_of(tmp_path, "d") == ("c", "a")
    monkeypatch.setattr(procfs, "boot_id", lambda: "kernel-2")
    assert lives_of(tmp_path, "e") == ("e", "c", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["boot-kernel-2"]
    for number in range(LIVES_MAX):
        remember_life(tmp_path, f"n{number}")
    assert len(lives_of(tmp_path, "f")) == LIVES_MAX


async def test_an_agent_that_cannot_write_its_lease_goes_on_and_says_so(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    (host.home / "lease").mkdir()
    async with host.agent('{"cpu": 4}'):
        assert "the lease of this host cannot be written" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]


def test_what_is_found_of_a_disk_does_not_change_while_it_fills_up() -> None:
    assert host_resources().capacity.disk_bytes == shutil.disk_usage("/").total
