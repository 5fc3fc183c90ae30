"""The work that each data peer does, and how its script is asked for it. No peer is imported."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

Doc = dict[str, Any]


class Ask:
    """What a script is asked to do."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.case: str = arguments.case
        self.files = sorted(str(path) for path in Path(arguments.input).glob("*.jsonl"))
        self.output: str = arguments.output
        self.workers: int = arguments.workers


def transform(doc: Doc) -> Doc:
    """One document for another: what most of preparing text is like."""
    text = doc["text"].lower()
    return {"id": doc["id"], "text": text, "tokens": len(text.split())}


def keep(doc: Doc) -> bool:
    return doc["tokens"] > 30


def site(doc: Doc) -> str:
    return doc["url"].split("/")[2]


def summary(name: str, docs: Iterable[Doc]) -> Doc:
    """Of a site's documents, in whatever order; it wants them all, so no partial sums will do."""
    sizes = sorted((len(doc["text"]), doc["id"]) for doc in docs)
    middle, longest = sizes[len(sizes) // 2], sizes[-1]
    return {"site": name, "tokens": len(sizes), "median": middle[0], "longest": longest[1]}


def main(package: str | None, do: Callable[[Ask], None]) -> None:
    """Do the work once and print what it took, from the first import of the peer to the end.

    Args:
        package: Of which the version is told; None for Python itself.
        do: The peer's way; it imports the peer.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=("transform", "group"), required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--workers", type=int, required=True)
    ask = Ask(parser.parse_args())
    os.makedirs(ask.output)
    began = time.monotonic()
    do(ask)
    took_s = time.monotonic() - began
    version = metadata.version(package) if package else ""
    print(json.dumps({"wall_s": took_s, "version": version}), flush=True)
