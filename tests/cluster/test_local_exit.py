"""What a program leaves behind that just ends, with its local cluster still up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
