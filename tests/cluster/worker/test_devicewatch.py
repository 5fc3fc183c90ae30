"""A device is given away again once nothing of its last attempt has it any more.

There are no accelerators here: a stand-in for the NVIDIA driver says who has the GPUs, and plain
files stand in for the device files of TPU chips. The processes, agent and controller are real.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from fray.actor.system import ActorSystem
from fray.cluster.connect import make_process
from fray.cluster.controller.commands import SubmitJobs
from fray.cluster.controller.specs import JobSpec, Program, WorkerSpec
from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import Resources
from fray.cluster.scheduling.inventory import Allocation, HeldDevice
from fray.cluster.types import JobStatus
from fray.cluster.worker import devicewatch
from fray.cluster.worker.agent import Agent
from fray.cluster.worker.chips import Chips
from fray.cluster.worker.devicewatch import DeviceWatch, attempt_of, held_devices
from fray.cluster.worker.gpus import Gpus
from fray.cluster.worker.service import serve_agent
from fray.cluster.worker.shim import records
from fray.ids import AttemptId, JobId, Namespace, WorkerId
from fray.runtime.clock import SystemClock
from fray.runtime.tasks import Scope

from .test_agent import World, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

GIB = 1 << 30
TWO_GPUS = Resources(8000, 8 * GIB, 8 * GIB, gpus={"H100": 2000})

SLEEPER = "import sys, time; files = [open(p) for p in sys.argv[1:]]; print('up', flush=True); "
SLEEPER += "time.sleep(1000)"


class NvmlError(Exception):
    pass


class StandInNvml:
    """A stand-in for ``pynvml``: two GPUs, and who has them is what the test says."""

    NVMLError = NvmlError

    def __init__(self) -> None:
        self.pids: Mapping[int, list[int]] = {}

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        return [0, 0]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[object]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in self.pids.get(handle, [])]


class Leftovers:
    """Processes as attempts leave them behind: by their variables one knows whose they were."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._processes: dict[int, subprocess.Popen[str]] = {}

    def start(self, attempt_id: str, *files: Path, root: Path | None = None) -> int:
        run_dir = str((root or self.root) / attempt_id.replace("/", "_"))
        marks = {records.MARKER_ATTEMPT: attempt_id, records.MARKER_RUN_DIR: run_dir}
        process = subprocess.Popen(
            [sys.executable, "-c", SLEEPER, *map(str, files)],
            env={**os.environ, **marks},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        self._processes[process.pid] = process
        return process.pid

    def end(self, pid: int) -> None:
        process = self._processes.pop(pid)
        process.kill()
        process.communicate()

    def close(self) -> None:
        for pid in list(self._processes):
            self.end(pid)


@pytest.fixture
def leftovers(tmp_path: Path) -> Iterator[Leftovers]:
    left = Leftovers(tmp_path / "run")
    yield left
    left.close()


def test_a_device_is_held_by_who_has_it_and_whose_attempt_does_not_run_here() -> None:
    owners = {1: "u/gone/0#0", 2: "u/here/0#0", 3: ""}
    held = held_devices(
        {"H100": 2, "A100": 2},
        {0: [3], 1: [2], 2: [2, 1], 3: [1]},
        lambda pid: owners[pid],
        ["u/here/0#0"],
    )
    by = "process 1 of u/gone/0#0, which has ended"
    assert held == (HeldDevice("H100", 0, by), HeldDevice("H100", 1, by))


def test_only_this_agent_s_attempts_are_known(leftovers: Leftovers, tmp_path: Path) -> None:
    ours = leftovers.start("u/j/0#0")
    another = leftovers.start("u/j/0#0", root=tmp_path / "another agent's")
    assert attempt_of(ours, leftovers.root) == "u/j/0#0"
    assert attempt_of(another, leftovers.root) == ""
    assert attempt_of(os.getpid(), leftovers.root) == ""


@pytest.mark.parametrize("names", [["accel0", "accel1"], ["vfio/12", "vfio/7"]])
def test_chips_are_held_by_who_has_their_files_open(
    leftovers: Leftovers, tmp_path: Path, names: list[str]
) -> None:
    dev = tmp_path / "dev"
    (dev / "vfio").mkdir(parents=True)
    (dev / "vfio" / "vfio").touch()
    for name in names:
        (dev / name).touch()
    chips = Chips(dev)
    assert chips.holders() == {}
    pid = leftovers.start("u/j/0#0", dev / names[1], dev / "vfio" / "vfio")
    number = 1 if names[1] == "accel1" else 0  # vfio's numbers are in order
    assert chips.holders() == {number: [pid]}
    leftovers.end(pid)
    assert chips.holders() == {}


async def test_chips_of_an_attempt_that_has_ended_are_held(
    leftovers: Leftovers, tmp_path: Path
) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "accel2").touch()
    pid = leftovers.start("u/j/0#0", dev / "accel2")
    host = Resources(8000, GIB, GIB, tpus={"v5litepod": 4})
    watch = DeviceWatch(
        host, SystemClock(), gpus=Gpus(StandInNvml()), chips=Chips(dev), root=leftovers.root
    )
    async with Scope("test") as scope:
        assert not await watch.look(scope, [AttemptId("u/j/0#0")])
        assert await watch.look(scope, [])
    by = f"process {pid} of u/j/0#0, which has ended"
    assert watch.held == (HeldDevice("v5litepod", 2, by),)


