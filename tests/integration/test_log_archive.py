"""Logs outlive their hosts, their controller, and whoever kills an agent."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from fray.cluster import Entrypoint, JobRequest, ResourceConfig
from fray.cluster.base import LogRange
from tests.integration.real_cluster import driving, real_cluster, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def chat(go: str) -> None:
    import time

    for n in range(1000):
        print(f"line {n}", flush=True)
    while not os.path.exists(go):
        time.sleep(0.01)
    print("bye", flush=True)


def job(go: Path) -> JobRequest:
    return JobRequest(
        name="chat",
        entrypoint=Entrypoint.from_callable(chat, args=[str(go)]),
        resources=ResourceConfig.with_cpu(cpu=1),
    )


EXPECTED = [f"line {n}" for n in range(1000)]


async def test_logs_outlive_agent_and_controller(tmp_path: Path):
    go = tmp_path / "go"
    async with real_cluster(tmp_path) as cluster, driving(cluster) as connection:
        job_id = await connection.launch(job(go))

        async def all_shipped() -> bool:
            reader = connection.archive()
            assert reader is not None
            attempts = await reader.attempts(job_id)
            return bool(attempts) and await reader.size_bytes(attempts[0]) > 8000

        await until(all_shipped, "what was printed is archived")
        cluster.agents["w1"].kill()
        lines = [line.text async for line in connection.logs(job_id, follow=False)]
        assert lines[:-1] == EXPECTED
        assert "not in the log archive" in lines[-1]

        # The next agent ships what was printed meanwhile.
        go.touch()
        await cluster.start_agent()
        await connection.wait(job_id)
        tail = connection.logs(job_id, where=LogRange(tail_lines=2))
        assert [line.text async for line in tail] == ["line 999", "bye"]
        folder = cluster.home.archive / job_id / "0-0"
        await until(lambda: (folder / "end.json").exists(), "the end is archived")
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fray.cli.main", "job", "logs", "chat"),
        *("--archive", str(cluster.home.archive), "--tail", "2"),
        env=cluster.environ,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await command.communicate()
    assert (command.returncode, output) == (0, b"line 999\nbye\n")
