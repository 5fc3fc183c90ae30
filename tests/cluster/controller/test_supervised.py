"""Actors that a supervisor starts again: the ledger waits for its word, and tells what is so."""

from dataclasses import replace

import pytest

from fray.cluster.controller.commands import (
    EndActor,
    StartActor,
    StartTogether,
    StopActor,
    SubmitJobs,
)
from fray.cluster.controller.records import Hold
from fray.cluster.controller.specs import ActorRole, JobSpec
from fray.cluster.devices import ResourceConfig
from fray.errors import DeathKind, InfeasibleError, InvalidRequestError

from .world import FAILED, RUNNING, STOPPED, SUCCEEDED, World


def supervised(world: World, name: str = "a", **values) -> JobSpec:
    role = ActorRole(f"actor-{name}", supervised=True, **values)
    spec = world.spec(name, actor=role)
    return replace(spec, max_retries_failure=-1, max_retries_preemption=-1)


@pytest.fixture
def actor(world: World) -> str:
    world.host("h")
    [job] = world.start(supervised(world))
    return job


def hold(world: World, job: str) -> Hold | None:
    return world.ledger.tasks(job)[0].hold


@pytest.mark.parametrize("end", [FAILED, SUCCEEDED, STOPPED])
def test_it_stays_down_until_its_supervisor_starts_it_however_it_ends(world: World, actor, end):
    world.tell(actor, 0, end)
    made = world.schedule()
    assert (world.states(actor), hold(world, actor)) == (["-"], Hold.SUPERVISOR)
    [reason] = made.reasons[actor]
    assert reason.text == "waits for its supervisor to start it again"
    world.do(StartActor(actor, 1))
    world.schedule()
    assert world.attempt(actor).number == 1
    assert hold(world, actor) is None


def test_a_start_that_is_heard_twice_starts_once(world: World, actor):
    world.tell(actor, 0, FAILED)
    assert world.do(StartActor(actor, 1)).changed
    assert not world.do(StartActor(actor, 1)).changed
    world.schedule()
    world.run(actor)
    world.tell(actor, 0, FAILED)
    assert not world.do(StartActor(actor, 1)).changed  # it is late: that one has come and gone
    assert hold(world, actor) is Hold.SUPERVISOR


def test_it_is_not_started_while_its_last_life_is_still_there(world: World, actor):
    world.do(StopActor(actor, "its siblings start again", 5.0))
    with pytest.raises(InvalidRequestError, match="it runs as u/a/0#0"):
        world.do(StartActor(actor, 1))
    world.tell(actor, 0, STOPPED)
    world.do(StartActor(actor, 1))
    world.schedule()
    assert world.attempt(actor).number == 1
    with pytest.raises(InvalidRequestError, match="attempt 7 of actor a cannot begin"):
        world.do(StartActor(actor, 7))


def test_a_stop_is_no_end_for_good_and_says_whether_callers_wait(world: World, actor):
    world.do(StopActor(actor, "terminated", 0.0, down=True))
    world.tell(actor, 0, STOPPED)
    assert (world.status(actor), hold(world, actor)) == ("running", Hold.DOWN)
    [ended] = world.ledger.tasks(actor)[0].history
    assert (ended.cause.kind, ended.cause.message) == (DeathKind.STOPPED, "terminated")
    world.do(StopActor(actor, "again", 0.0))  # of one that is down it changes nothing
    assert hold(world, actor) is Hold.DOWN


def test_an_end_for_good_tells_what_it_died_of(world: World, actor):
    world.tell(actor, 0, FAILED)
    world.do(EndActor(actor, DeathKind.RESTART_LIMIT, "its supervisor gave up"))
    assert world.status(actor) == "failed"
    job = world.ledger.job(actor)
    assert (job.verdict.kind, job.error_message) == (
        DeathKind.RESTART_LIMIT,
        "its supervisor gave up",
    )
    with pytest.raises(InvalidRequestError, match="has ended for good"):
        world.do(StartActor(actor, 1))


def test_the_orders_are_for_supervised_actors_only(world: World):
    world.host("h")
    [job] = world.start("plain")
    for command in (
        StartActor(job, 1),
        StopActor(job, "no"),
        EndActor(job, DeathKind.SIGNAL, "no"),
    ):
        with pytest.raises(InvalidRequestError, match="no actor that has a supervisor"):
            world.do(command)
    [actor] = world.start(supervised(world))
    with pytest.raises(InvalidRequestError, match="grace_s must be at least 0"):
        world.do(StopActor(actor, "no", -1.0))


