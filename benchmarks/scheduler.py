"""How far the controller goes: scheduler, ledger with its journal on disk, look-ups meanwhile.

    python -m benchmarks.scheduler                    all of it, a few minutes
    python -m benchmarks.scheduler --scale 0.1        a tenth of the hosts, tasks and jobs

Everything is the production code: the ledger, its journal (SQLite, write-ahead log, flushed to the
disk at each group commit), the scheduler's loop, the name service. Hosts are records: no agent and
no task runs, and their reports are made here, in the controller's own process, so that what they
cost is in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from benchmarks import machine, scheduler_report
from fray.actor.directory import ActorKey, Endpoint
from fray.cluster.control import NameClaim
from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import (
    ApplyPlan,
    ObservedAttempt,
    RegisterWorker,
    ReportAttempts,
    SetPolicy,
    SubmitJobs,
)
from fray.cluster.controller.garbage import collect_garbage
from fray.cluster.controller.main import SWITCH_S
from fray.cluster.controller.names import Names
from fray.cluster.controller.scheduler import Scheduler
from fray.cluster.controller.specs import GangScope, JobSpec, Program, WorkerSpec
from fray.cluster.controller.sqlite_store import SqliteStore
from fray.cluster.controller.state import Ledger
from fray.cluster.devices import ResourceConfig
from fray.cluster.home import ClusterHome
from fray.cluster.resources import Resources
from fray.cluster.scheduling.hosts import SliceMember
from fray.cluster.scheduling.planner import plan
from fray.cluster.scheduling.policy import DEFAULT_POLICY
from fray.ids import JobId, Namespace, WorkerId
from fray.runtime.clock import SystemClock
from fray.runtime.loopthread import new_event_loop
from fray.runtime.tasks import Scope

GIB = 1 << 30
SLICE, SLICE_HOSTS = "v5litepod-16", 4
SHAPES = [ResourceConfig(cpu=cpu, ram=ram) for cpu in (1, 2, 4) for ram in ("1g", "2g", "4g")]
GPU_SHAPES = [ResourceConfig.with_gpu("H100", count=n, cpu=4, ram="8g") for n in (1, 2, 4)]
"""With those without GPUs twelve distinct ones; a gang, of four hosts of a slice, is another."""
GPU_EVERY = 40
"""One job of so many wants GPUs: there is room for all of them."""
REPLICAS = 10
LOOK_UP_EVERY_S = 0.002


@dataclass
class Latencies:
    """Of look-ups: from the moment at which one is due until it is answered, in seconds."""

    seconds: list[float] = field(default_factory=list[float])

    def p(self, percent: int) -> float:
        return quantiles(self.seconds, n=100)[percent - 1] if len(self.seconds) > 1 else 0.0


def hosts_of(count: int) -> Iterator[RegisterWorker]:
    """Of eight hosts four belong to a slice, one has GPUs, three have CPUs only."""
    for number in range(count):
        worker_id, kind = WorkerId(f"w-{number:05}"), number % 8
        gpus, tpus, member = {}, {}, None
        if kind < SLICE_HOSTS:
            tpus = {"v5litepod": 4}
            member = SliceMember(f"slice-{number // 8:05}", SLICE, kind, SLICE_HOSTS)
        elif kind == SLICE_HOSTS:
            gpus = {"H100": 8000}
        capacity = Resources(64_000, 256 * GIB, 1000 * GIB, gpus, tpus)
        spec = WorkerSpec(worker_id, f"10.0.0.1:{number}", capacity, slice=member)
        yield RegisterWorker(spec, "boot")


def jobs_of(
    tasks: int, gang_share: float, prefix: str = "j", *, gpus: bool = True
) -> Iterator[SubmitJobs]:
    """Jobs of ten tasks each, and gangs of four."""
    gangs = round(tasks * gang_share / SLICE_HOSTS)
    singles = tasks - gangs * SLICE_HOSTS
    for number in range(-(-singles // REPLICAS)):
        shape = SHAPES[number % len(SHAPES)]
        if gpus and number % GPU_EVERY == 0:
            shape = GPU_SHAPES[number // GPU_EVERY % len(GPU_SHAPES)]
        replicas = min(REPLICAS, singles - number * REPLICAS)
        config = ResourceConfig(shape.cpu, shape.ram, shape.disk, shape.device, replicas)
        yield _submission(f"{prefix}-{number}", config)
    for number in range(gangs):
        yield _submission(f"{prefix}-gang-{number}", ResourceConfig.with_tpu(SLICE), SLICE_HOSTS)


def _submission(name: str, config: ResourceConfig, hosts: int = 1) -> SubmitJobs:
    spec = JobSpec(
        job_id=JobId(f"ann/{name}"),
        name=name,
        user="ann",
        namespace=Namespace("ann-1"),
        program=Program(blob="0" * 64),
        resources=config,
        hosts_per_replica=hosts,
        gang=GangScope.REPLICA if hosts > 1 else GangScope.TASK,
    )
    return SubmitJobs(f"s-{name}", (spec,))


# ---- passes of the planner


def passes(hosts: int, pending: int) -> dict[str, Any]:
    """One pass over all that waits, and one after a small change in a cluster that is full."""
    ledger, now = Ledger(), 1000.0
    for host in hosts_of(hosts):
        ledger.apply(host, now)
    for submission in jobs_of(pending, 0.2):
        ledger.apply(submission, now)
    # Otherwise one pass places a thousand tasks at the most, and the next ones the others.
    ledger.apply(SetPolicy(replace(DEFAULT_POLICY, placements_max=pending)), now)
    gc.collect()
    began, began_cpu = time.perf_counter(), time.process_time()
    view = ledger.view()
    viewed = time.perf_counter()
    made = plan(view, now)
    planned, planned_cpu = time.perf_counter(), time.process_time()
    ledger.apply(ApplyPlan(made.revision, made.assignments), now)
    applied = time.perf_counter()
    placed = sum(len(each.placements) for each in made.assignments)
    waiting = _fill(ledger, pending, now)
    changed: list[tuple[float, float]] = []
    attempts = list(ledger.tables.attempts.values())
    for attempt in attempts[:: max(1, len(attempts) // 7)]:
        ledger.apply(_report(ledger, attempt.worker_id, {attempt.attempt_id}), now)
        start, start_cpu = time.perf_counter(), time.process_time()
        after = plan(ledger.view(), now)
        changed.append((time.perf_counter() - start, time.process_time() - start_cpu))
        ledger.apply(ApplyPlan(after.revision, after.assignments), now)
    return {
        "hosts": hosts,
        "pending": pending,
        "placed": placed,
        "waiting": waiting,
        "view_s": viewed - began,
        "plan_s": planned - viewed,
        "apply_s": applied - planned,
        "full_s": planned - began,
        "full_cpu_s": planned_cpu - began_cpu,
        "incremental_s": sorted(changed)[len(changed) // 2][0],
        "incremental_cpu_s": median(cpu_s for _, cpu_s in changed),
    }


def _fill(ledger: Ledger, pending: int, now: float) -> int:
    """Submits more until the cluster is full, and at least half as many wait as before."""
    number = 0
    while True:
        made = plan(ledger.view(), now)
        ledger.apply(ApplyPlan(made.revision, made.assignments), now)
        waiting = len(ledger.view().units)
        if not made.assignments and waiting >= pending / 2:
            return waiting
        if not made.assignments:
            number += 1
            for submission in jobs_of(pending, 0.2, f"more-{number}"):
                ledger.apply(submission, now)


def _report(ledger: Ledger, worker_id: WorkerId, ended: set[str]) -> ReportAttempts:
    """All that a host has: some of it has succeeded, the rest runs."""
    worker, tables = ledger.tables.workers[worker_id], ledger.tables
    seen = tuple(
        ObservedAttempt(each, AttemptState.SUCCEEDED if each in ended else AttemptState.RUNNING)
        for each in tables.indexes.on_worker.get(worker_id, ())
    )
    return ReportAttempts(worker_id, worker.boot_id, worker.generation, seen)


# ---- through the ledger, with its journal


@asynccontextmanager
async def controller(journal: Path) -> AsyncGenerator[tuple[Book, Names, Scope]]:
    """The ledger, the names and the scheduler of a controller."""
    clock = SystemClock()
    book = await Book.open(SqliteStore(journal), clock)
    names = Names(book, clock, book.generation)
    book.listeners[:] = [names.on_events]
    async with Scope("bench") as scope:
        scope.spawn(names.run(), name="names")
        scope.spawn(collect_garbage(clock), name="garbage")
        try:
            yield book, names, scope
        finally:
            await scope.close()
            await book.close()


async def _look_up(names: Names, latencies: Latencies) -> None:
    endpoint = Endpoint("a-1", 1, "p-1", "10.0.0.1:1")
    await names.register(NameClaim("ann-1", "model", endpoint, True, "ann/x/0", 1, 3600.0))
    while True:
        due = time.perf_counter() + LOOK_UP_EVERY_S
        await asyncio.sleep(LOOK_UP_EVERY_S)
        await names.locate(ActorKey("ann-1", name="model"), wait_s=0.0)
        latencies.seconds.append(time.perf_counter() - due)


async def _commit_all(book: Book, commands: Iterator[Any], clients: int = 100) -> None:
    """Commits as many clients would at the same time, each one thing after the other."""

    async def client() -> None:
        for command in commands:
            await book.commit(command)

    await asyncio.gather(*(client() for _ in range(clients)))


async def _until_placed(book: Book, tasks: int) -> None:
    placed = book.ledger.tables.attempts
    assert await book.changed.until(lambda: len(placed) == tasks, 600.0), (len(placed), tasks)
    await book.durable()


async def end_to_end(hosts: int, tasks: int, gang_share: float) -> dict[str, Any]:
    """Submits, places, runs and ends tasks; every step is journaled."""
    latencies = Latencies()
    with tempfile.TemporaryDirectory() as directory:
        journal = Path(directory) / "journal"
        async with controller(journal) as (book, names, scope):
            tables = book.ledger.tables
            await _commit_all(book, hosts_of(hosts))
            scope.spawn(_look_up(names, latencies), name="look-ups")
            began = time.perf_counter()
            await _commit_all(book, jobs_of(tasks, gang_share))
            submitted, submitted_cpu = time.perf_counter(), time.process_time()
            scope.spawn(Scheduler(book, SystemClock()).run(), name="scheduler")
            await _until_placed(book, tasks)
            placed, placed_cpu = time.perf_counter(), time.process_time()
            for ended in (False, True):
                reports = (
                    _report(book.ledger, w, set(ids) if ended else set())
                    for w, ids in list(tables.indexes.on_worker.items())
                )
                await _commit_all(book, reports)
            await book.durable()
            done = time.perf_counter()
            assert all(job.status == "succeeded" for job in tables.jobs.values())
            size = sum(each.stat().st_size for each in os.scandir(directory))
    gangs = round(tasks * gang_share / SLICE_HOSTS)
    return {
        "hosts": hosts,
        "tasks": tasks,
        "gangs": gangs,
        "submit_per_s": len(list(jobs_of(tasks, gang_share))) / (submitted - began),
        "placed_per_s": tasks / (placed - submitted),
        "placed_per_cpu_s": tasks / (placed_cpu - submitted_cpu),
        "gangs_per_s": gangs / (placed - submitted),
        "ended_per_s": tasks / (done - placed),
        "through_per_s": tasks / (done - began),
        "lookup_p50_ms": latencies.p(50) * 1e3,
        "lookup_p99_ms": latencies.p(99) * 1e3,
        "lookup_max_ms": max(latencies.seconds) * 1e3,
        "journal_mib": size / (1 << 20),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


# ---- memory, and starting again


async def memory_and_restart(tasks: int, directory: Path) -> dict[str, Any]:
    """What a real controller process takes with so many live tasks, and how soon it serves."""
    home = ClusterHome("bench", directory).ensure()
    hosts = max(8, tasks // 10)
    async with controller(home.journal) as (book, _, scope):
        await _commit_all(book, hosts_of(hosts))
        await _commit_all(book, jobs_of(tasks, 0.0, gpus=False))
        scope.spawn(Scheduler(book, SystemClock()).run(), name="scheduler")
        await _until_placed(book, tasks)
    gc.collect()
    command = [sys.executable, "-m", "fray.cluster.controller.main", "--home", str(home.path)]
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: ASYNC220 - it is waited for, and nothing else happens
        [*command, "--port", "0"], stderr=subprocess.DEVNULL
    )
    try:
        while (known := home.daemon("controller")) is None or known.pid != process.pid:
            assert process.poll() is None, "the controller ended"
            await asyncio.sleep(0.01)
        serving_s = time.perf_counter() - began
        used = psutil.Process(process.pid)
        cpu_s = sum(used.cpu_times()[:2])
        mib = used.memory_info().rss >> 20
    finally:
        process.terminate()
        process.wait()
    return {
        "tasks": tasks,
        "hosts": hosts,
        "restart_s": serving_s,
        "restart_cpu_s": cpu_s,
        "controller_mib": mib,
    }


# ---- all of it


async def _all(scale: float) -> dict[str, Any]:
    def scaled(number: float) -> int:
        return max(8, round(number * scale / 8) * 8)

    found: dict[str, Any] = {"passes": [], "mixed": [], "gangs": [], "restarts": []}
    for part in (0.1, 0.3, 1.0):
        found["passes"].append(passes(scaled(1000 * part), scaled(10_000 * part)))
        _tell(found["passes"][-1])
    for part in (0.1, 0.3, 1.0):
        with tempfile.TemporaryDirectory() as directory:
            found["restarts"].append(
                await memory_and_restart(scaled(10_000 * part), Path(directory))
            )
        _tell(found["restarts"][-1])
    for part in (0.1, 0.3, 1.0):
        found["mixed"].append(await end_to_end(scaled(10_000 * part), scaled(100_000 * part), 0.04))
        _tell(found["mixed"][-1])
        hosts = scaled(10_000 * part)
        found["gangs"].append(await end_to_end(hosts, hosts // 2, 1.0))
        _tell(found["gangs"][-1])
    return found


def _tell(found: dict[str, Any]) -> None:
    print(json.dumps({k: round(v, 3) for k, v in found.items()}), file=sys.stderr, flush=True)


def main() -> int:
    """Entry point; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes; 1 is the whole")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the growth (PNG)")
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_S)
    bystanders = machine.Bystanders()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        found = runner.run(_all(options.scale))
    found["machine"] = machine.facts()
    found["bystanders_percent"] = bystanders.percent()
    found["shapes"] = len(SHAPES) + len(GPU_SHAPES)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2))
    page = scheduler_report.page(found)
    if options.markdown is not None:
        options.markdown.write_text(page)
    else:
        print(page)
    if options.picture is not None:
        scheduler_report.draw(found, options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
