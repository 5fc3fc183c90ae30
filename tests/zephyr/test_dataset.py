"""What a dataset says of itself, and what it refuses before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zephyr import (
    Backend,
    Dataset,
    ExecutionHint,
    FrayBackend,
    ProcessBackend,
    ThreadpoolBackend,
    get_backend,
)
from zephyr.backends import parse_memory
from zephyr.operations import FilterOp, MapOp, WindowOp


def double(n: int) -> int:
    return 2 * n


NUMBERS = Dataset.from_list([1, 2, 3])


def test_a_dataset_shows_its_source_and_operations() -> None:
    dataset = NUMBERS.map(double).filter(bool).window(2)
    assert dataset.source == [1, 2, 3]
    first, second, third = dataset.operations
    assert first == MapOp(double)
    assert second == FilterOp(bool)
    assert isinstance(third, WindowOp)
    assert repr(dataset) == "Dataset[3].map(double).filter(bool).window(2)"
    assert NUMBERS.operations == ()


def test_a_dry_run_prints_the_plan_and_does_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(_: Any) -> Any:
        raise AssertionError

    dataset = (
        NUMBERS.map(refuse)
        .group_by(double, refuse, num_output_shards=2)
        .reshard(5)
        .write_jsonl(f"{tmp_path}/{{shard}}.jsonl")
    )
    assert Backend.execute(dataset, dry_run=True) == []
    assert capsys.readouterr().out.splitlines() == [
        "stage 0, 3 shards: source → map(refuse) → shuffle to 2 shards",
        "stage 1, 2 shards: group_by(double, refuse)",
        f"stage 2, 5 shards: even shards → write_jsonl({tmp_path}/{{shard}}.jsonl)",
    ]


def test_the_plan_of_a_join_shows_the_other_side(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = NUMBERS.sorted_merge_join(NUMBERS.map(double), double, double, lambda a, b: (a, b))
    Backend.execute(dataset, dry_run=True)
    assert capsys.readouterr().out.splitlines() == [
        "  joined with, as side 0:",
        "    stage 0, 3 shards: source → map(double)",
        "stage 1, 3 shards: source → sorted_merge_join(inner)",
    ]
    assert Backend.execute(dataset) == []


def test_verbose_prints_the_plan_and_does_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert Backend.execute(NUMBERS.map(double), verbose=True) == [2, 4, 6]
    assert "source → map(double)" in capsys.readouterr().out


@pytest.mark.parametrize("n", [0, -1])
def test_a_number_of_shards_is_positive(n: int) -> None:
    with pytest.raises(ValueError, match="num_shards must be positive"):
        NUMBERS.reshard(n)
    assert NUMBERS.reshard(None) is NUMBERS


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NUMBERS.map(3), TypeError, "map takes a function, not 3"),
        (lambda: NUMBERS.window(0), ValueError, "size must be at least 1"),
        (lambda: NUMBERS.take_per_shard(-1), ValueError, "n must be at least 0"),
        (lambda: NUMBERS.select(), TypeError, "names of fields"),
        (lambda: NUMBERS.group_by(double, double, 0), ValueError, "num_output_shards"),
        (lambda: NUMBERS.load_jsonl("id"), TypeError, "list of names"),
        (lambda: NUMBERS.write_jsonl("x-{rank}.jsonl"), ValueError, "{shard}"),
        (lambda: NUMBERS.write_jsonl(5), TypeError, "string or a function"),
        (
            lambda: NUMBERS.sorted_merge_join(NUMBERS, double, double, how="outer"),
            ValueError,
            "how='inner'",
        ),
        (lambda: NUMBERS.sorted_merge_join([], double, double), TypeError, "Dataset"),
        (lambda: Backend.execute([1]), TypeError, "takes a Dataset"),
        (lambda: Backend.execute(NUMBERS, max_parallelism=0), ValueError, "max_parallelism"),
        (lambda: Backend.execute(NUMBERS, memory="lots"), ValueError, "4GB"),
        (lambda: ExecutionHint(chunk_size=0), ValueError, "chunk_size"),
        (lambda: get_backend("spark"), ValueError, "Unknown backend type 'spark'"),
        (lambda: ThreadpoolBackend(max_parallelism=0), ValueError, "max_parallelism"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_two_shards_are_not_written_to_one_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shards 0 and 1 would both be written to"):
        Backend.execute(NUMBERS.write_jsonl(tmp_path / "all.jsonl"))
    assert list(tmp_path.iterdir()) == []


def test_the_sides_of_a_join_have_equal_numbers_of_shards() -> None:
    dataset = NUMBERS.sorted_merge_join(NUMBERS.reshard(2), double, double)
    with pytest.raises(ValueError, match="the left side has 3 shards, the right one 2 shards"):
        Backend.execute(dataset)


def test_a_side_of_a_join_that_is_not_sorted_is_refused() -> None:
    left = Dataset.from_list([[{"k": 1}, {"k": 4}]]).flat_map(list)
    right = Dataset.from_list([[{"k": 1}, {"k": 3}, {"k": 2}]]).flat_map(list)
    by_key = {"left_key": lambda item: item["k"], "right_key": lambda item: item["k"]}
    with pytest.raises(ValueError, match=r"right side .* is not sorted: 2 comes after 3"):
        Backend.execute(left.sorted_merge_join(right, **by_key))
    assert Backend.execute(left.sorted_merge_join(left, **by_key)) == [{"k": 1}, {"k": 4}]


def test_memory_is_written_as_people_do() -> None:
    assert parse_memory("4GB") == parse_memory("4g") == parse_memory(4 << 30) == 4 << 30
    assert parse_memory("512m") == parse_memory("0.5 GiB") == 512 << 20
    assert parse_memory("1024") == parse_memory("1k") == 1024
    with pytest.raises(ValueError, match="positive"):
        parse_memory(0)


def test_threads_share_the_memory_of_their_process() -> None:
    memory = 4 << 30
    threads, processes = ThreadpoolBackend(), ProcessBackend()
    assert processes.sort_bytes(100, memory) == memory // 8
    assert 32 * threads.sort_bytes(100, memory) == memory // 8
    assert threads.sort_bytes(1, memory) == memory // 8


def test_the_backend_is_that_of_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "local")
    assert isinstance(get_backend(), ThreadpoolBackend)
    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "fray://127.0.0.1:1")
    assert isinstance(get_backend(), FrayBackend)
    assert isinstance(get_backend("fray", max_parallelism=3), FrayBackend)
