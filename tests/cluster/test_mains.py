"""Processes of the cluster that fail for good: they end with 1 and say why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]

BROKEN_AGENT = """
import asyncio, pathlib, sys
from fray.cluster.worker import main

async def listen(agent):
    while not (pathlib.Path({home!r}) / "run" / "worker-w.json").exists():
        await asyncio.sleep(0.01)
    raise RuntimeError("the agent is broken")

main.Agent._listen = listen
sys.exit(main.main())
"""


def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_controller_whose_root_fails_ends_with_1_and_tells_the_whole_chain_of_causes(
    tmp_path: Path,
) -> None:
    home = tmp_path / "clusters" / "lab"
    home.mkdir(parents=True)
    (home / "journal").write_bytes(b"this is no database, whatever else it is")
    done = ended("-m", "fray.cluster.controller.main", "--home", str(home), "--port", "0")
    assert done.returncode == 1
    _, _, told = done.stderr.partition("CRITICAL fray.controller ")
    first, second, *trace = told.splitlines()
    assert first.startswith("controller ended, restart limit: 6 failures within 60 s")
    assert second.startswith(
        "  book ended, app error: it failed to start: ClusterError: the journal"
    )
    assert any("sqlite3.DatabaseError: file is not a database" in line for line in trace)


def test_agent_that_fails_ends_with_1_and_tells_what_it_raised(tmp_path: Path) -> None:
    home = tmp_path / "clusters" / "lab"
    home.mkdir(parents=True)
    token = tmp_path / "token"
    with LocalCluster() as cluster:
        embedded = cluster._embedded  # pyright: ignore[reportPrivateUsage]
        token.write_text(embedded.token)
        done = ended(
            *("-c", BROKEN_AGENT.format(home=str(home)), "--join", embedded.address),
            *("--token-file", str(token), "--home", str(home), "--name", "w"),
        )
    assert done.returncode == 1
    assert "CRITICAL fray.cluster.worker.agent agent w: " in done.stderr
    assert "RuntimeError: the agent is broken" in done.stderr
