"""What the keeper of a Ray cluster knows of names, without a Ray and in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fray.actor.directory import ActorKey, Endpoint, Watched
from fray.cluster.control import NameClaim
from fray.cluster.raydeaths import GIVEN_UP_S, SILENT_S, Presence, RayDeaths
from fray.cluster.raynames import RECOVERY_S, MadeActor, RayNames, ended
from fray.errors import ActorDied, ActorNotFoundError, DeathCause, DeathKind, NameTakenError
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fray.testing import Simulation

KILLED = DeathCause(DeathKind.SIGNAL, "killed by SIGKILL (signal 9)")


class Keeper:
    """Names, and a network in which ports can be shut."""

    def __init__(self, sim: Simulation, *, generation: int = 1, recovers: bool = False) -> None:
        self.shut: set[str] = set()
        self.deaths = RayDeaths(sim.clock, self.is_shut)
        self.names = RayNames(sim.clock, self.deaths, generation, recovers=recovers)

    async def is_shut(self, address: str) -> bool:
        await asyncio.sleep(0.01)
        return address in self.shut

    async def find(self, name: str, wait_s: float = 0.0) -> list[str]:
        located = await self.names.locate(ActorKey("ns", name), wait_s)
        return [endpoint.actor_id for endpoint in located.endpoints]


@pytest.fixture
async def keeper(sim: Simulation) -> AsyncIterator[Keeper]:
    made = Keeper(sim)
    async with Scope("test") as scope:
        scope.spawn(made.names.sweep())
        yield made


def process(number: int, attempt_id: str = "") -> Presence:
    return Presence(f"p-{number}", f"10.0.0.{number}:7000", attempt_id)


def claim(by: Presence, name: str = "model", *, exclusive: bool = False, life: int = 1):
    endpoint = Endpoint(f"a-{by.process_id}", life, by.process_id, by.address, "", by.attempt_id)
    holder = by.attempt_id.rpartition("#")[0] or by.process_id
    return NameClaim("ns", name, endpoint, exclusive, f"{holder}/{name}", life, 60.0)


async def test_a_name_may_lead_to_several_unless_one_has_it_alone(keeper: Keeper):
    one, two, three = process(1), process(2), process(3)
    await keeper.names.register(one, claim(one))
    await keeper.names.register(two, claim(two))
    assert await keeper.find("model") == ["a-p-1", "a-p-2"]
    with pytest.raises(NameTakenError, match="'model' cannot be registered"):
        await keeper.names.register(three, claim(three, exclusive=True))
    assert await keeper.find("model") == ["a-p-1", "a-p-2"]


async def test_looking_up_waits_for_a_name_that_comes(keeper: Keeper):
    one = process(1)

    async def later() -> None:
        await asyncio.sleep(20)
        await keeper.names.register(one, claim(one))

    async with Scope("later") as scope:
        scope.spawn(later())
        assert await keeper.find("model", wait_s=30) == ["a-p-1"]
    with pytest.raises(ActorNotFoundError, match="registered as 'other' in 'ns'"):
        await keeper.find("other", wait_s=5)


async def test_names_of_an_attempt_end_with_it_and_its_cause_is_told(keeper: Keeper):
    task = process(1, "me/job-1/0#0")
    keeper.deaths.attempt_began(task.attempt_id)
    await keeper.names.register(task, claim(task))
    keeper.deaths.attempt_ended(task.attempt_id, KILLED)
    with pytest.raises(ActorNotFoundError):
        await keeper.find("model")
    assert await keeper.names.obituary(claim(task).endpoint) == KILLED
    [gone] = await keeper.names.departed([claim(task).endpoint], 0.0)
    assert (gone.target, gone.cause) == ("a-p-1/1", KILLED)
    with pytest.raises(NameTakenError, match="this process is given up"):
        await keeper.names.register(task, claim(task))


async def test_the_next_attempt_takes_its_names_over(keeper: Keeper):
    first, second = process(1, "me/job-1/0#0"), process(2, "me/job-1/0#1")
    for each, life in ((first, 1), (second, 2)):
        keeper.deaths.attempt_began(each.attempt_id)
        await keeper.names.register(each, claim(each, life=life))
    assert await keeper.find("model") == ["a-p-2"]


async def test_a_busy_attempt_keeps_its_names_as_long_as_ray_says_that_it_runs(keeper: Keeper):
    task = process(1, "me/job-1/0#0")
    keeper.deaths.attempt_began(task.attempt_id)
    await keeper.names.register(task, claim(task))
    await asyncio.sleep(3600)
    assert await keeper.find("model") == ["a-p-1"]


async def test_a_silent_process_is_gone_once_its_port_is_shut(keeper: Keeper):
    one = process(1)
    await keeper.names.register(one, claim(one))
    await asyncio.sleep(SILENT_S - 2)
    keeper.shut.add(one.address)
    assert await keeper.find("model") == ["a-p-1"]  # nobody has asked yet
    await asyncio.sleep(4)
    with pytest.raises(ActorNotFoundError):
        await keeper.find("model")


async def test_a_process_whose_host_is_gone_is_given_up_in_the_end_and_told_so(keeper: Keeper):
    one = process(1)
    await keeper.names.register(one, claim(one))
    assert await keeper.names.renew(one, [claim(one)]) is None
    await asyncio.sleep(GIVEN_UP_S + 3)
    with pytest.raises(ActorNotFoundError):
        await keeper.find("model")
    told = await keeper.names.renew(one, [claim(one)])  # it was cut off, and comes back
    assert told == DeathCause(DeathKind.HOST_LOST, "its process has fallen silent")
    with pytest.raises(ActorNotFoundError):
        await keeper.find("model")


async def test_who_renews_keeps_its_names(keeper: Keeper):
    one = process(1)
    await keeper.names.register(one, claim(one))
    for _ in range(100):
        await asyncio.sleep(SILENT_S / 3)
        assert await keeper.names.renew(one, [claim(one)]) is None
    assert await keeper.find("model") == ["a-p-1"]


async def test_whoever_lost_a_connection_has_the_other_side_dialled_at_once(keeper: Keeper):
    one = process(1)
    await keeper.names.register(one, claim(one))
    assert await keeper.names.obituary(claim(one).endpoint) is None
    keeper.shut.add(one.address)
    cause = await keeper.names.obituary(claim(one).endpoint)
    assert cause == DeathCause(DeathKind.UNKNOWN, "its process has ended")
    with pytest.raises(ActorNotFoundError):
        await keeper.find("model")


async def test_of_an_attempt_rays_word_is_waited_for(keeper: Keeper):
    task = process(1, "me/job-1/0#0")
    keeper.deaths.attempt_began(task.attempt_id)
    await keeper.names.register(task, claim(task))
    keeper.shut.add(task.address)

    async def rays_word() -> None:
        await asyncio.sleep(1)
        keeper.deaths.attempt_ended(task.attempt_id, KILLED)

    async with Scope("ray") as scope:
        scope.spawn(rays_word())
        assert await keeper.names.obituary(claim(task).endpoint) == KILLED


async def test_an_exclusive_name_of_a_dead_process_is_given_to_the_next_at_once(keeper: Keeper):
    one, two = process(1), process(2)
    await keeper.names.register(one, claim(one, exclusive=True))
    with pytest.raises(NameTakenError):
        await keeper.names.register(two, claim(two, exclusive=True))
    keeper.shut.add(one.address)
    await keeper.names.register(two, claim(two, exclusive=True))
    assert await keeper.find("model") == ["a-p-2"]


async def test_names_are_known_again_after_the_keeper_was_started_again(sim: Simulation):
    keeper = Keeper(sim, generation=2, recovers=True)
    one, two = process(1), process(2)

    async def renew() -> None:
        await asyncio.sleep(RECOVERY_S / 2)
        await keeper.names.renew(one, [claim(one, exclusive=True)])

    async with Scope("one") as scope:
        scope.spawn(renew())
        with pytest.raises(NameTakenError):  # though it asks first
            await keeper.names.register(two, claim(two, exclusive=True))
    assert await keeper.find("model") == ["a-p-1"]


async def test_a_look_up_waits_for_names_to_be_known_again(sim: Simulation):
    keeper = Keeper(sim, generation=2, recovers=True)
    one = process(1)

    async def renew() -> None:
        await asyncio.sleep(RECOVERY_S / 2)
        await keeper.names.renew(one, [claim(one)])

    async with Scope("one") as scope:
        scope.spawn(renew())
        assert await keeper.find("model") == ["a-p-1"]


async def test_a_made_actor_is_waited_for_until_it_is_there_or_over(keeper: Keeper):
    made = MadeActor("a-1", "Model", "ns", "model", "Ray has not started it yet")
    keeper.names.promise(made)
    located = await keeper.names.locate(ActorKey("ns", actor_id="a-1"), 1.0)
    assert (located.endpoints, located.pending) == ((), "Ray has not started it yet")
    one = process(1)
    with pytest.raises(NameTakenError, match="belongs to the actor a-1"):
        await keeper.names.register(one, claim(one))
    made = ended(made, 1, KILLED)
    keeper.names.promise(MadeActor("a-1", "Model", "ns", "model", "", made.ends, KILLED))
    with pytest.raises(ActorDied, match="actor Model died: killed by SIGKILL"):
        await keeper.names.locate(ActorKey("ns", actor_id="a-1"), 1.0)
    await keeper.names.register(one, claim(one))  # the name is free again
    [life] = await keeper.names.lives([Watched("a-1")], 0.0)
    assert (life.started, [end.cause for end in life.ends], life.over) == (0, [KILLED], KILLED)


async def test_lives_of_served_objects_are_told_as_they_end(keeper: Keeper):
    one = process(1)
    await keeper.names.register(one, claim(one))
    [life] = await keeper.names.lives([Watched("a-p-1")], 0.0)
    assert (life.started, life.over) == (1, None)

    async def leave() -> None:
        await asyncio.sleep(2)
        await keeper.names.leave(one)

    async with Scope("leave") as scope:
        scope.spawn(leave())
        [life] = await keeper.names.lives([Watched("a-p-1", started=1)], 30.0)
    assert life.over == DeathCause(DeathKind.STOPPED, "its process has disconnected")
