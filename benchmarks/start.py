"""From `launch` to the first line of a job's function, in each state of its environment.

    python -m benchmarks.start --launches 60

A controller and a worker of this checkout are started, as `fray up` does. The project has one
package, made here: what is measured is fray, not a network. A job that may not use a pre-started
interpreter is one that sets `PYTHONHASHSEED`, which only a new one can be given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks import machine

# CLOCK_MONOTONIC: comparable between the processes of one machine.
now = time.monotonic

LAUNCHES = 60
BUILDS = 10
PAUSE_S = 0.05
"""After a job, so that its end is not measured with the beginning of the next one."""

NEW = {"PYTHONHASHSEED": "1"}

PYPROJECT = """
[project]
name = "measured"
version = "1"
dependencies = ["tinydep=={version}"]
[tool.uv]
no-index = true
find-links = ["{wheels}"]
"""


def first_line(path: str) -> None:
    with open(path, "w") as file:
        file.write(repr(time.monotonic()))


def first_line_with_package(path: str) -> None:
    import tinydep  # type: ignore[import-not-found]

    assert tinydep.VERSION
    with open(path, "w") as file:
        file.write(repr(time.monotonic()))


class Bench:
    """Launches jobs and takes the time."""

    def __init__(self, cluster: Any, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.count = 0

    async def once_ms(self, function: Callable[[str], None], environment: Any) -> float:
        from fray.cluster import Entrypoint, JobRequest

        self.count += 1
        path = self.folder / f"line-{self.count}"
        entry = Entrypoint.from_callable(function, args=(str(path),))
        before = now()
        job = await self.cluster.launch(JobRequest("start", entry, environment=environment))
        info = await self.cluster.wait_for(job)
        if info.error_message:
            raise SystemExit(info.error_message)
        took_ms = (float(path.read_text()) - before) * 1e3
        await asyncio.sleep(PAUSE_S)
        return took_ms

    async def many_ms(
        self, launches: int, function: Callable[[str], None], environment: Any
    ) -> list[float]:
        for _ in range(3):  # the environment is there then, and its interpreter is started
            await self.once_ms(function, environment)
            await asyncio.sleep(1.0)
        return [await self.once_ms(function, environment) for _ in range(launches)]


@asynccontextmanager
async def cluster_of(home: Path) -> AsyncIterator[Any]:
    """A cluster of this checkout, and a connection to it."""
    import fray

    environ = {**os.environ, "FRAY_HOME": str(home), "UV_OFFLINE": "1"}
    environ["UV_CACHE_DIR"] = str(home / "uv")
    fray_command = [sys.executable, "-m", "fray.cli.main"]

    def run(*words: str) -> Any:
        done = subprocess.run(
            [*fray_command, *words, "--json"], env=environ, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)

    up = await asyncio.to_thread(run, "up", "--port", "0", "--resources", '{"cpu": 16}')
    try:
        os.environ["FRAY_TOKEN_FILE"] = up["token_file"]
        async with fray.connect(up["spec"]) as cluster:
            yield cluster
    finally:
        await asyncio.to_thread(run, "down")


async def measure(launches: int, builds: int) -> list[tuple[str, list[float]]]:
    """All cases: what they are, and their samples in milliseconds."""
    from fray.cluster import EnvironmentConfig
    from tests.wheels import write_project, write_wheel

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        wheels = root / "wheels"
        for number in range(builds + 1):
            write_wheel(wheels, "tinydep", f"1.{number}")
        project = write_project(root / "project", wheels)

        def with_version(number: int) -> None:
            text = PYPROJECT.format(version=f"1.{number}", wheels=wheels)
            (project / "pyproject.toml").write_text(text)

        def env(**variables: str) -> Any:
            return EnvironmentConfig.create(workspace=str(project), env_vars=variables)

        async with cluster_of(root / "home") as cluster:
            bench = Bench(cluster, root)
            cold: list[float] = []
            for number in range(1, builds + 1):
                with_version(number)
                cold.append(await bench.once_ms(first_line_with_package, env()))
            with_version(0)
            built = first_line_with_package
            cases = [
                ("environment is built first", cold),
                (
                    "environment is there, new interpreter",
                    await bench.many_ms(launches, built, env(**NEW)),
                ),
                (
                    "environment is there, pre-started interpreter",
                    await bench.many_ms(launches, built, env()),
                ),
            ]
            changed: list[float] = []
            for number in range(launches):
                (project / "main.py").write_text(f"x = {number}\n")
                changed.append(await bench.once_ms(built, env()))
            cases.append(("the same, after a change of code", changed))
            (project / "pyproject.toml").unlink()
            cases += [
                (
                    "the worker's environment, new interpreter",
                    await bench.many_ms(launches, first_line, env(**NEW)),
                ),
                (
                    "the worker's environment, pre-started interpreter",
                    await bench.many_ms(launches, first_line, env()),
                ),
            ]
            return cases


def percentile(samples: Sequence[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def section(cases: Sequence[tuple[str, list[float]]], bystanders_percent: float) -> str:
    lines = [
        "## Launching into an environment",
        "",
        "From `launch` to the first line of the job's function, on a cluster of one machine. Made "
        "by `python -m benchmarks.start`; the project has one small package, from this disk.",
        "",
        "|  | launches | median, ms ↓ | p99, ms ↓ |",
        "| --- | ---: | ---: | ---: |",
    ]
    for title, samples in cases:
        median, p99 = statistics.median(samples), percentile(samples, 0.99)
        lines.append(f"| {title} | {len(samples)} | {median:,.0f} | {p99:,.0f} |")
    lines.append("")
    lines += [f"- {name}: {value}" for name, value in machine.facts().items()]
    lines += [
        f"- priority: {os.getpriority(os.PRIO_PROCESS, 0)} (of 19, the lowest, to -20)",
        "- taken by other programs, and by the cluster, meanwhile: "
        f"{bystanders_percent:.0f} % of the cores",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    parser.add_argument("--builds", type=int, default=BUILDS)
    arguments = parser.parse_args()
    bystanders = machine.Bystanders()
    cases = asyncio.run(measure(arguments.launches, arguments.builds))
    print(section(cases, bystanders.percent()))


if __name__ == "__main__":
    main()
