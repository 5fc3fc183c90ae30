"""The soak: ``python -m tests.sim.lab --seeds 10000``.

Each seed is a world of its own; the seeds are spread over processes. Failing ones are listed with
the command that runs them again, and make the exit code 1.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import time
import traceback
from typing import NamedTuple

from fray.testing import Simulation
from tests.sim.lab.run import Report, live

PROGRESS_S = 20.0


class Verdict(NamedTuple):
    """What became of one seed: a report, or what went wrong."""

    seed: int
    report: Report | None
    failure: str
    wall_s: float


def judge(seed: int) -> Verdict:
    """Runs one seed.

    Args:
        seed: Which.
    """
    logging.disable()  # a storm has a lot to say
    began = time.perf_counter()
    report, failure = None, ""
    try:
        with Simulation(seed) as sim:
            report = sim.run(live(sim))
            sim.check()
    except Exception as exc:
        report, failure = None, "".join(traceback.format_exception(exc, chain=False))
    return Verdict(seed, report, failure, time.perf_counter() - began)


def table(total: Report, failed: list[Verdict], slowest_s: float, wall_s: float) -> str:
    """The figures, as markdown.

    Args:
        total: All that went well, added up.
        failed: The others.
        slowest_s: Wall time of the slowest seed.
        wall_s: Of all.
    """
    rows = [
        ("seeds", f"{total.seeds + len(failed):,}"),
        ("of them failed", f"{len(failed):,}"),
        ("virtual time", f"{total.virtual_s / 3600:,.1f} h"),
        ("faults injected", f"{total.faults.total():,}"),
        ("calls made", f"{total.calls:,}"),
        ("methods run", f"{total.runs:,}"),
        ("calls without an outcome", f"{total.unsettled:,}, their callers having been killed"),
        ("steps", f"{total.steps:,}"),
        ("wall time", f"{wall_s / 60:,.1f} min, the slowest seed {slowest_s:.2f} s"),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    for title, counts in (("outcomes", total.outcomes), ("faults", total.faults)):
        told = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
        lines.append(f"| {title} | {told} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Entry point; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.lab", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    given = parser.parse_args(argv)
    total, failed, slowest_s, done = Report(), list[Verdict](), 0.0, 0
    began = told = time.monotonic()
    seeds = range(given.first, given.first + given.seeds)
    # A fresh interpreter now and then: worlds share one, and nothing may hide in it for long.
    with multiprocessing.get_context("spawn").Pool(given.workers, maxtasksperchild=20) as pool:
        for verdict in pool.imap_unordered(judge, seeds, chunksize=25):
            done += 1
            slowest_s = max(slowest_s, verdict.wall_s)
            if verdict.report is not None:
                total.add(verdict.report)
            else:
                failed.append(verdict)
                print(f"seed {verdict.seed} FAILED\n{verdict.failure}", flush=True)
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                rate = done / (told - began)
                left_s = (given.seeds - done) / rate
                print(
                    f"{done:,} of {given.seeds:,} seeds, {len(failed)} failed, "
                    f"{rate:.1f} a second, {left_s / 60:.0f} min left",
                    flush=True,
                )
    print(table(total, failed, slowest_s, time.monotonic() - began))
    for verdict in sorted(failed):
        print(f"replay: python -m tests.sim.lab --first {verdict.seed} --seeds 1 --workers 1")
    return 1 if failed else 0
