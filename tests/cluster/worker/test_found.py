"""What a host finds out about its accelerators: from NVIDIA's driver, and from Google's cloud.

Neither is on this machine: a stand-in for ``pynvml`` answers for the driver, and a server on
loopback for the metadata server, with the answers that are documented. The real driver is asked by
tests/integration/test_gpus.py, where there is one.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from fray.cluster.accelerators import gpu_model
from fray.cluster.scheduling.hosts import SliceMember
from fray.cluster.worker.gpus import Gpus
from fray.cluster.worker.hosts import host_resources
from fray.cluster.worker.metadata import TpuMachine, machine_of, tpu_machine
from fray.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"

ENV = """
ACCELERATOR_TYPE: 'v5litepod-16'
NODE_ID: 'my-slice'
TOPOLOGY: '4x4'
WORKER_ID: '2'
"""


class NvmlError(Exception):
    pass


class StandInNvml:
    """A stand-in for ``pynvml`` on a machine with some GPUs.

    Args:
        names: What they are called, in the order of the bus.
        split: Those that MIG has split.
    """

    NVMLError = NvmlError

    def __init__(self, *names: str, split: tuple[int, ...] = ()) -> None:
        self._names = names
        self._split = split

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return len(self._names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index >= len(self._names):
            raise NvmlError("no such GPU")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        return self.nvmlDeviceGetHandleByIndex(int(uuid.removeprefix("GPU-")))

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self._names[handle]

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        return [int(handle in self._split), 0]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        (H100, "H100"),
        ("NVIDIA H200", "H200"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA GeForce RTX 4090", "GeForce-RTX-4090"),
    ],
)
def test_model_of_a_gpu_is_found_in_what_its_driver_calls_it(name: str, model: str):
    assert gpu_model(name) == model


def test_gpus_are_numbered_by_model_and_keep_their_names_to_cuda():
    gpus = Gpus(StandInNvml(L4, H100, L4, H100))
    assert gpus.models() == {"H100": 2, "L4": 2}
    assert gpus.tokens() == ("1", "3", "0", "2")


def test_agent_that_was_given_some_gpus_has_no_others():
    nvml = StandInNvml(H100, H100, H100, H100)
    assert Gpus(nvml, visible="2,GPU-3").tokens() == ("2", "GPU-3")
    assert Gpus(nvml, visible="").models() == {}
    assert Gpus(nvml, visible="1,7").tokens() == ("1",)  # 7 fell off the bus


def test_gpu_that_mig_has_split_is_not_given_away_as_a_whole():
    gpus = Gpus(StandInNvml(H100, H100, split=(0,)))
    assert gpus.models() == {"H100": 1}
    assert gpus.tokens() == ("1",)


def test_what_is_declared_goes_before_what_is_found():
    found = {"H100": 2}
    assert host_resources("", found).capacity.gpus == {"H100": 2000}
    assert host_resources('{"cpu": 4}', found).capacity.gpus == {"H100": 2000}
    assert host_resources('{"gpu": {"L4": 1}}', found).capacity.gpus == {"L4": 1000}
    assert host_resources('{"gpu": {}}', found).capacity.gpus == {}


def test_machine_of_a_slice_is_one_of_its_hosts_unless_something_else_is_declared():
    machine = machine_of("", "2", ENV, "projects/1/zones/us-west4-a", "TRUE")
    shape = host_resources("", machine=machine)
    assert shape.slice == SliceMember("my-slice", "v5litepod-16", 2, 4, "4x4")
    assert shape.capacity.tpus == {"v5litepod": 4}
    assert (shape.region, shape.zone, shape.preemptible) == ("us-west4", "us-west4-a", True)
    declared = '{"tpu": {}, "zone": "here", "preemptible": false}'
    shape = host_resources(declared, machine=machine)
    assert (shape.slice, shape.capacity.tpus, shape.zone) == (None, {}, "here")
    assert not shape.preemptible


def test_machine_that_is_a_slice_has_its_chips():
    machine = machine_of("v6e-8", "", "", "projects/1/zones/z-1-b", "FALSE")
    shape = host_resources("", machine=machine)
    assert (shape.slice, shape.capacity.tpus) == (None, {"v6e": 8})


@pytest.mark.parametrize(
    ("kind", "index", "env", "complaint"),
    [
        ("v5litepod-17", "0", ENV, "unknown TPU type"),
        ("v5litepod-16", "4", ENV, "has 4 machines, none is '4'"),
        ("v5litepod-16", "one", ENV, "none is 'one'"),
        ("v5litepod-16", "0", "", "NODE_ID"),
        ("", "", "", "unknown TPU type"),
    ],
)
def test_answers_that_make_no_sense_make_no_machine(kind, index, env, complaint):
    with pytest.raises(InvalidRequestError, match=complaint):
        machine_of(kind, index, env, "", "")


@asynccontextmanager
async def metadata_server(values: Mapping[str, str]) -> AsyncIterator[str]:
    """A stand-in for the metadata server; gives host and port."""

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Metadata-Flavor"] == "Google"
        value = values.get(request.match_info["key"])
        return web.Response(status=404) if value is None else web.Response(text=value)

    app = web.Application()
    app.router.add_get("/computeMetadata/v1/instance/{key:.+}", answer)
    async with TestServer(app) as server:
        yield f"{server.host}:{server.port}"


async def test_metadata_server_says_which_machine_it_is():
    values = {
        "attributes/accelerator-type": "v5litepod-16",
        "attributes/agent-worker-number": "3",
        "attributes/tpu-env": ENV,
        "zone": "projects/1/zones/us-west4-a",
        "scheduling/preemptible": "FALSE",
    }
    async with metadata_server(values) as server:
        machine = await tpu_machine(server)
    assert machine == TpuMachine(
        type="v5litepod-16", slice_name="my-slice", index=3, topology="4x4", zone="us-west4-a"
    )


async def test_machine_of_which_nobody_says_what_it_is_has_no_chips_and_a_warning(caplog):
    async with metadata_server({}) as server:
        assert await tpu_machine(server) is None
    assert await tpu_machine(server) is None  # which answers no more
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        f"this machine has TPU chips, and {server} does not say which"
    ] * 2
