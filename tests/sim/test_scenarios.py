"""Stories in which one safeguard matters; that it does is shown by `tests.sim.test_mutations`."""

from __future__ import annotations

import pytest

from tests.sim.scenarios import BARE, IN_A_CLUSTER


@pytest.mark.parametrize("scenario", IN_A_CLUSTER, ids=lambda scenario: scenario.__name__)
async def test_in_a_cluster(sim_cluster, scenario):
    await scenario(sim_cluster)


@pytest.mark.parametrize("scenario", BARE, ids=lambda scenario: scenario.__name__)
async def test_without_a_cluster(sim, scenario):
    await scenario(sim)
