"""Job contexts: the same code on this stack, on threads, on a fray cluster, on Ray.

ctx = create_job_ctx("auto")
future = ctx.run(train, ctx.put(data), 0.1)
ready, pending = ctx.wait([future])
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fray.actor.handle import ActorHandle, ActorMethod
from fray.job.base import JobContext
from fray.job.defaults import (
    ContextConfig,
    create_job_ctx,
    fray_default_job_ctx,
    get_default_job_ctx,
)
from fray.job.futures import GeneratorFuture, TaskFuture
from fray.job.sync import SimpleActor, SyncContext
from fray.job.thread import ThreadActorHandle, ThreadActorMethod, ThreadContext

if TYPE_CHECKING:
    from fray.job.fray import FrayContext
    from fray.job.ray import RayContext

_LATER = {"FrayContext": "fray.job.fray", "RayContext": "fray.job.ray"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


__all__ = [
    "ActorHandle",
    "ActorMethod",
    "ContextConfig",
    "FrayContext",
    "GeneratorFuture",
    "JobContext",
    "RayContext",
    "SimpleActor",
    "SyncContext",
    "TaskFuture",
    "ThreadActorHandle",
    "ThreadActorMethod",
    "ThreadContext",
    "create_job_ctx",
    "fray_default_job_ctx",
    "get_default_job_ctx",
]
