"""xoscar: actors in sub pool processes; the driver is the process of the main pool.

With uvloop on every side, which xoscar takes by itself where it is installed. The drivers of the
last case are processes of their own that reach the pool by its address.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import sys
from typing import Any

from benchmarks import cases
from benchmarks.peers import measure


def _classes() -> tuple[Any, Any]:
    import xoscar

    class Adder(xoscar.Actor):
        def add(self, x: int) -> int:
            return x + 1

    class AsyncAdder(xoscar.Actor):
        async def add(self, x: int) -> int:
            return x + 1

    return Adder, AsyncAdder


async def _batch(actors: list[Any]) -> list[int]:
    count = len(actors)
    return await asyncio.gather(*[actors[i % count].add(1) for i in range(cases.BATCH_CALLS)])


async def _pool() -> Any:
    import xoscar

    with socket.socket() as probe:  # xoscar takes no port 0
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return await xoscar.create_actor_pool(f"127.0.0.1:{port}", n_process=cases.ACTORS)


async def _create(pool: Any, actor: Any, uid: str, process: int) -> Any:
    import xoscar
    from xoscar.backends.allocate_strategy import ProcessIndex

    place = ProcessIndex(1 + process)  # 0 is the main pool
    return await xoscar.create_actor(
        actor, address=pool.external_address, uid=uid, allocate_strategy=place
    )


async def _calls(measure_s: float) -> None:
    pool = await _pool()
    adder, async_adder = _classes()
    uids = [f"adder-{i}" for i in range(cases.ACTORS)]
    actors = [await _create(pool, adder, uid, i) for i, uid in enumerate(uids)]
    awaiting = await _create(pool, async_adder, "awaiting", 0)

    await measure.round_trip_async(lambda: actors[0].add(1), measure_s)
    span = await measure.batches_async(lambda: _batch(actors[:1]), measure_s)
    measure.report_spans(cases.PIPELINED_SYNC, [span])
    span = await measure.batches_async(lambda: _batch([awaiting]), measure_s)
    measure.report_spans(cases.PIPELINED_ASYNC, [span])
    spans = await _drivers(pool.external_address, uids, measure_s)
    measure.report_spans(cases.TWO_BY_TWO, spans)
    await pool.stop()


async def _drivers(address: str, uids: list[str], measure_s: float) -> list[measure.Span]:
    """Start the driver processes, let them go together, and collect what they did."""
    task = json.dumps([address, uids, measure_s])
    pipe = asyncio.subprocess.PIPE
    drivers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", __spec__.name, "drive", task, stdin=pipe, stdout=pipe
        )
        for _ in range(cases.DRIVERS)
    ]
    try:
        for driver in drivers:
            measure.check(await driver.stdout.readline(), b"ready\n")
        for driver in drivers:
            driver.stdin.write(b"go\n")
        return [measure.Span(*json.loads(await driver.stdout.readline())) for driver in drivers]
    finally:
        for driver in drivers:
            if driver.returncode is None:
                driver.kill()
            await driver.wait()


async def _drive(address: str, uids: list[str], measure_s: float) -> None:
    import xoscar

    actors = [await xoscar.actor_ref(address, uid) for uid in uids]
    for actor in actors:
        await actor.add(1)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    span = await measure.batches_async(lambda: _batch(actors), measure_s)
    print(json.dumps(span), flush=True)


async def _startup(imported_ms: float) -> None:
    pool = await _pool()
    adder = _classes()[0]
    measure.check(await (await _create(pool, adder, "first", 0)).add(1), 2)
    measure.report(cases.START, "import_ms", imported_ms, 1)
    measure.report(cases.START, "ready_ms", (measure.now() - measure.started_s()) * 1e3, 1)
    times_ms: list[float] = []
    for number in range(cases.MORE_ACTORS):
        before = measure.now()
        # A new process for the actor, as with the others, not a place in one that exists already.
        await pool.append_sub_pool()
        actor = await _create(pool, adder, f"more-{number}", cases.ACTORS + number)
        measure.check(await actor.add(1), 2)
        times_ms.append((measure.now() - before) * 1e3)
    measure.report(cases.START, "actor_ms", statistics.median(times_ms), len(times_ms))
    await pool.stop()


def main() -> None:
    import uvloop

    if sys.argv[1:2] == ["drive"]:
        uvloop.run(_drive(*json.loads(sys.argv[2])))
        return
    options = measure.options()
    before = measure.now()
    import xoscar  # noqa: F401  # its cost is what is measured

    imported_ms = (measure.now() - before) * 1e3
    measure.report_version("xoscar")
    uvloop.run(_calls(options.measure_s) if options.suite == "calls" else _startup(imported_ms))


if __name__ == "__main__":
    main()
