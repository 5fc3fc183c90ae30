"""``python -m examples.rl``: learns CartPole-v1 with several processes, and shows it."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from examples.command import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    at_least,
    complaint,
    output_of,
    set_defaults,
)
from examples.rl.config import RLConfig

if TYPE_CHECKING:
    from examples.rl.crew import Crew
    from examples.rl.stats import Stats

NEEDED = ("jax", "optax", "gymnasium", "matplotlib")

EXIT_SOLVED = 0
EXIT_NOT_SOLVED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code.

    Args:
        argv: Arguments; those of the process by default.
    """
    arguments = _parse(argv)
    console = Console()
    output = output_of(arguments.output, "examples.rl")
    if told := complaint("examples.rl", NEEDED, output):
        console.print(told)
        return EXIT_USAGE
    config = RLConfig(
        output=output,
        seed=arguments.seed,
        rollout_workers_min=arguments.rollout_workers[0],
        rollout_workers_max=arguments.rollout_workers[1],
        target_return=arguments.target,
    )
    if not arguments.resume and _is_used(config):
        console.print(f"{output} holds a run already: give --resume to continue it")
        return EXIT_USAGE
    set_defaults({})
    try:
        return _run(config, arguments.max_minutes, arguments.kill_at, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; continue with --output {output} --resume")
        return EXIT_INTERRUPTED


def _run(config: RLConfig, max_minutes: float, kill_at: int | None, console: Console) -> int:
    from examples.rl.display import create_display
    from examples.rl.job import RLJob
    from examples.rl.plot import draw_learning_curve

    killed: list[int] = []

    async def disturb(stats: Stats, crew: Crew) -> None:
        if kill_at is None or killed or stats.step < kill_at:
            return
        number = min(crew.workers)
        killed.append(await crew.workers[number].pid.remote())
        console.print(f"        kills the process of rollout-{number}", highlight=False)
        os.kill(killed[0], signal.SIGKILL)

    result = asyncio.run(RLJob(config, disturb).run(create_display(console), max_minutes))
    curve = draw_learning_curve(config)
    if result.outcome is None:
        console.print(f"not solved: {result.problem}", highlight=False, soft_wrap=True)
        console.print(f"learning curve: {curve}", highlight=False, soft_wrap=True)
        return EXIT_NOT_SOLVED
    outcome = result.outcome
    console.print(
        f"solved: mean return {outcome.mean_return:.1f} over the last {outcome.episodes} episodes, "
        f"after {outcome.step} steps, {outcome.frames:,} frames and {result.elapsed_s:.1f} s, "
        f"restarts: {result.restarts}\nlearning curve: {curve}",
        highlight=False,
        soft_wrap=True,
    )
    return EXIT_SOLVED


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.rl",
        description="Learns CartPole-v1 (PPO in JAX) with a learner and as many rollout workers as "
        "it needs, each an actor in a process of its own, on the cluster that FRAY_CLUSTER_SPEC "
        "names (an embedded local one by default). "
        "Exit code 0: the target was reached; 1: it was not.",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    parser.add_argument(
        "--rollout-workers",
        type=_bounds,
        default=(1, 4),
        metavar="MIN:MAX",
        help="how many there may be; never more than the cluster has CPUs; default: 1:4",
    )
    parser.add_argument(
        "--kill-at",
        type=at_least(1),
        metavar="STEP",
        help="kill the process of a rollout worker (of this machine) after this step",
    )
    parser.add_argument(
        "--target",
        type=at_least(0, float),
        default=475.0,
        metavar="RETURN",
        help="mean return of the last 100 episodes at which it ends; default: %(default)s",
    )
    parser.add_argument(
        "--max-minutes",
        type=at_least(0, float),
        default=6.0,
        metavar="M",
        help="give up after this; default: %(default)s",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="checkpoints, reports and the learning curve go here: a directory or any fsspec URL "
        "that all processes reach; default: results/rl/<time>",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run whose files are in --output"
    )
    arguments = parser.parse_args(argv)
    if arguments.resume and not arguments.output:
        parser.error("--resume needs --output")
    return arguments


def _bounds(text: str) -> tuple[int, int]:
    """Reads ``MIN:MAX``, or one number for both."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN:MAX, such as 1:4")
    return least, most


def _is_used(config: RLConfig) -> bool:
    from examples.rl.checkpoint import CheckpointStore

    return CheckpointStore(config.checkpoint_path).latest() is not None


if __name__ == "__main__":
    sys.exit(main())
