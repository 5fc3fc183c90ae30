"""Whatever the pipeline and whoever runs it, the result is what plain lists give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.zephyr.reference import expected
from zephyr import Backend, Dataset, ExecutionHint, ThreadpoolBackend

if TYPE_CHECKING:
    import pytest

Step = Callable[[Dataset[Any]], Dataset[Any]]


def number(item: Any) -> int:
    """Of whatever a pipeline has made."""
    if isinstance(item, list | tuple):
        return sum(map(number, item))
    return item


def mod(n: int) -> Callable[[Any], int]:
    return lambda item: number(item) % n


def largest_and_all(key: int, items: Any) -> list[Any]:
    return [key, *items]


def one_by_one(key: int, items: Any) -> Any:
    for item in items:
        yield (key, item)


def every_other(items: Any) -> Any:
    for at, item in enumerate(items):
        if at % 2 == 0:
            yield item


def total(items: Any) -> int:
    return sum(map(number, items))


small = st.integers(1, 5)
steps: st.SearchStrategy[Step] = st.one_of(
    st.just(lambda ds: ds.map(lambda item: [item, 1])),
    small.map(lambda n: lambda ds: ds.filter(lambda item: number(item) % n != 0)),
    small.map(lambda n: lambda ds: ds.flat_map(lambda item: [item] * (number(item) % (n + 1)))),
    st.just(lambda ds: ds.map_shard(every_other)),
    st.integers(0, 3).map(lambda n: lambda ds: ds.take_per_shard(n)),
    small.map(lambda n: lambda ds: ds.window(n)),
    small.map(
        lambda n: (
            lambda ds: ds.window_by(
                lambda held, item: (held + number(item) <= 9 * n, held + number(item)), 0
            )
        )
    ),
    small.map(lambda n: lambda ds: ds.reshard(n)),
    st.tuples(small, small).map(lambda p: lambda ds: ds.group_by(mod(p[0]), largest_and_all, p[1])),
    small.map(lambda n: lambda ds: ds.group_by(mod(n), one_by_one)),
    st.tuples(small, small).map(lambda p: lambda ds: ds.deduplicate(mod(p[0]), p[1])),
    st.just(lambda ds: ds.reduce(total)),
    st.just(lambda ds: ds.count()),
    small.map(
        lambda n: (
            lambda ds: ds.group_by(mod(3), largest_and_all, n).sorted_merge_join(
                ds.group_by(mod(2), one_by_one, n),
                left_key=lambda left: left[0],
                right_key=lambda right: right[0],
                combiner=lambda left, right: [number(left), 0 if right is None else number(right)],
                how="left",
            )
        )
    ),
)


@settings(max_examples=150)
@given(st.lists(st.integers(0, 99), max_size=12), st.lists(steps, max_size=5))
def test_any_pipeline_gives_what_plain_lists_give(source: list[int], chosen: list[Step]) -> None:
    dataset = Dataset.from_list(source)
    for step in chosen:
        dataset = step(dataset)
    assert Backend.execute(dataset, max_parallelism=2) == expected(dataset)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 99), max_size=12), st.lists(steps, max_size=4), small)
def test_chunks_and_parallelism_do_not_change_a_result(
    source: list[int], chosen: list[Step], size: int
) -> None:
    dataset = Dataset.from_list(source)
    for step in chosen:
        dataset = step(dataset)
    hints = ExecutionHint(chunk_size=size)
    assert Backend.execute(dataset, hints=hints, max_parallelism=size) == expected(dataset)


def test_what_does_not_fit_into_memory_gives_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zephyr.shuffle.RUN_BYTES", 1 << 20)  # eight runs are merged at once
    monkeypatch.setattr("zephyr.spill.BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr("zephyr.shuffle.BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr("zephyr.spill.INLINE_BYTES", 0)
    items = [{"n": n, "key": n * 7919 % 501, "text": f"{n}-" * 40} for n in range(6000)]
    dataset = (
        Dataset.from_list([items[:4000], items[4000:]])
        .flat_map(lambda part: part)
        .group_by(lambda item: item["key"], largest_and_all, num_output_shards=3)
    )
    runs: list[int] = []
    backend = ThreadpoolBackend(max_parallelism=1, scratch=str(tmp_path))
    merge = __import__("zephyr.shuffle", fromlist=["merge"]).merge

    def counted(segments: Any) -> Any:
        runs.append(len(segments))
        return merge(segments)

    monkeypatch.setattr("zephyr.shuffle.merge", counted)
    monkeypatch.setattr("zephyr.backends.SORT_SHARE", 1 << 13)
    monkeypatch.setattr("zephyr.backends.LEAST_SORT_BYTES", 1 << 16)
    assert backend.execute(dataset, memory="512MB") == expected(dataset)
    assert len(runs) > 3  # several passes for each partition
    assert max(runs) <= 8
    assert list(tmp_path.iterdir()) == []


def test_one_group_may_be_larger_than_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zephyr.shuffle.BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr("zephyr.backends.LEAST_SORT_BYTES", 1 << 16)
    dataset = (
        Dataset.from_list([0, 1, 2])
        .flat_map(lambda part: ((part, n) for n in range(3000)))
        .group_by(lambda item: "all", lambda key, items: list(items))
    )
    (found,) = ThreadpoolBackend(scratch=str(tmp_path)).execute(dataset, memory="512k")
    assert found == [(part, n) for part in range(3) for n in range(3000)]


def test_an_iterator_as_a_source_can_be_executed_again() -> None:
    dataset = Dataset.from_iterable(n * n for n in range(5)).map(lambda n: n + 1)
    assert Backend.execute(dataset) == Backend.execute(dataset) == [1, 2, 5, 10, 17]


def test_functions_do_not_change_the_items_of_the_source() -> None:
    source = [{"x": 1}]

    def spoil(item: dict[str, int]) -> dict[str, int]:
        item["x"] = 2
        return item

    assert Backend.execute(Dataset.from_list(source).map(spoil)) == [{"x": 2}]
    assert source == [{"x": 1}]


def test_what_is_not_taken_is_not_computed() -> None:
    asked: list[int] = []

    def note(n: int) -> int:
        asked.append(n)
        return n

    dataset = Dataset.from_list([0]).flat_map(lambda _: range(1000)).map(note).take_per_shard(3)
    assert Backend.execute(dataset) == [0, 1, 2]
    assert asked == [0, 1, 2]
