from __future__ import annotations

from typing import Any

import orjson
import pytest

from fray.actor.directory import Endpoint
from fray.cli.actorlist import actor_json, actor_rows, actor_table, find_actor
from fray.cli.errors import Failure
from fray.cli.reports import (
    Table,
    counts_line,
    host_json,
    host_table,
    job_counts,
    job_facts,
    job_json,
    job_table,
    run_time,
    select_jobs,
    shortened,
    task_table,
    why,
)
from fray.cli.status import status_json, status_lines
from fray.cluster.control import NamedEndpoint, TaskReport
from fray.cluster.home import Daemon
from fray.cluster.types import JobStatus
from fray.runtime.clock import duration

from .samples import NOW, attempt, host, job


def texts(table: Table) -> list[list[str]]:
    return [list(table.columns), *([cell.text for cell in row] for row in table.rows)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (7500, "2h05m"),
        (90000, "1d01h"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_run_time_counts_from_the_start() -> None:
    assert run_time(job(started_at=None), NOW) == ""
    assert run_time(job(started_at=NOW - 60), NOW) == "1m00s"
    assert run_time(job(started_at=NOW - 60, ended_at=NOW - 50), NOW) == "10s"


def test_jobs_are_listed_with_what_they_wait_for() -> None:
    waiting = job("ann/big-1", JobStatus.PENDING, waits_for=("needs 16 chips", "8 are free"))
    running = job(
        started_at=NOW - 60,
        tasks=(TaskReport(JobStatus.RUNNING), TaskReport(JobStatus.PENDING)),
    )
    failed = job("ann/x-2", JobStatus.FAILED, error="task 0 failed:\n  boom")
    assert texts(job_table([waiting, running, failed], NOW)) == [
        ["JOB", "STATUS", "TASKS", "AGE", "RAN", "REASON"],
        ["ann/big-1", "pending", "1/1", "1m40s", "", "needs 16 chips; 8 are free"],
        ["ann/train-7f3a", "running", "1/2", "1m40s", "1m00s", ""],
        ["ann/x-2", "failed", "1/1", "1m40s", "", "task 0 failed: boom"],
    ]


def test_long_reasons_are_cut() -> None:
    assert shortened("word " * 100, 20) == "word word word word…"
    assert shortened("short", 20) == "short"
    assert len(shortened("x" * 21, 20)) == 20


def test_job_shows_what_there_is_and_leaves_out_what_is_not() -> None:
    facts = dict(job_facts(job(parent="ann/boss-1", resources="1 cpu"), NOW))
    assert {name: cell.text for name, cell in facts.items()} == {
        "job": "ann/train-7f3a",
        "status": "running",
        "user": "ann",
        "namespace": "ann-1",
        "resources": "1 cpu",
        "launched by": "ann/boss-1",
        "submitted": "1m40s ago",
    }


def test_tasks_are_shown_with_their_last_attempt() -> None:
    tasks = (
        TaskReport(
            JobStatus.RUNNING,
            error="exited with code 3",
            failures=1,
            attempts=(attempt(0, state="failed"), attempt(1, worker="other")),
        ),
        TaskReport(JobStatus.PENDING),
    )
    assert texts(task_table(job(tasks=tasks)))[1:] == [
        ["0", "running", "other", "1 running", "1", "0", "exited with code 3"],
        ["1", "pending", "", "", "0", "0", ""],
    ]


def test_why_gives_each_reason_a_line() -> None:
    waiting = job("ann/big-1", JobStatus.PENDING, waits_for=("needs 16 chips", "8 are free"))
    assert why(waiting) == ["ann/big-1 waits:", "  needs 16 chips", "  8 are free"]
    assert "has not looked at it yet" in why(job(status=JobStatus.PENDING))[1]


def test_why_tells_what_became_of_a_job_that_does_not_wait() -> None:
    assert why(job()) == ["ann/train-7f3a is running"]
    assert why(job(status=JobStatus.SUCCEEDED)) == ["ann/train-7f3a has succeeded"]
    tasks = (TaskReport(JobStatus.FAILED, error="boom"), TaskReport(JobStatus.STOPPED, error="x"))
    assert why(job(status=JobStatus.FAILED, error="task 0 failed: boom", tasks=tasks)) == [
        "ann/train-7f3a has failed",
        "  task 0 failed: boom",
        "  task 1 (stopped): x",
    ]


def test_keys_of_a_job_are_stable() -> None:
    told = job_json(job(waits_for=("a",), error="", group="g"))
    assert list(told) == [
        "job_id",
        "name",
        "user",
        "namespace",
        "status",
        "error",
        "waits_for",
        "submitted_at",
        "started_at",
        "ended_at",
        "group",
        "parent",
        "actor_id",
        "resources",
        "tasks",
    ]
    assert (told["error"], told["group"], told["parent"]) == (None, "g", None)
    assert told["tasks"] == [
        {
            "index": 0,
            "status": "running",
            "error": None,
            "failures": 0,
            "preemptions": 0,
            "attempts": [
                {
                    "attempt_id": "ann/train-7f3a/0#0",
                    "number": 0,
                    "worker": "box",
                    "state": "running",
                    "live": True,
                }
            ],
        }
    ]
    assert orjson.loads(orjson.dumps(told)) == told


def test_jobs_are_selected() -> None:
    jobs = [
        job("ann/a-1", JobStatus.FAILED),
        job("bob/b-2"),
        job("ann/c-3", actor_id="a-1"),
        job("ann/d-4"),
    ]

    def ids(**fields: Any) -> list[str]:
        return [report.job_id for report in select_jobs(jobs, **fields)]

    assert ids() == ["ann/a-1", "bob/b-2", "ann/d-4"]
    assert ids(with_actors=True, newest=2) == ["ann/c-3", "ann/d-4"]
    assert ids(statuses=[JobStatus.RUNNING]) == ["bob/b-2", "ann/d-4"]
    assert ids(user="ann", newest=1) == ["ann/d-4"]


def test_hosts_are_shown_and_told() -> None:
    table = host_table([host(zone="z"), host("far", "lost", region="r")])
    assert texts(table) == [
        ["HOST", "HEALTH", "RUNS", "USED", "CAPACITY", "WHERE", "ADDRESS"],
        ["box", "healthy", "1", "1 cpus", "8 cpus", "z", "127.0.0.1:9"],
        ["far", "lost", "1", "1 cpus", "8 cpus", "r", "127.0.0.1:9"],
    ]
    assert [row[1].style for row in table.rows] == ["green", "red"]
    assert host_json(host()) == {
        "worker": "box",
        "address": "127.0.0.1:9",
        "health": "healthy",
        "capacity": "8 cpus",
        "used": "1 cpus",
        "attempts": 1,
        "region": None,
        "zone": None,
    }


def test_jobs_are_counted_apart_from_actors() -> None:
    jobs = [job(), job(), job(status=JobStatus.FAILED), job(actor_id="a-1")]
    assert job_counts(jobs) == {
        "pending": 0,
        "running": 2,
        "succeeded": 0,
        "failed": 1,
        "stopped": 0,
    }
    assert counts_line(job_counts(jobs), "jobs") == "jobs: 2 running, 1 failed"
    assert counts_line(job_counts([]), "jobs") == "jobs: none"


def test_status_tells_the_controller_hosts_and_jobs() -> None:
    controller = Daemon("controller", "", 12, NOW - 65, "127.0.0.1:50051")
    jobs = [job(), job(actor_id="a-1")]
    told = status_json("lab", "127.0.0.1:50051", controller, [host()], jobs, NOW)
    assert list(told) == ["cluster", "address", "controller", "hosts", "jobs", "actors"]
    assert told["controller"] == {"pid": 12, "started_at": NOW - 65, "uptime_s": 65.0}
    lines = status_lines("lab", "fray://127.0.0.1:50051", controller, jobs, NOW)
    assert [line.text for line in lines] == [
        "cluster lab at fray://127.0.0.1:50051",
        "controller: answers, process 12, up for 1m05s",
        "jobs: 1 running",
        "actors: 1 running",
    ]


def test_status_of_a_cluster_elsewhere_knows_no_process() -> None:
    assert status_json(None, "h:1", None, [], [], NOW)["controller"] is None
    lines = status_lines(None, "fray://h:1", None, [], NOW)
    assert [line.text for line in lines] == [
        "cluster at fray://h:1",
        "controller: answers",
        "jobs: none",
    ]


# ---- actors


def named(name: str, actor_id: str, job_id: str = "") -> NamedEndpoint:
    return NamedEndpoint(name, Endpoint(actor_id, 1, "p-1", f"127.0.0.1:{len(name)}", job_id))


ROWS = actor_rows(
    [
        job("ann/old-1", JobStatus.STOPPED, actor_id="a-1"),
        job("ann/model-2", actor_id="a-2"),
        job("ann/train-3"),
    ],
    {"ann-1": [named("model", "a-2"), named("pool", "x-7", "ann/train-3"), named("m", "a-2")]},
    {"a-2": "127.0.0.1:5"},
)


def test_actors_are_those_of_jobs_and_those_that_jobs_registered() -> None:
    assert [(row.actor_id, row.names, row.status, row.made) for row in ROWS] == [
        ("a-1", ("old",), "stopped", True),
        ("a-2", ("m", "model"), "running", True),
        ("x-7", ("pool",), "running", False),
    ]
    assert texts(actor_table(ROWS[1:])) == [
        ["NAME", "STATUS", "ACTOR", "NAMESPACE", "ADDRESS", "JOB"],
        ["m, model", "running", "a-2", "ann-1", "127.0.0.1:5", "ann/model-2"],
        ["pool", "running", "x-7", "ann-1", "127.0.0.1:4", "ann/train-3"],
    ]
    assert actor_json(ROWS[0]) == {
        "actor_id": "a-1",
        "names": ["old"],
        "namespace": "ann-1",
        "status": "stopped",
        "address": None,
        "job_id": "ann/old-1",
        "made_by_cluster": True,
        "error": None,
    }


@pytest.mark.parametrize(
    ("given", "actor_id"),
    [("model", "a-2"), ("m", "a-2"), ("a-1", "a-1"), ("x", "x-7"), ("old", "a-1"), ("pool", "x-7")],
)
def test_actors_are_found_by_name_or_id(given: str, actor_id: str) -> None:
    assert find_actor(given, ROWS).actor_id == actor_id


def test_name_means_the_actor_that_has_it_now() -> None:
    rows = actor_rows(
        [job("ann/m-1", JobStatus.FAILED, actor_id="a-1"), job("ann/m-2", actor_id="a-2")], {}, {}
    )
    assert find_actor("m", rows).actor_id == "a-2"


def test_name_in_two_namespaces_is_ambiguous() -> None:
    rows = actor_rows(
        [job("ann/m-1", actor_id="a-1"), job("ann/m-2", actor_id="a-2", namespace="other")], {}, {}
    )
    with pytest.raises(Failure, match="a-1 in ann-1, a-2 in other; give an id, or --namespace"):
        find_actor("m", rows)
    with pytest.raises(Failure, match="'a-' may be any of"):
        find_actor("a-", rows)
    with pytest.raises(Failure, match="no actor 'zz'; `fray actor list`"):
        find_actor("zz", rows)
