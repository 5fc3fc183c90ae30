"""The user's API: actor classes, handles, futures, resolvers, servers.

It knows how actors are called and found (`fray.runtime`, `fray.actor.directory`), and no cluster.
"""

from fray.actor.decorator import ActorFactory, actor, method, spawn
from fray.actor.future import ActorFuture
from fray.actor.handle import ActorHandle, ActorMethod
from fray.actor.local import LocalActorServer, LocalResolver
from fray.actor.options import ActorOptions
from fray.actor.resolver import ActorEndpoint, Resolver, SystemResolver, fray_resolver
from fray.actor.server import FrayActorServer
from fray.actor.stream import Stream
from fray.actor.waiting import gather, wait, wait_async

__all__ = [
    "ActorEndpoint",
    "ActorFactory",
    "ActorFuture",
    "ActorHandle",
    "ActorMethod",
    "ActorOptions",
    "FrayActorServer",
    "LocalActorServer",
    "LocalResolver",
    "Resolver",
    "Stream",
    "SystemResolver",
    "actor",
    "fray_resolver",
    "gather",
    "method",
    "spawn",
    "wait",
    "wait_async",
]
