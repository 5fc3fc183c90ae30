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
    host_notes,
    host_table,
    job_facts,
    job_json,
    job_table,
    reason_of,
    run_time,
    shortened,
    task_table,
    why,
)
from fray.cli.status import status_json, status_lines
from fray.cluster.control import NamedEndpoint
from fray.cluster.devices import ResourceConfig
from fray.cluster.home import Daemon
from fray.cluster.reports import JobCounts, TaskReport
from fray.cluster.scheduling.inventory import HeldDevice
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
        ["JOB", "STATUS", "RUNNING", "AGE", "RAN", "REASON"],
        ["ann/big-1", "pending", "0/1", "1m40s", "", "needs 16 chips; 8 are free"],
        ["ann/train-7f3a", "running", "1/2", "1m40s", "1m00s", ""],
        ["ann/x-2", "failed", "0/1", "1m40s", "", "task 0 failed: boom"],
    ]


def test_long_reasons_are_cut() -> None:
    assert shortened("word " * 100, 20) == "word word word word…"
    assert shortened("short", 20) == "short"
    assert len(shortened("x" * 21, 20)) == 20


def test_job_shows_what_there_is_and_leaves_out_what_is_not() -> None:
    facts = dict(job_facts(job(parent="ann/boss-1", resources=ResourceConfig()), NOW))
    assert {name: cell.text for name, cell in facts.items()} == {
        "job": "ann/train-7f3a",
        "status": "running",
        "user": "ann",
        "namespace": "ann-1",
        "resources": "1 cpu, 128m",
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


def test_hosts_are_shown_and_told() -> None:
    table = host_table([host(zone="z"), host("far", "lost", region="r")])
    assert texts(table) == [
        ["HOST", "HEALTH", "RUNS", "USED", "CAPACITY", "WHERE", "ADDRESS"],
        ["box", "healthy", "1", "1 cpu", "8 cpus", "z", "127.0.0.1:9"],
        ["far", "lost", "1", "1 cpu", "8 cpus", "r", "127.0.0.1:9"],
    ]
    assert [row[1].style for row in table.rows] == ["green", "red"]
    assert host_json(host()) == {
        "worker": "box",
        "address": "127.0.0.1:9",
        "health": "healthy",
        "capacity": amounts(cpus=8.0),
        "used": amounts(cpus=1.0),
        "attempts": 1,
        "region": None,
        "zone": None,
        "reason": None,
        "until": None,
        "held": [],
    }


def amounts(*, cpus: float) -> dict[str, Any]:
    nothing: dict[str, Any] = {"gpus": {}, "tpu_chips": {}}
    return {"cpus": cpus, "memory_bytes": 0, "disk_bytes": 0, **nothing}


def test_why_hosts_are_not_in_use_is_told_with_when_that_ends() -> None:
    hosts = [
        host(),
        host("a", "draining", reason="a fan"),
        host("b", "draining", reason="a fan", until=1090.0),
        host("d", held=(HeldDevice("H100", 3, "process 7 of u/j/0#0"),)),
        host("c", "quarantined", reason="it failed 3 jobs", until=2800.0),
    ]
    assert host_notes(hosts, now=1000.0) == [
        "a is draining: a fan",
        "b is draining: a fan; what is there in 1m30s is stopped",
        "d: H100 3 is still held by process 7 of u/j/0#0",
        "c is quarantined: it failed 3 jobs; for another 30m00s, or until `fray undrain c`",
    ]


def test_counts_are_told_in_one_line() -> None:
    assert counts_line({"running": 2, "failed": 1, "pending": 0}, "jobs") == (
        "jobs: 2 running, 1 failed"
    )
    assert counts_line({"running": 0}, "jobs") == "jobs: none"


def test_status_tells_the_controller_hosts_and_jobs() -> None:
    controller = Daemon("controller", "", 12, NOW - 65, "127.0.0.1:50051")
    jobs = JobCounts({"running": 1, "failed": 0}, {"running": 1})
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
    none = JobCounts({}, {})
    assert status_json(None, "h:1", None, [], none, NOW)["controller"] is None
    lines = status_lines(None, "fray://h:1", None, none, NOW)
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


def test_sole_living_actor_is_meant_whatever_has_ended() -> None:
    rows = actor_rows(
        [
            job("ann/m-1", JobStatus.STOPPED, actor_id="a-1", namespace="other"),
            job("ann/m-2", actor_id="a-2"),
            job("ann/m-3", JobStatus.FAILED, actor_id="a-3", namespace="third"),
        ],
        {},
        {},
    )
    assert find_actor("m", rows).actor_id == "a-2"
    assert find_actor("a-", rows).actor_id == "a-2"
    assert find_actor("a-1", rows).actor_id == "a-1"


def test_name_in_two_namespaces_is_ambiguous() -> None:
    rows = actor_rows(
        [job("ann/m-1", actor_id="a-1"), job("ann/m-2", actor_id="a-2", namespace="other")], {}, {}
    )
    for given in ("m", "a-"):
        with pytest.raises(Failure, match=f"'{given}' may be any of these 2 actors; .*--name") as e:
            find_actor(given, rows)
        assert e.value.choices is not None
        shown = [[row[0], *row[2:4]] for row in texts(e.value.choices)[1:]]
        assert shown == [["m", "a-1", "ann-1"], ["m", "a-2", "other"]]
    with pytest.raises(Failure, match="no actor 'zz'; `fray actor list --ended`"):
        find_actor("zz", rows)


def test_a_job_whose_tasks_lost_their_places_says_why_they_wait() -> None:
    task = TaskReport(JobStatus.PENDING, error="preempted by bob/hi")
    report = job(tasks=(task,), waits_for=("a: needs 4 cpus, has 0 of 4 left",))
    assert reason_of(report) == "a: needs 4 cpus, has 0 of 4 left"
    assert why(report) == [
        "ann/train-7f3a is running",
        "  task 0 (pending): preempted by bob/hi",
        "  waits for a place: a: needs 4 cpus, has 0 of 4 left",
    ]
