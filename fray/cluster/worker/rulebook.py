"""What is whose on a host; see `fray.cluster.controller.rulebook`. The controller is not asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fray.cluster.access import Scope
from fray.cluster.security.claims import Role

if TYPE_CHECKING:
    from fray.cluster.control import ExecRequest
    from fray.cluster.guard import Arguments, Rule
    from fray.ids import AttemptId
    from fray.runtime.transport import Principal

REMEMBERED_MAX = 10_000
"""Channels whose owners are remembered."""


def rules_of(namespace_of: Callable[[AttemptId], str | None]) -> Mapping[Scope, Rule]:
    """The rules of an agent.

    Args:
        namespace_of: The namespace of an attempt; None where it is not known here any more.
    """

    def attempt(who: Principal, args: Arguments) -> str | None:
        attempt_id: AttemptId = args["attempt_id"]
        # An attempt's id begins with its job's, and that with its user: see `Rulebook`.
        if not attempt_id.startswith(f"{who.user}/"):
            return f"attempt {attempt_id} is another user's"
        namespace = namespace_of(attempt_id)
        if who.role == Role.JOB and namespace not in (None, who.namespace):
            return f"attempt {attempt_id} is not in the namespace {who.namespace!r}"
        return None

    owners: OrderedDict[str, str] = OrderedDict()

    def opens(who: Principal, args: Arguments, attempt_id: AttemptId) -> str | None:
        channel_id: str = args["channel_id"]
        problem = attempt(who, {"attempt_id": attempt_id})
        if problem is None and owners.setdefault(channel_id, who.user) != who.user:
            problem = "that channel is another user's"
        while len(owners) > REMEMBERED_MAX:
            owners.popitem(last=False)
        return problem

    def channel(who: Principal, args: Arguments) -> str | None:
        if owners.get(args["channel_id"]) == who.user:
            return None
        return "the caller has not opened that channel"

    def program(who: Principal, args: Arguments) -> str | None:
        request: ExecRequest = args["request"]
        return opens(who, args, request.attempt_id)

    return {
        Scope.ATTEMPT: attempt,
        Scope.EXEC: program,
        Scope.OPEN_PORT: lambda who, args: opens(who, args, args["attempt_id"]),
        Scope.CHANNEL: channel,
    }


__all__ = ["rules_of"]
