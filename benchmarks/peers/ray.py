"""Ray core: one process per actor, on a node that `ray.init` starts for this run.

Ray's own way of calling blocks (`ray.get`); awaiting its references is slower. An actor with one
async method becomes an async actor altogether, hence two classes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from typing import Any

from benchmarks import cases
from benchmarks.peers import measure, tasks


def _methods() -> tuple[Any, Any, Any]:
    import ray

    @ray.remote(num_cpus=0)
    class Adder:
        def add(self, x: int) -> int:
            return x + 1

    @ray.remote(num_cpus=0)
    class AsyncAdder:
        async def add(self, x: int) -> int:
            return x + 1

    @ray.remote(num_cpus=0)
    class Driver:
        def ready(self) -> int:
            return 2

        def drive(self, actors: list[Any], measure_s: float) -> measure.Span:
            return measure.batches(lambda: _batch(actors), measure_s)

    return Adder, AsyncAdder, Driver


def _batch(actors: list[Any]) -> list[int]:
    import ray

    count = len(actors)
    return ray.get([actors[i % count].add.remote(1) for i in range(cases.BATCH_CALLS)])


def _start(folder: str) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        # No case moves bulk; the default would reserve a third of the machine's memory.
        object_store_memory=256 << 20,
        _temp_dir=folder,
    )


def _calls(measure_s: float) -> None:
    import ray

    adder, async_adder, driver = _methods()
    actors = [adder.remote() for _ in range(cases.ACTORS)]
    ray.get([actor.add.remote(1) for actor in actors])
    awaiting = async_adder.remote()
    ray.get(awaiting.add.remote(1))

    measure.round_trip(lambda: ray.get(actors[0].add.remote(1)), measure_s)
    span = measure.batches(lambda: _batch(actors[:1]), measure_s)
    measure.report_spans(cases.PIPELINED_SYNC, [span])
    span = measure.batches(lambda: _batch([awaiting]), measure_s)
    measure.report_spans(cases.PIPELINED_ASYNC, [span])

    drivers = [driver.remote() for _ in range(cases.DRIVERS)]
    ray.get([each.ready.remote() for each in drivers])
    spans = ray.get([each.drive.remote(actors, measure_s) for each in drivers])
    measure.report_spans(cases.TWO_BY_TWO, spans)


def _startup(imported_ms: float) -> None:
    import ray

    adder = _methods()[0]
    measure.check(ray.get(adder.remote().add.remote(1)), 2)
    measure.report(cases.START, "import_ms", imported_ms, 1)
    measure.report(cases.START, "ready_ms", (measure.now() - measure.started_s()) * 1e3, 1)
    # Kept, since ray ends an actor that nothing refers to, and would then reuse its process.
    actors: list[Any] = []
    times_ms: list[float] = []
    for _ in range(cases.MORE_ACTORS):
        before = measure.now()
        actors.append(adder.remote())
        measure.check(ray.get(actors[-1].add.remote(1)), 2)
        times_ms.append((measure.now() - before) * 1e3)
    measure.report(cases.START, "actor_ms", statistics.median(times_ms), len(times_ms))


def _tasks(measure_s: float) -> None:
    import ray

    functions: dict[Any, Any] = {}

    def run_all(fn: Any, values: Any) -> list[Any]:
        remote = functions.setdefault(fn, ray.remote(fn))
        return [remote.remote(value) for value in values]

    tasks.run(run_all, ray.get, measure_s)


def main() -> None:
    options = measure.options()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = measure.now()
    import ray

    imported_ms = (measure.now() - before) * 1e3
    # Short, because ray puts Unix sockets several folders below it.
    folder = tempfile.mkdtemp(prefix="b")
    try:
        _start(folder)
        measure.report_version("ray")
        if options.suite == "calls":
            _calls(options.measure_s)
        elif options.suite == "tasks":
            _tasks(options.measure_s)
        else:
            _startup(imported_ms)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
