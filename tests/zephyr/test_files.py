"""Files: every format and compression there and back, whole or not at all, local or elsewhere."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any

import fsspec
import isal.igzip  # noqa: F401  # else the first file imports it, which hypothesis would time
import msgspec  # noqa: F401
import numpy as np
import pyarrow
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zephyr import Backend, Dataset, load_file, load_jsonl, load_parquet
from zephyr.files import write_whole
from zephyr.plan import make_plan
from zephyr.task import ShardWork, Task, run_task

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=6,
)
ROWS = [{"id": n, "text": f"text {n}" * (n % 7), "tags": ["a", "b"][: n % 3]} for n in range(3000)]


def written(rows: list[Any], pattern: str | Path, **options: Any) -> list[str]:
    kind = options.pop("kind", "jsonl")
    dataset = Dataset.from_list([rows]).flat_map(lambda part: part)
    return Backend.execute(getattr(dataset, f"write_{kind}")(pattern, **options))


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(rows=st.lists(values, max_size=5), suffix=st.sampled_from(["", ".gz", ".zst"]))
def test_json_comes_back_as_it_was(tmp_path: Path, rows: list[Any], suffix: str) -> None:
    rows = [each for each in rows if not _has_infinity(each)]
    (path,) = written(rows, tmp_path / f"data.jsonl{suffix}")
    assert list(load_jsonl(path)) == rows


def _has_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return math.isinf(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_has_infinity, inner))


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_files_have_the_format_that_other_programs_read(tmp_path: Path, suffix: str) -> None:
    (path,) = written(ROWS, tmp_path / f"data.jsonl{suffix}")
    raw = Path(path).read_bytes()
    if suffix == ".gz":
        raw = gzip.decompress(raw)
    elif suffix == ".zst":
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    assert [json.loads(line) for line in raw.decode().splitlines()] == ROWS


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".jsonl.bz2", ".jsonl.xz", ".json"])
def test_files_of_other_programs_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    lines = "\r\n".join(json.dumps(row) for row in ROWS) + "\n\n  \n"
    with fsspec.open(str(path), "wb", compression=None if suffix == ".json" else "infer") as file:
        file.write(lines.encode())
    assert list(load_file(str(path))) == ROWS


def test_json_that_the_fast_decoder_refuses_is_read(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": NaN}\n{"a": "\\ud800"}\n')
    one, two, three = load_jsonl(str(path))
    assert (one, three) == ({"a": 1}, {"a": "\ud800"})
    assert math.isnan(two["a"])


def test_lines_longer_than_what_is_read_at_once_are_whole(tmp_path: Path) -> None:
    rows = [{"text": "x" * 700_000}, {"text": "y"}, {"text": "z" * 300_000}]
    (path,) = written(rows, tmp_path / "long.jsonl")
    assert list(load_jsonl(path)) == rows


def test_a_line_far_into_a_file_is_named(tmp_path: Path) -> None:
    (path,) = written(ROWS * 10, tmp_path / "data.jsonl.gz")
    with gzip.open(path, "ab") as file:
        file.write(b"oops\n")
    with pytest.raises(ValueError, match=r"line 30001: not JSON"):
        list(load_jsonl(path))


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"a": 1}\n\n{"a": }\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 3: not JSON .*\{\"a\": \}") as told:
        Backend.execute(Dataset.from_files(str(path)).load_jsonl())
    assert any("load_jsonl at item 0 of shard 0 of 1" in note for note in told.value.__notes__)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_archive_is_named(tmp_path: Path, suffix: str) -> None:
    (path,) = written(ROWS, tmp_path / f"data.jsonl{suffix}")
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 0xFF
    Path(path).write_bytes(content[:-10])
    with pytest.raises(ValueError, match=rf"data\.jsonl\{suffix}"):
        list(load_jsonl(path))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.9, 0.9999])
def test_an_archive_that_was_cut_is_damaged_wherever_it_was_cut(
    tmp_path: Path, suffix: str, share: float
) -> None:
    # A power of two for each line: blocks of the compressor end where lines end.
    rows = [{"a": f"{number:055d}"} for number in range(20_000)]
    (path,) = written(rows, tmp_path / f"data.jsonl{suffix}")
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=rf"data\.jsonl\{suffix} is damaged"):
        list(load_jsonl(path))


def test_frames_of_zstandard_are_read_one_after_the_other(tmp_path: Path) -> None:
    paths = [written(ROWS, tmp_path / f"{name}.jsonl.zst")[0] for name in ("a", "b")]
    both = tmp_path / "both.jsonl.zst"
    both.write_bytes(b"".join(Path(path).read_bytes() for path in paths))
    assert list(load_jsonl(str(both))) == [*ROWS, *ROWS]
    both.write_bytes(both.read_bytes() + b"junk")
    with pytest.raises(ValueError, match="is damaged"):
        list(load_jsonl(str(both)))


@dataclasses.dataclass
class Point:
    x: int


class Opaque:
    pass


def test_values_beyond_json_are_written_as_their_likeness_in_json(tmp_path: Path) -> None:
    rows = [
        {"a": np.arange(2), "b": np.float32(0.5), 3: 1 << 70},
        Point(1),
        {None: 1, "s": "\ud800"},
        float("nan"),
    ]
    (path,) = written(rows, tmp_path / "data.jsonl")
    assert list(load_jsonl(path)) == [
        {"a": [0, 1], "b": 0.5, "3": 1 << 70},
        {"x": 1},
        {"null": 1, "s": "\ud800"},
        None,
    ]


def test_what_is_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Opaque"):
        written([{"a": 1}, {"a": Opaque()}], tmp_path / "data.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_parquet_comes_back_as_it_was(tmp_path: Path) -> None:
    (path,) = written(ROWS, tmp_path / "data.parquet", kind="parquet")
    assert list(load_parquet(path)) == ROWS
    assert list(load_file(path, ["id", "absent"])) == [{"id": row["id"]} for row in ROWS]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"x": 1.5}, "x would be lost: a double is no int64"),
        ({"x": 1, "y": 2}, "y would be lost: there is no such column"),
        ({"m": {"a": 1, "b": 2}}, "m would be lost: its b"),
        ({"m": {"a": 1.5}}, "m would be lost: its a: a double is no int64"),
        ({"l": [0.5]}, "l would be lost: a double is no int64"),
        ({"x": 1 << 70}, "too large"),
        ({"x": "1"}, "give write_parquet a schema"),
    ],
)
@pytest.mark.parametrize("declared", [False, True])
def test_a_row_that_would_not_come_back_from_parquet_as_it_was_is_refused(
    tmp_path: Path, row: dict[str, object], told: str, declared: bool
) -> None:
    first = {"x": 1, "m": {"a": 1}, "l": [1]}
    options: dict[str, object] = {"batch_size": 1}
    if declared:
        options["schema"] = pyarrow.Table.from_pylist([first]).schema
        told = told.replace("give write_parquet a schema", "write_parquet")
    with pytest.raises(ValueError, match=re.escape(told)):
        written([first, row], tmp_path / "data.parquet", kind="parquet", **options)


def test_fields_of_later_rows_are_columns_too(tmp_path: Path) -> None:
    rows = [{"x": 1}, {"y": 2}]
    (path,) = written(rows, tmp_path / "data.parquet", kind="parquet")
    assert list(load_parquet(path)) == [{"x": 1, "y": None}, {"x": None, "y": 2}]


def test_parquet_without_rows_and_with_a_schema(tmp_path: Path) -> None:
    schema = pyarrow.schema([("id", pyarrow.int32())])
    (path,) = written([], tmp_path / "none.parquet", kind="parquet")
    assert list(load_parquet(path)) == []
    (path,) = written([{"id": 1}, {}], tmp_path / "some.parquet", kind="parquet", schema=schema)
    assert list(load_parquet(path)) == [{"id": 1}, {"id": None}]


def test_rows_that_do_not_fit_the_inferred_schema_are_named(tmp_path: Path) -> None:
    rows = [{"id": n} for n in range(1000)] + [{"id": "x"}]
    with pytest.raises(ValueError, match="give write_parquet a schema"):
        written(rows, tmp_path / "data.parquet", kind="parquet")
    assert list(tmp_path.iterdir()) == []


def test_bytes_are_written_one_after_the_other(tmp_path: Path) -> None:
    (path,) = written([b"ab", b"", b"c"], tmp_path / "data.bin", kind="binary")
    assert Path(path).read_bytes() == b"abc"
    with pytest.raises(TypeError, match="write_binary writes bytes, not str"):
        written(["ab"], tmp_path / "other.bin", kind="binary")


def test_a_selection_of_fields_is_all_that_is_read(tmp_path: Path) -> None:
    (path,) = written(ROWS, tmp_path / "data.parquet", kind="parquet")
    dataset = Dataset.from_files(path).load_parquet().select("id").take_per_shard(2)
    assert Backend.execute(dataset) == [{"id": 0}, {"id": 1}]


def test_shards_are_written_to_files_with_their_numbers(tmp_path: Path) -> None:
    pattern = f"{tmp_path}/deep/er/part-{{shard:05d}}-of-{{total:05d}}.jsonl"
    paths = Backend.execute(Dataset.from_list([1, 2, 3]).write_jsonl(pattern))
    assert [os.path.basename(path) for path in paths] == [
        f"part-{n:05d}-of-00003.jsonl" for n in range(3)
    ]
    assert [Path(path).read_text() for path in paths] == ["1\n", "2\n", "3\n"]
    by_function = Dataset.from_list([1, 2]).write_jsonl(lambda k, n: f"{tmp_path}/{k}-{n}.jsonl")
    assert Backend.execute(by_function) == [f"{tmp_path}/0-2.jsonl", f"{tmp_path}/1-2.jsonl"]


def test_an_empty_shard_is_an_empty_file(tmp_path: Path) -> None:
    dataset = Dataset.from_list([1, 2]).filter(lambda n: n > 1)
    paths = Backend.execute(dataset.write_jsonl(f"{tmp_path}/{{shard}}.jsonl"))
    assert [Path(path).read_text() for path in paths] == ["", "2\n"]


def test_shards_whose_files_are_there_are_left_alone(tmp_path: Path) -> None:
    computed: list[int] = []

    def note(n: int) -> int:
        computed.append(n)
        return n

    def dataset(skip: bool) -> Dataset[str]:
        pattern = f"{tmp_path}/{{shard}}.jsonl"
        return Dataset.from_list([0, 1, 2]).map(note).write_jsonl(pattern, skip_existing=skip)

    (tmp_path / "1.jsonl").write_text("old\n")
    paths = Backend.execute(dataset(True))
    assert sorted(computed) == [0, 2]
    assert [Path(path).read_text() for path in paths] == ["0\n", "old\n", "2\n"]
    Backend.execute(dataset(False))
    assert (tmp_path / "1.jsonl").read_text() == "1\n"


def test_a_shard_that_fails_leaves_no_file_and_the_old_one_alone(tmp_path: Path) -> None:
    def fail_at(n: int) -> int:
        if n == 2500:
            raise RuntimeError("here")
        return n

    (tmp_path / "data.jsonl").write_text("old\n")
    dataset = Dataset.from_list([5000]).flat_map(range).map(fail_at)
    with pytest.raises(RuntimeError, match="here"):
        Backend.execute(dataset.write_jsonl(tmp_path / "data.jsonl"))
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]
    assert (tmp_path / "data.jsonl").read_text() == "old\n"


def test_a_process_that_was_taken_for_dead_does_not_harm_who_writes_in_its_place(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data.jsonl"
    first = write_whole(str(path), "tag", lambda: None)
    first.__enter__().write(b"half of")
    with write_whole(str(path), "tag", lambda: None) as second:
        second.write(b"all of it")
        with pytest.raises(FileExistsError, match="written by another process"):
            first.__exit__(None, None, None)
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert [each.name for each in tmp_path.iterdir()] == ["data.jsonl"]


def test_attempts_of_one_number_store_what_they_make_apart(tmp_path: Path) -> None:
    stage = make_plan(Dataset.from_list([100_000]).flat_map(range)).stages[0].code
    work = ShardWork(0, pickle.dumps(100_000))
    task = Task("run", 0, 0, (), (work,), str(tmp_path), 1 << 20, 100_000, compress=False)
    found = [run_task(stage, task).outputs[0].segments for _ in range(2)]
    assert len({segment.path for (segment,) in found}) == 2


def test_globs_are_sorted_and_know_alternatives(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt", "sub/d.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = [Path(p).name for p in Dataset.from_files(f"{tmp_path}//**/*.{{jsonl,txt}}").source]
    assert sorted(found) == ["a.jsonl", "b.jsonl", "c.txt", "d.jsonl"]
    assert [Path(p).name for p in Dataset.from_files(f"{tmp_path}/*.jsonl").source] == [
        "a.jsonl",
        "b.jsonl",
    ]
    assert list(Dataset.from_files(f"{tmp_path}/*.none", empty_glob_ok=True).source) == []
    with pytest.raises(FileNotFoundError, match="No files found"):
        Dataset.from_files(f"{tmp_path}/*.none")


def test_a_suffix_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"load_file knows \.jsonl"):
        list(load_file(str(tmp_path / "data.xyz")))


def test_everything_may_be_in_another_store() -> None:
    root = "memory://zephyr-test"
    fs = fsspec.filesystem("memory")
    try:
        dataset = Dataset.from_list([ROWS[:1500], ROWS[1500:]]).flat_map(lambda part: part)
        Backend.execute(dataset.write_jsonl(root + "/in-{shard}.jsonl.gz"))
        grouped = (
            Dataset.from_files(root + "/in-*.jsonl.gz")
            .load_jsonl()
            .group_by(lambda row: row["id"] % 5, lambda key, rows: [r["id"] for r in rows], 2)
            .write_jsonl(root + "/out-{shard}.jsonl.zst", skip_existing=True)
        )
        from zephyr import ThreadpoolBackend

        paths = ThreadpoolBackend(scratch=root + "/scratch").execute(grouped)
        found = sorted(group for path in paths for group in load_jsonl(path))
        assert found == [[n for n in range(3000) if n % 5 == k] for k in range(5)]
        assert [each for each in fs.find("/zephyr-test") if "scratch" in each] == []
    finally:
        fs.rm("/zephyr-test", recursive=True)


@pytest.mark.parametrize("where", ["", "memory://hidden"])
def test_what_begins_with_a_dot_is_input_only_where_a_pattern_says_so(
    tmp_path: Path, where: str
) -> None:
    root = where or str(tmp_path)
    fs, within = fsspec.core.url_to_fs(root)
    for name in ("a.jsonl", ".b.jsonl.1.unfinished", ".c/d.jsonl", "e/.f.jsonl", "e/g.jsonl"):
        fs.makedirs(os.path.dirname(f"{within}/{name}"), exist_ok=True)
        fs.pipe_file(f"{within}/{name}", b"{}\n")

    def found(pattern: str) -> list[str]:
        files = Backend.execute(Dataset.from_files(f"{root}/{pattern}", empty_glob_ok=True))
        return sorted(path.rpartition(within)[2].lstrip("/") for path in files)

    assert found("*") == ["a.jsonl"]
    assert found("**/*") == ["a.jsonl", "e/g.jsonl"]
    assert found("e/.*") == ["e/.f.jsonl"]
    assert found(".c/*") == [".c/d.jsonl"]


def test_relative_patterns_find_files_below_folders_with_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".cache"
    folder.mkdir()
    (folder / "a.txt").touch()
    monkeypatch.chdir(folder)
    assert [Path(p).name for p in Backend.execute(Dataset.from_files("*.txt"))] == ["a.txt"]
    assert len(Backend.execute(Dataset.from_files("./*.txt"))) == 1
    assert len(Backend.execute(Dataset.from_files("../.cache/*.txt"))) == 1
