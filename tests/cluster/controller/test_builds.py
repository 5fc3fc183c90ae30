"""Environments that cannot be built: no budget is charged, and nobody tries for ever."""

from __future__ import annotations

import pytest

from fray.cluster.controller.rules.budgets import BUILD_TRIES_MAX
from fray.cluster.controller.specs import GangScope
from fray.errors import DeathCause, DeathKind

from .world import FAILED, World

CAUSE = DeathCause(DeathKind.BUILD_FAILED, "its environment could not be built: no such package")


def fail(world: World, job: str, *, host_fault: bool, index: int = 0) -> None:
    world.tell(job, index, FAILED, cause=CAUSE, host_fault=host_fault)


def test_a_project_that_cannot_be_built_fails_its_job_at_once_whatever_its_budget():
    world = World()
    world.host("a")
    (job,) = world.start(world.spec(max_retries_failure=5))
    fail(world, job, host_fault=False)
    assert world.status(job) == "failed"
    assert "task 0 cannot be started: its environment could not be built" in (
        world.info(job).error_message or ""
    )
    assert [host.faults for host in world.workers()] == [()]  # it is not the host's fault


def test_what_a_host_cannot_build_another_one_tries_and_its_user_pays_nothing():
    world = World()
    world.host("a")
    world.host("b")
    (job,) = world.start(world.spec(max_retries_failure=0))
    first = world.on(job)
    fail(world, job, host_fault=True)
    assert world.tasks(job) == ["pending"]
    assert sorted(len(host.faults) for host in world.workers()) == [0, 1]
    world.schedule()
    assert world.on(job) != first


def test_only_so_many_hosts_try():
    world = World()
    for name in "abcde":
        world.host(name)
    (job,) = world.start(world.spec())
    for _ in range(BUILD_TRIES_MAX):
        assert world.status(job) != "failed"
        fail(world, job, host_fault=True)
        world.now += 1000
        world.schedule()
    assert world.status(job) == "failed"


@pytest.mark.parametrize("host_fault", [False, True])
def test_a_gang_is_judged_alike(host_fault):
    world = World()
    for name in "ab":
        world.host(name, cpu=1)
    spec = world.spec(max_retries_failure=5, gang=GangScope.JOB)
    assert spec.gang is GangScope.JOB
    (job,) = world.start(spec)
    fail(world, job, host_fault=host_fault)
    assert (world.status(job) == "failed") is not host_fault
