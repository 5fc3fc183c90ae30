"""Which roles may call which method of the control API: declared beside each method.

What is not declared is refused, to everybody but an administrator's guard too: a method without a
declaration cannot be called from elsewhere at all. Administrators may call all that is declared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from fray.cluster.security.claims import Role

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__fray_access__"


class Scope(StrEnum):
    """Within which limits those may call it who are no administrators; see `rules`."""

    ANY = "any"
    """No argument says whose business it is."""
    SUBMIT = "submit"
    """Jobs of one's own: a job's are its children, in its namespace."""
    READ_JOB = "read_job"
    """A job of one's own; of a job: one of its namespace, or a descendant."""
    STOP_JOB = "stop_job"
    """A job of one's own; of a job: itself and its descendants."""
    NAMESPACE = "namespace"
    """A namespace of one's own; of a job: its own."""
    CLAIM = "claim"
    """A name in such a namespace, for an actor of one's own."""
    CLAIMS = "claims"
    """Several."""
    DISCLAIM = "disclaim"
    """A name in such a namespace, or what an actor that one hosts is known by."""
    KEY = "key"
    """An actor of one's own, by name or id; of a job: one of its namespace."""
    WATCHED = "watched"
    """Several, by their ids."""
    ENDPOINTS = "endpoints"
    """Where actors are, or were; of others' it is not told what became of them."""
    ACTOR = "actor"
    """One, by its id."""
    ACTORS = "actors"
    """Several, by their ids."""
    SESSION = "session"
    """A session that the same user began."""
    WORKER = "worker"
    """The host that one is the agent of."""
    REGISTER = "register"
    """Likewise, as it describes itself."""
    REPORT = "report"
    """Likewise, as it reports."""
    ATTEMPT = "attempt"
    """An attempt of a job of one's own; of a job: one of its namespace."""
    QUERY_JOBS = "query_jobs"
    """Likewise, as a query names them; it is narrowed down to those."""
    PREVIEW = "preview"
    """A job, as for `SUBMIT`."""
    MAPPING = "mapping"
    """A job as for `STOP_JOB`, in a namespace of one's own."""
    ARCHIVED = "archived"
    """Archived output of a job that one may read; of a host: of any."""
    EXEC = "exec"
    """A channel into an attempt of a job of one's own."""
    OPEN_PORT = "open_port"
    """Likewise, to one of its ports."""
    CHANNEL = "channel"
    """A channel that one has opened."""
    RESERVE = "reserve"
    """A reservation for oneself, in a namespace of one's own."""
    RESERVATION = "reservation"
    """A reservation of one's own; of a job: one of its namespace."""
    RESERVATIONS = "reservations"
    """Those of oneself, whatever is asked for."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a method.

    Attributes:
        roles: Beside administrators.
        scope: Within which limits.
    """

    roles: frozenset[Role]
    scope: Scope


def allows(*roles: Role, scope: Scope = Scope.ANY) -> Callable[[F], F]:
    """Declares who may call a method of the control API.

    Args:
        *roles: Beside administrators; none leaves it to them.
        scope: Within which limits.
    """

    def declare(method: F) -> F:
        setattr(method, _ATTRIBUTE, Access(frozenset(roles), scope))
        return method

    return declare


@lru_cache(maxsize=64)
def access_of(api: type) -> Mapping[str, Access]:
    """The declared methods of an interface, by name.

    Args:
        api: One of the protocols of `fray.cluster.control`.
    """
    return {
        name: getattr(method, _ATTRIBUTE)
        for name, method in inspect.getmembers(api, inspect.isfunction)
        if hasattr(method, _ATTRIBUTE)
    }


__all__ = ["Access", "Scope", "access_of", "allows"]
