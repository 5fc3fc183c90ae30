"""Accelerators by index."""

import pytest

from fray.cluster.resources import Resources
from fray.cluster.scheduling.inventory import (
    Allocation,
    charge,
    choose_chips,
    choose_gpus,
    device_use,
)


@pytest.mark.parametrize(
    ("taken", "milli", "chosen"),
    [
        ((0, 0, 0, 0), 2000, (0, 1)),
        ((1000, 0, 1000, 0), 2000, (1, 3)),
        ((1000, 500, 1000, 0), 2000, ()),
        ((0, 0), 500, (0,)),
        ((0, 500), 500, (1,)),
        ((250, 500, 700), 250, (2,)),
        ((900, 900), 250, ()),
        ((), 1000, ()),
    ],
)
def test_whole_gpus_are_free_ones_and_a_fraction_goes_where_least_is_left(taken, milli, chosen):
    assert choose_gpus(taken, milli) == chosen


@pytest.mark.parametrize(
    ("taken", "count", "chosen"),
    [
        ((0,) * 8, 8, tuple(range(8))),
        ((0,) * 8, 4, (0, 1, 2, 3)),
        ((1000, 0, 0, 0, 0, 0, 0, 0), 4, (4, 5, 6, 7)),
        ((0, 0, 1000, 0, 1000, 0, 0, 0), 4, ()),
        ((1000, 0), 1, (1,)),
        ((0,) * 4, 8, ()),
    ],
)
def test_a_part_of_a_tpu_machine_is_an_aligned_run_of_chips(taken, count, chosen):
    assert choose_chips(taken, count) == chosen


def test_devices_are_taken_and_given_back():
    capacity = Resources(gpus={"H100": 4000}, tpus={"v6e": 4})
    shared = Allocation(Resources(gpus={"H100": 500}), (1,))
    whole = Allocation(Resources(gpus={"H100": 2000}), (2, 3))
    chips = Allocation(Resources(tpus={"v6e": 4}), (0, 1, 2, 3))
    devices = {}
    for allocation in (shared, whole, chips):
        devices = charge(devices, capacity, allocation, 1)
    assert device_use(devices, capacity, "H100") == (0, 500, 1000, 1000)
    assert device_use(devices, capacity, "v6e") == (1000,) * 4
    for allocation in (whole, chips, shared):
        devices = charge(devices, capacity, allocation, -1)
    assert devices == {}
    assert device_use(devices, capacity, "H100") == (0,) * 4
