"""zephyr beside Ray Data, Dask bag and plain multiprocessing, on the same files.

    make bench-data                                       # the page, in a quarter of an hour
    python -m benchmarks.data --gib 0.1 --alone 0.2 --rounds 2    # in a minute: does it work?

Files of JSON lines are generated once, into `.bench/data`, always the same. Two cases: *transform*
reads, maps, filters and writes; *group* brings the documents of each of a thousand sites together
and writes a line about them. Each run is a process of its own, from its first import to its last
file; what it writes is compared. While it runs the memory of its processes is looked at: the most
that any one of them ever held, and the most that all together held at a time (shared memory counted
once).

First zephyr alone does the larger sizes, once: is its memory flat? (Others are not asked for those:
some hold all of a group's side in memory.) Then come rounds, in which all do the same, each round
beginning with another peer; those that take long are left out of every other round. Ratios are of
runs of the same round. A round that would not be over in `--minutes` is not begun.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from benchmarks import environments, machine, processes
from benchmarks.data_report import CASES, SITES, Results, Sample, page

FILE_BYTES = 64 << 20
WORDS = 5000
DEADLINE_S = 3600.0
LOOK_S = 0.1
SLOW = frozenset({"ray-data", "dask"})
"""They take part in every other round."""
MODULES = {
    "zephyr": "data_zephyr",
    "ray-data": "data_ray",
    "dask": "data_dask",
    "multiprocessing": "data_multiprocessing",
}


# ---- the files


def generate(path: Path, number: int) -> None:
    """Writes one file of documents; its content depends on its number only."""
    dice = random.Random(number)
    words = [f"Word{n}" for n in range(WORDS)]
    partial = path.with_suffix(".partial")
    size = count = 0
    with partial.open("w") as file:
        while size < FILE_BYTES:
            doc = {
                "id": f"{number}-{count}",
                "url": f"https://site{dice.randrange(SITES)}.org/{count}",
                "text": " ".join(dice.choices(words, k=dice.randint(20, 150))),
                "score": dice.random(),
            }
            line = json.dumps(doc) + "\n"
            file.write(line)
            size += len(line)
            count += 1
    partial.rename(path)


def prepare(gib: float, workers: int) -> Path:
    """The folder with so many GiB of documents, which is filled if it is not."""
    count = max(1, round(gib * (1 << 30) / FILE_BYTES))
    store = environments.FOLDER / "data" / "all"
    folder = environments.FOLDER / "data" / f"{count}-files"
    store.mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(count) if not (store / f"{n:04d}.jsonl").exists()]
    if missing:
        print(f"generating {len(missing)} files …", file=sys.stderr, flush=True)
        with multiprocessing.Pool(workers) as pool:
            pool.starmap(generate, [(store / f"{n:04d}.jsonl", n) for n in missing], chunksize=1)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for n in range(count):
        os.link(store / f"{n:04d}.jsonl", folder / f"{n:04d}.jsonl")
    return folder


def check_of(output: Path) -> tuple[int, int]:
    """Rows that were written, and the sum of a field: equal for whoever did the work right."""
    rows = tokens = 0
    decoder = msgspec.json.Decoder(_Row)
    for path in sorted(output.rglob("*.json*")):
        found = decoder.decode_lines(path.read_bytes())
        rows += len(found)
        tokens += sum(row.tokens for row in found)
    return rows, tokens


class _Row(msgspec.Struct):
    tokens: int


# ---- memory


class Memory(threading.Thread):
    """Looks at the memory of all processes below this one until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self.largest_kib = 0
        self.together_kib = 0

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            together = 0
            for pid in processes.descendants():
                with contextlib.suppress(OSError, IndexError):  # it has just ended
                    self.largest_kib = max(self.largest_kib, _field(pid, "status", "VmHWM"))
                    together += _field(pid, "smaps_rollup", "Pss")
            self.together_kib = max(self.together_kib, together)

    def stop(self) -> None:
        self._over.set()
        self.join()


def _field(pid: int, file: str, name: str) -> int:
    for line in Path("/proc", str(pid), file).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


@contextlib.contextmanager
def looking() -> Generator[Memory]:
    memory = Memory()
    memory.start()
    try:
        yield memory
    finally:
        memory.stop()


# ---- the runs


