"""Cordons that begin and end by themselves."""

from __future__ import annotations

from fray.cluster.controller import cordons
from fray.cluster.controller.commands import CordonWorker, MarkWorker, UncordonWorker
from fray.cluster.controller.records import FAULTS_MAX, CordonKind, Health
from fray.cluster.devices import ResourceConfig
from fray.errors import DeathCause

from .world import FAILED, World


def world_of(hosts: int) -> World:
    world = World()
    for number in range(hosts):
        world.host(f"h{number}")
    return world


def fail_on(world: World, host: str, *names: str) -> None:
    """Jobs of which a host says that it could not start them."""
    others = [each for each in world.ledger.tables.workers if each != host]
    for other in others:
        world.do(MarkWorker(other, "b1", True, "not here"))
    for name in names:
        if f"u/{name}" in world.ledger.tables.jobs:
            world.now += 60.0  # whatever it has to wait before it is tried again
        else:
            small = ResourceConfig(cpu=0.01)
            world.submit(world.spec(name, small, max_retries_preemption=9))
        world.schedule()
        world.tell(f"u/{name}", 0, FAILED, host_fault=True, cause=DeathCause(message="disk full"))
    for other in others:
        world.do(MarkWorker(other, "b1", False))


def due(world: World) -> list[CordonWorker | UncordonWorker]:
    return cordons.due(world.ledger.tables.workers, world.now)


def test_a_host_that_fails_three_jobs_is_put_into_quarantine_for_a_while() -> None:
    world = world_of(3)
    fail_on(world, "h0", "a", "b")
    assert due(world) == []
    fail_on(world, "h0", "c")
    (command,) = due(world)
    assert isinstance(command, CordonWorker)
    assert (command.worker_id, command.kind) == ("h0", CordonKind.QUARANTINED)
    assert not command.evict
    assert command.reason == (
        "it failed 3 jobs within 10 min by its own fault, the last one (u/c) since disk full"
    )
    world.do(command)
    assert due(world) == []
    world.now += cordons.QUARANTINE_S
    assert due(world) == [UncordonWorker("h0")]
    world.do(UncordonWorker("h0"))
    assert due(world) == [], "what it did before is forgiven"


def test_one_job_that_fails_again_and_again_counts_once() -> None:
    world = world_of(3)
    fail_on(world, "h0", *["a"] * 5)
    assert len(world.ledger.tables.workers["h0"].faults) == 1
    assert due(world) == []


def test_jobs_that_fail_everywhere_are_no_host_s_fault() -> None:
    world = world_of(6)
    for host in ("h0", "h1"):
        fail_on(world, host, "a", "b", "c")
    assert due(world) == []
    fail_on(world, "h0", "d", "e", "f")
    assert [each.worker_id for each in due(world)] == ["h0"]


def test_faults_of_long_ago_do_not_count() -> None:
    world = world_of(3)
    fail_on(world, "h0", "a", "b")
    world.now += cordons.WINDOW_S
    fail_on(world, "h0", "c")
    assert due(world) == []


def test_no_more_than_a_third_of_the_hosts_is_in_quarantine() -> None:
    for hosts in (1, 2):
        world = world_of(hosts)
        fail_on(world, "h0", "a", "b", "c", "d")
        assert due(world) == []
    world = world_of(6)
    for number in range(5):
        fail_on(world, f"h{number}", *(f"{number}-{n}" for n in range(3 + number % 2)))
    found = [each.worker_id for each in due(world)]
    assert found == ["h1", "h3"], "those that failed the most"
    for command in due(world):
        world.do(command)
    assert due(world) == []
    world.do(UncordonWorker("h1"))
    assert [each.worker_id for each in due(world)] == ["h0"]


def test_a_host_that_is_cordoned_or_lost_is_left_as_it_is() -> None:
    world = world_of(3)
    fail_on(world, "h0", "a", "b", "c")
    world.do(CordonWorker("h0", CordonKind.DRAINING, "maintenance"))
    assert due(world) == []


def test_a_draining_host_is_emptied_at_its_deadline() -> None:
    world = World()
    world.host("h0")
    (job,) = world.start("job")
    until = world.now + 100.0
    world.do(CordonWorker("h0", CordonKind.DRAINING, "a fan", until=until))
    assert due(world) == []
    assert world.states(job) == ["running"]
    world.now = until
    (command,) = due(world)
    assert command == CordonWorker("h0", CordonKind.DRAINING, "a fan", evict=True)
    world.do(command)
    assert world.states(job) == ["stopping"]
    assert due(world) == []
    world.tell(job, 0, FAILED)
    task = world.ledger.tasks(job)[0]
    assert (task.failures, task.preemptions) == (0, 1)


def test_what_is_remembered_of_faults_is_bounded() -> None:
    world = world_of(1)
    fail_on(world, "h0", *(f"j{n}" for n in range(FAULTS_MAX + 3)))
    assert len(world.ledger.tables.workers["h0"].faults) == FAULTS_MAX
    assert world.ledger.tables.workers["h0"].health is Health.HEALTHY
