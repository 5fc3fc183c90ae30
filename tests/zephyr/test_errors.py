"""A failure says where: the shard, the operation, the item; and it is the user's own exception."""

from __future__ import annotations

import threading
import traceback
from typing import Any

import pytest

from zephyr import Backend, Dataset

DATASET = Dataset.from_list([0, 1, 2]).flat_map(lambda n: range(1000 * n, 1000 * n + 1000))


class Spoilt(Exception):
    pass


def spoil(n: int) -> int:
    if n == 1234:
        raise Spoilt(n)
    return n


def failure(dataset: Dataset[Any], error: type[BaseException] = Spoilt) -> tuple[str, str]:
    """The note of the failure, and its traceback."""
    with pytest.raises(error) as told:
        Backend.execute(dataset, max_parallelism=2)
    (note,) = told.value.__notes__
    return note, "".join(traceback.format_exception(told.value))


def stop(n: int) -> int:
    if n == 1234:
        raise StopIteration
    return n


@pytest.mark.parametrize(
    ("dataset", "place"),
    [
        (DATASET.map(spoil), "map(spoil) at item 234"),
        (DATASET.filter(spoil), "filter(spoil) at item 234"),
        (DATASET.flat_map(lambda n: [spoil(n)]), "flat_map(<lambda>) at item 234"),
        (DATASET.map_shard(lambda ns: map(spoil, ns)), "map_shard(<lambda>) at item 234"),
        (DATASET.window_by(lambda s, n: (True, spoil(n))), "window_by(<lambda>) at item 234"),
        (DATASET.group_by(spoil, lambda key, ns: key), "group_by(spoil, <lambda>) at item 234"),
        (DATASET.deduplicate(spoil), "deduplicate(spoil) at item 234"),
        (DATASET.reduce(lambda ns: sum(map(spoil, ns))), "of each shard at item"),
    ],
)
def test_a_failure_names_the_shard_the_operation_and_the_item(
    dataset: Dataset[Any], place: str
) -> None:
    note, trace = failure(dataset)
    assert place in note
    assert "of shard 1 of 3" in note
    assert "raise Spoilt(n)" in trace


def test_a_failing_reducer_names_its_group() -> None:
    def reducer(key: int, numbers: Any) -> int:
        return spoil(1234) if key == 2 else key

    note, _ = failure(DATASET.group_by(lambda n: n % 4, reducer, num_output_shards=1))
    assert "group_by(<lambda>, reducer) at group 2 of shard 0 of 1" in note


def test_a_function_that_raises_stop_iteration_ends_nothing_in_silence() -> None:
    note, _ = failure(DATASET.map(stop), RuntimeError)
    assert "map(stop) at item 234 of shard 1 of 3" in note


def test_a_key_that_cannot_be_one_names_its_item() -> None:
    note, _ = failure(DATASET.group_by(lambda n: {n}, lambda key, ns: key), TypeError)
    assert "at item 0 of shard" in note


def test_what_cannot_be_copied_names_its_place() -> None:
    with pytest.raises(TypeError, match="pickle") as told:
        Backend.execute(Dataset.from_list([1, threading.Lock()]))
    assert told.value.__notes__ == ["zephyr: item 1 of the source cannot be copied for its worker"]
    note, _ = failure(Dataset.from_list([1]).map(lambda _: threading.Lock()), TypeError)
    assert note == "zephyr: raised by storing the result at item 0 of shard 0 of 1"


def test_a_failure_stops_the_other_shards() -> None:
    go_on = threading.Event()
    seen: list[int] = []

    def work(n: int) -> int:
        if n == 0:
            raise Spoilt
        go_on.wait(5)
        seen.append(n)
        return n

    source = Dataset.from_list([0, 1]).flat_map(lambda n: range(100_000 * n, 100_000 * n + 100_000))
    with pytest.raises(Spoilt):
        Backend.execute(source.map(work), max_parallelism=2)
    go_on.set()
    assert len(seen) < 100_000
