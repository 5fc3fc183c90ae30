"""What a program leaves behind that just ends, with its local cluster still up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import threading, time
from fray.cluster import Entrypoint, JobRequest, JobStatus, current_cluster

def work():
    print("at work", flush=True)
    time.sleep(600)

cluster = current_cluster()
job_id = cluster.launch(JobRequest("endless", Entrypoint.from_callable(work)))
while cluster.poll(job_id).status is JobStatus.PENDING:
    time.sleep(0.01)
print("the end")
"""


@pytest.mark.parametrize("spec", ["local", "local?use_processes=1"])
def test_a_program_that_ends_takes_its_local_cluster_along_without_a_word(
    spec: str, tmp_path: Path
) -> None:
    environ = {**os.environ, "FRAY_CLUSTER_SPEC": spec, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")
    assert list(tmp_path.iterdir()) == []  # and no processes, as after every test


KILLED = """
import os, sys, time
from pathlib import Path
import fray
from fray.cluster import Entrypoint, JobRequest, current_cluster

@fray.actor
class Stubborn:
    async def on_stop(self):
        time.sleep(600)

    def pid(self):
        return os.getpid()

actor = Stubborn.options(process="own").remote()
stubborn = "trap '' TERM; echo $$ > {0}; while :; do sleep 0.1; done".format(sys.argv[1])
current_cluster().launch(JobRequest("b", Entrypoint.from_binary("sh", ["-c", stubborn])))
pid = actor.pid()
while not (path := Path(sys.argv[1])).exists() or not path.read_text().strip():
    time.sleep(0.01)
print(pid, path.read_text().strip(), flush=True)
time.sleep(600)
"""


def test_what_runs_on_a_local_cluster_ends_when_its_program_is_killed(tmp_path: Path) -> None:
    environ = {**os.environ, "FRAY_CLUSTER_SPEC": "local", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "pid")],
        env=environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 2
        program.kill()
    deadline = time.monotonic() + 20  # 2 s where nothing else runs; a lease would take a minute
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)
