"""The fleet: random histories of whole clusters, in each of which every promise of theirs holds."""

from __future__ import annotations

import pytest

from fray.testing import simulate
from tests.sim.fleet.run import live

SEEDS = 120


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_job_ends_as_it_really_did_and_nothing_is_left(seed: int):
    report = simulate(seed, live)
    assert report.jobs
    assert report.looks


@pytest.mark.parametrize("seed", range(3))
def test_a_fleet_is_the_same_again(seed: int):
    assert simulate(seed, live) == simulate(seed, live)
