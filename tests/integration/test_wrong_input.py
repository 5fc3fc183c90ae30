"""What a user may get wrong on a real cluster: see tests/test_wrong_input.py for all that is local.

Also what a job finds in its environment, and that Ctrl-C ends a driver's wait and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

import fray
from fray.cluster import (
    Entrypoint,
    JobGroupConfig,
    JobRequest,
    JobStatus,
    ResourceConfig,
    create_cluster,
)
from fray.cluster.control import JobQuery
from fray.cluster.remote import FrayCluster
from fray.errors import (
    ActorDied,
    ConnectionRefused,
    InfeasibleError,
    NameTakenError,
    RemoteError,
)
from fray.rpc import FrayActorServer, fray_resolver

from .real_cluster import ROOT, RealCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(90),
    pytest.mark.leftovers("the module's host keeps its fork server until the end"),
]


@fray.actor
class Model:
    def predict(self) -> str:
        return "yes"


def work() -> None:
    return None


def request(**changes: Any) -> JobRequest:
    return JobRequest(**{"name": "job", "entrypoint": Entrypoint.from_callable(work), **changes})


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    cluster = RealCluster(tmp_path_factory.mktemp("home"))
    try:
        asyncio.run(cluster.start())
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(real: RealCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrayCluster]:
    monkeypatch.setenv("FRAY_TOKEN_FILE", str(real.home.token_path))
    monkeypatch.delenv("FRAY_NAMESPACE", raising=False)
    with FrayCluster(real.address) as cluster:
        yield cluster


def started(cluster: FrayCluster) -> list[str]:
    backend: Any = cluster.asynchronous
    reports = cluster.system.run(lambda: backend.jobs.list(JobQuery()))
    return [report.job_id for report in reports]


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (ResourceConfig(cpu=65), r"needs 65 cpus; the largest host \(w1\) has 64"),
        (ResourceConfig(ram="65g"), r"needs 65GiB memory; the largest host \(w1\) has 64GiB"),
        (ResourceConfig.with_gpu("H100", 8), "needs 8 H100 gpus; no host has any"),
        (ResourceConfig.with_tpu("v5litepod-4"), "needs 4 v5litepod chips; no host has any"),
        (ResourceConfig.with_tpu("v5litepod-16"), r"needs a v5litepod-16 slice \(4 hosts\)"),
    ],
    ids=["cpus", "memory", "gpus", "tpus", "a slice"],
)
def test_what_no_host_could_ever_have_is_refused_before_anything_starts(
    cluster: FrayCluster, resources: ResourceConfig, message: str
) -> None:
    before = started(cluster)
    with pytest.raises(InfeasibleError, match=f"can never run here: {message}"):
        cluster.launch(request(resources=resources))
    with pytest.raises(InfeasibleError, match=message):
        cluster.launch_group([request(), request(resources=resources)], JobGroupConfig("group"))
    assert started(cluster) == before


def test_an_actor_that_no_host_could_ever_have_is_refused(cluster: FrayCluster) -> None:
    before = started(cluster)
    with pytest.raises(InfeasibleError, match="needs 64 gpus; no host has any"):
        Model.options(num_gpus=64).remote()  # type: ignore[attr-defined]
    assert started(cluster) == before


def test_a_name_belongs_to_its_actor_from_the_moment_it_is_asked_for(cluster: FrayCluster) -> None:
    model = Model.options(name="model").remote()  # type: ignore[attr-defined]
    for take in (
        lambda: Model.options(name="model").remote(),  # type: ignore[attr-defined]
        lambda: FrayActorServer(fray_resolver()).register("model", Model()),
    ):
        with pytest.raises(NameTakenError, match="'model'"):
            take()  # its process has hardly begun
    assert model.predict() == "yes"
    model.kill().result()


def test_an_entry_point_that_does_not_import_in_the_task_says_which_module(
    cluster: FrayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = types.ModuleType("only_here")
    exec("def work(): pass\nclass Model:\n    def predict(self): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    model: Any = fray.spawn(module.Model)
    info = cluster.wait(cluster.launch(request(entrypoint=Entrypoint.from_callable(module.work))))
    assert info.status is JobStatus.FAILED
    assert "there is no module 'only_here' in this environment" in (info.error_message or "")
    with pytest.raises(ActorDied, match=r"no module 'only_here'.*did not start"):
        model.predict()


def test_a_program_that_is_not_there_says_so(cluster: FrayCluster) -> None:
    entrypoint = Entrypoint.from_binary("no-such-program", [])
    info = cluster.wait(cluster.launch(request(entrypoint=entrypoint)))
    assert info.status is JobStatus.FAILED
    assert "No such file or directory: 'no-such-program'" in (info.error_message or "")


def test_a_method_that_raises_what_only_its_process_knows_is_told_whole(
    cluster: FrayCluster,
) -> None:
    class Peculiar:
        def fail(self) -> None:
            class Odd(Exception):
                def __reduce__(self) -> Any:
                    raise TypeError("not me")

            raise Odd("boo")

    peculiar: Any = fray.spawn(Peculiar)
    with pytest.raises(RemoteError, match=r"Odd: boo\n\nRemote traceback \(actor Peculiar"):
        peculiar.fail()
    peculiar.kill().result()


def test_a_token_that_is_not_the_clusters_is_told_at_once(
    real: RealCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("wrong")
    monkeypatch.setenv("FRAY_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ConnectionRefused, match="token is not this cluster's, or has expired"):
        create_cluster(f"fray://{real.address}")


def test_a_job_finds_out_who_it_is_from_its_environment(
    real: RealCluster, cluster: FrayCluster, tmp_path: Path
) -> None:
    def tell(path: str) -> None:
        import os

        index = os.environ["FRAY_TASK_INDEX"]
        with open(f"{path}/{index}", "w") as file:
            json.dump({k: v for k, v in os.environ.items() if k.startswith("FRAY_")}, file)

    job_id = cluster.launch(
        request(
            name="who",
            entrypoint=Entrypoint.from_callable(tell, args=(str(tmp_path),)),
            resources=ResourceConfig(replicas=2),
            ports=["http"],
        )
    )
    cluster.wait(job_id, raise_on_failure=True)
    told = [json.loads((tmp_path / str(i)).read_text()) for i in range(2)]
    for index, variables in enumerate(told):
        assert variables["FRAY_JOB_ID"] == job_id
        assert variables["FRAY_JOB_NAME"] == "who"
        assert variables["FRAY_REPLICA_ID"] == variables["FRAY_TASK_INDEX"] == str(index)
        assert variables["FRAY_REPLICA_COUNT"] == variables["FRAY_NUM_TASKS"] == "2"
        assert variables["FRAY_ATTEMPT"] == "0"
        assert variables["FRAY_NAMESPACE"] == cluster.get_namespace()
        assert variables["FRAY_CLUSTER_ADDRESS"] == real.address
        assert variables["FRAY_CLUSTER_SPEC"] == f"fray://{real.address}"
    assert told[0]["FRAY_PORT_HTTP"] != told[1]["FRAY_PORT_HTTP"]


DRIVER = """
import sys, threading, os, signal
from fray.cluster import Entrypoint, JobRequest, JobStatus, current_cluster
from fray.rpc import FrayActorServer, fray_resolver

class Door:
    def __init__(self): self.reached = threading.Event()
    def knock(self): self.reached.set()

def work():
    import time
    fray_resolver().lookup("door").knock()
    time.sleep(600)

door = Door()
server = FrayActorServer(fray_resolver())
server.register("door", door)
cluster = current_cluster()
job_id = cluster.launch(JobRequest("long", Entrypoint.from_callable(work)))

def press():
    door.reached.wait()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=press).start()
try:
    cluster.wait(job_id)
except KeyboardInterrupt:
    print("interrupted", cluster.poll(job_id).status)
cluster.terminate(job_id)
print(cluster.wait(job_id).status)
threading.Thread(target=press).start()
server.serve()
"""


def test_ctrl_c_ends_a_drivers_wait_and_then_the_driver_and_nothing_else(
    real: RealCluster,
) -> None:
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER],
        env=real.environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert driver.stdout.splitlines() == ["interrupted running", "stopped"]
    assert driver.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert driver.stderr.splitlines()[-1] == "KeyboardInterrupt"
