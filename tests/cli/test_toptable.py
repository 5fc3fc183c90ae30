"""What `fray top` shows."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cli.toptable import (
    BAR_WIDTH,
    HostRow,
    Problem,
    SortBy,
    bar,
    host_rows_notes,
    host_rows_table,
    sorted_tasks,
    task_rows_table,
    top_json,
)
from fray.cluster.reports import HostReport
from fray.cluster.resources import Resources
from fray.cluster.usage import AcceleratorUse, AttemptUse, HostFigures, HostUse
from fray.ids import AttemptId, WorkerId

GIB = 1 << 30


def task(
    name: str, cpus: float | None, memory: int = 0, gpu: int = 0, age: float = 0.0
) -> AttemptUse:
    return AttemptUse(
        AttemptId(f"ann/{name}/0#0"),
        "running",
        1000.0 - age,
        5.0,
        memory,
        1,
        gpu_memory_bytes=gpu,
        cpus=cpus,
    )


def row(name: str, *tasks: AttemptUse, cpus: float | None = 1.0) -> HostRow:
    report = HostReport(WorkerId(name), "h:1", "healthy", Resources(), Resources(), len(tasks))
    gpu = AcceleratorUse("gpu", 0, "H100", 40 * GIB, 80 * GIB, 0.5)
    figures = HostFigures(4, 1, 1, 1, 8 * GIB, 6 * GIB, 100, 50, accelerators=(gpu,))
    return HostRow(report, HostUse(WorkerId(name), figures, tasks, cpus))


def texts(table) -> list[list[str]]:
    return [[cell.text for cell in each] for each in table.rows]


@given(st.floats(allow_nan=False))
def test_bar_never_leaves_its_place(share: float):
    drawn = bar(share, "x").text
    assert len(drawn) == BAR_WIDTH + 2
    assert set(drawn[:BAR_WIDTH]) <= {"█", "░"}


def test_hosts_are_told_with_what_they_use():
    (shown,) = texts(host_rows_table([row("box", task("a", 1.0))]))
    assert shown[:2] == ["box", "healthy"]
    assert shown[2].endswith("1.0/4")
    assert shown[3].endswith("2GiB/8GiB")
    assert shown[4].endswith("50% of 1, 40GiB/80GiB")
    assert shown[6] == "1"


def test_hosts_that_tell_nothing_have_dashes_and_a_line_below_with_the_reason():
    silent = HostRow(row("box").report, None, Problem.SILENT)
    refused = [HostRow(row(name).report, None, Problem.REFUSED) for name in ("a", "b")]
    failed = HostRow(row("c").report, None, Problem.FAILED, "the agent is on fire")
    assert texts(host_rows_table([silent]))[0][2:] == ["-"] * 5
    assert host_rows_notes([silent, *refused, failed, row("d")]) == [
        "box: does not answer",
        "a and 1 other: what hosts use is told to administrators only",
        "c: the agent is on fire",
    ]
    assert top_json([silent])[0]["problem"] == "silent"
    assert top_json([failed])[0]["error"] == "the agent is on fire"


@pytest.mark.parametrize(
    ("by", "order"),
    [
        (SortBy.CPU, ["b", "a", "c"]),
        (SortBy.MEMORY, ["c", "a", "b"]),
        (SortBy.GPU, ["a", "c", "b"]),
        (SortBy.AGE, ["c", "b", "a"]),
    ],
)
def test_tasks_of_all_hosts_are_sorted_together(by: SortBy, order: list[str]):
    rows = [
        row("one", task("a", 1.0, memory=2, gpu=9, age=1), task("b", 2.0, memory=1, age=2)),
        row("two", task("c", None, memory=3, gpu=3, age=3)),
    ]
    found = [use.attempt_id.split("/")[1] for _, use in sorted_tasks(rows, by)]
    assert found == order


def test_first_look_says_that_it_does_not_know_what_was_used_lately():
    (shown,) = texts(task_rows_table(sorted_tasks([row("one", task("a", None))], SortBy.CPU), 1060))
    assert shown[3].endswith(" ?")
    assert shown[6] == "1m00s"


def test_json_is_json():
    assert json.loads(json.dumps(top_json([row("one", task("a", 1.0))])))[0]["worker"] == "one"
