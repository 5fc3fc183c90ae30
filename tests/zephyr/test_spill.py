"""Blocks in storage come back as they were, whatever their sizes and wherever they are."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr.spill import SpillFile, blocks_of, items_of

sizes = st.sampled_from((0, 1, 100, 5_000, 70_000, 300_000))
segments = st.lists(st.lists(sizes, max_size=6), min_size=1, max_size=4)


@pytest.mark.parametrize("place", ["folder", "memory"])
@pytest.mark.parametrize("compress", [False, True])
@settings(max_examples=20)
@given(segments)
def test_blocks_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, place: str, compress: bool, segments: list[list[int]]
) -> None:
    folder = "memory:/" if place == "memory" else str(tmp_path_factory.getbasetemp())
    file = SpillFile(f"{folder}/{uuid.uuid4().hex}/file", compress)
    wanted: list[list[list[bytes]]] = []
    for blocks in segments:
        wanted.append([[bytes([n % 251]) * size, b"end"] for n, size in enumerate(blocks)])
        for block in wanted[-1]:
            file.add(block)
        file.cut()
    for segment, blocks in zip(file.close(), wanted, strict=True):
        assert list(blocks_of(segment)) == blocks
        assert segment.count == 2 * len(blocks)
        items = [item for block in blocks for item in block]
        part = segment.part(1, 3)
        assert [item for batch in items_of(part) for item in batch] == items[1:4]


def test_a_file_that_was_cut_off_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = SpillFile(str(path), compress=False)
    for _ in range(3):
        file.add([bytes(100_000)])
    file.cut()
    (segment,) = file.close()
    with path.open("r+b") as cut:
        cut.truncate(250_000)
    with pytest.raises(EOFError, match="ends too early"):
        list(blocks_of(segment))
