"""What is freed stays at hand."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource

from fray.job.heap import keep_freed_memory

def touch():
    kept = [bytes([1]) * (1 << 20) for _ in range(40)]

if {keep}:
    keep_freed_memory()
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, keep: bool) -> int:
    program = [sys.executable, "-c", FAULTS.format(keep=keep)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like")
def test_large_values_that_follow_freed_ones_cost_no_page_faults():
    assert faults(keep=False) > 40 * 100
    assert faults(keep=True) < 40
