"""zephyr on worker processes that are killed, fail and hang: the same output, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from fray.cluster import LocalCluster
from fray.errors import BlockingCallError
from zephyr import (
    Backend,
    Dataset,
    ExecutionHint,
    FrayBackend,
    ProcessBackend,
    ScratchError,
    ShardLostError,
    ThreadpoolBackend,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(90),
    pytest.mark.leftovers("the cluster of all tests here keeps an interpreter warm"),
]

SHARDS = 5
ROWS = 3000
DIES_AT = 2 * ROWS + 1700
"""An item in the middle of shard 2."""


@pytest.fixture(scope="module")
def cluster() -> Generator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("inputs")
    dice = random.Random(1)
    rows = [
        {"n": n, "site": f"s{dice.randrange(300)}", "text": f"{dice.random()} " * 5}
        for n in range(SHARDS * ROWS)
    ]
    parts = [rows[at : at + ROWS] for at in range(0, len(rows), ROWS)]
    dataset = Dataset.from_list(parts).flat_map(lambda part: part)
    Backend.execute(dataset.write_jsonl(folder / "part-{shard}.jsonl.zst"))
    return f"{folder}/part-*.jsonl.zst"


@pytest.fixture(params=["fray", "processes"])
def backend(request: pytest.FixtureRequest, cluster: LocalCluster, tmp_path: Path) -> Backend:
    scratch = str(tmp_path / "scratch")
    if request.param == "fray":
        return FrayBackend(cluster, max_parallelism=2, scratch=scratch)
    return ProcessBackend(max_parallelism=2, scratch=scratch)


def once(marker: Path, deed: Callable[[], object]) -> Callable[[], None]:
    """Does something the first time only, in whatever process."""
    path = str(marker)

    def act() -> None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        deed()

    return act


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def pipeline(
    inputs: str,
    out: Path,
    log: Path,
    mapping: Callable[[], None],
    reducing: Callable[[], None],
    mapping_at: Callable[[int], bool] = lambda n: n == DIES_AT,
) -> Dataset[str]:
    log_path = str(log)

    def note(items: Any) -> Any:
        first = next(items)
        with open(log_path, "a") as file:
            file.write(f"{first['n']}\n")
        yield first
        yield from items

    def work(row: dict[str, Any]) -> dict[str, Any]:
        if mapping_at(row["n"]):
            mapping()
        return {**row, "text": row["text"].upper()}

    def reduce(site: str, rows: Any) -> dict[str, Any]:
        if site == "s150":
            reducing()
        return {"site": site, "rows": [row["n"] for row in rows]}

    return (
        Dataset.from_files(inputs)
        .load_jsonl()
        .map_shard(note)
        .map(work)
        .group_by(lambda row: row["site"], reduce, num_output_shards=3)
        .write_jsonl(out / "out-{shard:05d}-of-{total:05d}.jsonl.gz")
    )


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def undisturbed(inputs: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    ThreadpoolBackend().execute(pipeline(inputs, folder / "out", folder / "log", nothing, nothing))
    found = content(folder / "out")
    assert len(found) == 3
    return found


def test_a_worker_killed_while_it_maps_changes_nothing_and_only_its_shard_runs_again(
    inputs: str, backend: Backend, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    kill = once(tmp_path / "killed", die)
    log = tmp_path / "log"
    backend.execute(pipeline(inputs, tmp_path / "out", log, kill, nothing))
    assert content(tmp_path / "out") == undisturbed
    begun = sorted(int(line) // ROWS for line in log.read_text().splitlines())
    assert begun == [0, 1, 2, 2, 3, 4]
    assert backend.last_stats.lost == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_worker_killed_while_it_reduces_and_writes_changes_nothing(
    inputs: str, backend: Backend, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    kill = once(tmp_path / "killed", die)
    log = tmp_path / "log"
    backend.execute(pipeline(inputs, tmp_path / "out", log, nothing, kill))
    assert content(tmp_path / "out") == undisturbed  # nor is an unfinished file left
    assert len(log.read_text().splitlines()) == SHARDS  # no shard of the stage before ran again
    assert backend.last_stats.lost == 1


def test_workers_killed_at_random_change_nothing(
    inputs: str, backend: Backend, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """Whoever tells that it works is killed a moment later; eight of them.

    Nobody gets through the second stage before one has been killed in it.
    """
    dice = random.Random(7)
    pids, reducing, hit = tmp_path / "pids", tmp_path / "reducing", tmp_path / "hit"
    pids_path, reducing_path, hit_path = map(str, (pids, reducing, hit))
    over = threading.Event()

    def tell() -> None:
        with open(pids_path, "a") as file:
            file.write(f"{os.getpid()}\n")

    def tell_and_wait() -> None:
        with open(reducing_path, "a") as file:
            file.write(f"{os.getpid()}\n")
        tell()
        deadline = time.monotonic() + 60
        while not os.path.exists(hit_path):
            assert time.monotonic() < deadline, "nobody is killed"
            time.sleep(0.005)

    def kill() -> None:
        killed: set[str] = set()
        while not over.wait(0.01):
            living = [] if not pids.exists() else pids.read_text().split()
            for pid in [pid for pid in living if pid not in killed]:
                over.wait(dice.random() * 0.1)
                killed.add(pid)
                if len(killed) <= 8 and not over.is_set():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                if len(killed) > 8 or (reducing.exists() and pid in reducing.read_text().split()):
                    hit.touch()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        dataset = pipeline(
            inputs, tmp_path / "out", tmp_path / "log", tell, tell_and_wait, lambda n: n % 100 == 0
        )
        backend.execute(dataset, hints=ExecutionHint(attempts_max=12))
    finally:
        over.set()
        killer.join()
    assert content(tmp_path / "out") == undisturbed
    assert 1 <= backend.last_stats.lost <= 8


def test_a_shard_that_kills_every_worker_fails_and_says_which(
    inputs: str, backend: Backend, tmp_path: Path
) -> None:
    dataset = pipeline(inputs, tmp_path / "out", tmp_path / "log", die, nothing)
    told = r"shard 2 \(.*part-2.*\) is lost: 2 workers died, .* SIGKILL"
    with pytest.raises(ShardLostError, match=told):
        backend.execute(dataset, hints=ExecutionHint(attempts_max=2))
    assert not (tmp_path / "out").exists()


def test_a_pipeline_that_fails_while_it_writes_leaves_whole_files_only(
    inputs: str, backend: Backend, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    dataset = pipeline(inputs, tmp_path / "out", tmp_path / "log", nothing, die)
    with pytest.raises(ShardLostError):
        backend.execute(dataset, hints=ExecutionHint(attempts_max=2))
    found = content(tmp_path / "out")
    assert len(found) < len(undisturbed)
    assert found.items() <= undisturbed.items()


def test_an_exception_in_a_worker_is_the_users_own_with_its_place(
    inputs: str, backend: Backend, tmp_path: Path
) -> None:
    def spoil() -> None:
        raise LookupError("of mine")

    dataset = pipeline(inputs, tmp_path / "out", tmp_path / "log", spoil, nothing)
    with pytest.raises(LookupError, match="of mine") as told:
        backend.execute(dataset)
    notes = "\n".join(told.value.__notes__)
    assert "map(work) at item 1700 of shard 2 of 5" in notes
    assert "part-2.jsonl.zst" in notes
    assert "in spoil" in str(told.value.__cause__)  # the worker's own traceback


@pytest.mark.parametrize("where", ["while it maps", "while it writes"])
def test_a_worker_that_hangs_is_overtaken_and_ended(
    inputs: str, backend: Backend, tmp_path: Path, undisturbed: dict[str, bytes], where: str
) -> None:
    pid_file = str(tmp_path / "pid")

    def hang() -> None:
        with open(pid_file, "w") as file:
            file.write(str(os.getpid()))
        while True:
            time.sleep(1)

    stuck = once(tmp_path / "stuck", hang)
    deeds = (stuck, nothing) if where == "while it maps" else (nothing, stuck)
    dataset = pipeline(inputs, tmp_path / "out", tmp_path / "log", *deeds)
    backend.execute(dataset, hints=ExecutionHint(straggler_s=0.5))
    assert content(tmp_path / "out") == undisturbed
    assert backend.last_stats.speculative >= 1
    assert not Path("/proc", Path(pid_file).read_text()).exists()


async def test_an_event_loop_is_not_blocked(cluster: LocalCluster) -> None:
    backend = FrayBackend(cluster, max_parallelism=2)
    dataset = Dataset.from_list([1, 2]).map(lambda n: n + 1)
    with pytest.raises(BlockingCallError, match=r"await asyncio\.to_thread\(backend\.execute"):
        backend.execute(dataset)
    assert await asyncio.to_thread(backend.execute, dataset) == [2, 3]


def test_storage_that_workers_do_not_share_is_told(cluster: LocalCluster) -> None:
    backend = FrayBackend(cluster, scratch="memory://only-of-this-process")
    with pytest.raises(ScratchError, match="ZEPHYR_SCRATCH"):
        backend.execute(Dataset.from_list([1]).map(lambda n: n))


def test_large_files_are_processed_by_processes_if_nobody_says_otherwise(
    inputs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zephyr.backends.LARGE_BYTES", 1)
    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "local")
    here = os.getpid()
    dataset = Dataset.from_files(inputs).load_jsonl().map_shard(lambda rows: [os.getpid()])
    pids = Backend.execute(dataset)
    assert len(pids) == SHARDS
    assert here not in pids
