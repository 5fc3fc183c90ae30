"""fray: an asyncio actor framework and cluster manager for machine learning.

The layers, each of which knows only those below it::

    fray, fray.rpc, fray.job,              facades: what users import and type
    fray.groups, fray.cli
    fray.cluster                           jobs, hosts, schedulers, clients
    fray.actor                             actors: classes, handles, futures, names
    fray.runtime                           protocol, connections, hosted actors, supervision
    fray.ids, fray.errors                  identifiers and errors

`fray.testing` simulates all of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fray.actor import (
    ActorFuture,
    ActorHandle,
    actor,
    gather,
    method,
    spawn,
    wait,
    wait_async,
)
from fray.actor.current import DEFAULT_SYSTEM
from fray.actor.invocation import cancelled
from fray.actor.options import RESOURCE_CHECK, ActorOptions
from fray.errors import (
    ActorDied,
    ActorNotFoundError,
    ActorUnavailable,
    BlockingCallError,
    CallCancelled,
    CallCycle,
    CallError,
    ChildFailed,
    DeadlineExceeded,
    DeathCause,
    DeathKind,
    FrayError,
    JobStopped,
    MailboxFull,
    NameTakenError,
    RemoteError,
    SliceLost,
    SupervisorFailed,
    remote_error,
)
from fray.version import __version__

if TYPE_CHECKING:
    from fray.actor.childspec import ChildCounts, ChildInfo, ChildSpec
    from fray.actor.monitor import Down, Monitor, monitor
    from fray.actor.supervisor import Supervisor
    from fray.actor.system import ActorSystem
    from fray.cluster.checkpoint import report_checkpoint
    from fray.cluster.current import connect
    from fray.groups.group import Group
    from fray.groups.making import group


def _default_system(start: bool) -> "ActorSystem":
    """What actors use where nobody connected: the cluster that the environment names."""
    from fray.cluster.current import default_system

    return default_system(start=start)


def _check_resources(options: ActorOptions) -> None:
    from fray.cluster.actor_resources import resources_of

    resources_of(options)


DEFAULT_SYSTEM.provide(_default_system)
RESOURCE_CHECK.provide(_check_resources)


_LATER = {
    "ChildCounts": "fray.actor.childspec",
    "ChildInfo": "fray.actor.childspec",
    "ChildSpec": "fray.actor.childspec",
    "Down": "fray.actor.monitor",
    "Group": "fray.groups.group",
    "Monitor": "fray.actor.monitor",
    "Supervisor": "fray.actor.supervisor",
    "connect": "fray.cluster.current",
    "group": "fray.groups.making",
    "monitor": "fray.actor.monitor",
    "report_checkpoint": "fray.cluster.checkpoint",
}
"""What is imported at its first use: `import fray` is to take no time."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


__all__ = [
    "ActorDied",
    "ActorFuture",
    "ActorHandle",
    "ActorNotFoundError",
    "ActorUnavailable",
    "BlockingCallError",
    "CallCancelled",
    "CallCycle",
    "CallError",
    "ChildCounts",
    "ChildFailed",
    "ChildInfo",
    "ChildSpec",
    "DeadlineExceeded",
    "DeathCause",
    "DeathKind",
    "Down",
    "FrayError",
    "Group",
    "JobStopped",
    "MailboxFull",
    "Monitor",
    "NameTakenError",
    "RemoteError",
    "SliceLost",
    "Supervisor",
    "SupervisorFailed",
    "__version__",
    "actor",
    "cancelled",
    "connect",
    "gather",
    "group",
    "method",
    "monitor",
    "remote_error",
    "report_checkpoint",
    "spawn",
    "wait",
    "wait_async",
]
