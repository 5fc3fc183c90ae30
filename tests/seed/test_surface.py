"""Every signature of the seed's "Detailed Design" that tests/cluster/test_seed_surface.py leaves.

That file walks the dataclasses, the statuses and `Cluster`. Here: the paths from which the seed
imports, `fray.rpc` as a whole, the local cluster, and what those names do where it says so.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import TYPE_CHECKING, Any

import pytest

import fray
from fray import cluster as fray_cluster
from fray import rpc
from fray.cluster import (
    ActorStatus,
    Cluster,
    Entrypoint,
    JobGroupConfig,
    JobRequest,
    LocalCluster,
    Namespace,
    current_cluster,
)
from fray.cluster.base import SyncCluster
from fray.errors import ActorNotFoundError
from fray.rpc import (
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

from ..cluster.test_seed_surface import CLUSTER, assert_begins_with, default_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = inspect.Parameter.empty

IMPORTED_BY_THE_SEED = {
    "fray.cluster": [
        "ActorId",
        "ActorStatus",
        "Cluster",
        "Entrypoint",
        "EnvironmentConfig",
        "FrayCluster",
        "JobGroupConfig",
        "JobId",
        "JobInfo",
        "JobRequest",
        "JobStatus",
        "LocalCluster",
        "Namespace",
        "ReservationConfig",
        "ReservationId",
        "ReservationInfo",
        "ResourceConfig",
        "current_cluster",
    ],
    # "create_environment(...) is exported from fray.cluster, as is everything above."
    "fray.cluster ": [
        "BinaryEntrypoint",
        "CallableEntrypoint",
        "CpuConfig",
        "GpuConfig",
        "GpuType",
        "TaskStatus",
        "TpuConfig",
        "TpuType",
        "create_cluster",
        "create_environment",
        "set_current_cluster",
    ],
    "fray.rpc": [
        "ActorEndpoint",
        "ActorFuture",
        "ActorHandle",
        "ActorId",
        "ActorMethod",
        "ActorNotFoundError",
        "FrayActorServer",
        "LocalActorServer",
        "LocalResolver",
        "Resolver",
        "actor",
        "fray_resolver",
    ],
}

RESOLVER: dict[str, dict[str, object]] = {
    "lookup": {"name": MISSING},
    "lookup_all": {"name": MISSING},
    "register": {"name": MISSING, "endpoint": MISSING, "ttl_seconds": 60},
    "unregister": {"name": MISSING, "actor_id": MISSING},
    "list_actors": {"prefix": ""},
}

SERVER: dict[str, dict[str, object]] = {
    "__init__": {"resolver": MISSING, "host": "0.0.0.0", "port": 0},
    "register": {"name": MISSING, "actor": MISSING, "metadata": None},
    "unregister": {"name": MISSING},
    "serve": {},
    "serve_background": {},
    "shutdown": {"grace_period": 5.0},
}


def parameters(function: Any) -> dict[str, object]:
    return {
        p.name: p.default
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    }


@pytest.mark.parametrize(
    ("module", "name"), [(m.strip(), n) for m, names in IMPORTED_BY_THE_SEED.items() for n in names]
)
def test_a_name_can_be_imported_from_where_the_seed_imports_it(module: str, name: str) -> None:
    found = importlib.import_module(module)
    assert getattr(found, name) is not None
    assert name in found.__all__


def test_the_ids_are_strings_with_names_of_their_own() -> None:
    for name in ("JobId", "ActorId", "ReservationId", "Namespace"):
        kind = getattr(fray_cluster, name)
        assert (kind.__name__, kind.__supertype__, kind("x")) == (name, str, "x")


def test_both_packages_mean_the_same_types() -> None:
    for name in set(fray_cluster.__all__) & set(rpc.__all__):
        assert getattr(fray_cluster, name) is getattr(rpc, name)


# ---- fray.rpc


def test_an_endpoint_has_the_fields_and_defaults_of_the_seed() -> None:
    fields = {f.name: default_of(f) for f in dataclasses.fields(ActorEndpoint)}
    empty: dict[str, str] = {}
    assert_begins_with(
        fields,
        {"actor_id": MISSING, "address": MISSING, "job_id": MISSING, "metadata": empty},
    )


@pytest.mark.parametrize("method", RESOLVER)
@pytest.mark.parametrize("kind", [Resolver, type(fray_resolver(Namespace("x"))), LocalResolver])
def test_a_resolver_has_the_methods_of_the_seed(kind: type, method: str) -> None:
    assert_begins_with(parameters(getattr(kind, method)), RESOLVER[method])


@pytest.mark.parametrize("method", SERVER)
@pytest.mark.parametrize("kind", [FrayActorServer, LocalActorServer])
def test_a_server_has_the_methods_of_the_seed(kind: type, method: str) -> None:
    assert_begins_with(parameters(getattr(kind, method)), SERVER[method])
    assert isinstance(inspect.getattr_static(kind, "address"), property)


def test_functions_have_the_parameters_and_defaults_of_the_seed() -> None:
    assert_begins_with(parameters(fray_resolver), {"namespace": None})
    assert parameters(current_cluster) == {}
    promised: dict[str, object] = {"name": None, "num_cpus": 1, "num_gpus": 0, "memory": None}
    actual = parameters(actor)
    assert {n: actual[n] for n in list(actual)[: len(promised)]} == promised
    assert list(actual)[: len(promised)] == list(promised)
    assert fray.actor is actor


def test_handles_methods_and_futures_have_the_members_of_the_seed() -> None:
    assert isinstance(inspect.getattr_static(ActorHandle, "actor_id"), property)
    assert_begins_with(parameters(ActorFuture.result), {"timeout": None})
    assert_begins_with(parameters(ActorFuture.exception), {})
    assert parameters(ActorFuture.done) == {}
    for method in (ActorMethod.remote, ActorMethod.__call__):
        kinds = [p.kind.name for p in inspect.signature(method).parameters.values()]
        assert kinds[1:] == ["VAR_POSITIONAL", "VAR_KEYWORD"]
    for generic in (ActorHandle, ActorFuture):
        assert generic[int] is not None  # annotations of the examples are evaluated


def test_a_local_server_is_a_server() -> None:
    assert issubclass(LocalActorServer, FrayActorServer)


# ---- fray.cluster


def test_a_local_cluster_is_made_as_in_the_seed() -> None:
    assert_begins_with(parameters(LocalCluster), {"max_workers": 4, "use_processes": False})
    assert issubclass(LocalCluster, SyncCluster)


@pytest.mark.parametrize("method", CLUSTER)
def test_a_clusters_methods_have_the_parameters_of_the_seed(method: str) -> None:
    assert_begins_with(parameters(getattr(LocalCluster, method)), CLUSTER[method])


def test_namespaces_of_groups_and_statuses_of_actors_are_there() -> None:
    assert JobGroupConfig("rl", namespace=Namespace("mine")).namespace == "mine"
    assert ActorStatus("running") is ActorStatus.RUNNING


# ---- what those names do


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.count = start

    def add(self, amount: int = 1) -> int:
        self.count += amount
        return self.count


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        assert isinstance(cluster, Cluster)
        yield cluster


@pytest.fixture(params=["cluster", "local"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """A resolver and a server: on a cluster, and the seed's pair without one."""
    if request.param == "cluster":
        request.getfixturevalue("cluster")
        resolver: Any = fray_resolver()
        server: Any = FrayActorServer(resolver)
    else:
        resolver = LocalResolver()
        server = LocalActorServer(resolver)
    yield resolver, server
    server.shutdown()
    assert resolver.list_actors() == []


