"""Environment variables of simulated processes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from fray.testing import simulate
from fray.testing.environ import VARIABLES

if TYPE_CHECKING:
    from fray.testing import SimProcess, Simulation


def test_each_process_sees_its_own_variables_and_the_rest_the_real_ones(monkeypatch):
    monkeypatch.setenv("FRAY_COLOUR", "real")
    real = os.environ

    async def main(sim: Simulation) -> None:
        async def program(process: SimProcess) -> None:
            VARIABLES.set({"FRAY_COLOUR": process.host.name})
            await asyncio.sleep(1)
            assert os.environ["FRAY_COLOUR"] == os.getenv("FRAY_COLOUR") == process.host.name
            os.environ["FRAY_SHAPE"] = "round"
            assert await asyncio.to_thread(os.environ.copy) == {
                "FRAY_COLOUR": process.host.name,
                "FRAY_SHAPE": "round",
            }
            assert len(os.environ | {"FRAY_SHAPE": "flat"}) == 2
            del os.environ["FRAY_SHAPE"]
            with pytest.raises(TypeError):
                os.environ["FRAY_SHAPE"] = 7
            with pytest.raises(KeyError):
                os.environ["FRAY_SHAPE"]

        ends = [sim.process(name, program) for name in "ab"]
        for process in ends:
            await process.wait()
        assert os.environ["FRAY_COLOUR"] == "real"
        assert "FRAY_SHAPE" not in os.environ

    simulate(0, main)
    assert os.environ is real
