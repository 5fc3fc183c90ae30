"""Real GPUs behind a real driver: found, given to one task at a time, hidden from all others.

What needs CUDA asks the driver's own library, so that these need no framework.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fray.cluster import Entrypoint, JobRequest, JobStatus, ResourceConfig
from fray.cluster.devices import GpuConfig
from fray.cluster.worker.gpus import Gpus
from fray.cluster.worker.shim import records
from tests.integration.real_cluster import ROOT, RealCluster, driving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fray.cluster.client import AsyncFrayCluster
    from fray.ids import JobId

MODELS = Gpus().models()

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not MODELS, reason="no NVIDIA driver tells of a GPU here"),
]

HELD_BYTES = 1 << 30


def _cuda(name: str, *arguments: object) -> int:
    return getattr(ctypes.CDLL("libcuda.so.1"), name)(*arguments)


def gpus_seen() -> int:
    """How many GPUs CUDA gives this process."""
    count = ctypes.c_int(0)
    if _cuda("cuInit", 0):
        return 0  # CUDA_ERROR_NO_DEVICE: all are hidden
    assert _cuda("cuDeviceGetCount", ctypes.byref(count)) == 0
    return count.value


def take_memory(size_bytes: int) -> None:
    """Takes memory of the first GPU until this process ends."""
    context, address = ctypes.c_void_p(), ctypes.c_uint64()
    assert _cuda("cuInit", 0) == 0
    assert _cuda("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0) == 0
    assert _cuda("cuCtxSetCurrent", context) == 0
    assert _cuda("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes)) == 0


def note_gpus(path: str) -> None:
    """A task: writes down what it sees."""
    seen = {"count": gpus_seen(), "visible": os.environ["CUDA_VISIBLE_DEVICES"]}
    Path(path).write_text(json.dumps(seen))


def use_gpu(folder: str) -> None:
    """A task: takes memory of its GPU until the file ``release`` is there; two at once fail."""
    inside = Path(folder, "inside")
    inside.touch(exist_ok=False)
    take_memory(HELD_BYTES)
    Path(folder, "holds").touch()
    while not Path(folder, "release").exists():
        time.sleep(0.01)
    inside.unlink()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RealCluster]:
    cluster = RealCluster(tmp_path)
    try:
        await cluster.start_controller()
        await cluster.start_agent(resources="")
        yield cluster
    finally:
        await asyncio.to_thread(cluster.close)


async def launch(driver: AsyncFrayCluster, name: str, task: object, *args: str, gpus: int) -> JobId:
    device = {"device": GpuConfig("auto", count=gpus)} if gpus else {}
    return await driver.launch(
        JobRequest(
            name=name,
            entrypoint=Entrypoint.from_callable(task, args=args),  # pyright: ignore[reportArgumentType]
            resources=ResourceConfig(cpu=1, **device),  # pyright: ignore[reportArgumentType]
        )
    )


async def succeeds(driver: AsyncFrayCluster, job_id: JobId) -> None:
    async with asyncio.timeout(60):
        info = await driver.wait_for(job_id)
    assert info.status is JobStatus.SUCCEEDED, info.error_message


async def told(cluster: RealCluster, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fray.cli.main", *arguments),
        env={**cluster.environ, "NO_COLOR": "1", "COLUMNS": "200"},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return out.decode()


async def test_host_has_the_gpus_that_its_driver_tells_of(cluster: RealCluster):
    async with driving(cluster) as driver:
        (host,) = await driver.fleet.hosts()
    for model, count in MODELS.items():
        assert f"{count} {model}" in str(host.capacity)


async def test_task_sees_the_gpus_it_was_given_and_others_see_none(
    cluster: RealCluster, tmp_path: Path
):
    async with driving(cluster) as driver:
        for gpus in (0, 1):
            path = tmp_path / f"seen-{gpus}"
            await succeeds(
                driver, await launch(driver, f"look-{gpus}", note_gpus, str(path), gpus=gpus)
            )
            seen = json.loads(path.read_text())
            assert seen["count"] == gpus, seen


async def test_gpus_are_given_to_the_next_task_when_the_first_has_ended(
    cluster: RealCluster, tmp_path: Path
):
    every = sum(MODELS.values())
    async with driving(cluster) as driver:
        first = await launch(driver, "first", use_gpu, str(tmp_path), gpus=every)
        await until((tmp_path / "holds").exists, "the first has its memory")
        second = await launch(driver, "second", use_gpu, str(tmp_path), gpus=every)
        page = await told(cluster, "top", "--once")
        figures = Gpus().read()
        assert max(each.memory_used_bytes for each in figures) >= HELD_BYTES
        (host,) = await driver.fleet.hosts()
        use = await driver.agent(host.address).use()
        assert [each.name for each in use.host.accelerators] == [each.name for each in figures]
        assert (await driver.poll(second)).status is JobStatus.PENDING
        (tmp_path / "release").touch()
        await succeeds(driver, first)
        await succeeds(driver, second)
    assert "first" in page


async def test_gpu_that_a_leftover_process_holds_is_given_to_nobody(
    cluster: RealCluster, tmp_path: Path
):
    run = cluster.home.path / "workers" / "w1" / "run"
    marks = {
        records.MARKER_ATTEMPT: "tester/old-1111/0#0",
        records.MARKER_RUN_DIR: str(run / "tester_old-1111_0-0"),
    }
    code = (
        "from tests.integration.test_gpus import *; "
        "take_memory(HELD_BYTES); print('holds', flush=True); time.sleep(600)"
    )
    leftover = subprocess.Popen(  # noqa: ASYNC220 - it is not waited for here
        [sys.executable, "-c", code],
        env={**os.environ, **marks, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert leftover.stdout is not None
        assert await asyncio.to_thread(leftover.stdout.readline) == "holds\n"
        async with driving(cluster) as driver:
            path = tmp_path / "seen"
            job = await launch(driver, "waits", note_gpus, str(path), gpus=sum(MODELS.values()))
            by = f"is still held by process {leftover.pid} of tester/old-1111/0#0"
            why = ""
            async with asyncio.timeout(60):
                while by not in why:
                    why = await told(cluster, "job", "why", job)
            assert not path.exists()
            leftover.kill()
            await succeeds(driver, job)
    finally:
        leftover.kill()
        leftover.wait()
        assert leftover.stdout is not None
        leftover.stdout.close()
