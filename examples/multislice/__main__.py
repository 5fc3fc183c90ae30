"""``python -m examples.multislice``: trains a small language model on slices that come and go."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections.abc import Sequence
from itertools import groupby
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
from examples.multislice.config import SliceConfig
from examples.training.__main__ import NEEDED


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example; returns the exit code.

    Args:
        argv: Arguments; those of the process by default.
    """
    arguments = _parse(argv)
    console = Console()
    output = output_of(arguments.output, "examples.multislice")
    if told := complaint("examples.multislice", NEEDED, output):
        console.print(told)
        return EXIT_USAGE
    try:
        config = SliceConfig(
            output=output,
            seed=arguments.seed,
            slices=arguments.slices,
            steps=arguments.steps,
        )
    except ValueError as exc:
        console.print(str(exc), highlight=False)
        return EXIT_USAGE
    set_defaults(ONE_THREAD)
    try:
        _run(config, arguments.calm, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; --output {config.output} goes on from its last checkpoint")
        return EXIT_INTERRUPTED
    return 0


def _run(config: SliceConfig, calm: bool, console: Console) -> None:
    from examples.multislice.leader import Run, train
    from examples.multislice.story import usual

    def tell(text: str) -> None:
        console.print(f"        {text}", highlight=False)

    def show(run: Run) -> None:
        step = run.steps[-1]
        if len(run.steps) > 1 and step.epoch != run.steps[-2].epoch:
            tell(f"epoch {step.epoch}: {', '.join(map(str, step.slices))}")
        if step.number % config.report_every and step.number < config.steps:
            return
        held_back = "" if step.held_back is None else f"  held back {step.held_back:.3f}"
        console.print(
            f"{run.elapsed_s:6.1f}s  step {step.number:4d}/{config.steps}  loss {step.loss:.3f}  "
            f"{len(step.slices)} slices, epoch {step.epoch}{held_back}",
            highlight=False,
        )

    async def everything() -> Run:
        import fray

        async with fray.connect() as cluster:
            if calm or config.slices < 2:
                return await train(cluster, config, show)
            story = usual(config.steps, tell)
            return await train(cluster, config, show, story, first=config.slices - 1)

    _tell(config, asyncio.run(everything()), console)


def _tell(config: SliceConfig, run: Any, console: Console) -> None:
    from examples.multislice.plot import draw_loss

    table = Table("epoch", "slices", "steps", "loss", "ms per step", "longest")
    for epoch, steps in groupby(run.steps, key=lambda step: step.epoch):
        made = list(steps)
        times = sorted(each.took_s * 1000 for each in made)
        table.add_row(
            str(epoch),
            ", ".join(f"{who.number}.{who.life}" for who in made[0].slices),
            f"{made[0].number}-{made[-1].number}",
            f"{made[-1].loss:.3f}",
            f"{times[len(times) // 2]:.0f}",
            f"{times[-1]:.0f}",
        )
    console.print(table)
    for step, text in run.losses:
        console.print(f"lost after step {step}: {text}", highlight=False, soft_wrap=True)
    held_back = run.held_back if run.held_back is not None else math.nan
    console.print(f"held back: {held_back:.4f} after {run.elapsed_s:.0f} s", highlight=False)
    console.print(f"loss curve: {draw_loss(config, run)}", highlight=False, soft_wrap=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.multislice",
        description="Trains a byte-level transformer on Python's language reference with slices of "
        "two hosts, on the cluster that FRAY_CLUSTER_SPEC names (an embedded one by default). One "
        "slice comes later, one is killed and comes again, one is taken back. A run whose "
        "--output has checkpoints goes on from the newest.",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    parser.add_argument(
        "--slices",
        type=at_least(1),
        default=3,
        metavar="N",
        help="at most; default: %(default)s",
    )
    parser.add_argument(
        "--steps", type=at_least(1), default=400, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--calm", action="store_true", help="nothing happens to any slice")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="checkpoints and the picture go here: a directory or any fsspec URL; default: "
        "results/multislice/<time>",
    )
    arguments = parser.parse_args(argv)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
