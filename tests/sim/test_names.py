"""The actor ``names``: who has a name, above all right after a controller was started again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fray.actor.directory import ActorKey, Endpoint
from fray.cluster.control import ACTORS_NAMESPACE, NameClaim
from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import StopJob, SubmitJobs
from fray.cluster.controller.journal import MemoryDisk, MemoryStore
from fray.cluster.controller.names import RECOVERY_S, Names
from fray.cluster.controller.specs import ActorRole, JobSpec, Program
from fray.cluster.worker.taskfile import HostedActor
from fray.errors import ActorNotFoundError, NameTakenError
from fray.ids import ActorId, AttemptId, JobId, Namespace
from fray.runtime.jsoncodec import json_dumps

if TYPE_CHECKING:
    from fray.testing import Simulation


class Controllers:
    """Controllers one after the other, on one disk."""

    def __init__(self, sim: Simulation) -> None:
        self.clock = sim.driver.clock
        self.disk = MemoryDisk()

    async def start(self) -> Names:
        self.book = await Book.open(MemoryStore(self.disk), self.clock)
        names = Names(self.book, self.clock, self.book.generation)
        self.book.listeners[:] = [names.on_events]
        return names

    async def submit_actor(self, name: str) -> JobId:
        hosted = HostedActor(f"a-{name}", name, name, "ns")
        spec = JobSpec(
            job_id=JobId(f"me/{name}"),
            name=name,
            user="me",
            namespace=Namespace("ns"),
            program=Program(blob="digest"),
            actor=ActorRole(ActorId(f"a-{name}"), name=name),
            hints={"actor": json_dumps(hosted).decode()},
        )
        await self.book.commit(SubmitJobs(f"s-{name}", (spec,)))
        return spec.job_id


@pytest.fixture
def controllers(sim: Simulation) -> Controllers:
    return Controllers(sim)


def claim(name: str, *, namespace: str = "ns", number: int = 1, slot: str = "") -> NameClaim:
    endpoint = Endpoint(f"a-{name}", number, f"p-{name}-{number}", f"h:{number}")
    return NameClaim(
        namespace, name, endpoint, True, f"me/{name}/0/{slot or '@actor'}", number, 60.0
    )


async def test_actor_of_a_new_controller_is_registered_by_its_id_at_once(controllers: Controllers):
    await controllers.start()
    names = await controllers.start()
    before = controllers.clock.monotonic()
    await names.register(claim("a-x", namespace=ACTORS_NAMESPACE))
    assert controllers.clock.monotonic() == before


async def test_restarted_actor_takes_its_own_name_at_once_after_a_controller_was_started_again(
    controllers: Controllers,
):
    names = await controllers.start()
    await controllers.submit_actor("x")
    await names.register(claim("x"))
    names = await controllers.start()
    before = controllers.clock.monotonic()
    await names.register(claim("x", number=2))
    assert controllers.clock.monotonic() == before
    [endpoint] = (await names.locate(ActorKey("ns", name="x"), wait_s=0)).endpoints
    assert endpoint.incarnation == 2


async def test_new_actor_waits_for_its_name_while_somebody_unheard_may_have_it(
    controllers: Controllers,
):
    await controllers.start()
    names = await controllers.start()
    await controllers.submit_actor("x")
    before = controllers.clock.monotonic()
    await names.register(claim("x"))
    assert controllers.clock.monotonic() - before == pytest.approx(RECOVERY_S)
    assert (await names.locate(ActorKey("ns", name="x"), wait_s=0)).endpoints


async def test_name_of_somebody_who_is_heard_again_is_not_given_away(controllers: Controllers):
    await controllers.start()
    names = await controllers.start()
    await controllers.submit_actor("x")
    other = claim("x", slot="another")

    async def be_heard() -> None:
        await controllers.clock.sleep(1.0)
        await names.renew("p", [other])

    refusal, _ = await asyncio.gather(
        names.register(claim("x")), be_heard(), return_exceptions=True
    )
    assert isinstance(refusal, NameTakenError)
    assert "already belongs" in str(refusal)
    [endpoint] = (await names.locate(ActorKey("ns", name="x"), wait_s=0)).endpoints
    assert endpoint == other.endpoint


async def test_process_that_ends_late_does_not_take_its_successors_name_along(
    controllers: Controllers,
):
    names = await controllers.start()
    await controllers.submit_actor("x")
    for number in (1, 2):
        await names.register(claim("x", number=number))
    await names.unregister("ns", "x", "a-x", 1)
    [endpoint] = (await names.locate(ActorKey("ns", name="x"), wait_s=0)).endpoints
    assert endpoint.incarnation == 2
    await names.unregister("ns", "x", "a-x")  # whoever asks for it by its id means any life of it
    assert await names.list("ns", "") == []


async def test_process_that_ended_while_it_waited_for_a_name_does_not_get_it(
    controllers: Controllers,
):
    await controllers.start()
    await controllers.submit_actor("x")
    names = await controllers.start()
    await controllers.submit_actor("y")  # a new one, which has to wait until all were heard
    wanted = claim("y")
    wanted = replace(wanted, endpoint=replace(wanted.endpoint, attempt_id="me/y/0#0"))
    controllers.book.ledger.tables.attempts[AttemptId("me/y/0#0")] = cast("Any", None)

    async def end() -> None:
        await controllers.clock.sleep(1.0)
        del controllers.book.ledger.tables.attempts[AttemptId("me/y/0#0")]

    refusal, _ = await asyncio.gather(names.register(wanted), end(), return_exceptions=True)
    assert isinstance(refusal, NameTakenError)
    assert "given up" in str(refusal)
    assert await names.list("ns", "") == []


async def test_actor_that_has_ended_need_not_be_stopped(controllers: Controllers):
    names = await controllers.start()
    job_id = await controllers.submit_actor("x")
    await controllers.book.commit(StopJob(job_id, "told to", 0.0))
    key = ActorKey(ACTORS_NAMESPACE, actor_id="a-x")
    assert await names.stop_actor(key, grace_s=5.0)
    assert not await names.stop_actor(ActorKey("ns", actor_id="a-nobody"), grace_s=5.0)


async def test_look_up_of_an_actor_that_ends_before_it_is_ready_ends_too(controllers: Controllers):
    names = await controllers.start()
    job_id = await controllers.submit_actor("x")
    before = controllers.clock.monotonic()

    async def stop() -> None:
        await controllers.clock.sleep(1.0)
        await controllers.book.commit(StopJob(job_id, "told to", 0.0))

    looking = names.locate(ActorKey("ns", name="x"), wait_s=100)
    outcome, _ = await asyncio.gather(looking, stop(), return_exceptions=True)
    assert isinstance(outcome, ActorNotFoundError)
    assert controllers.clock.monotonic() - before == pytest.approx(1.0)
