"""What a call does is the same on the caller's stack, in this process and on a cluster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

import fray
from fray.actor.local import LocalActorServer, LocalResolver
from fray.actor.resolver import fray_resolver
from fray.actor.server import FrayActorServer
from fray.cluster import LocalCluster
from fray.errors import PayloadError, UnknownMethodError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Keeper:
    """Keeps what it is given, as it is."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def keep(self, value: Any) -> list[Any]:
        self.kept.append(value)
        return self.kept

    async def keep_async(self, value: Any) -> list[Any]:
        return self.keep(value)

    def give(self) -> Iterator[Any]:
        yield from self.kept
        if not self.kept:
            raise LookupError("nothing was kept")

    @fray.method(idempotent=True)
    def count(self) -> int:
        return len(self.kept)

    def make_unpicklable(self) -> Any:
        return (x for x in ())

    def _private(self) -> None: ...


@pytest.fixture(params=["stack", "process"])
def keeper(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "stack":
        server: Any = LocalActorServer(LocalResolver())
        server.register("keeper", Keeper())
        yield server._local.lookup("keeper")
        server.shutdown()
        return
    with LocalCluster() as cluster:
        resolver = fray_resolver(cluster.get_namespace())
        server = FrayActorServer(resolver)
        server.register("keeper", Keeper())
        yield resolver.lookup("keeper")
        server.shutdown()


@pytest.mark.parametrize("method", ["keep", "keep_async"])
def test_arguments_and_results_are_nobody_elses(keeper: Any, method: str) -> None:
    mine = [1]
    theirs = getattr(keeper, method)(mine)
    mine.append(2)
    theirs[0].append(3)
    assert getattr(keeper, method)(None) == [[1], None]


def test_what_cannot_travel_is_refused_though_it_need_not(keeper: Any) -> None:
    with pytest.raises(PayloadError, match="generator"):
        keeper.keep(x for x in ())
    with pytest.raises(Exception, match="generator"):  # a cluster tells it as the method's error
        keeper.make_unpicklable()
    assert keeper.count() == 0


def test_methods_that_are_not_there_are_refused_in_the_same_words(keeper: Any) -> None:
    with pytest.raises(UnknownMethodError, match="keeper has no method 'kep'; did you mean 'keep'"):
        keeper.kep(1)
    with pytest.raises(UnknownMethodError, match="is private"):
        keeper._private()


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"timeout": 0}, ValueError, "timeout must be positive"),
        ({"timeout": "1"}, TypeError, "timeout is a number of seconds"),
        ({"retries": -1}, ValueError, "retries must be at least 0"),
    ],
)
def test_options_of_calls_are_checked_where_they_are_written(
    keeper: Any, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        keeper.keep.options(**options)
    assert keeper.count.options(timeout=5, retries=1)() == 0


def test_where_the_class_is_known_only_what_is_idempotent_may_be_repeated() -> None:
    resolver = LocalResolver()
    LocalActorServer(resolver).register("keeper", Keeper())
    with pytest.raises(ValueError, match=r"keeper\.keep is not marked idempotent=True"):
        resolver.lookup("keeper").keep.options(retries=1)


def test_generators_are_iterated_and_fail_alike(keeper: Any) -> None:
    with pytest.raises(LookupError, match="nothing was kept") as told:
        list(keeper.give.remote())
    assert fray.remote_error(told.value) is not None
    keeper.keep("a")
    assert list(keeper.give.remote()) == ["a"]


def test_a_local_cluster_is_there_and_gone_within_a_second() -> None:
    """Processor time: how long it takes elsewhere is no property of it."""
    before = time.process_time()
    with LocalCluster() as cluster:
        server = FrayActorServer(fray_resolver(cluster.get_namespace()))
        server.register("keeper", Keeper())
        assert fray_resolver(cluster.get_namespace()).lookup("keeper").keep(1) == [1]
        server.shutdown()
    assert time.process_time() - before < 1
