"""``python -m examples.rl``: learns CartPole-v1 with several processes, and shows it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from examples.rl.config import RLConfig

NEEDED = ("jax", "optax", "gymnasium", "matplotlib")

EXIT_SOLVED = 0
EXIT_NOT_SOLVED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code.

    Args:
        argv: Arguments; those of the process by default.
    """
    arguments = _parse(argv)
    console = Console()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        console.print(f"examples.rl needs {', '.join(missing)}: install fray-actors[examples]")
        return EXIT_USAGE
    output = _output(arguments.output)
    config = RLConfig(
        output=output,
        seed=arguments.seed,
        num_rollout_workers=arguments.rollout_workers,
        target_return=arguments.target,
    )
    if not arguments.resume and _is_used(config):
        console.print(f"{output} holds a run already: give --resume to continue it")
        return EXIT_USAGE
    # Jobs get processes of their own, also on the embedded local cluster.
    os.environ.setdefault("FRAY_CLUSTER_SPEC", "local?use_processes=1")
    try:
        return _run(config, arguments.max_minutes, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; continue with --output {output} --resume")
        return EXIT_INTERRUPTED


def _run(config: RLConfig, max_minutes: float, console: Console) -> int:
    from examples.rl.display import create_display
    from examples.rl.job import RLJob
    from examples.rl.plot import draw_learning_curve
    from fray.cluster import LocalCluster

    job = RLJob(config)
    try:
        result = job.run(create_display(console), max_minutes)
    finally:
        if isinstance(job.cluster, LocalCluster):
            job.cluster.shutdown()
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
        description="Learns CartPole-v1 (PPO in JAX) with a coordinator, a train worker and "
        "several rollout workers, each in a process of its own, on the cluster that "
        "FRAY_CLUSTER_SPEC names (an embedded local one by default). "
        "Exit code 0: the target was reached; 1: it was not.",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--rollout-workers", type=int, default=2, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--target",
        type=float,
        default=475.0,
        metavar="RETURN",
        help="mean return of the last 100 episodes at which it ends; default: %(default)s",
    )
    parser.add_argument(
        "--max-minutes",
        type=float,
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
    if arguments.rollout_workers < 1:
        parser.error("--rollout-workers must be at least 1")
    if arguments.resume and not arguments.output:
        parser.error("--resume needs --output")
    return arguments


def _output(given: str | None) -> str:
    """The run's folder, absolute: the jobs may have other working directories."""
    if given is None:
        given = f"results/rl/{time.strftime('%Y%m%d-%H%M%S')}"
    return given.rstrip("/") if "://" in given else os.path.abspath(given)


def _is_used(config: RLConfig) -> bool:
    from examples.rl.checkpoint import CheckpointStore

    return CheckpointStore(config.checkpoint_path).latest() is not None


if __name__ == "__main__":
    sys.exit(main())
