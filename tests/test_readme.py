"""What the README shows runs, and prints what it says."""

from pathlib import Path

import pytest

from tests.guides import blocks_of, run

BLOCKS = blocks_of("README.md")

EXPECTED = ["11\n0\n1\n2\n12\n", "succeeded\n"]


@pytest.mark.parametrize(("block", "expected"), list(zip(BLOCKS, EXPECTED, strict=True)))
def test_quick_start_runs_as_written(block: str, expected: str, tmp_path: Path):
    assert run(block, tmp_path).stdout == expected
