"""What the guide to zephyr shows runs, and does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.guides import blocks_of, run

PROGRAMS = blocks_of("docs/zephyr.md")
SAID = [
    "stage 0, 3 shards: source → load_jsonl → map(<lambda>) → filter(<lambda>) → write_jsonl("
    "out/part-{shard:05d}-of-{total:05d}.jsonl.zst)\n['out/part-00000-of-00003.jsonl.zst', "
    "'out/part-00001-of-00003.jsonl.zst', 'out/part-00002-of-00003.jsonl.zst']\n",
    "",
    "zephyr: raised by map(inverse) at item 3 of shard 1 of 2\n",
    "RunStats(tasks=2, lost=0, speculative=0, peak_bytes=N)\n",
]


@pytest.mark.parametrize("number", range(len(SAID)))
def test_the_programs_of_the_guide_to_zephyr_run(number: int, tmp_path: Path) -> None:
    assert len(PROGRAMS) == len(SAID)
    done = run(PROGRAMS[number], tmp_path)
    assert done.stderr == ""
    assert re.sub(r"(?<=peak_bytes=)\d+", "N", done.stdout) == SAID[number]
