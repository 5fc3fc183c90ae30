"""``python -m examples.inference``: a pool of servers under load, to which things happen."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
from examples.training.__main__ import NEEDED
from examples.training.config import TrainConfig

if TYPE_CHECKING:
    from examples.inference.job import Story

EXIT_ERRORS = 1
TRAINING_STEPS = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example; returns the exit code.

    Args:
        argv: Arguments; those of the process by default.
    """
    arguments = _parse(argv)
    console = Console()
    output = output_of(arguments.output, "examples.inference")
    if told := complaint("examples.inference", NEEDED, output):
        console.print(told)
        return EXIT_USAGE
    set_defaults(ONE_THREAD)
    config = TrainConfig(os.path.abspath(arguments.model or output), processes=1)
    try:
        if not _has_model(config):
            if arguments.model is not None:
                console.print(f"there is no checkpoint in {config.checkpoint_path}")
                return EXIT_USAGE
            config = _train(config.output, console)
        story = _run(config, arguments, console)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    _tell(output, story, console)
    return EXIT_ERRORS if story.load.errors else 0


def _has_model(config: TrainConfig) -> bool:
    from examples.training.checkpoint import Checkpoints

    return Checkpoints(config.checkpoint_path).latest() is not None


def _train(output: str, console: Console) -> TrainConfig:
    """A model for those who have none; it has learnt little."""
    from examples.training.worker import TrainWorker

    config = TrainConfig(output, processes=1, steps=TRAINING_STEPS, checkpoint_every=TRAINING_STEPS)
    console.print(f"trains a small model ({TRAINING_STEPS} steps); --model DIR takes another …")
    for report in TrainWorker(config, 0).train("nobody to meet"):
        if report.loss is not None and report.step % 20 == 0:
            console.print(f"        step {report.step}  loss {report.loss:.3f}", highlight=False)
    return config


def _run(config: TrainConfig, arguments: argparse.Namespace, console: Console) -> Story:
    from examples.inference.job import tell
    from examples.inference.pool import InferencePool
    from fray.cluster import LocalCluster, current_cluster

    cluster = current_cluster()
    pool = InferencePool(cluster, config, ONE_THREAD)
    try:
        pool.add()
        pool.wait_until_there(1)
        return asyncio.run(tell(pool, arguments.callers, arguments.phase_s, console.print))
    finally:
        pool.close()
        if isinstance(cluster, LocalCluster):
            cluster.shutdown()


def _tell(output: str, story: Story, console: Console) -> None:
    from examples.inference.load import percentile
    from examples.inference.plot import draw_load

    table = Table("", "servers", "texts", "bytes/s", "first byte p50", "p99", "taken over")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for phase in story.phases:
        served = phase.served(story.load)
        waits_ms = [each.first_s * 1000 for each in served]
        table.add_row(
            phase.what,
            str(phase.servers),
            f"{len(served):,}",
            f"{sum(each.length for each in served) / (phase.ended_s - phase.began_s):,.0f}",
            f"{percentile(waits_ms, 0.5):.0f} ms",
            f"{percentile(waits_ms, 0.99):.0f} ms",
            str(sum(each.retried for each in served)),
        )
    console.print(table)
    console.print(f"errors: {len(story.load.errors)}", *story.load.errors[:3], markup=False)
    console.print("The last text:", style="dim")
    console.out(story.load.sample, highlight=False)
    picture = draw_load(output, story.load, story.events)
    console.print(f"picture: {picture}", highlight=False, soft_wrap=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.inference",
        description="Puts a pool of servers under load; adds one, kills one and removes one "
        "meanwhile, on the cluster that FRAY_CLUSTER_SPEC names (an embedded local one by "
        "default). Exit code 0: every call had its text; 1: some had an error.",
    )
    parser.add_argument(
        "--model", metavar="DIR", help="what examples.training left; default: train"
    )
    parser.add_argument("--callers", type=at_least(1), default=12, help="default: %(default)s")
    parser.add_argument(
        "--phase-s",
        type=at_least(0.1, float),
        default=8.0,
        metavar="S",
        help="how long nothing happens in between; default: %(default)s",
    )
    parser.add_argument("--output", metavar="DIR", help="default: results/inference/<time>")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
