"""The same seed gives the same run: in this process, in fresh ones, whatever the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.testing import replay_cases

if TYPE_CHECKING:
    from fray.testing import Simulation

ROOT = Path(__file__).resolve().parents[2]


def fresh_runs(*hash_seeds: str) -> list[str]:
    running = [
        subprocess.Popen(
            [sys.executable, "-m", replay_cases.__name__],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in hash_seeds
    ]
    outputs = [process.communicate(timeout=100)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running)
    return outputs


def test_fresh_processes_agree_to_the_last_byte_whatever_their_hash_seed():
    first, *others = fresh_runs("0", "1", "random")
    assert first.count(" seed ") == 2 * len(replay_cases.CASES)
    for other in others:
        assert other.splitlines() == first.splitlines()


@pytest.mark.parametrize("case", replay_cases.CASES, ids=lambda case: case.__name__)
def test_two_runs_in_one_process_agree(case):
    assert replay_cases.run(case, 1).splitlines() == replay_cases.run(case, 1).splitlines()


@pytest.mark.parametrize(
    "case", [replay_cases.traffic, replay_cases.libraries, replay_cases.threads]
)
def test_two_seeds_differ(case):
    assert replay_cases.run(case, 1).splitlines()[-1] != replay_cases.run(case, 2).splitlines()[-1]


def test_the_first_step_at_which_two_runs_differ_can_be_found():
    from fray.testing import Simulation

    def steps(seed: int) -> list[str]:
        seen: list[str] = []
        with Simulation(seed) as sim:
            sim.loop.observer = lambda now, handle: seen.append(f"{now:.6f} {handle.lane.name}")
            sim.run(replay_cases.threads(sim))
        return seen

    assert steps(1) == steps(1)
    assert steps(1) != steps(2)


async def test_the_trace_is_bounded_and_its_checksum_is_not(sim: Simulation):
    from fray.testing import Trace

    short, long = Trace(sim.loop.time, 3), Trace(sim.loop.time)
    for i in range(10):
        short.note(f"event {i}")
        long.note(f"event {i}")
    assert short.checksum == long.checksum
    assert len(short) == 3
    assert str(short).splitlines() == [
        "... 7 earlier lines ...",
        "0.000000 event 7",
        "0.000000 event 8",
        "0.000000 event 9",
    ]
    assert list(short) == short.tail(5) == long.tail(3)
    assert long.tail(0) == []
