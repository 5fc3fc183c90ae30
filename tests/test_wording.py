"""Numbers and words together."""

from __future__ import annotations

import pytest

from fray.cluster.resources import Resources
from fray.errors import DeathCause, DeathKind
from fray.wording import and_others, counted


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 cpus"),
        (1, "1 cpu"),
        (1.0, "1 cpu"),
        (2, "2 cpus"),
        (0.5, "0.5 cpus"),
        (11, "11 cpus"),
        ("1", "1 cpu"),
        ("1.5", "1.5 cpus"),
    ],
)
def test_one_thing_is_singular_and_everything_else_plural(count: float | str, told: str) -> None:
    assert counted(count, "cpu") == told


def test_plurals_without_an_s_are_given() -> None:
    assert counted(1, "task is", "tasks are") == "1 task is"
    assert counted(3, "task is", "tasks are") == "3 tasks are"


def test_others_are_counted_only_where_there_are_any() -> None:
    assert and_others("a", 0) == "a"
    assert and_others("a, b", 1) == "a, b and 1 other"
    assert and_others("a", 2) == "a and 2 others"


def test_resources_of_one_are_singular() -> None:
    one = Resources(1000, gpus={"H100": 1000}, tpus={"v6e": 1})
    assert one.describe() == "1 cpu, 1 H100 gpu, 1 v6e chip"
    assert one.times(2).describe() == "2 cpus, 2 H100 gpus, 2 v6e chips"


def test_host_is_told_behind_a_sentence_without_another_full_stop_before_it() -> None:
    cause = DeathCause(DeathKind.BUILD_FAILED, "your requirements are unsatisfiable.", host="vm")
    assert str(cause) == "your requirements are unsatisfiable (on vm)"
    cause = DeathCause(DeathKind.APP_ERROR, "exit code 3", host="vm")
    assert str(cause) == "exit code 3 on vm"
