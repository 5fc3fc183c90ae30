"""Actors, from the path from which the seed imports them."""

from fray.actor import (
    ActorEndpoint,
    ActorFuture,
    ActorHandle,
    ActorMethod,
    FrayActorServer,
    LocalActorServer,
    LocalResolver,
    Resolver,
    actor,
    fray_resolver,
)
from fray.errors import ActorNotFoundError
from fray.ids import ActorId, JobId, Namespace

__all__ = [
    "ActorEndpoint",
    "ActorFuture",
    "ActorHandle",
    "ActorId",
    "ActorMethod",
    "ActorNotFoundError",
    "FrayActorServer",
    "JobId",
    "LocalActorServer",
    "LocalResolver",
    "Namespace",
    "Resolver",
    "actor",
    "fray_resolver",
]
