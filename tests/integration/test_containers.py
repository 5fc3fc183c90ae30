"""Tasks in containers, on a stand-in for Docker (`docker_stand_in`): it has no daemon here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from fray.cluster import Entrypoint, EnvironmentConfig, JobRequest, JobStatus
from fray.errors import InvalidRequestError
from tests.integration.real_cluster import ROOT, RealCluster, driving, is_gone, until

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.ids import JobId

pytestmark = pytest.mark.integration

STAND_IN = Path(__file__).with_name("docker_stand_in.py")
SECRET = "hunter2-and-more"


class Docker:
    """A real cluster whose agent finds the stand-in as ``docker``."""

    def __init__(self, real: RealCluster, socket: Path) -> None:
        self.real = real
        self._log = Path(f"{socket}.log")

    def commands(self, verb: str) -> list[str]:
        if not self._log.exists():
            return []
        return [line for line in self._log.read_text().splitlines() if line.split()[0] == verb]


@pytest.fixture
async def docker(tmp_path: Path) -> AsyncIterator[Docker]:
    socket, tools = tmp_path / "docker.sock", tmp_path / "bin"
    tools.mkdir()
    (tools / "docker").write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    (tools / "docker").chmod(0o755)
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tools / "python").chmod(0o755)
    path = os.pathsep.join([str(tools), os.path.dirname(sys.executable), os.environ["PATH"]])
    variables = {"PATH": path, "DOCKER_STAND_IN": str(socket), "STAND_IN_PYTHONPATH": str(ROOT)}
    daemon = subprocess.Popen(  # noqa: ASYNC220 - it is to outlive the commands
        [sys.executable, str(STAND_IN), "daemon", str(socket)], env={**os.environ, **variables}
    )
    real = RealCluster(tmp_path / "home", variables)
    try:
        await until(socket.exists, "the stand-in listens")
        await real.start()
        yield Docker(real, socket)
    finally:
        real.close()
        daemon.kill()
        daemon.wait()


async def launch(
    cluster: AsyncFrayCluster, entry: Entrypoint, image: str = "image:1", **env_vars: str
) -> JobId:
    environment = EnvironmentConfig.create(docker_image=image, env_vars=env_vars)
    return await cluster.launch(JobRequest("j", entry, environment=environment))


def shell(script: str) -> Entrypoint:
    return Entrypoint.from_binary("/bin/sh", ["-c", script])


async def output(cluster: AsyncFrayCluster, job: JobId) -> list[str]:
    return [line.text async for line in cluster.logs(job)]


async def test_a_program_runs_in_its_image_which_is_pulled_once(docker):
    async with driving(docker.real) as cluster:
        entry = shell('echo "$IMAGE $ONE"; echo "$TWO"; echo $FRAY_JOB_NAME; exit 3')
        job = await launch(cluster, entry, ONE="1", TWO="a\nb")
        lines = await output(cluster, job)
        assert "[build] Pulling image:1" in lines
        assert lines[-4:] == ["image:1 1", "a", "b", "j"]
        info = await cluster.wait_for(job)
        assert info.error_message is not None
        assert "exited with code 3" in info.error_message
        assert await output(cluster, await launch(cluster, shell("true"))) == []
        assert len(docker.commands("pull")) == 1
        assert len(docker.commands("rm")) == 2  # nothing is left of either


def greet(name: str) -> None:
    print("hello", name, os.environ["IMAGE"])


async def test_a_function_runs_in_an_image_that_has_fray(docker):
    async with driving(docker.real) as cluster:
        entry = Entrypoint.from_callable(greet, args=("you",))
        lines = await output(cluster, await launch(cluster, entry))
        assert lines[-1] == "hello you image:1"


async def test_values_of_variables_are_not_on_the_command_line(docker):
    async with driving(docker.real) as cluster:
        job = await launch(cluster, shell("sleep 600"), TOKEN=SECRET, KEY=f"{SECRET}\n2")
        await until(lambda: bool(docker.commands("run")), "it runs")
        (told,) = docker.commands("run")
        assert "--env-file" in told
        assert SECRET not in told
        shown = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
        assert SECRET not in str(shown)
        await cluster.terminate(job)
        await cluster.wait_for(job)


@pytest.mark.parametrize("victim", ["job", "supervisor", "command"])
async def test_the_container_goes_with_its_attempt_however_that_ends(docker, tmp_path, victim):
    async with driving(docker.real) as cluster:
        path = tmp_path / "pid"
        job = await launch(
            cluster, shell(f"trap '' TERM; echo $$ > {path}; while true; do sleep 0.1; done")
        )
        await until(lambda: path.exists() and bool(path.read_text()), "the container runs")
        pid = int(path.read_text())
        command = next(
            process
            for process in psutil.process_iter(["cmdline"])
            if "--name" in (line := process.info["cmdline"] or []) and str(STAND_IN) in line
        )
        if victim == "job":
            await cluster.jobs.stop(job, "enough", 0.5)
        elif victim == "supervisor":
            command.parent().kill()
        else:
            command.kill()
        await until(lambda: is_gone(pid), "the container is gone")
        assert (await cluster.wait_for(job)).status.finished()


async def test_the_container_goes_although_its_agent_is_dead(docker, tmp_path):
    async with driving(docker.real) as cluster:
        path = tmp_path / "pid"
        await launch(cluster, shell(f"echo $$ > {path}; exec sleep 600"))
        await until(lambda: path.exists() and bool(path.read_text()), "the container runs")
        pid = int(path.read_text())
        docker.real.agents["w1"].kill()
        assert not is_gone(pid)  # agents may die
        (command,) = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "--name" in (line := process.info["cmdline"] or []) and str(STAND_IN) in line
        ]
        command.parent().send_signal(signal.SIGTERM)  # as at the end of the lease
        await until(lambda: is_gone(pid), "the container is gone")
        await docker.real.start_agent()


async def test_running_out_of_memory_is_told_as_that(docker):
    async with driving(docker.real) as cluster:
        job = await launch(cluster, shell("kill -9 $$"), image="small:1")
        info = await cluster.wait_for(job)
        assert info.error_message is not None
        assert "out of memory: the kernel killed its container" in info.error_message


async def test_an_image_that_cannot_be_pulled_fails_the_build(docker):
    async with driving(docker.real) as cluster:
        job = await launch(cluster, shell("true"), image="missing:1")
        info = await cluster.wait_for(job)
        assert info.status is JobStatus.FAILED
        assert info.error_message is not None
        assert "the image missing:1 could not be pulled" in info.error_message
        assert "repository not found" in info.error_message


async def test_what_cannot_be_an_image_is_refused(docker):
    async with driving(docker.real) as cluster:
        with pytest.raises(InvalidRequestError, match="cannot be the name of a Docker image"):
            await launch(cluster, shell("true"), image="--privileged")
