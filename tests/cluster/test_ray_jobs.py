"""Jobs of fray's on a real Ray: those that wait, fail, leave processes behind, and have ended."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from fray.cluster import (
    Entrypoint,
    JobGroupConfig,
    JobRequest,
    JobStatus,
    ResourceConfig,
    create_cluster,
)
from fray.cluster.rayjobs import ENDED_MAX, JobBook, RayJob
from fray.cluster.rayrunner import RayTask

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def cluster(ray):
    with create_cluster("ray?namespace=jobs") as cluster:
        yield cluster


def until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)


def launched(cluster, fn, *args, **fields):
    entrypoint = Entrypoint.from_callable(fn, args=args)
    return cluster.launch(JobRequest(name=fn.__name__, entrypoint=entrypoint, **fields))


def nothing():
    pass


def test_a_job_for_which_there_is_no_room_can_be_terminated(cluster):
    job = launched(cluster, nothing, resources=ResourceConfig(cpu=10_000))
    cluster.wait(launched(cluster, nothing))  # by then Ray has been asked for both
    assert cluster.poll(job).status is JobStatus.PENDING
    cluster.terminate(job)
    assert cluster.wait(job).status is JobStatus.STOPPED


def fail_or_wait(folder):
    index = os.environ["FRAY_TASK_INDEX"]
    with open(f"{folder}/{index}", "a") as file:
        file.write(".")
    if index == "0":
        while not os.path.exists(f"{folder}/1"):
            time.sleep(0.01)
        raise ValueError("no")
    time.sleep(600)


def test_replicas_of_a_job_that_has_failed_are_not_started_again(cluster, tmp_path):
    job = launched(
        cluster,
        fail_or_wait,
        str(tmp_path),
        resources=ResourceConfig(cpu=0.1, replicas=2),
        max_retries_failure=1,
    )
    info = cluster.wait(job)
    assert info.status is JobStatus.FAILED
    assert "task 0 failed" in info.error_message
    assert (tmp_path / "0").read_text() == ".."
    assert (tmp_path / "1").read_text() == "."


def leave_a_process(path):
    child = subprocess.Popen(["sleep", "600"])
    with open(path, "w") as file:
        file.write(str(child.pid))
    print("left")


def test_a_job_ends_with_its_program_whatever_that_has_left_running(cluster, tmp_path):
    job = launched(cluster, leave_a_process, str(tmp_path / "pid"))
    assert cluster.wait(job, raise_on_failure=True).status is JobStatus.SUCCEEDED
    assert [line for _, line in cluster.logs(job)] == ["left"]
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not os.path.exists(f"/proc/{pid}"), "its process is gone")


def test_what_ray_refuses_fails_the_jobs(cluster):
    requests = [
        JobRequest(
            name=name,
            entrypoint=Entrypoint.from_callable(nothing),
            resources=ResourceConfig(cpu=0, ram="0"),
        )
        for name in ("a", "b")
    ]
    jobs = cluster.launch_group(requests, JobGroupConfig(name="empty"))
    for info in cluster.wait(jobs):
        assert info.status is JobStatus.FAILED
        assert "Error" in info.error_message


class Nobody:
    def attempt_began(self, attempt_id):
        pass

    def attempt_ended(self, attempt_id, cause):
        pass


async def test_of_jobs_that_have_ended_the_last_ones_are_known_without_their_projects(monkeypatch):
    async def run(self, entry, task, options, number):
        return False, None

    monkeypatch.setattr(JobBook, "_try", run)
    book = JobBook(Nobody())
    for number in range(ENDED_MAX + 5):
        task = RayTask(f"job-{number}", 0, ("true",), b"payload", b"project", {}, {})
        job = RayJob(f"job-{number}", "job", (task,), 0, 0)
        await book.launch([job], [], "PACK", f"s-{number}")
        info = await book.wait(f"job-{number}", 10)
        assert info.status is JobStatus.SUCCEEDED
    assert await book.poll("job-4") is None
    assert (await book.list_jobs())[0].job_id == "job-5"
    assert len(book._submissions) == ENDED_MAX
    assert not any(entry.job.tasks for entry in book._jobs.values())
