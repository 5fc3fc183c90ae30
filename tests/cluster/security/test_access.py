"""What each role may call: declared for every method, and enforced."""

from __future__ import annotations

import inspect
import typing
from typing import Any, Protocol

import pytest

from fray.cluster import control, schedcontrol
from fray.cluster.access import Scope, access_of, allows
from fray.cluster.controller.actors import Actors
from fray.cluster.controller.blobs import Blobs
from fray.cluster.controller.fleet import Fleet
from fray.cluster.controller.jobs import Jobs
from fray.cluster.controller.logs import Logs
from fray.cluster.controller.names import Names
from fray.cluster.controller.reservations import Reservations
from fray.cluster.controller.rulebook import Rulebook
from fray.cluster.controller.scheduler import Scheduler
from fray.cluster.controller.security import Security
from fray.cluster.controller.sessions import Sessions
from fray.cluster.controller.users import Users
from fray.cluster.guard import Guard
from fray.cluster.security import api
from fray.cluster.security.audit import Audit
from fray.cluster.security.claims import Role
from fray.cluster.worker.agent import Agent
from fray.cluster.worker.channels import Channels
from fray.cluster.worker.rulebook import rules_of
from fray.errors import PermissionDeniedError
from fray.runtime.calls import CURRENT_INVOCATION, Invocation
from fray.runtime.clock import SystemClock
from fray.runtime.transport import Principal

APIS = [
    each
    for module in (control, schedcontrol, api)
    for name, each in inspect.getmembers(module, inspect.isclass)
    if name.endswith("Api") and each.__module__ == module.__name__
]


def test_all_interfaces_are_looked_at() -> None:
    assert {each.__name__ for each in APIS} == {
        "ActorsApi",
        "AgentApi",
        "BlobsApi",
        "ChannelsApi",
        "FleetApi",
        "JobsApi",
        "LogsApi",
        "NamesApi",
        "ReservationsApi",
        "SchedulerApi",
        "SecurityApi",
        "SessionsApi",
        "UsersApi",
    }


@pytest.mark.parametrize("interface", APIS, ids=lambda each: each.__name__)
def test_every_method_says_who_may_call_it(interface: type) -> None:
    methods = {
        name
        for name, _ in inspect.getmembers(interface, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods == set(access_of(interface))


def test_every_limit_has_a_rule_where_it_is_served() -> None:
    class NoBook:
        pass

    served: Any = NoBook()
    everywhere = {*Rulebook(served).rules, *rules_of(lambda _: None)}
    for interface in APIS:
        for name, access in access_of(interface).items():
            assert access.scope in {*everywhere, Scope.ANY}, f"{interface.__name__}.{name}"


def test_what_takes_somebodys_things_has_a_limit() -> None:
    """A method that users or jobs may call, and that takes an id, says whose it may be."""
    harmless = {"hosts", "facts", "revocations", "put", "get", "has"}
    for interface in APIS:
        for name, access in access_of(interface).items():
            takes = len(inspect.signature(getattr(interface, name)).parameters) > 1
            if takes and access.roles and name not in harmless:
                assert access.scope is not Scope.ANY, f"{interface.__name__}.{name}"


IMPLEMENTATIONS: dict[str, type] = {
    "ActorsApi": Actors,
    "AgentApi": Agent,
    "BlobsApi": Blobs,
    "ChannelsApi": Channels,
    "FleetApi": Fleet,
    "JobsApi": Jobs,
    "LogsApi": Logs,
    "NamesApi": Names,
    "ReservationsApi": Reservations,
    "SchedulerApi": Scheduler,
    "SecurityApi": Security,
    "SessionsApi": Sessions,
    "UsersApi": Users,
}


@pytest.mark.parametrize("interface", APIS, ids=lambda each: each.__name__)
def test_what_is_declared_is_served_with_the_same_arguments(interface: type) -> None:
    served = IMPLEMENTATIONS[interface.__name__]
    for name in access_of(interface):
        method = getattr(served, name)
        typing.get_type_hints(method)  # which callers' arguments are read by
        wanted = list(inspect.signature(getattr(interface, name)).parameters)
        assert list(inspect.signature(method).parameters) == wanted, name


# ---- the guard


class DoorsApi(Protocol):
    @allows(Role.USER, scope=Scope.NAMESPACE)
    async def open(self, namespace: str, times: int = 1) -> str: ...

    @allows()
    async def close(self) -> str: ...

    async def forgotten(self) -> str: ...


class Doors:
    async def open(self, namespace: str, times: int = 1) -> str:
        return f"{namespace} {times}"

    async def close(self) -> str:
        return "closed"

    async def forgotten(self) -> str:
        return "not declared"

    async def not_of_the_interface(self) -> str:
        return "helper"


def calling(principal: Principal | None) -> None:
    nobody: Any = None
    CURRENT_INVOCATION.set(Invocation(1, "m", None, nobody, caller=principal))


@pytest.fixture
def audit() -> Audit:
    return Audit(None, SystemClock())


@pytest.fixture
def doors(audit: Audit) -> Any:
    def own(who: Principal, args: dict[str, Any]) -> str | None:
        args["times"] = 2
        return None if args["namespace"] == who.namespace else "not yours"

    return Guard({Scope.NAMESPACE: own}, audit).around(Doors(), DoorsApi)


ALICE = Principal("alice", "user", namespace="ns", remote="10.0.0.7:1234")


async def test_role_that_is_declared_may_call_within_its_limits(doors: Any) -> None:
    calling(ALICE)
    assert await doors.open("ns") == "ns 2", "a rule may narrow the arguments down"
    with pytest.raises(PermissionDeniedError, match="not yours"):
        await doors.open("other")


async def test_role_that_is_not_declared_is_refused_and_noted(doors: Any, audit: Audit) -> None:
    calling(ALICE)
    with pytest.raises(PermissionDeniedError, match=r"user alice may not do this \(doors.close\)"):
        await doors.close()
    (line,) = audit.last(10)
    assert (line.who, line.role, line.origin) == ("alice", "user", "10.0.0.7:1234")
    assert (line.what, line.why) == ("doors.close", "it is not for the role 'user'")


@pytest.mark.parametrize("principal", [None, Principal("root", "admin")])
async def test_administrators_and_the_process_itself_may_do_all_that_is_declared(
    doors: Any, principal: Principal | None
) -> None:
    calling(principal)
    assert await doors.open("any") == "any 1"
    assert await doors.close() == "closed"


def test_what_is_not_declared_is_not_there_at_all(doors: Any) -> None:
    assert not hasattr(doors, "forgotten")
    assert not hasattr(doors, "not_of_the_interface")


@pytest.mark.parametrize("role", ["job", "worker", "", "root", "Admin"])
async def test_unknown_and_other_roles_may_do_nothing(doors: Any, role: str) -> None:
    calling(Principal("x", role, namespace="ns"))
    with pytest.raises(PermissionDeniedError):
        await doors.open("ns")
