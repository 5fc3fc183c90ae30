"""The lab: many random worlds, in each of which every promise about calls holds."""

from __future__ import annotations

import pytest

from fray.testing import simulate
from tests.sim.lab.run import live

SEEDS = 120


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_call_ends_once_and_all_is_well_after_the_storm(seed: int):
    report = simulate(seed, live)
    assert report.calls > report.unsettled


@pytest.mark.parametrize("seed", range(3))
def test_the_lab_is_the_same_again(seed: int):
    assert simulate(seed, live) == simulate(seed, live)
