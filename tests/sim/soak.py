"""The soak: ``python -m tests.sim.soak --seeds 10000``, of all kinds of worlds one after the other.

Each seed is a world of its own; the seeds are spread over processes. Failing ones are listed with
the command that runs them again, and make the exit code 1.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, cast

from fray.testing import Simulation

KINDS = {"lab": "tests.sim.lab.run", "fleet": "tests.sim.fleet.run"}
"""The kinds of worlds: each a module with a coroutine function ``live``, which gives a `Report`."""

PROGRESS_S = 20.0

LARGE_S = 0.5
"""A world that takes more CPU time is large."""

LARGE_SHARE_MAX = 0.05
"""So many may be, of `SHARE_OF` worlds or more."""

SHARE_OF = 200


@dataclass
class Report:
    """What one seed, or many, came to; each kind of world adds what it counts.

    Attributes:
        counted: The names of the figures of a kind, in the order in which they are shown.
        seeds: How many.
        virtual_s: Virtual seconds.
        steps: Callbacks run.
        faults: Faults by kind.
    """

    counted: ClassVar[dict[str, str]] = {}

    seeds: int = 0
    virtual_s: float = 0.0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        """Adds another of the same kind to this one.

        Args:
            other: Of other seeds.
        """
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def rows(self) -> list[tuple[str, str]]:
        """What this kind of world counts, for people."""
        found: list[tuple[str, str]] = []
        for name, title in self.counted.items():
            value = getattr(self, name)
            if isinstance(value, Counter):
                told = ", ".join(f"{what} {count:,}" for what, count in value.most_common())
            else:
                told = f"{value:,}"
            found.append((title, told))
        return found


Live = Callable[[Simulation], Coroutine[Any, Any, Report]]


class Verdict(NamedTuple):
    """What became of one seed: a report, or what went wrong."""

    seed: int
    report: Report | None
    failure: str
    cpu_s: float


def judge(kind: str, seed: int) -> Verdict:
    """Runs one seed.

    Args:
        kind: One of `KINDS`.
        seed: Which.
    """
    logging.disable()  # a storm has a lot to say
    live = cast("Live", importlib.import_module(KINDS[kind]).live)
    began = time.process_time()
    report, failure = None, ""
    try:
        with Simulation(seed) as sim:
            report = sim.run(live(sim))
            sim.check()
    except Exception as exc:
        report, failure = None, "".join(traceback.format_exception(exc, chain=False))
    return Verdict(seed, report, failure, time.process_time() - began)


def table(total: Report | None, failed: int, times_s: list[float], wall_s: float) -> str:
    """The figures, as markdown.

    Args:
        total: All that went well, added up.
        failed: How many did not.
        times_s: CPU time of each seed.
        wall_s: Wall time of all.
    """
    large = sum(time_s > LARGE_S for time_s in times_s)
    total = total or Report()
    rows = [
        ("seeds", f"{len(times_s):,}"),
        ("of them failed", f"{failed:,}"),
        ("virtual time", f"{total.virtual_s / 3600:,.1f} h"),
        ("faults injected", f"{total.faults.total():,}"),
        *total.rows(),
        ("steps", f"{total.steps:,}"),
        ("wall time", f"{wall_s / 60:,.1f} min"),
        (
            "CPU time of a seed",
            f"{sum(times_s) / len(times_s):.2f} s, at the most {max(times_s):.2f} s; "
            f"{large:,} took more than {LARGE_S} s",
        ),
        ("faults", ", ".join(f"{name} {n:,}" for name, n in total.faults.most_common())),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def soak(kind: str, seeds: range, workers: int) -> bool:
    """Runs many worlds of a kind, and prints what they came to.

    Args:
        kind: One of `KINDS`.
        seeds: Which.
        workers: How many processes.

    Returns:
        Whether all went well, and not too many were large.
    """
    total, failed, times_s = None, list[int](), list[float]()
    began = told = time.monotonic()
    # A fresh interpreter now and then: worlds share one, and nothing may hide in it for long.
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=20) as pool:
        for verdict in pool.imap_unordered(functools.partial(judge, kind), seeds, chunksize=25):
            times_s.append(verdict.cpu_s)
            if verdict.report is None:
                failed.append(verdict.seed)
                print(f"{kind} seed {verdict.seed} FAILED\n{verdict.failure}", flush=True)
            elif total is None:
                total = verdict.report
            else:
                total.add(verdict.report)
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                done = len(times_s)
                rate = done / (told - began)
                left_s = (len(seeds) - done) / rate
                print(
                    f"{kind}: {done:,} of {len(seeds):,} seeds, {len(failed)} failed, "
                    f"{rate:.1f} a second, {left_s / 60:.0f} min left",
                    flush=True,
                )
    print(f"{kind}:\n{table(total, len(failed), times_s, time.monotonic() - began)}")
    for seed in sorted(failed):
        print(f"replay: python -m tests.sim.soak {kind} --first {seed} --seeds 1 --workers 1")
    too_large = sum(time_s > LARGE_S for time_s in times_s) > LARGE_SHARE_MAX * len(times_s)
    too_large = too_large and len(times_s) >= SHARE_OF
    if too_large:
        print("too many worlds are large: make them smaller")
    return not failed and not too_large


def main(argv: list[str]) -> int:
    """Entry point; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.soak", description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; all of them by default")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    given = parser.parse_args(argv)
    unknown = [kind for kind in given.kinds if kind not in KINDS]
    if unknown or given.seeds < 1:
        parser.error(f"no such worlds: {unknown}" if unknown else "at least one seed")
    seeds = range(given.first, given.first + given.seeds)
    well = [soak(kind, seeds, given.workers) for kind in given.kinds or KINDS]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
