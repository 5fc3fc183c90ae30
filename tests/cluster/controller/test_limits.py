"""Limits of waiting."""

from fray.cluster.controller.commands import EndOverdue

from .world import FAILED

LIMIT_S = 60.0


def test_a_job_that_waits_too_long_fails_and_says_what_it_waited_for(world):
    (job,) = world.submit(world.spec(queue_limit_s=LIMIT_S))
    assert not world.do(EndOverdue({job: "no hosts"})).changed
    world.now += LIMIT_S
    world.do(EndOverdue({job: "there are no hosts"}))
    assert world.status(job) == "failed"
    told = "nothing of it ran within its queue limit of 60 s: there are no hosts"
    assert world.info(job).error_message == told


def test_a_job_that_has_run_once_is_not_subject_to_its_queue_limit(world):
    world.host("h")
    (job,) = world.start(world.spec(queue_limit_s=LIMIT_S, max_retries_failure=1))
    world.tell(job, 0, FAILED)
    world.now += LIMIT_S
    assert job not in world.ledger.tables.indexes.queued
    assert not world.do(EndOverdue({job: "?"})).changed
