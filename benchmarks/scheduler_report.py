"""What `benchmarks.scheduler` found, as a page and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def page(found: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# The controller's scale",
        "",
        "Made by `make bench-scheduler` (`benchmarks/scheduler.py` says what is measured). Hosts "
        "are records, everything else is the production code, its journal flushed to the disk at "
        "each group commit. Load, look-ups and reports come from the controller's own process and "
        f"are in the figures. Tasks have {found['shapes']} distinct shapes, in jobs of ten; a gang "
        "is four hosts of a v5litepod-16.",
        "",
        "## Passes of the scheduler",
        "",
        "A full pass sees everything for the first time and places all that fits (otherwise a pass "
        "places a thousand tasks at the most, and the next ones the others). The incremental pass "
        "follows the end of one task in a cluster that is full, with the given number of units "
        "waiting (median of seven). CPU time is what remains of a figure without other programs.",
        "",
        *_table(
            found["passes"],
            [
                ("hosts", "hosts", "{:,}"),
                ("pending tasks", "pending", "{:,}"),
                ("tasks placed", "placed", "{:,}"),
                ("full pass, ms", "full_s", "ms"),
                ("of CPU, ms", "full_cpu_s", "ms"),
                ("taking the plan, ms", "apply_s", "ms"),
                ("then waiting", "waiting", "{:,}"),
                ("incremental pass, ms", "incremental_s", "ms"),
                ("of CPU, ms", "incremental_cpu_s", "ms"),
            ],
        ),
        "",
        "## Through the ledger and its journal",
        "",
        *_table(found["mixed"], _END_TO_END),
        "",
        "Gangs only:",
        "",
        *_table(found["gangs"], _END_TO_END),
        "",
        "A look-up is timed from the moment at which it is due, every 2 ms, while all of this goes "
        "on.",
        "",
        "## A controller with many live tasks",
        "",
        "A process of its own, started on the journal; until it takes connections.",
        "",
        *_table(
            found["restarts"],
            [
                ("live tasks", "tasks", "{:,}"),
                ("hosts", "hosts", "{:,}"),
                ("serves again after, s", "restart_s", "{:.2f}"),
                ("of CPU, s", "restart_cpu_s", "{:.2f}"),
                ("memory, MiB", "controller_mib", "{:,}"),
            ],
        ),
        "",
        *(f"- {name}: {value}" for name, value in found["machine"].items()),
        f"- taken by other programs meanwhile: {found['bystanders_percent']:.0f} % of the cores",
        "",
    ]
    return "\n".join(lines)


_END_TO_END = [
    ("hosts", "hosts", "{:,}"),
    ("tasks", "tasks", "{:,}"),
    ("of these in gangs", "gangs", "gangs"),
    ("jobs submitted/s", "submit_per_s", "{:,.0f}"),
    ("tasks placed/s", "placed_per_s", "{:,.0f}"),
    ("per s of CPU", "placed_per_cpu_s", "{:,.0f}"),
    ("gangs placed/s", "gangs_per_s", "{:,.0f}"),
    ("tasks run and ended/s", "ended_per_s", "{:,.0f}"),
    ("look-up p50, ms", "lookup_p50_ms", "{:.2f}"),
    ("look-up p99, ms", "lookup_p99_ms", "{:.2f}"),
]


def _table(rows: Rows, columns: list[tuple[str, str, str]]) -> list[str]:
    head = "| " + " | ".join(title for title, _, _ in columns) + " |"
    rule = "|" + " ---: |" * len(columns)
    body = [
        "| " + " | ".join(_told(row[key], form) for _, key, form in columns) + " |" for row in rows
    ]
    return [head, rule, *body]


def _told(value: float, form: str) -> str:
    if form == "ms":
        return f"{value * 1e3:,.1f}"
    if form == "gangs":
        return f"{value * 4:,.0f}"
    return form.format(value)


def draw(found: dict[str, Any], path: Path) -> None:
    """Draws how the figures grow."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.4), layout="constrained")

    def plot(axis: Any, rows: Rows, x: str, series: dict[str, tuple[str, float]]) -> None:
        for label, (key, factor) in series.items():
            values = [row[key] * factor for row in rows]
            axis.plot([row[x] for row in rows], values, "o-", label=label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)

    plot(
        axes[0],
        found["passes"],
        "pending",
        {"full pass": ("full_s", 1e3), "incremental": ("incremental_s", 1e3)},
    )
    axes[0].set(title="a pass of the scheduler", xlabel="pending tasks", ylabel="ms")
    plot(
        axes[1],
        found["mixed"],
        "tasks",
        {"placed": ("placed_per_s", 1), "run and ended": ("ended_per_s", 1)},
    )
    axes[1].set(title="through the journal", xlabel="tasks", ylabel="tasks/s")
    plot(
        axes[2],
        found["mixed"],
        "tasks",
        {"p50": ("lookup_p50_ms", 1), "p99": ("lookup_p99_ms", 1)},
    )
    axes[2].set(title="look-ups meanwhile", xlabel="tasks", ylabel="ms")
    plot(axes[3], found["restarts"], "tasks", {"serves again": ("restart_s", 1)})
    axes[3].set(title="a controller's restart", xlabel="live tasks", ylabel="s")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)  # pyright: ignore[reportUnknownMemberType]


__all__ = ["draw", "page"]
