"""What a person sees while the run learns: a live table on a terminal, else a line now and then."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from examples.rl.progress import Progress
    from examples.rl.stats import Stats

LINE_EVERY_S = 2.0


class Display(Protocol):
    """Shows progress between entering and leaving its context."""

    def __enter__(self) -> Self:
        """Begins to show."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the screen as a person wants to find it."""
        ...

    def show(self, progress: Progress) -> None:
        """Shows what is known now."""
        ...


def create_display(console: Console) -> Display:
    """The display that suits where the console writes to."""
    return LiveDisplay(console) if console.is_terminal else LineDisplay(console)


class LiveDisplay:
    """A table that is redrawn in place.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        """See `Display`."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See `Display`."""
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """See `Display`."""
        self._live.update(render(progress))


class LineDisplay:
    """One line every few seconds, for logs and pipes.

    Args:
        console: Any.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_at_s = 0.0

    def __enter__(self) -> Self:
        """See `Display`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See `Display`."""

    def show(self, progress: Progress) -> None:
        """See `Display`."""
        if progress.elapsed_s >= self._next_at_s:
            self._next_at_s = progress.elapsed_s + LINE_EVERY_S
            self._console.out(line(progress), highlight=False)


def line(progress: Progress) -> str:
    """The run in one line."""
    stats = progress.stats
    if stats is None:
        return f"{progress.elapsed_s:6.1f}s  starting: {_states(progress)}"
    training = stats.training
    lag = f"{training.policy_lag:.1f}" if training else "-"
    return (
        f"{progress.elapsed_s:6.1f}s  step {stats.step:4d}  frames {stats.frames:7,d} "
        f"({progress.frames_per_s:6,.0f}/s)  episodes {stats.episodes:5,d}  "
        f"return {stats.goal.mean_return:5.1f}/{progress.config.target_return:.0f} "
        f"(last {stats.goal.recent})  rollout workers {progress.rollout_workers}  lag {lag}  "
        f"restarts {progress.restarts}"
    )


def render(progress: Progress) -> Panel:
    """The run as a table."""
    stats = progress.stats
    title = f"CartPole-v1, PPO, {progress.rollout_workers} rollout workers"
    if stats is None:
        body = Text(f"starting: {_states(progress)}   {progress.elapsed_s:.1f} s")
        return Panel(body, title=title, border_style="yellow")
    target = progress.config.target_return
    solved = stats.outcome is not None and stats.outcome.solved
    headline = Text.assemble(
        (f"{stats.goal.mean_return:5.1f}", "bold green" if solved else "bold"),
        f" of {target:.0f}  mean return of the last {stats.goal.recent} episodes  ",
        (progress.sparkline(), "cyan"),
    )
    tables = Table.grid(padding=(0, 4))
    tables.add_row(_facts(progress, stats), _lessons(stats), _workers(progress, stats))
    return Panel(
        Group(headline, Text(), tables), title=title, border_style="green" if solved else "cyan"
    )


def _facts(progress: Progress, stats: Stats) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(justify="right")
    training = stats.training
    table.add_row("step", f"{stats.step:,}")
    table.add_row("episodes", f"{stats.episodes:,}")
    table.add_row("frames", f"{stats.frames:,}")
    table.add_row("frames/s", f"{progress.frames_per_s:,.0f}")
    table.add_row("policy lag", f"{training.policy_lag:.1f}" if training else "-")
    table.add_row("learner waits", f"{training.waited:.0%}" if training else "-")
    table.add_row("entropy", f"{training.entropy:.3f}" if training else "-")
    table.add_row("elapsed", f"{progress.elapsed_s:.1f} s")
    return table


def _lessons(stats: Stats) -> Table:
    table = Table("lesson", "episodes", "return", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for lesson in stats.lessons:
        mean = f"{lesson.mean_return:.1f}" if lesson.recent else "-"
        table.add_row(lesson.name, f"{lesson.episodes:,}", mean)
    return table


def _workers(progress: Progress, stats: Stats) -> Table:
    table = Table("actor", "state", "plays", "episodes", "restarts", box=None, header_style="dim")
    for column in table.columns[3:]:
        column.justify = "right"
    workers = {f"rollout-{worker.worker}": worker for worker in stats.workers}
    for name, state in progress.states.items():
        worker = workers.get(name)
        if worker:
            table.add_row(
                name, state, worker.lesson, f"{worker.episodes:,}", str(worker.attempts - 1)
            )
        elif name == "learner":
            table.add_row(name, state, "", "", str(max(0, stats.train_attempts - 1)))
        else:
            table.add_row(name, state, "", "", "")
    return table


def _states(progress: Progress) -> str:
    return ", ".join(f"{name} {state}" for name, state in progress.states.items()) or "launching"
