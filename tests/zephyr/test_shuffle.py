"""Merging sorted runs, in as many passes as memory makes it take, and no more writing than that."""

from __future__ import annotations

import itertools
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr import shuffle
from zephyr.shuffle import FAN_IN_LEAST, Pair, merged, write_sorted
from zephyr.spill import Segment, SpillFile, blocks_of

if TYPE_CHECKING:
    import pytest

keys = st.sampled_from((b"", b"a", b"ab", b"b", b"c"))


def run_of(path: Path, pairs: list[Pair]) -> Segment:
    file = SpillFile(str(path), compress=False)
    write_sorted(file, iter((pairs,)))
    return file.close()[0]


@settings(max_examples=30)
@given(st.lists(st.lists(keys, max_size=6), max_size=4 * FAN_IN_LEAST))
def test_runs_are_merged_in_the_order_of_keys_and_then_of_runs(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    names = itertools.count()
    pairs = [
        [(key, b"%d-%d" % (run, n)) for n, key in enumerate(sorted(those))]
        for run, those in enumerate(runs)
    ]
    segments = [run_of(folder / str(next(names)), those) for those in pairs]
    found = merged(segments, 1, lambda: SpillFile(str(folder / str(next(names))), compress=False))
    expected = sorted(itertools.chain.from_iterable(pairs), key=itemgetter(0))
    assert list(itertools.chain.from_iterable(found)) == expected


def test_where_one_run_is_too_many_the_two_shortest_neighbours_are_merged_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zephyr.spill.INLINE_BYTES", 0)
    lengths = [900, 900, 100, 900, 200, 200, 900, 100, 900]
    assert len(lengths) == FAN_IN_LEAST + 1
    segments = [
        run_of(tmp_path / f"run-{number}", [(b"k%d" % number, bytes(length))])
        for number, length in enumerate(lengths)
    ]
    files: list[Path] = []

    def new_file() -> SpillFile:
        files.append(tmp_path / f"merged-{len(files)}")
        return SpillFile(str(files[-1]), compress=False)

    items = [item for pairs in merged(segments, 1, new_file) for _, item in pairs]
    assert list(map(len, items)) == lengths
    assert len(files) == 1
    assert 400 < files[0].stat().st_size < 600


def test_blocks_of_small_items_are_small_in_memory(tmp_path: Path) -> None:
    pairs = [(b"%06d" % n, b"x") for n in range(20_000)]
    blocks = list(blocks_of(run_of(tmp_path / "run", pairs)))
    assert sum(len(items) for _, items in blocks) == 20_000
    for block_keys, items in blocks:
        held = sum(map(len, block_keys)) + sum(map(len, items)) + shuffle.ITEM_BYTES * len(items)
        assert held <= shuffle.BLOCK_BYTES
