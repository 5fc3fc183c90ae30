"""An hour of production code is the same hour again, in whatever interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.sim import replay_runtime

ROOT = Path(__file__).resolve().parents[2]


def test_an_hour_of_the_runtime_is_replayed_to_the_last_byte():
    running = [
        subprocess.Popen(
            [sys.executable, "-m", replay_runtime.__name__],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("0", "1", "random")
    ]
    outputs = [process.communicate(timeout=100)[0].splitlines() for process in running]
    here = replay_runtime.run(1).splitlines()
    assert len(here) > 500
    for output in outputs:
        assert output == here
    assert replay_runtime.run(2).splitlines()[-1] != here[-1]
