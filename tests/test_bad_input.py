"""Wrong input gets one clear error where it was made, before anything starts."""

import threading
from collections.abc import Iterator

import pytest

import fray
from fray.actor.options import ActorOptions
from fray.cluster import (
    Entrypoint,
    EnvironmentConfig,
    JobRequest,
    LocalCluster,
    ResourceConfig,
    create_cluster,
)
from fray.errors import (
    BlockingCallError,
    ClusterUnavailable,
    InfeasibleError,
    InvalidRequestError,
    JobFailedError,
    NameTakenError,
    PayloadError,
    UnknownMethodError,
)

pytestmark = pytest.mark.leftovers("the module's cluster keeps idle threads for its next calls")


@fray.actor
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def stream(self, to: int) -> Iterator[int]:
        yield from range(to)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as made:
        yield made


def test_unknown_option_of_an_actor_names_the_nearest():
    with pytest.raises(TypeError, match="did you mean 'max_restarts'"):

        @fray.actor(max_restart=3)
        class Wrong: ...


def test_unknown_option_at_creation_names_the_nearest():
    with pytest.raises(TypeError, match="did you mean 'num_gpus'"):
        Counter.options(num_gpu=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cpus": -1}, "num_cpus"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_restarts": -2}, "max_restarts"),
        ({"lifetime": "for ever"}, "lifetime"),
        ({"process": "mine"}, "process"),
        ({"get_if_exists": True}, "needs a name"),
    ],
)
def test_value_out_of_bounds_is_named(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ActorOptions().replace(**options)


def test_method_that_handles_have_themselves_is_refused_at_the_class():
    with pytest.raises(TypeError, match="handles have their own 'stop'; rename it"):

        @fray.actor
        class Wrong:
            def stop(self) -> None: ...


def test_retries_without_idempotence_are_refused_at_the_method():
    with pytest.raises(ValueError, match="idempotent"):

        class Wrong:
            @fray.method(retries=2)
            def f(self) -> None: ...


def test_wrong_arguments_of_a_constructor_are_told_before_an_actor_is_made(cluster: LocalCluster):
    with pytest.raises(TypeError, match="unexpected keyword argument 'begin'"):
        Counter.remote(begin=1)


def test_argument_that_cannot_be_pickled_is_named(cluster: LocalCluster):
    counter = Counter.remote()
    with pytest.raises(PayloadError, match=r"argument 1.*lock"):
        counter.add.remote(threading.Lock())
    assert counter.add(1) == 1


def test_exclusive_name_is_given_once(cluster: LocalCluster):
    first = Counter.options(name="only").remote(1)
    with pytest.raises(NameTakenError, match="only"):
        Counter.options(name="only").remote(2)
    assert Counter.options(name="only", get_if_exists=True).remote().add(1) == 2
    assert first.add(1) == 3


def test_detached_actor_needs_a_name(cluster: LocalCluster):
    with pytest.raises(ValueError, match="needs a name"):
        Counter.options(lifetime="detached").remote()


def test_unknown_and_private_methods_are_refused_before_anything_is_sent(cluster: LocalCluster):
    counter = Counter.remote()
    with pytest.raises(UnknownMethodError, match="did you mean 'add'"):
        counter.ad.remote(1)
    with pytest.raises(UnknownMethodError, match="private"):
        counter._secret.remote()


def test_time_limit_that_is_not_positive_is_refused(cluster: LocalCluster):
    with pytest.raises(ValueError, match="positive"):
        Counter.remote().add.options(timeout=-1)


def test_generator_is_not_awaited(cluster: LocalCluster):
    with pytest.raises(TypeError, match="generator"):
        Counter.remote().stream.remote(3).result(timeout=10)


def test_space_in_the_name_of_a_job_is_refused():
    with pytest.raises(ValueError, match="my job"):
        JobRequest(name="my job", entrypoint=Entrypoint.from_binary("true", []))


def test_workspace_and_image_exclude_each_other():
    with pytest.raises(ValueError, match="docker_image"):
        EnvironmentConfig(workspace=".", docker_image="image")


def test_resource_that_no_host_could_ever_have_is_refused():
    with LocalCluster(strict=True) as cluster:
        request = JobRequest(
            name="big",
            entrypoint=Entrypoint.from_callable(print),
            resources=ResourceConfig.with_cpu(cpu=9999),
        )
        with pytest.raises(InfeasibleError, match="9999 cpus; the largest host"):
            cluster.launch(request)
        assert cluster.list_jobs() == []


def test_entry_point_that_does_not_import_in_the_task_is_told(tmp_path, monkeypatch):
    import sys
    import types

    module = types.ModuleType("only_in_this_process")
    exec("def work(): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_in_this_process", module)
    with LocalCluster(use_processes=True) as cluster:
        job = cluster.launch(
            JobRequest(name="lost", entrypoint=Entrypoint.from_callable(module.work))
        )
        with pytest.raises(JobFailedError, match="only_in_this_process"):
            cluster.wait(job, raise_on_failure=True)


def test_unknown_job_is_a_key_error(cluster: LocalCluster):
    with pytest.raises(KeyError, match="nobody/nothing"):
        cluster.poll("nobody/nothing-1")


@pytest.mark.parametrize(
    "spec", ["frey://host", "local?workers=3", "fray://", "local?max_workers=0"]
)
def test_wrong_spec_of_a_cluster_is_told(spec: str):
    with pytest.raises(InvalidRequestError):
        create_cluster(spec)


def test_cluster_that_does_not_answer_is_told(monkeypatch, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token-that-is-long-enough")
    monkeypatch.setenv("FRAY_TOKEN_FILE", str(token))
    with pytest.raises(ClusterUnavailable, match=r"127\.0\.0\.1:1"):
        create_cluster("fray://127.0.0.1:1")


async def test_blocking_on_the_loop_is_refused_with_what_to_write_instead():
    async with fray.connect("local") as cluster:
        counter = await Counter.remote()
        with pytest.raises(BlockingCallError, match=r"await Counter\.add\.remote"):
            counter.add(1)
        with pytest.raises(BlockingCallError, match="await"):
            counter.add.remote(1).result()
        with pytest.raises(BlockingCallError, match="await"):
            cluster.resolver.lookup_all("x")
        assert await counter.add.remote(1) >= 1
