"""This process's part in the actors of a Ray cluster: its door, and its way to the keeper."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fray.actor.resolver import SystemResolver
from fray.actor.system import ActorSystem
from fray.cluster.connect import make_process
from fray.cluster.identity import JOB_LOOKUP_TIMEOUT_S, Identity
from fray.cluster.raydirectory import RayDirectory
from fray.cluster.rayimport import import_ray
from fray.errors import ClusterUnavailable
from fray.runtime.loopthread import LoopThread

if TYPE_CHECKING:
    from fray.cluster.raykeeper import Keeper

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""What ``ray job submit`` sets for the program that it runs."""

CLOSE_S = 10.0


class RaySystem:
    """An actor system on a loop of its own. Blocks while it is made.

    Args:
        keeper: The way to the keeper.
        identity: Who this process is.

    Attributes:
        system: The actor system.
        resolver: Finds actors in its namespace.

    Raises:
        ClusterUnavailable: The keeper does not answer.
    """

    def __init__(self, keeper: Keeper, identity: Identity) -> None:
        secret = keeper.secret()
        self._directory = RayDirectory(keeper, identity)
        self._identity = identity
        self._thread = LoopThread("fray-ray")
        self._thread.start()
        try:
            self.system = self._thread.run(lambda: self._open(secret))
        except BaseException:
            self._thread.stop()
            raise
        self.resolver = SystemResolver(self.system)

    async def _open(self, secret: str) -> ActorSystem:
        me = self._identity
        process = make_process(
            secret, host=import_ray().util.get_node_ip_address(), label=me.job_id or "driver"
        )
        await process.start()
        system = ActorSystem(
            process,
            self._directory,
            namespace=me.namespace,
            job_id=me.job_id,
            lookup_timeout_s=_lookup_timeout_s(me),
        )
        self._directory.attach(system)
        return system

    def close(self) -> None:
        """Ends it, and the actors that belong to it. May be called twice."""
        if not self.system.closed:
            self._thread.run(self._close, timeout_s=CLOSE_S)
        self._thread.stop()

    async def _close(self) -> None:
        try:
            await self._directory.close()
        except ClusterUnavailable:  # it finds out by itself that we are gone
            pass
        self.system.close("its process has disconnected")
        await self.system.process.close()


def _lookup_timeout_s(identity: Identity, environ: Mapping[str, str] = os.environ) -> float:
    """How long look-ups wait: in a job, fray's or Ray's own, for what is started beside it."""
    ray: Any = import_ray()
    is_worker = ray.get_runtime_context().worker.mode == ray.WORKER_MODE
    if identity.is_task or is_worker or SUBMITTED in environ:
        return JOB_LOOKUP_TIMEOUT_S
    return 0.0


__all__ = ["RaySystem"]
