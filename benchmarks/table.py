"""Turns the samples of a run into a Markdown page: medians, their noise, and ratios."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks import cases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.suite import Run

BASE = "fray"
"""The peer that the others are compared with."""

_TITLES = {"calls": "Actor calls", "startup": "Starting", "tasks": "Tasks"}


def page(runs: Sequence[Run]) -> str:
    """The page of one or more runs."""
    return "\n".join(["# Side by side", "", *(_section(run) for run in runs)])


def _section(run: Run) -> str:
    parts = [f"## {_TITLES[run.suite]}", "", _how(run), "", *_table(run), ""]
    parts += [f"- {name}: {value}" for name, value in run.machine.items()]
    parts += [f"- versions: {_versions(run)}", *_bystanders(run), ""]
    if run.failures:
        parts += ["Not measured:", ""]
        parts += [f"- {failure.splitlines()[0]}" for failure in run.failures]
        parts += [""]
    return "\n".join(parts)


def _how(run: Run) -> str:
    rounds = "1 round" if run.rounds == 1 else f"{run.rounds} interleaved rounds"
    timing = f", {run.measure_s:g} s per case and round" if run.suite != "startup" else ""
    return (
        f"Medians of {rounds}{timing}, with the lowest and highest round in brackets. "
        "↑ more is better, ↓ less is better. A ratio is that of the medians, with the range over "
        f"the rounds. Made by `python -m benchmarks {run.suite}`: the same work for each, on one "
        "machine, over loopback, every actor in a process of its own. Between machines compare "
        "ratios, not figures."
    )


def _bystanders(run: Run) -> list[str]:
    if not run.bystanders_percent:
        return []
    shares = _range(run.bystanders_percent)
    return [f"- taken by other programs meanwhile: {shares} % of the cores"]


def _versions(run: Run) -> str:
    return ", ".join(f"{peer} {run.versions.get(peer, 'not installed')}" for peer in run.peers)


def _table(run: Run) -> list[str]:
    others = [peer for peer in run.peers if peer != BASE] if BASE in run.peers else []
    heads = ["", *run.peers, *(f"{BASE} ÷ {other}" for other in others)]
    lines = [_row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
    for figure in cases.SUITES[run.suite]:
        key = f"{figure.case}.{figure.figure}"
        samples = {peer: run.samples.get(peer, {}).get(key, []) for peer in run.peers}
        if any(samples.values()):
            arrow = "↑" if figure.higher_is_better else "↓"
            cells = [f"{figure.title}, {figure.unit} {arrow}"]
            cells += [spread(samples[peer]) for peer in run.peers]
            cells += [ratio(samples[BASE], samples[other]) for other in others]
            lines.append(_row(cells))
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def spread(samples: Sequence[float]) -> str:
    """The median, and the range where there is one: `2,208 (2,150–2,260)`."""
    if not samples:
        return "–"
    middle = number(statistics.median(samples))
    return f"{middle} ({_range(samples)})" if len(samples) > 1 else middle


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times theirs ours is, and the range over the rounds that both have."""
    if not ours or not theirs:
        return "–"
    middle = f"**{number(statistics.median(ours) / statistics.median(theirs))}×**"
    rounds = [a / b for a, b in zip(ours, theirs, strict=False)]
    return f"{middle} ({_range(rounds)})" if len(rounds) > 1 else middle


def _range(samples: Sequence[float]) -> str:
    return f"{number(min(samples))}–{number(max(samples))}"


def number(value: float) -> str:
    """Three digits that mean something; whole numbers from 100 on."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
