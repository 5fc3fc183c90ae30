"""What Google's cloud says of a virtual machine with TPU chips: its part in a slice, and its place.

Only a machine that has chips asks, of the metadata server that every such machine has; a JAX
program there asks the same. Source: cloud.google.com/compute/docs/metadata and the attributes that
``jax.distributed`` reads (``accelerator-type``, ``agent-worker-number``, ``tpu-env``).
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.cluster.accelerators import tpu_topology
from fray.errors import InvalidRequestError

if TYPE_CHECKING:
    import aiohttp

SERVER = "metadata.google.internal"

SERVER_VARIABLE = "GCE_METADATA_HOST"
"""Names another server, as for Google's own libraries."""

ANSWER_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TpuMachine:
    """A machine of a TPU slice.

    Attributes:
        type: The accelerator type, such as ``v5litepod-16``.
        slice_name: Of the TPU node; the same at all its machines.
        index: Which of them this is, from 0.
        topology: The arrangement of the chips; empty where nobody says.
        zone: Where it is.
        preemptible: Whether the cloud may take it back.
    """

    type: str
    slice_name: str
    index: int
    topology: str = ""
    zone: str = ""
    preemptible: bool = False

    @property
    def region(self) -> str:
        """That of its zone."""
        return self.zone.rpartition("-")[0]


async def tpu_machine(server: str = "") -> TpuMachine | None:
    """What this machine is; None where nobody says, which is logged.

    Args:
        server: Host and port of the metadata server; else Google's.
    """
    import aiohttp

    server = server or os.environ.get(SERVER_VARIABLE, "") or SERVER
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    headers = {"Metadata-Flavor": "Google"}
    try:
        async with aiohttp.ClientSession(
            f"http://{server}/computeMetadata/v1/instance/", timeout=timeout, headers=headers
        ) as session:
            kind, index, env, zone, preemptible = await asyncio.gather(
                _read(session, "attributes/accelerator-type"),
                _read(session, "attributes/agent-worker-number"),
                _read(session, "attributes/tpu-env"),
                _read(session, "zone"),
                _read(session, "scheduling/preemptible"),
            )
        return machine_of(kind, index, env, zone, preemptible)
    except (aiohttp.ClientError, TimeoutError, OSError, InvalidRequestError) as exc:
        log.warning(
            "this machine has TPU chips, and %s does not say which (%s): say it with --resources",
            server,
            exc or type(exc).__name__,
        )
        return None


async def _read(session: aiohttp.ClientSession, key: str) -> str:
    """A value; empty where there is none."""
    async with session.get(key) as response:
        if response.status == 404:
            return ""
        response.raise_for_status()
        return (await response.text()).strip()


def machine_of(kind: str, index: str, env: str, zone: str, preemptible: str) -> TpuMachine:
    """What the answers mean. Pure.

    Args:
        kind: ``accelerator-type``.
        index: ``agent-worker-number``; empty where there is one machine.
        env: ``tpu-env``: lines such as ``TOPOLOGY: '4x4'``.
        zone: As in ``projects/12/zones/us-central1-a``.
        preemptible: ``TRUE`` or ``FALSE``.

    Raises:
        InvalidRequestError: They make no sense.
    """
    pairs = (line.partition(":") for line in env.splitlines())
    told = {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}
    kind = kind or told.get("ACCELERATOR_TYPE", "")
    index = index or told.get("WORKER_ID", "") or "0"
    topology = tpu_topology(kind)
    name = told.get("NODE_ID", "")
    if not index.isdecimal() or int(index) >= topology.vm_count:
        raise InvalidRequestError(f"a {kind} has {topology.vm_count} machines, none is {index!r}")
    if topology.vm_count > 1 and not name:
        raise InvalidRequestError(f"the name (NODE_ID) of this {kind} is not told")
    return TpuMachine(
        type=kind,
        slice_name=name,
        index=int(index),
        topology=told.get("TOPOLOGY", ""),
        zone=zone.rpartition("/")[2] or told.get("ZONE", ""),
        preemptible=preemptible.upper() == "TRUE",
    )


__all__ = ["TpuMachine", "machine_of", "tpu_machine"]
