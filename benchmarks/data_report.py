"""What `benchmarks.data` found, as a page: figures of each peer, and ratios of paired runs."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks import table

CASES = ("transform", "group")
SITES = 1000
RESAMPLES = 5000
TITLES = {
    "zephyr": "zephyr",
    "ray-data": "Ray Data",
    "dask": "Dask bag",
    "multiprocessing": "multiprocessing",
}


@dataclass
class Sample:
    """One run of one peer, in the round of that number."""

    peer: str
    case: str
    gib: float
    number: int
    wall_s: float
    cpu_s: float
    largest_mib: float
    together_mib: float
    version: str
    check: tuple[int, int]


@dataclass
class Results:
    """All runs."""

    machine: dict[str, str]
    workers: int
    samples: list[Sample] = field(default_factory=list[Sample])
    failures: list[str] = field(default_factory=list[str])
    bystanders_percent: list[float] = field(default_factory=list[float])


FIGURES = (
    ("wall_s", "wall time, s"),
    ("cpu_s", "processor time, s"),
    ("largest_mib", "largest process, MiB"),
    ("together_mib", "together, MiB"),
)


def page(results: Results) -> str:
    """The page of a run."""
    peers = list(dict.fromkeys(sample.peer for sample in results.samples))
    count = len({sample.number for sample in results.samples})
    lines = [
        "# Data, side by side",
        "",
        "Made by `make bench-data`: the same JSON lines, the same functions, "
        f"{results.workers} workers, each run a process of its own, from its first import to its "
        f"last file. Medians of {count} interleaved rounds, with the lowest and highest in "
        "brackets; peers that take long are in every other round. ↓ less is better. *Processor "
        "time*: user and system, of all processes of a run that somebody has waited for; nobody "
        "waits for Ray's workers, so that Ray Data's is too low. *Largest process*: the most that "
        "any one of them ever held; *together*: the most that all of them held at a time, shared "
        "memory counted once.",
        "",
        "*transform* reads, maps, filters and writes; *group* brings the documents of each of "
        f"{SITES:,} sites together and writes a line about them. multiprocessing is what one "
        "writes by hand: orjson, a file at a time; it and Dask bag (orjson, too) hold a share of "
        "the groups in memory, which grows with the input. zephyr's memory is bounded, as the "
        "larger sizes show.",
        "",
        *_row(["", *(TITLES[peer] for peer in peers)]),
        *_row(["---", *("---:" for _ in peers)]),
    ]
    for gib in sorted({sample.gib for sample in results.samples}):
        for case in CASES:
            for name, unit in FIGURES:
                cells = [
                    table.spread(list(_values(results, peer, case, gib, name).values()))
                    for peer in peers
                ]
                lines += _row([f"{case}, {gib:g} GiB, {unit} ↓", *cells])
    lines += ["", *_ratios(results, [peer for peer in peers if peer != "zephyr"])]
    versions = {each.peer: each.version for each in results.samples if each.version}
    lines += ["", *(f"- {name}: {value}" for name, value in results.machine.items())]
    lines.append("- versions: " + ", ".join(f"{TITLES[p]} {v}" for p, v in versions.items()))
    if results.bystanders_percent:
        shares = results.bystanders_percent
        low, high = min(shares), max(shares)
        lines.append(f"- taken by other programs meanwhile: {low:.0f}–{high:.0f} % of the cores")
    if results.failures:
        lines += ["", "Not measured, or wrong:", ""]
        lines += [f"- {failure.splitlines()[0]}" for failure in results.failures]
    return "\n".join([*lines, ""])


def _row(cells: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def _values(results: Results, peer: str, case: str, gib: float, name: str) -> dict[int, float]:
    """A figure of a peer in each round that it took part in."""
    return {
        each.number: float(getattr(each, name))
        for each in results.samples
        if (each.peer, each.case, each.gib) == (peer, case, gib)
    }


def _ratios(results: Results, others: Sequence[str]) -> list[str]:
    """How many times zephyr's figures the others' are, run by run."""
    rows: list[str] = []
    for gib in sorted({sample.gib for sample in results.samples if sample.peer in others}):
        for case in CASES:
            for name, unit in FIGURES[:3]:
                ours = _values(results, "zephyr", case, gib, name)
                cells: list[str] = []
                for other in others:
                    theirs = _values(results, other, case, gib, name)
                    both = [ours[each] / theirs[each] for each in ours if each in theirs]
                    cells.append(_interval(both))
                rows += _row([f"{case}, {gib:g} GiB, {unit.split(',')[0]}", *cells])
    if not rows or not any(sample.peer == "zephyr" for sample in results.samples):
        return []
    return [
        "zephyr ÷ each of the others, in the same round: geometric mean and 95 % interval "
        f"(bootstrap over rounds, {RESAMPLES:,} resamples). Below 1, zephyr takes less; an "
        "interval that has 1 in it says that no difference was found.",
        "",
        *_row(["", *(f"zephyr ÷ {TITLES[other]}" for other in others)]),
        *_row(["---", *("---:" for _ in others)]),
        *rows,
    ]


def _interval(ratios: Sequence[float]) -> str:
    if not ratios:
        return "–"
    low, middle, high = interval(ratios)
    return f"**{middle:.2f}** ({low:.2f}–{high:.2f}, n={len(ratios)})"


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean of ratios and its 95 % interval, by the bootstrap.

    Args:
        ratios: One of each pair, all > 0.

    Returns:
        The lower end, the mean, the upper end.
    """
    dice = random.Random(len(ratios))
    logs = [math.log(each) for each in ratios]
    means = sorted(statistics.fmean(dice.choices(logs, k=len(logs))) for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]
    return math.exp(low), math.exp(statistics.fmean(logs)), math.exp(high)
