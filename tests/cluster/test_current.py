"""Which cluster the running code uses, and that its actors and resolvers use the same one."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest

import fray
from fray.actor.current import current_system
from fray.cluster import (
    Entrypoint,
    EnvironmentConfig,
    JobRequest,
    LocalCluster,
    create_cluster,
    current_cluster,
    set_current_cluster,
)
from fray.cluster.base import SyncCluster
from fray.cluster.current import close_connections, using_cluster
from fray.errors import InvalidRequestError
from fray.rpc import FrayActorServer, fray_resolver

if TYPE_CHECKING:
    from collections.abc import Iterator


class Where:
    def here(self) -> str:
        return "here"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("FRAY_CLUSTER_SPEC", raising=False)
    monkeypatch.delenv("FRAY_NAMESPACE", raising=False)
    yield
    set_current_cluster(None)
    close_connections()


def current() -> SyncCluster:
    cluster = current_cluster()
    assert isinstance(cluster, SyncCluster)
    return cluster


def test_without_a_word_it_is_a_local_cluster_and_always_the_same_one() -> None:
    assert isinstance(current_cluster(), LocalCluster)
    assert current_cluster() is current_cluster()
    assert current_system() is current().system


def test_resolvers_and_servers_follow_when_the_environment_names_another_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, SyncCluster] = {}
    for spec in ("local?max_workers=1", "local?max_workers=2", "local?max_workers=1"):
        monkeypatch.setenv("FRAY_CLUSTER_SPEC", spec)
        resolver = fray_resolver()  # before anything else has opened a connection
        server = FrayActorServer(resolver)
        server.register("where", Where())
        cluster = seen.setdefault(spec, current())
        assert current() is cluster
        assert resolver.system is current_system() is cluster.system
        assert cluster.resolver.lookup("where").here() == "here"
        server.shutdown()
    assert len(seen) == 2


def test_a_cluster_that_was_set_is_current_for_its_actors_too_whatever_opens_after_it() -> None:
    with LocalCluster() as chosen:
        set_current_cluster(chosen)
        later = LocalCluster()
        assert current_cluster() is chosen
        assert current_system() is chosen.system
        later.shutdown()


def test_setting_a_cluster_holds_for_other_threads_but_within_a_block_only_there() -> None:
    seen: list[SyncCluster] = []

    def look() -> None:
        assert current_system() is current().system
        seen.append(current())

    def elsewhere() -> SyncCluster:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return seen[-1]

    first, second = LocalCluster(), LocalCluster()
    set_current_cluster(first)
    assert elsewhere() is current() is first
    with second:
        assert current() is second
        set_current_cluster(first)
        assert current() is first
    assert elsewhere() is current() is first
    set_current_cluster(None)
    with LocalCluster() as third:
        set_current_cluster(first)
        assert (current(), elsewhere()) == (first, third)
    first.shutdown()


def test_a_cluster_used_for_a_block_is_current_for_its_actors_too() -> None:
    with LocalCluster() as inner, LocalCluster() as outer:
        with using_cluster(inner):
            assert current_cluster() is inner
            assert current_system() is inner.system
        assert current_system() is outer.system


class Variable:
    def read(self, name: str) -> tuple[str | None, int]:
        return os.environ.get(name), os.getpid()


@pytest.mark.parametrize("is_sync", [True, False])
async def test_actors_have_the_environment_of_their_connection(is_sync: bool) -> None:
    asked = EnvironmentConfig.create(env_vars={"MODE": "full"})

    def by_blocking() -> tuple[str | None, int]:
        with fray.connect("local", environment=asked):
            return fray.actor(Variable).remote().read.remote("MODE").result(30)

    if is_sync:
        value, pid = await asyncio.to_thread(by_blocking)
    else:
        async with fray.connect("local", environment=asked):
            value, pid = await fray.actor(Variable).remote().read.remote("MODE")
    assert value == "full"
    assert pid != os.getpid()


def test_an_environment_that_cannot_be_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(InvalidRequestError, match=r"environment is of type EnvironmentConfig"):
        fray.connect("local", environment="torch")  # type: ignore[arg-type]
    missing = EnvironmentConfig(workspace="/no/such/folder")
    with pytest.raises(InvalidRequestError, match="connection's environment is not a folder"):
        fray.connect("local", environment=missing)


def test_connections_of_one_spec_are_shared_until_they_are_closed() -> None:
    first = current()
    close_connections()
    assert first.system.closed
    assert current() is not first
    assert current_system() is current().system


def test_a_cluster_that_was_made_is_current_only_where_the_environment_names_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = create_cluster("local")
    assert isinstance(made, LocalCluster)
    assert current() is made
    assert current_system() is made.system
    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "local?max_workers=2")
    assert current() is not made
    assert current_system() is current().system
    with made:
        assert current() is made
    assert made.system.closed


def test_what_a_job_sets_is_not_set_for_its_driver() -> None:
    def work() -> None:
        set_current_cluster(None)
        with LocalCluster() as own:
            set_current_cluster(own)
            assert current_cluster() is own

    cluster = current()
    job_id = cluster.launch(JobRequest("job", Entrypoint.from_callable(work)))
    cluster.wait(job_id, raise_on_failure=True)
    assert current() is cluster