def test_a_server_gives_ids_addresses_and_metadata_that_look_ups_tell(pair: Any) -> None:
    resolver, server = pair
    actor_id = server.register("counter", Counter(10), metadata={"kind": "demo"})
    (endpoint,) = resolver.list_actors(prefix="count")
    assert isinstance(endpoint, ActorEndpoint)
    assert (endpoint.actor_id, endpoint.address) == (actor_id, server.address)
    assert endpoint.metadata["kind"] == "demo"
    handle = resolver.lookup("counter")
    assert handle.actor_id == actor_id
    assert handle.add(5) == 15
    future = handle.add.remote(amount=2)
    assert future.result(timeout=10) == 17
    assert future.done()
    assert future.exception() is None


def test_a_class_given_to_a_server_is_instantiated(pair: Any) -> None:
    resolver, server = pair
    server.register("counter", Counter)
    assert resolver.lookup("counter").add() == 1


def test_what_a_method_raises_comes_back_as_its_own_class(pair: Any) -> None:
    resolver, server = pair
    server.register("counter", Counter())
    future = resolver.lookup("counter").add.remote("one")
    assert isinstance(future.exception(), TypeError)
    with pytest.raises(TypeError, match="unsupported operand"):
        future.result()


def test_unregistering_stops_an_actor_and_looking_it_up_raises(pair: Any) -> None:
    resolver, server = pair
    server.register("counter", Counter())
    server.unregister("counter")
    assert resolver.lookup_all("counter") == []
    with pytest.raises(ActorNotFoundError, match="'counter'"):
        resolver.lookup("counter")


def test_look_ups_of_many_take_patterns(pair: Any) -> None:
    resolver, server = pair
    for i in range(3):
        server.register(f"counter_{i}", Counter(i))
    server.register("other", Counter())
    assert sorted(h.add() for h in resolver.lookup_all("counter_*")) == [1, 2, 3]
    assert len(resolver.list_actors()) == 4


def test_an_endpoint_can_be_registered_under_a_second_name_by_hand(cluster: LocalCluster) -> None:
    resolver = cluster.resolver
    server = FrayActorServer(resolver)
    actor_id = server.register("counter", Counter())
    (endpoint,) = resolver.list_actors()
    resolver.register("alias", endpoint, ttl_seconds=30)
    assert resolver.lookup("alias").add() == 1
    assert resolver.lookup("counter").add() == 2
    resolver.unregister("alias", actor_id)
    with pytest.raises(ActorNotFoundError):
        resolver.lookup("alias")
    assert resolver.lookup("counter").add() == 3
    server.shutdown()


def test_a_resolver_of_another_namespace_sees_nothing_of_this_one(cluster: LocalCluster) -> None:
    server = FrayActorServer(cluster.resolver)
    server.register("counter", Counter())
    assert fray_resolver(cluster.get_namespace()).lookup("counter").add() == 1
    assert fray_resolver(Namespace("elsewhere")).list_actors() == []
    server.shutdown()


def test_a_group_with_a_namespace_registers_its_actors_there(cluster: LocalCluster) -> None:
    def serve() -> None:
        server = FrayActorServer(fray_resolver())
        server.register("counter", Counter())
        server.serve()

    request = JobRequest("serve", Entrypoint.from_callable(serve))
    group = JobGroupConfig("group", namespace=Namespace("its-own"))
    (job_id,) = cluster.launch_group([request], group)
    future = cluster.system.run(lambda: cluster.system.directory.locate(_key(), wait_s=30))
    assert future.endpoints[0].job_id == job_id
    assert fray_resolver(Namespace("its-own")).lookup("counter").add() == 1
    assert cluster.resolver.list_actors() == []
    cluster.terminate(job_id)
    cluster.wait(job_id)


def _key() -> Any:
    from fray.actor.directory import ActorKey

    return ActorKey("its-own", name="counter")
