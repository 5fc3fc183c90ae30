"""Opening a connection to a controller: a process on the running loop, and the client on it."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from fray.cluster.client import SESSION_TTL_S, AsyncFrayCluster
from fray.cluster.identity import JOB_LOOKUP_TIMEOUT_S
from fray.runtime.auth import TokenAuthenticator
from fray.runtime.clock import Clock, SystemClock
from fray.runtime.process import Process
from fray.runtime.threads import ThreadLanes
from fray.runtime.websocket import WebSocketTransport

if TYPE_CHECKING:
    from fray.cluster.identity import Identity


def make_process(
    token: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    advertise_host: str | None = None,
    label: str,
    clock: Clock | None = None,
) -> Process:
    """A process of this operating-system process, on the running loop; not yet started.

    Args:
        token: What it shows to others, and expects of them.
        host: Address to bind.
        port: Port to bind; 0 for any.
        advertise_host: What others dial.
        label: For people.
        clock: Its clock.
    """
    clock = clock or SystemClock()
    return Process(
        clock=clock,
        transport=WebSocketTransport(
            clock,
            authenticator=TokenAuthenticator(token),
            token=token,
            token_origin="this cluster connection's token",
        ),
        threads=ThreadLanes(),
        host=host,
        port=port,
        advertise_host=advertise_host,
        label=label,
    )


async def open_cluster(
    address: str,
    token: str,
    identity: Identity,
    *,
    lookup_timeout_s: float = 0.0,
    label: str = "driver",
    session_ttl_s: float = SESSION_TTL_S,
) -> AsyncFrayCluster:
    """Connects to a controller, on the running loop.

    Args:
        address: The controller's ``host:port``.
        token: The cluster's token.
        identity: Who connects.
        lookup_timeout_s: How long look-ups wait for a name.
        label: For people.
        session_ttl_s: How long a driver's actors outlive its last sign of life, in seconds, > 0.

    Raises:
        ClusterUnavailable: Nobody answers there, or we are not let in.
    """
    host = bind_host_for(address)
    process = make_process(token, host=host, label=label)
    await process.start()
    cluster = AsyncFrayCluster(
        process,
        address,
        identity,
        lookup_timeout_s=lookup_timeout_s,
        session_ttl_s=session_ttl_s,
    )
    try:
        await cluster.open()
    except BaseException:
        await cluster.close()
        raise
    return cluster


def bind_host_for(address: str) -> str:
    """The address of this host on the way to another: loopback for a cluster on loopback.

    Args:
        address: ``host:port`` of the other.
    """
    host = address.rpartition(":")[0].strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Connecting a datagram socket sends nothing: it only asks the kernel for the route.
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((host, 9))
        return probe.getsockname()[0]
    return "127.0.0.1"


__all__ = [
    "JOB_LOOKUP_TIMEOUT_S",
    "bind_host_for",
    "make_process",
    "open_cluster",
]