def test_it_ends_when_the_attempt_of_its_supervisor_does_though_the_job_of_that_goes_on(
    world: World,
):
    world.host("h")
    [boss] = world.start(world.spec("boss", max_retries_failure=3))
    owner = world.attempt(boss).attempt_id
    child = replace(supervised(world, owner_attempt=owner), parent=boss)
    [actor] = world.start(child)
    world.tell(boss, 0, FAILED)
    assert world.states(actor) == ["stopping"]
    assert "the process of its supervisor has ended" in world.ledger.job(actor).error_message
    world.schedule()
    assert world.attempt(boss).number == 1
    with pytest.raises(InvalidRequestError, match="has ended"):
        world.submit(replace(child, job_id="u/late", actor=replace(child.actor, actor_id="late")))


def test_its_supervisor_may_stop_it_in_order_while_their_job_ends(world: World):
    world.host("h")
    [boss] = world.start("boss")
    owner = world.attempt(boss).attempt_id
    [actor] = world.start(replace(supervised(world, owner_attempt=owner), parent=boss))
    world.stop(boss)
    assert (world.states(boss), world.states(actor)) == (["stopping"], [RUNNING.value])
    world.tell(boss, 0, STOPPED)
    assert world.states(actor) == ["stopping"]


# Gangs: started together --------------------------------------------------------------------------


def together(world: World, *jobs: str, life: int = 0) -> StartTogether:
    return StartTogether(f"g-{life}", "gang", tuple(StartActor(job, life) for job in jobs))


@pytest.fixture
def gang(world: World) -> list[str]:
    """Three actors of one cpu each, held, on hosts that have room for two."""
    for name in "hi":
        world.host(name, cpu=1)
    held = [replace(supervised(world, name, held=True), max_retries_failure=-1) for name in "abc"]
    return [job for spec in held for job in world.submit(spec)]


def test_what_is_held_waits_for_its_supervisor_from_the_first_time_on(world: World, gang):
    made = world.schedule()
    assert [world.states(job) for job in gang] == [["-"]] * 3
    assert made.reasons[gang[0]][0].text == "waits for its supervisor to start it again"


def test_a_gang_has_places_for_all_or_none(world: World, gang):
    world.do(together(world, *gang))
    world.schedule()
    assert [world.states(job) for job in gang] == [["-"]] * 3
    [plain] = world.start("plain")  # what the gang waits for is not kept from others
    assert world.states(plain) == ["running"]
    world.host("j", cpu=1)
    world.schedule()
    assert [world.states(job) for job in gang] == [["-"]] * 3
    world.host("k", cpu=1)
    world.schedule()
    assert [world.states(job) for job in gang] == [["assigned"]] * 3


def test_a_gang_starts_again_only_when_all_of_it_are_gone_and_then_together(world: World, gang):
    world.host("j", cpu=1)
    world.do(together(world, *gang))
    world.schedule()
    for job in gang:
        world.run(job)
    world.tell(gang[0], 0, FAILED)
    world.do(StopActor(gang[1], "its gang is down", 5.0))
    world.tell(gang[1], 0, STOPPED)
    with pytest.raises(InvalidRequestError, match="attempt 1 of actor c cannot begin"):
        world.do(together(world, *gang, life=1))
    world.schedule()
    assert [world.states(job) for job in gang] == [["-"], ["-"], ["running"]]
    world.do(StopActor(gang[2], "its gang is down", 5.0))
    world.tell(gang[2], 0, STOPPED)
    assert world.do(together(world, *gang, life=1)).changed
    assert not world.do(together(world, *gang, life=1)).changed
    assert list(world.ledger.tables.groups) == ["g-1"]  # the group of its last life is gone
    world.schedule()
    assert [world.attempt(job).number for job in gang] == [1, 1, 1]


def test_a_gang_of_which_one_is_stopped_before_it_has_places_does_not_start(world: World, gang):
    world.do(together(world, *gang))
    world.do(StopActor(gang[1], "its gang is down", 0.0))
    for name in "jkl":
        world.host(name, cpu=1)
    world.schedule()
    assert [world.states(job) for job in gang] == [["-"]] * 3
    world.do(EndActor(gang[2], DeathKind.STOPPED, "it was removed"))
    starts = (StartActor(gang[0], 0), StartActor(gang[1], 1))  # one has had a life, of no length
    world.do(replace(together(world, *gang[:2]), group_id="g-again", starts=starts))
    world.schedule()
    assert [world.states(job) for job in gang[:2]] == [["assigned"]] * 2
    assert [world.attempt(job).number for job in gang[:2]] == [0, 1]


def test_an_actor_that_is_held_is_refused_if_no_host_could_ever_run_it(world: World):
    world.host("h", cpu=1)
    role = ActorRole("actor-big", supervised=True, held=True)
    spec = world.spec("big", ResourceConfig.with_cpu(cpu=64), actor=role)
    with pytest.raises(InfeasibleError):
        world.ledger.check_feasible(SubmitJobs("s", (spec,)))
