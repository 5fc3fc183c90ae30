"""What is wrong with a ledger is found by a look at everything, or only at what has changed."""

from dataclasses import replace

import pytest

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.commands import CreateReservation, GroupSpec
from fray.cluster.controller.invariants import violations
from fray.cluster.controller.records import Tally
from fray.cluster.controller.tables import Tables
from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import Resources
from fray.cluster.scheduling.accounts import Standing
from fray.cluster.types import JobStatus


@pytest.fixture
def tables(world) -> Tables:
    world.host("a", cpu=16)
    world.host("b", cpu=16)
    world.slice("s")
    kept = ResourceConfig(cpu=4)
    world.do(CreateReservation("r", "u", "ns", kept, kept, 1, 100, True, 1000.0))
    world.start("x", world.spec("y", ResourceConfig(cpu=2, replicas=2)))
    world.start("inside", "beside", group=GroupSpec("g", same_region=False))
    world.start(world.spec("slice", ResourceConfig.with_tpu("v5litepod-16")))
    world.schedule()
    world.submit("later")
    return world.ledger.tables


def change(table: str, key: str, **values):
    def harm(tables: Tables) -> str:
        records = getattr(tables, table)
        records[key] = replace(records[key], **values)
        return key

    return harm


def change_attempt(job: str, **values):
    def harm(tables: Tables) -> str:
        attempt = next(a for a in tables.attempts.values() if a.job_id == job)
        tables.attempts[attempt.attempt_id] = replace(attempt, **values)
        return job

    return harm


def change_task(job: str, index: int = 0, **values):
    def harm(tables: Tables) -> str:
        key = next(key for key in tables.tasks if (key.job_id, key.task_index) == (job, index))
        tables.tasks[key] = replace(tables.tasks[key], **values)
        return job

    return harm


def forget_attempt(tables: Tables) -> str:
    del tables.attempts[next(a.attempt_id for a in tables.attempts.values() if a.job_id == "u/x")]
    return "u/x"


def forget_admission(tables: Tables) -> str:
    [(key, group)] = tables.groups.items()
    tables.groups[key] = replace(group, admitted=False)
    return key


def drop(index: str, key: object, touched: str):
    def harm(tables: Tables) -> str:
        del getattr(tables.indexes, index)[key]
        return touched

    return harm


HARMS = {
    "its task": change_attempt("u/x", task_index=7),
    "its number": change_attempt("u/x", number=4),
    "its state": change_attempt("u/x", state=AttemptState.SUCCEEDED),
    "its host": change_attempt("u/x", worker_id="nowhere"),
    "its host's boot": change_attempt("u/x", boot_id="other"),
    "its generation": change_attempt("u/x", generation=1 << 20),
    "its part of a gang": change_attempt("u/slice", gang_epoch=5),
    "an attempt that is missing": forget_attempt,
    "what a host counts": change("workers", "a", used=Resources(1)),
    "devices of a host": change("workers", "a", devices={"cpu": (1000,)}),
    "what a host keeps": change("workers", "a", reserved={"r9": ()}),
    "the host's boot": change("workers", "a", boot_id="other"),
    "how many live": change("jobs", "u/y", tally=Tally(1, 0)),
    "the end of a job": change("jobs", "u/y", status=JobStatus.SUCCEEDED),
    "the verdict": change("jobs", "u/y", status=JobStatus.FAILED),
    "retries": change_task("u/x", failures=1 << 20),
    "a live attempt": change_task("u/x", live="nobody"),
    "a reservation's end": change("reservations", "r", ended_at=1.0),
    "a group's start": forget_admission,
    "a user's account": lambda tables: tables.users.update({"u": Standing()}) or "u",
    "the index of hosts": drop("on_worker", "a", "a"),
    "the index of jobs that wait": drop("unplaced", "u/later", "u/later"),
}


@pytest.mark.parametrize("what", HARMS)
def test_a_broken_promise_is_found_by_a_look_at_what_has_changed_as_by_a_look_at_all(tables, what):
    ids = [*tables.workers, *tables.jobs, *tables.gangs, *tables.groups, *tables.users, "r"]
    assert violations(tables) == []
    assert [violations(tables, [each]) for each in ids] == [[] for _ in ids]
    touched = HARMS[what](tables)
    assert violations(tables)
    assert violations(tables, [touched])
    untouched = [each for each in tables.workers if each.startswith("s-")]
    if what not in ("its part of a gang",):
        assert violations(tables, untouched) == []  # it does not look at what is not concerned
