"""Looking an actor up tells what is so now, not what was so at the last look-up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import fray
from fray.cluster import LocalCluster
from fray.errors import ActorNotFoundError, NameTakenError
from fray.rpc import FrayActorServer, fray_resolver

if TYPE_CHECKING:
    from collections.abc import Iterator


@fray.actor
class Parrot:
    def __init__(self, words: str = "hello") -> None:
        self.words = words

    def speak(self) -> str:
        return self.words


@fray.actor
class Flag:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def set(self) -> None:
        self._event.set()

    @fray.method(concurrent=True)
    async def wait(self) -> None:
        await self._event.wait()


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.mark.usefixtures("cluster")
def test_a_name_that_was_unregistered_is_not_found_any_more() -> None:
    resolver = fray_resolver()
    server = FrayActorServer(resolver)
    server.register("parrot", Parrot())
    old = resolver.lookup("parrot")
    assert old.speak() == "hello"
    server.unregister("parrot")
    with pytest.raises(ActorNotFoundError, match="'parrot'"):
        resolver.lookup("parrot")
    with pytest.raises(ActorNotFoundError, match="'parrot'"):
        old.speak()
    server.register("parrot", Parrot("again"))
    assert resolver.lookup("parrot").speak() == "again"
    assert old.speak() == "again"


@pytest.mark.usefixtures("cluster")
def test_the_name_of_an_actor_that_was_stopped_is_not_found_any_more() -> None:
    parrot = Parrot.options(name="parrot").remote()
    assert fray_resolver().lookup("parrot").speak() == "hello"
    parrot.stop().result()
    with pytest.raises(ActorNotFoundError, match="'parrot'"):
        fray_resolver().lookup("parrot")


async def test_on_a_loop_awaiting_what_was_looked_up_tells_it() -> None:
    async with fray.connect("local") as cluster:
        server = FrayActorServer(cluster.resolver)
        await server.register_async("parrot", Parrot())
        assert await (await cluster.resolver.lookup("parrot")).speak.remote() == "hello"
        await server.unregister_async("parrot")
        with pytest.raises(ActorNotFoundError, match="'parrot'"):
            await cluster.resolver.lookup("parrot")
        with pytest.raises(ActorNotFoundError, match="'parrot'"):
            await cluster.resolver.lookup_async("parrot")
        await server.shutdown_async()


@pytest.mark.usefixtures("cluster")
def test_the_exclusive_name_of_an_actor_that_is_being_made_is_given_to_nobody_else() -> None:
    @fray.actor
    class Slow:
        def __init__(self, begin: str, go_on: str) -> None:
            resolver = fray_resolver()
            resolver.lookup(begin).set()
            resolver.lookup(go_on).wait()

        def speak(self) -> str:
            return "at last"

    server = FrayActorServer(fray_resolver())
    for name in ("begun", "may-go-on"):
        server.register(name, Flag())
    slow = Slow.options(name="slow").remote("begun", "may-go-on")
    fray_resolver().lookup("begun").wait()
    with pytest.raises(NameTakenError, match="'slow' cannot be registered"):
        server.register("slow", Parrot())
    with pytest.raises(NameTakenError, match="'slow' belongs to the actor of job"):
        Parrot.options(name="slow").remote()
    fray_resolver().lookup("may-go-on").set()
    assert slow.speak() == fray_resolver().lookup("slow").speak() == "at last"
    slow.stop().result()
    server.register("slow", Parrot())
    assert fray_resolver().lookup("slow").speak() == "hello"
    server.shutdown()
