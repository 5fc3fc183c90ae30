"""``python -m examples.data``: counts the words of Python's language reference on a cluster."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

import fray
from examples.command import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    at_least,
    complaint,
    output_of,
    set_defaults,
)

NEEDED = ("msgspec", "zstandard", "isal", "matplotlib")
SHOWN = 12
SHARDS = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example; returns the exit code.

    Args:
        argv: Arguments; those of the process by default.
    """
    arguments = _parse(argv)
    console = Console()
    output = output_of(arguments.output, "examples.data")
    if told := complaint("examples.data", NEEDED, output):
        console.print(told)
        return EXIT_USAGE
    set_defaults({})
    try:
        with fray.connect():
            same = _run(output, arguments.workers, arguments.kill_worker, console)
    except KeyboardInterrupt:
        console.print("interrupted; what was finished is there, and the rest was removed")
        return EXIT_INTERRUPTED
    return 0 if same else 1


def _run(output: str, workers: int, kill_worker: bool, console: Console) -> bool:
    from examples.data.pipeline import DiesOnce, count_words, digest_of, ranked, store_paragraphs
    from examples.data.plot import draw_words
    from zephyr import Dataset, FrayBackend

    began = time.monotonic()
    backend = FrayBackend(max_parallelism=workers)

    def count(dies: DiesOnce | None = None) -> str:
        paths = backend.execute(count_words(files, output, SHARDS, dies), verbose=dies is None)
        stats, digest = backend.last_stats, digest_of(output)
        told = f"{len(paths)} files, {stats.tasks} tasks, {stats.lost} workers lost"
        console.print(f"{time.monotonic() - began:6.1f}s  {told}, digest {digest}", highlight=False)
        return digest

    files = store_paragraphs(backend, output, SHARDS)
    digest = again = count()
    if kill_worker:
        console.print("        once more, and kills a worker in the middle of a stage")
        with tempfile.TemporaryDirectory() as folder:
            again = count(DiesOnce(os.path.join(folder, "done"), "import"))
        console.print(f"        {'the same files' if again == digest else 'OTHER FILES'}")
    result = Dataset.from_files(output + "/words/*.jsonl.zst").load_jsonl()
    words = ranked(backend.execute(result))
    _tell(words, output, time.monotonic() - began, console)
    console.print(f"picture: {draw_words(output, words)}", highlight=False, soft_wrap=True)
    return again == digest


def _tell(words: list[dict[str, Any]], output: str, took_s: float, console: Console) -> None:
    table = Table("rank", "word", "times", "chapters", "is a", "rank × times")
    for word in words[:SHOWN]:
        table.add_row(
            str(word["rank"]),
            word["word"],
            f"{word['times']:,}",
            str(word["chapters"]),
            word["kind"],
            f"{word['rank'] * word['times']:,}",
        )
    console.print(table)
    total = sum(word["times"] for word in words)
    console.print(
        f"{total:,} words, {len(words):,} of them different, in {took_s:.1f} s: {output}/words",
        highlight=False,
        soft_wrap=True,
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.data",
        description="Counts the words of Python's language reference by a pipeline of zephyr, on "
        "the cluster that FRAY_CLUSTER_SPEC names (an embedded local one by default).",
    )
    parser.add_argument(
        "--workers", type=at_least(1), default=2, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--kill-worker",
        action="store_true",
        help="then do it once more, while a worker is killed, and compare the files",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="files and the picture go here: a directory or any fsspec URL that all workers "
        "reach; default: results/data/<time>",
    )
    arguments = parser.parse_args(argv)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
