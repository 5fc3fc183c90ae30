from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IMPORT_S_MAX = 0.2
ADDITIONS_S = 0.1
"""What `_TIMED` has of additions takes so long on a machine that is slow, for one of today."""
HEAVY = ("aiohttp", "cattrs", "jax", "numpy", "ray", "typer")

_TIMED = """
import time
before = time.process_time()  # of this process alone, whatever else the machine does
import fray
imported = time.process_time()
for number in range(1_000_000):
    number + number
print(imported - before, time.process_time() - imported)
"""


def fresh_interpreter(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done


def test_importing_fray_takes_less_than_a_fifth_of_a_second() -> None:
    fresh_interpreter("-c", _TIMED)  # compiles what is not compiled yet
    timed = [map(float, fresh_interpreter("-c", _TIMED).stdout.split()) for _ in range(5)]
    times_s, additions_s = zip(*timed, strict=True)
    # The least of five: what other programs take of the cores only ever adds to a time. And on a
    # machine that is slower than slow, as many times as much.
    if min(times_s) >= IMPORT_S_MAX * max(min(additions_s) / ADDITIONS_S, 1.0):
        report = fresh_interpreter("-X", "importtime", "-c", "import fray").stderr.splitlines()
        slowest = sorted(report[1:], key=lambda line: int(line.split("|")[1]))[-15:]
        pytest.fail(f"{times_s} s; cumulative µs of the slowest:\n" + "\n".join(slowest))


def test_importing_fray_loads_no_heavy_library() -> None:
    loaded = fresh_interpreter("-c", "import fray, sys; print(*sys.modules)").stdout.split()
    assert [name for name in HEAVY if name in loaded] == []
