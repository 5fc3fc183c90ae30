"""The tasks of the kill test: each attempt writes down when it begins and that it ends."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path


def work(directory: str, seconds: float, fail_first: bool) -> None:
    """Works a while; fails at the first attempt where it is told to.

    It says that it lives all the time, so that two attempts at once would be seen.
    """
    job, task = os.environ["FRAY_JOB_NAME"], os.environ["FRAY_TASK_INDEX"]
    attempt = os.environ["FRAY_ATTEMPT"]
    path = Path(directory) / f"{job}.{task}"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(what: str) -> None:
        os.write(file, f"{what} {attempt} {os.getpid()} {time.monotonic():.6f}\n".encode())

    write("begins")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.05)
        write("lives")
    if fail_first and attempt == "0":
        write("fails")
        raise SystemExit(3)
    write("ends")


@dataclass(frozen=True, slots=True)
class Written:
    """What one task has written."""

    begun: dict[int, list[int]]
    ended: list[int]
    failed: list[int]
    overlaps: list[str]


def read(path: Path) -> Written:
    """What a task has written, and whether two of its processes ever ran at once."""
    begun: dict[int, list[int]] = {}
    ended: list[int] = []
    failed: list[int] = []
    spans: dict[str, tuple[float, float]] = {}
    for line in path.read_text().splitlines():
        what, attempt, pid, at = line.split()
        first, _ = spans.get(pid, (float(at), 0.0))
        spans[pid] = first, float(at)
        if what == "begins":
            begun.setdefault(int(attempt), []).append(int(pid))
        elif what == "ends":
            ended.append(int(attempt))
        elif what == "fails":
            failed.append(int(attempt))
    ordered = sorted(spans.items(), key=lambda span: span[1])
    overlaps = [
        f"{path.name}: process {next_pid} began before {pid} had ended"
        for (pid, (_, last)), (next_pid, (first, _)) in itertools.pairwise(ordered)
        if first < last
    ]
    return Written(begun, ended, failed, overlaps)