def measure(
    peer: str, python: Path, case: str, folder: Path, gib: float, workers: int, number: int = 0
) -> Sample:
    """Lets a peer do a case once.

    Raises:
        processes.RunError: It did not.
    """
    unwanted = ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "FRAY_CLUSTER_SPEC")
    environment = {name: os.environ[name] for name in os.environ if name not in unwanted}
    environment |= {"PYTHONPATH": str(environments.ROOT), "PYTHONNOUSERSITE": "1"}
    with tempfile.TemporaryDirectory(prefix="b", ignore_cleanup_errors=True) as scratch:
        output = Path(scratch) / "out"
        used_s = _used_s()
        with looking() as memory:
            printed = processes.run(
                [
                    *(python, "-m", f"benchmarks.peers.{MODULES[peer]}", "--case", case),
                    *("--input", folder, "--output", output, "--workers", str(workers)),
                ],
                deadline_s=DEADLINE_S,
                folder=environments.ROOT,
                environment=environment | {"TMPDIR": scratch},
            )
        cpu_s = _used_s() - used_s
        told = json.loads([line for line in printed.splitlines() if line.startswith("{")][-1])
        largest, together = memory.largest_kib / 1024, memory.together_kib / 1024
        check = check_of(output)
    wall_s, version = told["wall_s"], told["version"]
    return Sample(peer, case, gib, number, wall_s, cpu_s, largest, together, version, check)


def _used_s() -> float:
    """Processor time of all that this process has started and that is over."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass
class Plan:
    """What is to be run."""

    peers: Sequence[str]
    gibs: Sequence[float]
    alone: Sequence[float]
    rounds: int
    workers: int
    minutes: float


def run(plan: Plan) -> Results:
    """zephyr alone at the larger sizes, then all in rounds."""
    processes.adopt_orphans()
    results = Results(machine.facts(), plan.workers)
    pythons: dict[str, Path] = {}
    for peer in plan.peers:
        try:
            pythons[peer] = environments.interpreter(peer)
        except processes.RunError as error:
            results.failures.append(f"{peer} could not be installed: {error}")
    folders = {gib: prepare(gib, plan.workers) for gib in (*plan.alone, *plan.gibs)}
    begun_s = time.monotonic()
    for gib in plan.alone if "zephyr" in pythons else ():
        for case in CASES:
            _once(results, "zephyr", pythons["zephyr"], case, folders[gib], gib, 0)
    longest_s = [0.0, 0.0]  # of rounds with all, and of those without the slow ones
    for number in range(plan.rounds):
        now_s = time.monotonic()
        if number and now_s - begun_s + longest_s[number % 2] > 60 * plan.minutes:
            print(f"no time for more than {number} rounds", file=sys.stderr, flush=True)
            break
        for gib in plan.gibs:
            for peer in taking_part(list(pythons), number):
                for case in CASES:
                    _once(results, peer, pythons[peer], case, folders[gib], gib, number)
        longest_s[number % 2] = max(longest_s[number % 2], time.monotonic() - now_s)
    _compare(results)
    return results


def taking_part(peers: list[str], number: int) -> list[str]:
    """Who takes part in a round, in the order in which they do."""
    those = [peer for peer in peers if peer not in SLOW or number % 2 == 0]
    shift = number % max(1, len(those))
    return [*those[shift:], *those[:shift]]


def _once(
    results: Results, peer: str, python: Path, case: str, folder: Path, gib: float, number: int
) -> None:
    print(f"{number + 1}. {gib:g} GiB, {peer}, {case} …", end=" ", file=sys.stderr, flush=True)
    bystanders = machine.Bystanders()
    try:
        sample = measure(peer, python, case, folder, gib, results.workers, number)
    except processes.RunError as error:
        results.failures.append(f"{peer}, {case}, {gib:g} GiB: {error}")
        print(error, file=sys.stderr, flush=True)
        return
    results.samples.append(sample)
    results.bystanders_percent.append(bystanders.percent())
    told = f"{sample.wall_s:.1f} s, CPU {sample.cpu_s:.1f} s, {sample.largest_mib:.0f} MiB"
    print(f"{told}, {sample.check}", file=sys.stderr, flush=True)


def _compare(results: Results) -> None:
    """Whoever writes something else than most is a failure, not a figure."""
    for key in {(sample.case, sample.gib) for sample in results.samples}:
        checks = [each.check for each in results.samples if (each.case, each.gib) == key]
        usual = statistics.mode(checks)
        for sample in results.samples:
            if (sample.case, sample.gib) == key and sample.check != usual:
                results.failures.append(
                    f"{sample.peer}, {sample.case}: wrote {sample.check}, others {usual}"
                )


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in MODULES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list out of {', '.join(MODULES)}")
    return list(dict.fromkeys(names))


def _sizes(text: str) -> list[float]:
    return [float(each) for each in text.split(",") if each]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--peers", type=_peers, default=list(MODULES))
    parser.add_argument("--gib", type=_sizes, default=[1.0], help="sizes for all, as in 1,2")
    parser.add_argument("--alone", type=_sizes, default=[4.0], help="sizes for zephyr alone")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=11.0, help="no round beyond these")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    arguments = parser.parse_args()
    alone = arguments.alone if "zephyr" in arguments.peers else []
    results = run(
        Plan(
            arguments.peers,
            arguments.gib,
            alone,
            arguments.rounds,
            arguments.workers,
            arguments.minutes,
        )
    )
    text = page(results)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(asdict(results), indent=2, ensure_ascii=False) + "\n")
    if arguments.markdown is not None:
        arguments.markdown.write_text(text)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
