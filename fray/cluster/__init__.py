"""Clusters: jobs, their resources, and who runs them.

The names of the seed, from the path from which it imports them. What is behind them: `base` (the
interfaces), `current` (which cluster), `client` (the client of a controller), `local` (the embedded
one), `controller`, `worker`, `scheduling`.
"""

from typing import TYPE_CHECKING, Any

from fray.cluster.types import (
    ActorStatus,
    BinaryEntrypoint,
    CallableEntrypoint,
    CpuConfig,
    Entrypoint,
    EnvironmentConfig,
    GpuConfig,
    GpuType,
    JobGroupConfig,
    JobInfo,
    JobRequest,
    JobStatus,
    ReservationConfig,
    ReservationInfo,
    ResourceConfig,
    TaskStatus,
    TpuConfig,
    TpuType,
    create_environment,
)
from fray.ids import ActorId, JobId, Namespace, ReservationId

if TYPE_CHECKING:
    from fray.cluster.base import AsyncCluster, Cluster
    from fray.cluster.current import create_cluster, current_cluster, set_current_cluster
    from fray.cluster.local import LocalCluster
    from fray.cluster.ray import RayCluster
    from fray.cluster.remote import FrayCluster

_LAZY = {
    "AsyncCluster": "fray.cluster.base",
    "Cluster": "fray.cluster.base",
    "FrayCluster": "fray.cluster.remote",
    "LocalCluster": "fray.cluster.local",
    "RayCluster": "fray.cluster.ray",
    "create_cluster": "fray.cluster.current",
    "current_cluster": "fray.cluster.current",
    "set_current_cluster": "fray.cluster.current",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(module), name)


__all__ = [
    "ActorId",
    "ActorStatus",
    "AsyncCluster",
    "BinaryEntrypoint",
    "CallableEntrypoint",
    "Cluster",
    "CpuConfig",
    "Entrypoint",
    "EnvironmentConfig",
    "FrayCluster",
    "GpuConfig",
    "GpuType",
    "JobGroupConfig",
    "JobId",
    "JobInfo",
    "JobRequest",
    "JobStatus",
    "LocalCluster",
    "Namespace",
    "RayCluster",
    "ReservationConfig",
    "ReservationId",
    "ReservationInfo",
    "ResourceConfig",
    "TaskStatus",
    "TpuConfig",
    "TpuType",
    "create_cluster",
    "create_environment",
    "current_cluster",
    "set_current_cluster",
]
