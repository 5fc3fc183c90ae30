"""A safeguard switched off, and what notices: the terms of `tests.sim.mutations`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest

from fray.testing import SimCluster, Simulation

SEEDS = range(5)
"""A mutation is to be noticed with one of these, in a story."""

Story = Callable[[Simulation], Coroutine[Any, Any, object]]
Off = Callable[[pytest.MonkeyPatch], object]


class Mutation(NamedTuple):
    """A safeguard, how it is switched off, and what notices.

    Attributes:
        safeguard: What it does, as a sentence without a full stop.
        off: Patches it away.
        witness: Its name, for people.
        story: It; told a fresh simulation.
        seeds: With which it is told, until it fails.
    """

    safeguard: str
    off: Off
    witness: str
    story: Story
    seeds: range = SEEDS


class Noticed(NamedTuple):
    """What noticed a mutation: the seed, and the first line of what it said."""

    seed: int
    told: str


def cluster_story(
    test: Callable[..., Coroutine[Any, Any, object]], *args: Any
) -> tuple[str, Story]:
    """A test of a simulated cluster, as a story."""

    async def story(sim: Simulation) -> object:
        async with SimCluster(sim) as cluster:
            return await test(cluster, *args)

    return test.__name__, story


def bare_story(test: Callable[..., Coroutine[Any, Any, object]]) -> tuple[str, Story]:
    """A test of a simulation without a cluster, as a story."""
    return test.__name__, test


def tell(mutation: Mutation, seed: int) -> str | None:
    """Tells its story once, as things are patched. Gives what went wrong, None if nothing.

    Args:
        mutation: Whose story.
        seed: Of the simulation.
    """
    try:
        with Simulation(seed, time_limit_s=4_000, wall_limit_s=30) as sim:
            sim.run(mutation.story(sim))
            sim.check()
    except (Exception, pytest.fail.Exception) as exc:
        lines = str(exc).strip().splitlines() or [""]
        return f"{type(exc).__name__}: {lines[0]}"
    return None


def notice(mutation: Mutation) -> Noticed | None:
    """Switches a safeguard off and tells its story until somebody notices.

    Args:
        mutation: Which.
    """
    for seed in mutation.seeds:
        with pytest.MonkeyPatch.context() as patch:
            mutation.off(patch)
            told = tell(mutation, seed)
        if told is not None:
            return Noticed(seed, told)
    return None
