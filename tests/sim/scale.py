"""How long a simulated hour takes: ``python -m tests.sim.scale 20 50 200``.

Hosts with ten actors each that nobody calls, under heartbeats, with all checkers on.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import time
from typing import NamedTuple

from fray.testing import SimCluster, Simulation
from tests.sim.actors import Counter

HOUR_S = 3600.0
ACTORS_PER_HOST = 10


class Measured(NamedTuple):
    """What one size of cluster took."""

    hosts: int
    actors: int
    start_s: float
    hour_s: float
    steps: int

    def row(self) -> str:
        return (
            f"| {self.hosts:,} | {self.actors:,} | {self.start_s:.1f} s | {self.hour_s:.1f} s | "
            f"{self.steps:,} |"
        )


def measure(hosts: int, profile: cProfile.Profile | None = None) -> Measured:
    """Starts a cluster and lets an hour pass in it.

    Args:
        hosts: How many hosts.
        profile: Is switched on for that hour.
    """
    clock = time.process_time  # others may use the machine, too

    async def main(sim: Simulation) -> tuple[float, float, int]:
        began = clock()
        async with SimCluster(sim) as cluster:
            await cluster.add_hosts(hosts, cpus=ACTORS_PER_HOST)
            actors = [Counter.remote() for _ in range(hosts * ACTORS_PER_HOST)]
            await asyncio.gather(*actors)
            assert len({cluster.process_of(actor) for actor in actors}) == len(actors)
            ready, steps = clock(), sim.loop.steps
            if profile is not None:
                profile.enable()
            await asyncio.sleep(HOUR_S)
            if profile is not None:
                profile.disable()
            return ready - began, clock() - ready, sim.loop.steps - steps

    with Simulation(0, wall_limit_s=7200.0) as sim:
        start_s, hour_s, steps = sim.run(main(sim))
        sim.check()
    return Measured(hosts, hosts * ACTORS_PER_HOST, start_s, hour_s, steps)


def run(argv: list[str]) -> int:
    """Entry point; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.scale", description=__doc__)
    parser.add_argument("hosts", type=int, nargs="*", default=[20, 50, 200])
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args(argv)
    print("| hosts | actors | starting them | an hour | steps of it |\n|---|---|---|---|---|")
    for hosts in given.hosts:
        profile = cProfile.Profile() if given.profile else None
        print(measure(hosts, profile).row(), flush=True)
        if profile is not None:
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
