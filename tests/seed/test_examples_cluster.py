"""The seed's examples on a real cluster: a controller, and a host for each TPU host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fray.cluster.current import close_connections

from . import scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.leftovers("each host's fork server runs until the cluster goes down"),
]

ROOT = Path(__file__).resolve().parents[2]

SINGLE_HOSTS = {"cpu": 64, "memory": "256g", "tpu": {"v5litepod-4": 8}}
"""One machine that stands for eight hosts with four chips each."""

SLICE = "v5litepod-16"
SLICE_HOSTS = 4


class Commands:
    """The ``fray`` command, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.environ = {
            **os.environ,
            "FRAY_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            **scenarios.buckets_in(home),  # tasks have the variables of their agents
        }
        for name in ("FRAY_CLUSTER_SPEC", "FRAY_TOKEN_FILE", "FRAY_NAMESPACE"):
            self.environ.pop(name, None)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fray.cli.main", *arguments, "--json"],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def result(command: subprocess.Popen[str]) -> Any:
        out, err = command.communicate(timeout=120)
        assert command.returncode == 0, err
        return json.loads(out)


def slice_host(index: int) -> dict[str, Any]:
    return {
        "cpu": 16,
        "memory": "64g",
        "slice": {"name": "slice-0", "type": SLICE, "index": index},
    }


@pytest.fixture(scope="module")
def cluster_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    home = tmp_path_factory.mktemp("home")
    fray = Commands(home)
    try:
        up = fray.result(fray.start("up", "--port", "0", "--resources", json.dumps(SINGLE_HOSTS)))
        for index in range(SLICE_HOSTS):
            host = ("--name", f"slice-0-{index}", "--resources", json.dumps(slice_host(index)))
            fray.result(fray.start("worker", "--join", up["address"], *host))
        yield home, up["spec"]
    finally:
        fray.result(fray.start("down", "--grace", "5"))
        close_connections()
    scenarios.until(lambda: not processes_of(home), f"no process of {home} is left")


def processes_of(home: Path) -> list[int]:
    """Daemons and tasks alike: they inherit where their cluster's home is."""
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FRAY_HOME") == str(home):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture
def cluster(cluster_home: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    home, spec = cluster_home
    project = scenarios.project_in(home)
    monkeypatch.chdir(project)
    for path in (project / "stubs", project):
        monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("FRAY_HOME", str(home))  # the token is found there
    monkeypatch.setenv("FRAY_CLUSTER_SPEC", spec)
    for name in ("FRAY_TOKEN_FILE", "FRAY_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    yield spec
    close_connections()


@pytest.mark.usefixtures("cluster")
def test_training_runs_on_every_host_of_its_slice(caplog: pytest.LogCaptureFixture) -> None:
    scenarios.training(tasks=SLICE_HOSTS, num_slices=1, caplog=caplog)


@pytest.mark.usefixtures("cluster")
def test_a_training_that_fails_raises_with_the_cause() -> None:
    scenarios.training_that_fails()


@pytest.mark.usefixtures("cluster")
def test_documents_are_transformed_in_shards(tmp_path: Path) -> None:
    scenarios.data(tmp_path)


@pytest.mark.usefixtures("cluster")
def test_inference_is_spread_over_servers_until_they_are_shut_down() -> None:
    scenarios.inference(num_servers=4)


@pytest.mark.usefixtures("cluster")
def test_reinforcement_learning_publishes_checkpoints_to_all_its_workers(tmp_path: Path) -> None:
    scenarios.reinforcement_learning(tmp_path, num_rollout_workers=2)


@pytest.mark.usefixtures("cluster")
def test_the_curriculum_counts_each_reported_result_once(tmp_path: Path) -> None:
    scenarios.curriculum_counts_what_was_reported(tmp_path)


def test_a_program_switches_clusters_by_the_environment(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples_local import test_switch_to_cluster

    monkeypatch.setenv("TEST_CLUSTER_SPEC", cluster)
    test_switch_to_cluster()


def test_the_examples_run_as_programs(cluster: str, tmp_path: Path) -> None:
    ended = scenarios.run_programs(("training", "inference"), cluster, tmp_path)
    assert ended["inference"].returncode == 0, ended["inference"].stderr
    assert scenarios.SAID_AT_THE_END["inference"] in ended["inference"].stdout
    # It asks for a slice of sixteen hosts, and is told at once that there is none.
    assert ended["training"].returncode == 1
    last = ended["training"].stderr.splitlines()[-1]
    assert last.startswith("fray.errors.InfeasibleError: ")
    assert "v5litepod-64" in last


def test_reinforcement_learning_runs_as_a_program(
    cluster: str, cluster_home: tuple[Path, str]
) -> None:
    ended = scenarios.run_programs(["rl"], cluster, cluster_home[0])["rl"]
    assert ended.returncode == 0, ended.stderr
    assert scenarios.SAID_AT_THE_END["rl"] in ended.stdout
    # Jobs outlive their driver, and this example ends without a shutdown.
    current = scenarios.current_cluster()
    left = [info for info in current.list_jobs() if not info.status.finished()]
    assert sorted(info.name.split("-")[1] for info in left) == ["coordinator", *["rollout"] * 4]
    for info in left:
        current.terminate(info.job_id)
    current.wait([info.job_id for info in left])
