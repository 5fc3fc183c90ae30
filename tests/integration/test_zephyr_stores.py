"""zephyr over S3's protocol: a server on this machine, worker processes that reach it by s3fs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from zephyr import Backend, Dataset, ProcessBackend, ThreadpoolBackend, load_jsonl, scratch

pytest.importorskip("moto", reason="needs moto[s3], flask and flask-cors")
pytest.importorskip("s3fs")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(90),
    pytest.mark.leftovers("fsspec keeps a thread for all of its stores"),
]

ROWS = 3000


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """The file system; its bucket is `lake`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    fs.mkdir("lake")
    yield fs
    fs.rm("lake", recursive=True)  # all servers of a process keep their buckets together
    server.stop()
    type(fs).clear_instance_cache()


def rows_of(part: int) -> list[dict[str, Any]]:
    return [
        {"n": n, "key": n % 7, "text": f"{n * 7919 % 10007} " * 8}
        for n in range(part * ROWS, (part + 1) * ROWS)
    ]


def grouped(marker: str) -> Dataset[str]:
    """Sums by key; a worker that comes to an item in the middle dies, unless it is noted."""

    def dies_once(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == ROWS + 1700:
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return row
            os.kill(os.getpid(), signal.SIGKILL)
        return row

    def summed(key: int, rows: Any) -> dict[str, Any]:
        found = list(rows)
        return {"key": key, "sum": sum(row["n"] for row in found), "first": found[0]["n"]}

    return (
        Dataset.from_files("s3://lake/in/*.jsonl.gz")
        .load_jsonl()
        .map(dies_once)
        .group_by(lambda row: row["key"], summed, num_output_shards=2)
        .write_jsonl("s3://lake/out/{shard}.jsonl.zst")
    )


def test_a_pipeline_on_s3_whose_worker_is_killed_writes_the_same_objects(
    store: Any, tmp_path: Path
) -> None:
    inputs = Dataset.from_list([0, 1]).flat_map(rows_of)
    Backend.execute(inputs.write_jsonl("s3://lake/in/{shard}.jsonl.gz"))
    mine = scratch._this_process()
    assert mine is not None
    left = json.dumps(asdict(replace(mine, pid=1 << 23))).encode()
    store.pipe_file(f"lake/scratch/{scratch.PREFIX}left/{scratch.MARK}", left)
    marker = tmp_path / "died"
    marker.touch()
    paths = ThreadpoolBackend(2, scratch="s3://lake/scratch").execute(grouped(str(marker)))
    calm = store.cat(paths)
    marker.unlink()
    backend = ProcessBackend(1, scratch="s3://lake/scratch")
    assert backend.execute(grouped(str(marker))) == paths
    assert backend.last_stats.lost == 1
    assert store.cat(paths) == calm

    found = {row["key"]: (row["sum"], row["first"]) for path in paths for row in load_jsonl(path)}
    assert found == {key: (sum(range(key, 2 * ROWS, 7)), key) for key in range(7)}
    store.invalidate_cache()
    assert sorted(store.find("lake/out")) == ["lake/out/0.jsonl.zst", "lake/out/1.jsonl.zst"]
    assert store.find("lake/scratch") == []


def test_an_object_on_s3_stays_as_it_was_where_its_shard_fails(store: Any) -> None:
    store.pipe_file("lake/out/0.jsonl", b'"old"\n')

    def fail(n: int) -> int:
        if n == 2000:
            raise ValueError("no")
        return n

    dataset = Dataset.from_list([range(3000)]).flat_map(list)
    pattern = "s3://lake/out/{shard}.jsonl"
    with pytest.raises(ValueError, match="no"):
        ThreadpoolBackend().execute(dataset.map(fail).write_jsonl(pattern))
    assert store.cat_file("lake/out/0.jsonl") == b'"old"\n'
    assert ThreadpoolBackend().execute(dataset.write_jsonl(pattern, skip_existing=True)) == [
        "s3://lake/out/0.jsonl"
    ]
    assert store.cat_file("lake/out/0.jsonl") == b'"old"\n'
    ThreadpoolBackend().execute(dataset.write_jsonl(pattern))
    assert list(load_jsonl("s3://lake/out/0.jsonl")) == list(range(3000))


def test_what_other_processes_do_to_a_store_is_seen(store: Any) -> None:
    store.pipe_file("lake/out/0.jsonl", b"0\n")
    found = Dataset.from_files("s3://lake/out/*.jsonl")
    assert list(found.source) == ["s3://lake/out/0.jsonl"]

    store.pipe_file("lake/out/0.jsonl", b"1234567\n")  # by a connection of its own
    store.pipe_file("lake/out/1.jsonl", b"1\n")
    assert Backend.execute(found.load_jsonl()) == [1234567]
    found = Dataset.from_files("s3://lake/out/*.jsonl")
    assert Backend.execute(found.load_jsonl()) == [1234567, 1]

    store.rm("lake/out/1.jsonl")
    again = Dataset.from_list([0, 1]).map(lambda n: n + 5)
    Backend.execute(again.write_jsonl("s3://lake/out/{shard}.jsonl", skip_existing=True))
    assert store.cat(["lake/out/0.jsonl", "lake/out/1.jsonl"]) == {
        "lake/out/0.jsonl": b"1234567\n",
        "lake/out/1.jsonl": b"6\n",
    }
