"""The controller's part of the log archive: old logs of ended jobs go, nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

from fray.cluster.archive.layout import END, LogRetention
from fray.cluster.archive.store import DirectoryStore
from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import SubmitJobs
from fray.cluster.controller.journal import MemoryStore
from fray.cluster.controller.logs import Logs
from fray.cluster.controller.specs import JobSpec, Program
from fray.ids import JobId, Namespace
from fray.runtime.clock import SystemClock


async def test_logs_of_what_runs_stay_whatever_their_size(tmp_path: Path):
    clock = SystemClock()
    book = await Book.open(MemoryStore(), clock)
    running = JobId("ann/running-3333")
    spec = JobSpec(running, "running", "ann", Namespace("n"), Program(command=("true",)))
    await book.commit(SubmitJobs("s", (spec,)))
    store = DirectoryStore(tmp_path)
    for name, age_s in ((running, 5000), ("ann/old-1111", 900), ("ann/new-2222", 100)):
        await store.put(f"{name}/0-0/{END}", b"x" * 100)
        at = clock.time() - age_s
        os.utime(tmp_path / name / "0-0" / END, (at, at))
    logs = Logs(book, clock, store, LogRetention(bytes_max=200))
    assert await logs.sweep() == 1
    left = [entry.path for entry in await logs.list("")]
    assert left == [f"ann/new-2222/0-0/{END}", f"{running}/0-0/{END}"]
    assert await logs.sweep() == 0
    await book.close()
