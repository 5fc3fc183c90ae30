"""The door of an agent: the tasks of the agent before it find it there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fray.cluster.worker.main import open_process

TOKEN = "a-token-that-is-long-enough"
HOST = "127.0.0.1"


async def test_agent_opens_the_door_of_the_one_before_it(tmp_path: Path):
    first = await open_process(TOKEN, HOST, "w", tmp_path)
    await first.close()
    second = await open_process(TOKEN, HOST, "w", tmp_path)
    await second.close()
    assert second.address == first.address


async def test_agent_whose_old_door_is_somebody_elses_opens_another(tmp_path: Path):
    first = await open_process(TOKEN, HOST, "w", tmp_path)
    second = await open_process(TOKEN, HOST, "w", tmp_path)
    assert second.address != first.address
    await first.close()
    await second.close()


@pytest.mark.parametrize("written", ["", "seven", "70000", "-1"])
async def test_port_that_makes_no_sense_is_not_used(tmp_path: Path, written: str):
    (tmp_path / "port").write_text(written)
    process = await open_process(TOKEN, HOST, "w", tmp_path)
    await process.close()
    assert (tmp_path / "port").read_text() == process.address.rpartition(":")[2]
