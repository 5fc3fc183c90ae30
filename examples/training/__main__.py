"""``python -m examples.training``: trains a small language model with several processes."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.command import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    ONE_THREAD,
    at_least,
    complaint,
    output_of,
    set_defaults,
)
from examples.training.config import TrainConfig

NEEDED = ("jax", "optax", "matplotlib")
PROMPT = "The value of the expression "


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example; returns the exit code.

    Args:
        argv: Arguments; those of the process by default.
    """
    arguments = _parse(argv)
    console = Console()
    output = output_of(arguments.output, "examples.training")
    if told := complaint("examples.training", NEEDED, output):
        console.print(told)
        return EXIT_USAGE
    try:
        config = TrainConfig(
            output=output,
            seed=arguments.seed,
            processes=arguments.processes,
            steps=arguments.steps,
        )
    except ValueError as exc:
        console.print(str(exc), highlight=False)
        return EXIT_USAGE
    set_defaults(ONE_THREAD)
    try:
        _run(config, arguments.kill_at, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; --output {config.output} goes on from its last checkpoint")
        return EXIT_INTERRUPTED
    return 0


def _run(config: TrainConfig, kill_at: int | None, console: Console) -> None:
    from examples.training.job import Run, train

    killed: list[int] = []

    def show(run: Run) -> None:
        report = run.reports[-1]
        if report.loss is None:
            again = "again " if len(run.lives) > 1 else ""
            console.print(f"{run.elapsed_s:6.1f}s  starts {again}from step {report.step}")
            return
        held_back = "" if report.held_back is None else f"  held back {report.held_back:.3f}"
        console.print(
            f"{run.elapsed_s:6.1f}s  step {report.step:4d}/{config.steps}  loss {report.loss:.3f}"
            f"  {report.bytes_per_s:7,.0f} bytes/s{held_back}",
            highlight=False,
        )

    async def disturb(run: Run, workers: list[Any]) -> None:
        if kill_at is None or killed or run.reports[-1].step < kill_at:
            return
        killed.append(await workers[-1].pid.remote())
        console.print(f"        kills the process of trainer-{len(workers) - 1}")
        os.kill(killed[0], signal.SIGKILL)

    async def everything() -> Run:
        import fray

        async with fray.connect():
            return await train(config, show, disturb)

    _tell(config, asyncio.run(everything()), console)


def _tell(config: TrainConfig, run: Any, console: Console) -> None:
    from examples.training.checkpoint import Checkpoints
    from examples.training.learner import Learner
    from examples.training.plot import draw_loss
    from examples.training.sample import continue_text

    found = Checkpoints(config.checkpoint_path).latest()
    assert found is not None, "the last step leaves a checkpoint"
    learner = Learner(config)
    learner.unpack(found[1])
    table = Table("processes", "steps", "starts", "loss", "held back", "bits per byte", "took")
    held_back = run.held_back if run.held_back is not None else math.nan
    table.add_row(
        str(config.processes),
        f"{found[0]:,}",
        str(len(run.lives)),
        f"{run.last.loss:.3f}" if run.last is not None else "-",
        f"{held_back:.3f}",
        f"{held_back / math.log(2):.2f}",
        f"{run.elapsed_s:.1f} s",
    )
    console.print(table)
    console.print("What it would write:", style="dim")
    console.out(continue_text(config, learner.params(), PROMPT, 160), highlight=False)
    console.print(f"loss curve: {draw_loss(config, run)}", highlight=False, soft_wrap=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.training",
        description="Trains a byte-level transformer on Python's language reference, data-parallel "
        "over a gang of processes, on the cluster that FRAY_CLUSTER_SPEC names (an embedded local "
        "one by default). A run whose --output has checkpoints goes on from the newest.",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    parser.add_argument(
        "--processes", type=at_least(1), default=2, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--steps", type=at_least(1), default=300, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--kill-at",
        type=at_least(1),
        metavar="STEP",
        help="kill one of the processes (of this machine) after this step",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="checkpoints and the picture go here: a directory or any fsspec URL that all "
        "processes reach; default: results/training/<time>",
    )
    arguments = parser.parse_args(argv)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
