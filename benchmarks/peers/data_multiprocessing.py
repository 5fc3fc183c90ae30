"""What one writes by hand: a pool of processes, a file at a time, with orjson.

Grouping goes over files as well, one for each worker's share of the sites and each input; a share
is then read into memory, for which a machine must be large enough.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import zlib
from pathlib import Path

import orjson

from benchmarks.peers import data_work as work

SHARES = 16


def transform(output: str, path: str) -> None:
    with open(path, "rb") as lines, open(os.path.join(output, os.path.basename(path)), "wb") as out:
        for line in lines:
            doc = work.transform(orjson.loads(line))
            if work.keep(doc):
                out.write(orjson.dumps(doc) + b"\n")


def scatter(folder: str, path: str) -> None:
    name = os.path.basename(path)
    with contextlib.ExitStack() as stack:
        names = [f"{folder}/{share}-{name}" for share in range(SHARES)]
        shares = [stack.enter_context(open(each, "wb")) for each in names]
        for line in stack.enter_context(open(path, "rb")):
            share = zlib.crc32(work.site(orjson.loads(line)).encode()) % SHARES
            shares[share].write(line)


def gather(folder: str, output: str, share: int) -> None:
    groups: dict[str, list[work.Doc]] = {}
    for path in sorted(Path(folder).glob(f"{share}-*")):
        with open(path, "rb") as lines:
            for line in lines:
                doc = orjson.loads(line)
                groups.setdefault(work.site(doc), []).append(doc)
    with open(f"{output}/part-{share}.jsonl", "wb") as out:
        for name, docs in groups.items():
            out.write(orjson.dumps(work.summary(name, docs)) + b"\n")


def do(ask: work.Ask) -> None:
    with multiprocessing.Pool(ask.workers) as pool:
        if ask.case == "transform":
            pool.map(functools.partial(transform, ask.output), ask.files, chunksize=1)
            return
        folder = ask.output + ".scattered"
        os.makedirs(folder)
        pool.map(functools.partial(scatter, folder), ask.files, chunksize=1)
        pool.map(functools.partial(gather, folder, ask.output), range(SHARES), chunksize=1)


if __name__ == "__main__":
    work.main(None, do)