async def test_an_attempt_waits_for_its_devices_and_no_longer_than_that_makes_sense(
    leftovers: Leftovers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devicewatch, "HELD_LOOK_S", 0.01)
    nvml = StandInNvml()
    pid = leftovers.start("u/old/0#0")
    nvml.pids = {1: [pid]}
    watch = DeviceWatch(
        TWO_GPUS, SystemClock(), gpus=Gpus(nvml), chips=Chips(tmp_path), root=leftovers.root
    )
    first, second = (Allocation(Resources(1000, gpus={"H100": 1000}), (n,)) for n in (0, 1))
    async with Scope("test") as scope:
        await watch.until_free(first, scope, list, lambda: True)
        waiting = scope.spawn(watch.until_free(second, scope, list, lambda: True))
        await until(lambda: bool(watch.held))
        assert not waiting.done()
        leftovers.end(pid)  # the stand-in goes on naming it; but there is no such process any more
        await waiting
        nvml.pids = {1: [leftovers.start("u/old/0#0")]}
        monkeypatch.setattr(devicewatch, "FREE_TIMEOUT_S", 0.0)
        with pytest.raises(OSError, match=r"H100 1 is still held by process \d+ of u/old/0#0"):
            await watch.until_free(second, scope, list, lambda: True)


class GpuWorld(World):
    """A controller, and an agent with two GPUs."""

    nvml: StandInNvml

    async def submit_gpu(self, name: str, count: int) -> JobId:
        spec = JobSpec(
            job_id=JobId(f"me/{name}"),
            name=name,
            user="me",
            namespace=Namespace("n"),
            program=Program(command=("true",)),
            resources=ResourceConfig.with_gpu("H100", count=count),
        )
        await self.controller.book.commit(SubmitJobs(f"s-{name}", (spec,)))
        return spec.job_id

    def given(self, job_id: JobId) -> tuple[int, ...]:
        return self.controller.book.ledger.attempts(job_id)[0].allocation.devices


@pytest.fixture
async def world(tmp_path: Path, leftovers: Leftovers) -> AsyncIterator[GpuWorld]:
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(make_process("token", label="controller"))
        world = GpuWorld(process, tmp_path)
        world.nvml = StandInNvml()
        await world.start_controller()
        stack.push_async_callback(lambda: world.controller.close())
        own = await stack.enter_async_context(make_process("token", label="agent"))
        system = ActorSystem(own, None, namespace="")
        stack.callback(system.close)
        world.agent = Agent(
            system,
            WorkerSpec(WorkerId("w"), own.address, TWO_GPUS),
            "boot",
            controller=process.address,
            launcher=world.launcher,
            home=tmp_path,
            devices=DeviceWatch(
                TWO_GPUS,
                SystemClock(),
                gpus=Gpus(world.nvml),
                chips=Chips(tmp_path),
                root=leftovers.root,
            ),
        )
        await serve_agent(own, world.agent)
        stack.push_async_callback(lambda: world.agent.close(kill=True))
        await world.agent.ready()
        yield world


async def test_a_gpu_that_a_dead_task_s_child_holds_is_given_to_nobody_until_it_lets_go(
    world: GpuWorld, leftovers: Leftovers
) -> None:
    first = await world.submit_gpu("first", 1)
    await until(lambda: len(world.launcher.launched) == 1)
    (number,) = world.given(first)
    (puppet,) = world.launcher.launched
    escaped = leftovers.start(puppet.attempt_id)
    world.nvml.pids = {number: [escaped]}
    puppet.end()
    await until(lambda: world.status(first) is JobStatus.SUCCEEDED)

    second = await world.submit_gpu("second", 1)
    await until(lambda: len(world.launcher.launched) == 2)
    assert world.given(second) == (1 - number,)
    both = await world.submit_gpu("both", 2)
    world.launcher.launched[1].end()
    await until(lambda: world.status(second) is JobStatus.SUCCEEDED)
    told = f"H100 {number} is still held by process {escaped} of {puppet.attempt_id}"
    await until(lambda: told in world.controller.book.waits_for(both))
    assert len(world.launcher.launched) == 2

    leftovers.end(escaped)
    await until(lambda: len(world.launcher.launched) == 3)
    assert world.given(both) == (0, 1)
    world.launcher.launched[2].end()
    await until(lambda: world.status(both) is JobStatus.SUCCEEDED)
    await asyncio.sleep(0)
