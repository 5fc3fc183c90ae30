"""All clusters behave alike."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from fray.cluster import (
    Cluster,
    Entrypoint,
    EnvironmentConfig,
    JobRequest,
    LocalCluster,
    RayCluster,
    ReservationConfig,
    ResourceConfig,
    create_cluster,
    current_cluster,
)
from fray.cluster.remote import FrayCluster
from fray.errors import InvalidRequestError, UnsupportedError
from tests.cluster.cluster_conformance import Blocking, ClusterConformance, request, write
from tests.integration.real_cluster import RealCluster

pytestmark = pytest.mark.leftovers("what a cluster starts in advance stays until its module ends")


@pytest.fixture(scope="module", params=["local", "fray", "ray"])
def cluster(request, tmp_path_factory):
    with ExitStack() as stack:
        if request.param == "local":
            made = LocalCluster()
        elif request.param == "ray":
            request.getfixturevalue("ray")
            made = RayCluster("conformance")
        else:
            real = RealCluster(tmp_path_factory.mktemp("cluster"))
            stack.callback(real.close)
            asyncio.run(real.start())
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("FRAY_TOKEN_FILE", str(real.home.token_path))
            made = FrayCluster(real.address)
        yield Blocking(stack.enter_context(made))


class TestClusters(ClusterConformance):
    def test_it_is_a_cluster(self, cluster):
        assert isinstance(cluster.blocking, Cluster)


class TestSimulatedClusters(ClusterConformance):
    backend = "simulated"
    test_the_project_reaches_the_job = None  # simulated hosts have no files

    @pytest.fixture
    async def cluster(self, sim_cluster):
        await sim_cluster.add_hosts(2)
        sim_cluster.programs["sh"] = echo
        return sim_cluster.cluster


async def echo(execution):
    """What the simulation has for a shell."""
    words = execution.spec.argv[-1].removeprefix("echo ")
    execution.print(os.path.expandvars(words) + "\n")
    return 0


@pytest.mark.parametrize(
    "fields",
    [
        {"ports": ["http"]},
        {"priority": "high"},
        {"time_limit_s": 5.0},
        {"resources": ResourceConfig(regions=["here"])},
        {"resources": ResourceConfig.with_tpu("v5litepod-16")},
    ],
)
def test_what_ray_cannot_do_is_refused_clearly(ray, fields):
    job = JobRequest(name="job", entrypoint=Entrypoint.from_binary("true", []), **fields)
    with pytest.raises(UnsupportedError, match="not to be had on Ray; nothing was launched"):
        RayCluster("conformance").launch(job)


def test_extras_that_ray_cannot_install_are_refused(ray, tmp_path):
    project = '[project]\nname = "p"\nversion = "1"\n[project.optional-dependencies]\ntpu = []\n'
    (tmp_path / "pyproject.toml").write_text(project)
    cluster = RayCluster("conformance")

    def launch(extra):
        environment = EnvironmentConfig(workspace=str(tmp_path), extras=[extra])
        entrypoint = Entrypoint.from_binary("true", [])
        return cluster.launch(JobRequest("extras", entrypoint, environment=environment))

    with pytest.raises(InvalidRequestError, match="has no extra gpu; it has tpu"):
        launch("gpu")
    (tmp_path / "uv.lock").write_text('version = 1\n[[package]]\nname = "a"\nversion = "1"\n')
    with pytest.raises(UnsupportedError, match="asks for extras of a locked project"):
        launch("tpu")


def test_ray_has_no_reservations(ray):
    one = ResourceConfig.with_cpu(cpu=1)
    with pytest.raises(UnsupportedError, match="no reservations"):
        RayCluster("conformance").create_reservation(ReservationConfig(one, one))


def launch_another(path):
    cluster = current_cluster()
    job = cluster.launch(request(write, path, name="another"))
    cluster.wait(job, raise_on_failure=True)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_on_ray_launches_jobs_there(ray, tmp_path):
    cluster = RayCluster("conformance")
    job = cluster.launch(request(launch_another, str(tmp_path / "done")))
    cluster.wait(job, raise_on_failure=True)
    assert (tmp_path / "done").read_text() == "done"


def test_of_a_task_on_ray_that_was_killed_the_signal_is_told(ray):
    cluster = RayCluster("conformance")
    info = cluster.wait(cluster.launch(request(die)))
    assert info.status == "failed"
    assert info.error_message == "task 0 failed: killed by SIGKILL (signal 9)"


def tell_and_sleep(folder):
    number = os.environ["FRAY_ATTEMPT"]
    Path(folder, number).write_text(f"{os.getpid()} {os.getppid()}")
    while number == "0":
        time.sleep(60)
    first = Path(folder, "0").read_text().split()[0]
    try:  # the kernel takes a moment to clear away what is dead
        state = Path("/proc", first, "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        state = "gone"
    Path(folder, "done").write_text(state)


def test_a_task_on_ray_ends_with_the_process_of_rays_that_runs_it(ray, tmp_path):
    cluster = RayCluster("conformance")
    job = cluster.launch(request(tell_and_sleep, str(tmp_path)))
    deadline = time.monotonic() + 60
    while not (told := (tmp_path / "0").read_text() if (tmp_path / "0").exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(int(told.split()[1]), signal.SIGKILL)  # as the kernel would for want of memory
    cluster.wait(job, raise_on_failure=True)
    assert (tmp_path / "done").read_text() in ("gone", "Z")  # so is the first attempt


def test_a_program_that_is_not_there_is_named(ray):
    cluster = RayCluster("conformance")
    program = Entrypoint.from_binary("no-such-program", [])
    info = cluster.wait(cluster.launch(JobRequest(name="job", entrypoint=program)))
    assert "no-such-program could not be started: [Errno 2]" in info.error_message


def test_inside_ray_its_cluster_is_the_current_one(ray, monkeypatch):
    monkeypatch.delenv("FRAY_CLUSTER_SPEC", raising=False)
    assert isinstance(current_cluster(), RayCluster)
    assert isinstance(create_cluster("ray?namespace=other"), RayCluster)
