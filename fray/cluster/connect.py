"""Opening a connection to a controller: a process on the running loop, and the client on it."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.client import SESSION_TTL_S, AsyncFrayCluster
from fray.cluster.identity import JOB_LOOKUP_TIMEOUT_S
from fray.cluster.security.credentials import Credentials, SharedSecret, credentials_of
from fray.runtime.clock import Clock, SystemClock
from fray.runtime.process import Process
from fray.runtime.threads import ThreadLanes
from fray.runtime.websocket import WebSocketTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fray.cluster.identity import Identity
    from fray.runtime.wsdoor import Page
    from fray.runtime.wsgate import OnRefused


def make_process(
    credentials: Credentials | str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    advertise_host: str | None = None,
    label: str,
    clock: Clock | None = None,
    on_refused: OnRefused | None = None,
    pages: Mapping[str, Page] | None = None,
) -> Process:
    """A process of this operating-system process, on the running loop; not yet started.

    Args:
        credentials: What it shows to others, and expects of them; a text is a secret that all of
            the cluster's processes have.
        host: Address to bind.
        port: Port to bind; 0 for any.
        advertise_host: What others dial.
        label: For people.
        clock: Its clock.
        on_refused: Told of those who are refused at its door, and why.
        pages: What can be read over HTTP, by path, by whoever has a token.
    """
    clock = clock or SystemClock()
    if isinstance(credentials, str):
        credentials = SharedSecret(credentials)
    transport = WebSocketTransport(
        clock,
        authenticator=credentials.authenticator,
        token=credentials.show,
        token_origin="this cluster connection's token",
        on_refused=on_refused,
        pages=pages,
        tls=credentials.tls,
    )
    credentials.when_revoked(transport.cut_off)
    return Process(
        clock=clock,
        transport=transport,
        threads=ThreadLanes(),
        host=host,
        port=port,
        advertise_host=advertise_host,
        label=label,
    )


async def open_cluster(
    address: str,
    token: str | Path,
    identity: Identity,
    *,
    lookup_timeout_s: float = 0.0,
    label: str = "driver",
    session_ttl_s: float = SESSION_TTL_S,
) -> AsyncFrayCluster:
    """Connects to a controller, on the running loop.

    Args:
        address: The controller's ``host:port``.
        token: Its token for the cluster, or the file that holds it: then a renewed one counts.
        identity: Who connects.
        lookup_timeout_s: How long look-ups wait for a name.
        label: For people.
        session_ttl_s: How long a driver's actors outlive its last sign of life, in seconds, > 0.

    Raises:
        ClusterUnavailable: Nobody answers there, or we are not let in.
    """
    host = bind_host_for(address)
    clock = SystemClock()
    credentials = credentials_of(token, address, clock, namespace=identity.namespace)
    process = make_process(credentials, host=host, label=label, clock=clock)
    await process.start()
    cluster = AsyncFrayCluster(
        process,
        address,
        identity,
        lookup_timeout_s=lookup_timeout_s,
        session_ttl_s=session_ttl_s,
        credentials=credentials,
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
