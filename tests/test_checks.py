"""What users write is checked in the same words everywhere, before anything is done."""

from __future__ import annotations

import pytest

import fray
from fray.checks import check_whole
from fray.errors import InvalidRequestError
from fray.job import FrayContext


@pytest.mark.parametrize("value", [True, 2.0, "2", None])
def test_what_is_no_whole_number_is_refused_by_its_name(value: object):
    with pytest.raises(TypeError, match=r"^slices is a whole number, not "):
        check_whole("slices", value)


def test_what_is_too_small_is_refused_with_the_least_that_makes_sense():
    assert check_whole("slices", 2, 2) == 2
    with pytest.raises(InvalidRequestError, match=r"^slices must be at least 2, not 1$"):
        check_whole("slices", 1, 2)


@fray.actor
class Worker:
    async def step(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"slices": 0}, "slices must be at least 1"),
        ({"slices": 1, "min_slices": "1"}, "min_slices is a whole number"),
        ({"slices": 1, "hosts": 0}, "hosts must be at least 1"),
        ({"slices": 1, "args": 5}, "args is a tuple, or a function"),
    ],
)
def test_group_that_makes_no_sense_is_refused_where_it_is_written(wrong, error: str):
    with pytest.raises((TypeError, ValueError), match=error):
        fray.group(Worker, **wrong)


async def test_what_a_group_is_asked_for_is_checked(sim_cluster):
    await sim_cluster.add_hosts(1)
    async with fray.group(Worker, slices=1) as group:
        for slices, error in ((2.5, TypeError), ("x", TypeError), (0, ValueError)):
            with pytest.raises(error):
                group.resize(slices)
        with pytest.raises(TypeError, match=r"on\(\) takes some of group\.members, not 3"):
            group.step.on([3]).remote()
        with pytest.raises(TypeError, match=r"restart takes one of group\.slices, not 3"):
            group.restart(3, "it hangs")
        assert await group.step.remote() == [1]


def test_how_often_a_task_may_be_tried_is_checked(monkeypatch: pytest.MonkeyPatch):
    with fray.connect("local"), FrayContext() as context:
        for retries, error in ((-3, ValueError), ("x", TypeError)):
            with pytest.raises(error, match="retries"):
                context.run(len, "ab", retries=retries)
