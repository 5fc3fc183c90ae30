"""Two drivers and two actors in four processes, everybody calling everybody else of the others.

``FRAY_TRAFFIC=full`` makes it 100,000 calls each way, with 200 of up to 64 MiB.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.real_cluster import ROOT, RealCluster, real_cluster

FULL = os.environ.get("FRAY_TRAFFIC") == "full"
FLOWS_EACH_WAY = 4
ROUNDS = 4
CALLS_EACH_WAY = 100_000 if FULL else 2_000
LARGE_CALLS = 224 if FULL else 32
DEADLINE_S = 3000.0 if FULL else 100.0

CALLS = CALLS_EACH_WAY // FLOWS_EACH_WAY // ROUNDS
LARGE = LARGE_CALLS // (2 * FLOWS_EACH_WAY) // ROUNDS

GROWTH_BYTES_MAX = 16 << 20
"""Of each process, from the end of the first round to that of the last one."""

EXACT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10), "MALLOC_TRIM_THRESHOLD_": str(1 << 20)}
"""The allocator gives large blocks back at once. By default it learns to keep up to 64 MiB for each
thread, which would hide what is looked for here."""

pytestmark = [pytest.mark.integration, pytest.mark.timeout(DEADLINE_S + 20)]


@asynccontextmanager
async def driver(cluster: RealCluster, number: int) -> AsyncGenerator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from tests.integration.traffic import main; main()"),
        *(str(number), cluster.address, str(cluster.home.token_path)),
        *(str(ROUNDS), str(CALLS), str(LARGE)),
        env=cluster.environ,
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        limit=1 << 24,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def talk(drivers: list[Process]) -> list[dict[str, Any]]:
    """Keeps the drivers in step; gives their reports."""
    while True:
        lines = [await driver.stdout.readline() for driver in drivers]  # pyright: ignore
        for driver in drivers:
            driver.stdin.write(lines[0])  # pyright: ignore
        if lines[0].startswith(b"{"):
            return [json.loads(line) for line in lines]
        assert lines[0] == lines[1] != b"", lines


async def test_no_call_is_lost_or_changed_or_out_of_order_and_memory_stays_flat(tmp_path: Path):
    async with (
        asyncio.timeout(DEADLINE_S),
        real_cluster(tmp_path, EXACT_MEMORY) as cluster,
        driver(cluster, 1) as first,
        driver(cluster, 2) as second,
    ):
        reports = await talk([first, second])
        assert [await process.wait() for process in (first, second)] == [0, 0]
    flows = [flow for report in reports for sent in report["sent"] for flow in sent]
    seen = {name: rounds for report in reports for name, rounds in report["seen"].items()}
    tell(flows, seen, [max(took) for took in zip(*[r["took_s"] for r in reports], strict=True)])
    assert [problem for flow in flows for problem in flow["wrong"]] == []
    assert [problem for rounds in seen.values() for problem in rounds[-1]["wrong"]] == []
    assert [flow["calls"] for flow in flows] == [CALLS] * ROUNDS * 2 * FLOWS_EACH_WAY
    assert sorted(seen) == ["actor-1", "actor-2", "driver-1", "driver-2"]
    for name, rounds in seen.items():
        others = "driver" if name.startswith("actor") else "actor"
        callers = {f"{others}-{number} to {name}": CALLS for number in (1, 2)}
        assert [each["calls"] for each in rounds] == [callers] * ROUNDS
        assert rounds[-1]["open_calls"] <= 2  # the question itself, and what renews names
        assert rounds[-1]["rss_bytes"] - rounds[0]["rss_bytes"] < GROWTH_BYTES_MAX, name


def tell(flows: list[Any], seen: dict[str, Any], took_s: list[float]) -> None:
    calls, nbytes = (sum(flow[key] for flow in flows) for key in ("calls", "nbytes"))
    print(f"\n{calls:,} calls, {nbytes / 1e9:.1f} GB in {sum(took_s):.1f} s:")
    print(f"{calls / sum(took_s):,.0f} calls/s, {nbytes / sum(took_s) / 1e6:,.0f} MB/s")
    print("rounds of", *(f"{each:.1f}" for each in took_s), "s")
    for name, rounds in sorted(seen.items()):
        print(name, *(f"{each['rss_bytes'] / 2**20:,.0f}" for each in rounds), "MiB")
