"""`FrayCluster`: the synchronous connection to a controller somewhere else."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fray.cluster.addresses import split_address
from fray.cluster.base import SyncCluster
from fray.cluster.client import OPEN_TIMEOUT_S, AsyncFrayCluster, no_answer, token_file_of
from fray.cluster.connect import JOB_LOOKUP_TIMEOUT_S, open_cluster
from fray.cluster.home import find_home_by_address
from fray.errors import InvalidRequestError
from fray.runtime.loopthread import LoopThread

if TYPE_CHECKING:
    from fray.cluster.identity import Identity


async def open_remote(
    address: str, identity: Identity, environ: Mapping[str, str] = os.environ
) -> AsyncFrayCluster:
    """Connects to a controller, on the running loop.

    The token is the one that ``FRAY_TOKEN_FILE`` names, else that of a cluster of this account on
    this machine at that address.

    Args:
        address: ``host:port``.
        identity: Who connects.
        environ: Environment variables.

    Raises:
        InvalidRequestError: There is no token for that cluster.
        ClusterUnavailable: Nobody answers there, or we are not let in.
    """
    token_file = ""
    if not environ.get("FRAY_TOKEN_FILE"):
        home = find_home_by_address(address)
        token_file = str(home.token_path) if home is not None else ""
    try:
        token = token_file_of(environ, token_file=token_file)
    except InvalidRequestError:
        await _check_answers(address)  # a cluster that is not up needs no token
        raise
    timeout_s = JOB_LOOKUP_TIMEOUT_S if identity.is_task else 0.0
    return await open_cluster(address, token, identity, lookup_timeout_s=timeout_s)


async def _check_answers(address: str) -> None:
    host, port = split_address(address)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as exc:
        raise no_answer(address, exc) from exc
    writer.close()


class FrayCluster(SyncCluster):
    """A fray cluster, synchronously; its loop runs in a thread of its own.

    Args:
        address: The controller's ``host:port``.
        identity: Who connects; None for what the environment tells.

    Raises:
        InvalidRequestError: There is no token for that cluster.
        ClusterUnavailable: Nobody answers there, or we are not let in.
    """

    def __init__(self, address: str, *, identity: Identity | None = None) -> None:
        from fray.cluster.current import announce, identity_of

        who = identity or identity_of()
        self._thread = LoopThread("fray-driver")
        self._thread.start()
        try:
            self._cluster = self._thread.run(lambda: open_remote(address, who))
        except BaseException:
            self._thread.stop()
            raise
        super().__init__(self._cluster)
        self._block = contextlib.ExitStack()
        announce(self)

    def __enter__(self) -> FrayCluster:
        from fray.cluster.current import using_cluster

        self._block.callback(self.shutdown)
        self._block.enter_context(using_cluster(self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._block.close()

    def shutdown(self) -> None:
        """Ends the connection, and actors that belong to it; jobs go on. May be called twice."""
        from fray.cluster.current import retire

        retire(self)
        if not self.system.closed:
            self._thread.run(self._cluster.close, timeout_s=10.0)
        self._thread.stop()


__all__ = ["FrayCluster", "open_remote"]
