"""fray: an embedded cluster, every actor in a process of its own.

The drivers of the last case are actors themselves, in processes of their own, and get the handles
as arguments. One class could have both methods; there are two, so that all do the same work.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import cases
from benchmarks.peers import measure, tasks

PLACE = "local?use_processes=1"


def _classes() -> tuple[Any, Any, Any]:
    import fray

    @fray.actor
    class Adder:
        def add(self, x: int) -> int:
            return x + 1

    @fray.actor
    class AsyncAdder:
        async def add(self, x: int) -> int:
            return x + 1

    @fray.actor
    class Driver:
        def ready(self) -> int:
            return 2

        async def drive(self, actors: list[Any], measure_s: float) -> measure.Span:
            return await measure.batches_async(lambda: _batch(actors), measure_s)

    return Adder, AsyncAdder, Driver


async def _batch(actors: list[Any]) -> list[int]:
    count = len(actors)
    return await asyncio.gather(
        *[actors[i % count].add.remote(1) for i in range(cases.BATCH_CALLS)]
    )


async def _create(actor: Any) -> Any:
    return await actor.options(process="own").remote()


async def _calls(measure_s: float) -> None:
    import fray

    adder, async_adder, driver = _classes()
    async with fray.connect(PLACE):
        actors = [await _create(adder) for _ in range(cases.ACTORS)]
        awaiting = await _create(async_adder)

        await measure.round_trip_async(lambda: actors[0].add.remote(1), measure_s)
        span = await measure.batches_async(lambda: _batch(actors[:1]), measure_s)
        measure.report_spans(cases.PIPELINED_SYNC, [span])
        span = await measure.batches_async(lambda: _batch([awaiting]), measure_s)
        measure.report_spans(cases.PIPELINED_ASYNC, [span])

        drivers = [await _create(driver) for _ in range(cases.DRIVERS)]
        await asyncio.gather(*[each.ready.remote() for each in drivers])
        calls = [each.drive.remote(actors, measure_s) for each in drivers]
        measure.report_spans(cases.TWO_BY_TWO, await asyncio.gather(*calls))


async def _startup(imported_ms: float) -> None:
    import fray

    adder = _classes()[0]
    async with fray.connect(PLACE) as cluster:
        measure.check(await (await _create(adder)).add.remote(1), 2)
        measure.report(cases.START, "import_ms", imported_ms, 1)
        measure.report(cases.START, "ready_ms", (measure.now() - measure.started_s()) * 1e3, 1)
        times_ms: list[float] = []
        for _ in range(cases.MORE_ACTORS):
            before = measure.now()
            measure.check(await (await _create(adder)).add.remote(1), 2)
            times_ms.append((measure.now() - before) * 1e3)
        measure.report(cases.START, "actor_ms", statistics.median(times_ms), len(times_ms))
        await _tasks(cluster)
    times_ms = [await _embedded_ms() for _ in range(cases.EMBEDDED_CLUSTERS)]
    measure.report(cases.START, "embedded_ms", statistics.median(times_ms), len(times_ms))


async def _embedded_ms() -> float:
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.peers.embedded"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await program.communicate()
    return float(output)


def _first_line(path: str) -> None:
    now = measure.now()
    with open(path, "w") as file:
        file.write(str(now))


def _read(path: str) -> float:
    return float(Path(path).read_text())


async def _tasks(cluster: Any) -> None:
    """From launching a job on a warm cluster to the first line of its function."""
    from fray.cluster import Entrypoint, JobRequest

    times_ms: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 + cases.MORE_ACTORS):
            path = f"{folder}/{number}"
            before = measure.now()
            entry = Entrypoint.from_callable(_first_line, args=(path,))
            job = await cluster.launch(JobRequest(name=f"first-line-{number}", entrypoint=entry))
            await cluster.wait(job, raise_on_failure=True)
            times_ms.append((_read(path) - before) * 1e3)
    warm_ms = times_ms[1:]
    measure.report(cases.TASK, "first_line_ms", statistics.median(warm_ms), len(warm_ms))


def _pool(measure_s: float) -> None:
    """Tasks of a job context on a pool of workers, from synchronous code."""
    from fray.cluster import LocalCluster
    from fray.job import FrayContext

    workers = cases.TASK_WORKERS
    with (
        LocalCluster() as cluster,
        FrayContext(cluster=cluster, max_workers=workers, min_workers=workers) as ctx,
    ):
        tasks.run(lambda fn, values: [ctx.run(fn, value) for value in values], ctx.get, measure_s)


def main() -> None:
    import uvloop

    options = measure.options()
    before = measure.now()
    import fray  # noqa: F401  # its cost is what is measured

    imported_ms = (measure.now() - before) * 1e3
    measure.report_version("fray-actors")
    if options.suite == "tasks":
        _pool(options.measure_s)
        return
    uvloop.run(_calls(options.measure_s) if options.suite == "calls" else _startup(imported_ms))


if __name__ == "__main__":
    main()
