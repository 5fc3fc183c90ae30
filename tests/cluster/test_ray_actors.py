"""fray's names and actors inside a real Ray."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

import fray
from fray.actor.handle import ActorHandle
from fray.cluster import Entrypoint, JobRequest, RayCluster, create_cluster, current_cluster
from fray.cluster.current import using_cluster
from fray.errors import (
    ActorDied,
    ActorNotFoundError,
    DeathKind,
    NameTakenError,
    UnsupportedError,
)
from fray.job import FrayContext
from fray.rpc import FrayActorServer, fray_resolver

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def cluster(ray):
    with create_cluster("ray?namespace=actors") as cluster:
        yield cluster


def until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)


class Model:
    def predict(self, x):
        return os.getpid(), 2 * x

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)


def serve():
    server = FrayActorServer(fray_resolver())
    server.register("model", Model)
    server.serve()


def transform(folder):
    """What a job does: zephyr's workers are actors of fray's, in processes of Ray's."""
    from zephyr import Dataset
    from zephyr.backends import FrayBackend

    backend = FrayBackend(current_cluster(), max_parallelism=2, scratch=folder)
    pipeline = Dataset.from_files(f"{folder}/*.jsonl").load_jsonl()
    counted = pipeline.group_by(lambda doc: doc["key"], lambda key, docs: [key, len(list(docs))])
    found = sorted(backend.execute(counted))
    with open(f"{folder}/found", "w") as file:
        json.dump(found, file)


@fray.actor(max_restarts=1)
class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self, by=1):
        self.value += by
        return self.value

    def pid(self):
        return os.getpid()

    def surroundings(self):
        return type(current_cluster()).__name__, fray_resolver().namespace

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)


def launched(cluster, fn, *args, **fields):
    entrypoint = Entrypoint.from_callable(fn, args=args)
    return cluster.launch(JobRequest(name=fn.__name__, entrypoint=entrypoint, **fields))


def test_a_job_of_ray_serves_actors_that_another_one_calls(cluster):
    job = launched(cluster, serve, max_retries_failure=1)
    resolver = fray_resolver()
    until(lambda: resolver.list_actors("model"), "the model is registered")
    [endpoint] = resolver.list_actors("model")
    assert endpoint.job_id == job
    model = resolver.lookup("model")
    pid, answer = model.predict(2)
    assert answer == 4
    assert pid != os.getpid()
    with pytest.raises(ActorDied, match="killed by SIGKILL"):
        model.die()
    with pytest.raises(ActorNotFoundError):  # until the job's next attempt has registered
        resolver.lookup("model")
    until(lambda: resolver.list_actors("model"), "the model is registered again")
    assert model.predict(3)[1] == 6
    cluster.terminate(job)
    cluster.wait(job)
    assert resolver.list_actors("model") == []


def test_tasks_of_ray_and_their_driver_call_each_other(cluster, ray):
    @ray.remote
    class Service:
        def serve(self):
            self.server = FrayActorServer(fray_resolver())
            self.server.register("service", Model)
            return os.getpid(), fray_resolver().lookup("driver").predict(1)

    server = FrayActorServer(fray_resolver())
    server.register("driver", Model)
    variables = {"FRAY_CLUSTER_SPEC": "ray?namespace=actors"}
    pythonpath = os.environ.get("PYTHONPATH", "")
    service = Service.options(
        num_cpus=0, runtime_env={"env_vars": {**variables, "PYTHONPATH": pythonpath}}
    ).remote()
    pid, heard = ray.get(service.serve.remote())
    assert heard == (os.getpid(), 2)
    handle = fray_resolver().lookup("service")
    assert handle.predict(5) == (pid, 10)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ActorDied):
        handle.predict(5)
    with pytest.raises(ActorNotFoundError):  # no name leads to the dead
        fray_resolver().lookup("service")
    server.shutdown()
    assert fray_resolver().list_actors() == []


def test_an_actor_lives_in_a_process_of_rays_and_is_restarted_there(cluster):
    counter = Counter.options(name="counter", num_cpus=0.5).remote(5)
    assert counter.add(2) == 7
    assert fray_resolver().lookup("counter").add() == 8
    assert counter.surroundings() == ("RayCluster", "actors")
    with pytest.raises(NameTakenError):
        Counter.options(name="counter").remote()
    same = Counter.options(name="counter", get_if_exists=True).remote()
    first = same.pid()
    with fray.monitor(counter) as monitor:
        with pytest.raises(ActorDied, match=f"its process {first} was killed or crashed"):
            counter.die()
        assert counter.add() == 6  # a new life, of the same name
        assert counter.pid() != first
        counter.stop().result()
        ends = [monitor.result(timeout=30) for _ in range(2)]
    assert [down.incarnation for down in ends] == [1, 2]
    assert ends[1].over.kind is DeathKind.STOPPED
    with pytest.raises(ActorDied, match="its handle stopped it"):
        counter.add()


def test_zephyrs_workers_and_pools_of_fray_run_inside_jobs_of_ray(cluster, tmp_path):
    for shard in range(2):
        docs = [{"key": n % 3} for n in range(30)]
        lines = "".join(json.dumps(doc) + "\n" for doc in docs)
        (tmp_path / f"{shard}.jsonl").write_text(lines)
    cluster.wait(launched(cluster, transform, str(tmp_path)), raise_on_failure=True)
    assert json.loads((tmp_path / "found").read_text()) == [[0, 20], [1, 20], [2, 20]]


def test_tasks_of_a_fray_context_run_in_processes_of_rays(cluster, ray):
    system = cluster.system
    assert system.run(system.directory.cpus) == ray.cluster_resources()["CPU"]
    with FrayContext(cluster=cluster, max_workers=1) as context:
        pids = context.get([context.run(os.getpid) for _ in range(10)])
    assert len(set(pids)) == 1
    assert os.getpid() not in pids


def test_names_outlive_the_process_that_keeps_them(ray):
    with create_cluster("ray?namespace=kept") as cluster:
        FrayActorServer(cluster.resolver).register("model", Model)
        job = launched(cluster, os.getpid)
        cluster.wait(job, raise_on_failure=True)
        ray.kill(ray.get_actor("fray-keeper", namespace="kept"), no_restart=False)
        until(lambda: cluster.list_jobs() == [], "another one answers, which knows no jobs")
        assert cluster.resolver.lookup("model").predict(4)[1] == 8


async def test_what_only_frays_own_clusters_have_is_refused(cluster):
    with pytest.raises(UnsupportedError, match="create_cluster\\('ray'\\)"):
        fray.connect("ray").__enter__()
    supervisor = fray.Supervisor()
    await supervisor.start()
    with pytest.raises(UnsupportedError, match=r"fray\.Supervisor and fray\.group need a cluster"):
        await supervisor.start_child(fray.ChildSpec("counter", Counter))
    await supervisor.stop()
    with pytest.raises(UnsupportedError, match="a TPU of several hosts"):
        await Counter.options(tpu="v5litepod-16").remote()


def test_an_actor_ends_with_its_maker_unless_it_is_detached(cluster):
    maker = RayCluster("actors")
    with using_cluster(maker):
        counter = Counter.options(num_cpus=0).remote()
        detached = Counter.options(num_cpus=0, name="kept", lifetime="detached").remote()
        assert (counter.add(), detached.add()) == (1, 1)
    key = counter.key
    maker.shutdown()  # as the end of its process would
    with pytest.raises(ActorDied, match="whoever made it has ended"):
        ActorHandle(key, "counter", None, cluster.system).add()
    kept = fray_resolver().lookup("kept")
    assert kept.add() == 2
    kept.kill().result()
