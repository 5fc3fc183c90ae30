"""Whatever a user may get wrong raises one clear error where it is written, and starts nothing.

Each case says what is written, which error it gives, and what the message must name. That nothing
was started is looked at after each: no job, no actor, no name more than before.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fray
from fray.cluster import (
    Entrypoint,
    EnvironmentConfig,
    JobGroupConfig,
    JobRequest,
    JobStatus,
    LocalCluster,
    ResourceConfig,
    create_cluster,
    current_cluster,
    set_current_cluster,
)
from fray.cluster.control import JobQuery
from fray.errors import (
    ActorDied,
    ActorNotFoundError,
    BlockingCallError,
    ClusterClosed,
    ClusterUnavailable,
    ConnectionRefused,
    InfeasibleError,
    InvalidRequestError,
    JobNotFoundError,
    NameTakenError,
    PayloadError,
    UnknownMethodError,
)
from fray.rpc import (
    ActorEndpoint,
    FrayActorServer,
    LocalActorServer,
    LocalResolver,
    fray_resolver,
)

pytestmark = pytest.mark.leftovers("the module's cluster keeps idle threads for its next calls")

LOCK = threading.Lock()
"""Cannot be pickled."""


class Model:
    def __init__(self, path: str = "", *, size: int = 1) -> None:
        self.path = path

    def predict(self, x: Any = 0) -> Any:
        return x

    @property
    def width(self) -> int:
        return 1

    def stream(self) -> Iterator[int]:
        yield 1

    @fray.method(concurrent=True)
    async def hang(self) -> None:
        await asyncio.Event().wait()

    def _weights(self) -> int:
        return 1


Actor: Any = fray.actor(type("Actor", (Model,), {}))


class Demanding:
    def __init__(self, a: int) -> None:
        self.a = a


def work(x: int = 0) -> None:
    return None


def _yielding(self: object) -> Iterator[int]:
    yield 1


def entry(*args: Any) -> Entrypoint:
    return Entrypoint.from_callable(work, args=args)


def request(**changes: Any) -> JobRequest:
    return JobRequest(**{"name": "job", "entrypoint": entry(), **changes})


# ---- the cluster, and what is started on it


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def model(cluster: LocalCluster) -> Any:
    handle = Actor.options(name="model").remote()
    assert handle.predict(1) == 1
    return handle


@pytest.fixture
def nothing_starts(cluster: LocalCluster) -> Iterator[None]:
    before = started(cluster)
    yield
    assert started(cluster) == before


def started(cluster: LocalCluster) -> tuple[list[str], list[str]]:
    """All jobs, those of actors included, and all names."""
    backend: Any = cluster.asynchronous
    reports = cluster.system.run(lambda: backend.jobs.list(JobQuery()))
    names = [e.metadata["fray.name"] for e in cluster.resolver.list_actors()]
    return [report.job_id for report in reports], names


Case = tuple[Callable[[], object], type[BaseException], str]


def check(make: Callable[[], object], error: type[BaseException], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)  # one line for a person


# ---- options

OPTIONS: dict[str, Case] = {
    "unknown to @actor": (
        lambda: fray.actor(num_gpu=1),
        TypeError,
        r"no option 'num_gpu'; did you mean 'num_gpus'\? \(options: name, ",
    ),
    "unknown to options": (
        lambda: Actor.options(max_restart=3),
        TypeError,
        r"no option 'max_restart'; did you mean 'max_restarts'\?",
    ),
    "like nothing": (lambda: Actor.options(zzz=1), TypeError, r"no option 'zzz' \(options: name"),
    "@actor of a function": (lambda: fray.actor(work), TypeError, "decorates a class, not <func"),
    "@actor(…) of a function": (
        lambda: fray.actor(num_cpus=2)(work),  # type: ignore[type-var]
        TypeError,
        "decorates a class, not <func",
    ),
    "spawn of a function": (lambda: fray.spawn(work), TypeError, "of a class, not of <function"),
    "@method of a number": (
        lambda: fray.method(5),  # type: ignore[call-overload]
        TypeError,
        "decorates a function, not 5",
    ),
    "a method that handles have": (
        lambda: fray.actor(type("Car", (), {"stop": lambda self: None})),
        TypeError,
        r"Car\.stop cannot be an actor's method: handles have their own 'stop'; rename it",
    ),
    "a stop hook with two arguments": (
        lambda: fray.actor(type("Car", (), {"on_stop": lambda self, reason, how: None})),
        TypeError,
        r"Car\.on_stop\(self, reason, how\) cannot be called as fray calls it, with the reason as "
        r"its only argument, by position: define on_stop\(self, reason\) or on_stop\(self\)",
    ),
    "a stop hook that wants the reason by its name": (
        lambda: fray.actor(type("Car", (), {"on_stop": lambda self, *, reason: None})),
        TypeError,
        r"Car\.on_stop\(self, \*, reason\) cannot be called as fray calls it, with .*, by pos",
    ),
    "a start hook with an argument": (
        lambda: fray.actor(type("Car", (), {"on_start": lambda self, key: None})),
        TypeError,
        r"Car\.on_start\(self, key\) cannot be called as fray calls it, with no arguments: define ",
    ),
    "a hook that is a generator": (
        lambda: fray.actor(type("Car", (), {"on_start": _yielding})),
        TypeError,
        r"Car\.on_start is a hook, and cannot be a generator: a call would run nothing",
    ),
    "a hook that is no method": (
        lambda: fray.actor(type("Car", (), {"on_stop": 5})),
        TypeError,
        r"Car\.on_stop is a hook, which fray calls; it must be a method, not 5",
    ),
    "retries of what may not be repeated": (
        lambda: fray.method(retries=1),
        ValueError,
        "retries need idempotent=True",
    ),
}

VALUES: list[tuple[dict[str, Any], type[BaseException], str]] = [
    ({"num_cpus": -1}, ValueError, "num_cpus must be 0 or more, not -1"),
    ({"num_cpus": float("nan")}, ValueError, "num_cpus must be 0 or more, not nan"),
    ({"num_gpus": "1"}, TypeError, "num_gpus is a number, not '1'"),
    ({"memory": "8 parsecs"}, ValueError, "memory must be a number with a unit.* not '8 parsecs'"),
    ({"tpu": "v5litepd-4"}, ValueError, r"unknown TPU type 'v5litepd-4'; did you mean 'v5litepod-"),
    ({"tpu": 4}, TypeError, "tpu is a type such as 'v5litepod-4', not 4"),
    ({"tpu": "v5litepod-4", "num_gpus": 1}, ValueError, "GPUs or a TPU, not both"),
    ({"resources": "big"}, TypeError, "resources is a ResourceConfig, not 'big'"),
    ({"resources": ResourceConfig(), "memory": "1g"}, ValueError, "either resources=.* not both"),
    ({"max_restarts": -2}, ValueError, "max_restarts must be at least -1, not -2"),
    ({"max_restarts": 1.5}, TypeError, "max_restarts is a whole number, not 1.5"),
    ({"max_concurrency": 0}, ValueError, "max_concurrency must be at least 1, not 0"),
    ({"mailbox_calls_max": 0}, ValueError, "mailbox_calls_max must be at least 1, not 0"),
    ({"mailbox_calls_max": "many"}, TypeError, "mailbox_calls_max is a whole number, not 'many'"),
    ({"name": ""}, ValueError, "name is a string that is not empty, not ''"),
    ({"name": 5}, ValueError, "name is a string that is not empty, not 5"),
    ({"namespace": 5}, ValueError, "namespace is a string that is not empty, not 5"),
    ({"lifetime": "forever"}, ValueError, "one of non_detached, detached, not 'forever'"),
    ({"process": "mine"}, ValueError, "one of auto, own, shared, not 'mine'"),
    ({"preemptible": "no"}, TypeError, "preemptible is True or False, not 'no'"),
    ({"thread_affinity": 1}, TypeError, "thread_affinity is True or False, not 1"),
    ({"reentrant": 1}, TypeError, "reentrant is True or False, not 1"),
    ({"reentrant": True, "thread_affinity": True}, ValueError, "either reentrant or thread_aff"),
    ({"get_if_exists": True}, ValueError, "get_if_exists needs a name"),
]


@pytest.mark.parametrize("case", OPTIONS.values(), ids=OPTIONS)
def test_an_option_or_a_decorated_thing_that_makes_no_sense(case: Case) -> None:
    check(*case)


@pytest.mark.parametrize("where", [fray.actor, Actor.options], ids=["@actor", "options"])
@pytest.mark.parametrize(("options", "error", "message"), VALUES, ids=[str(v[0]) for v in VALUES])
def test_a_value_that_an_option_cannot_have(
    where: Any, options: dict[str, Any], error: type[BaseException], message: str
) -> None:
    check(lambda: where(**options), error, message)


# ---- making actors and calling them

CALLS: dict[str, Callable[[Any], Case]] = {
    "a name twice": lambda _: (
        lambda: Actor.options(name="model").remote(),
        NameTakenError,
        "the name 'model' belongs to the actor of job .*; choose another, stop that one, or use "
        "get_if_exists=True",
    ),
    "an actor's name for a server's": lambda _: (
        lambda: FrayActorServer(fray_resolver()).register("model", Model()),
        NameTakenError,
        "'model' cannot be registered",
    ),
    "detached without a name": lambda _: (
        lambda: Actor.options(lifetime="detached").remote(),
        ValueError,
        "detached.* needs a name",
    ),
    "too many constructor arguments": lambda _: (
        lambda: Actor.remote(1, 2),
        TypeError,
        r"Actor\.remote\(\): too many positional arguments \(it is Actor\(path: ",
    ),
    "an unknown constructor argument": lambda _: (
        lambda: Actor.remote(pth="x"),
        TypeError,
        r"Actor\.remote\(\): got an unexpected keyword argument 'pth'",
    ),
    "the same through spawn": lambda _: (
        lambda: fray.spawn(Demanding),  # type: ignore[call-arg]
        TypeError,
        r"missing a required argument: 'a' \(it is Demanding\(a: ",
    ),
    "a constructor argument that cannot be pickled": lambda _: (
        lambda: Actor.remote("path", size={"a": [1, LOCK]}),
        PayloadError,
        r"argument 'size' of Actor → \['a'\] → \[1\]: cannot pickle '_thread.lock' object\. Send",
    ),
    "a class that cannot be pickled": lambda _: (
        lambda: fray.spawn(type("Locked", (), {"lock": LOCK})),
        PayloadError,
        r"Locked → \.lock: cannot pickle",
    ),
    "an argument that cannot be pickled": lambda m: (
        lambda: m.predict.remote(LOCK),
        PayloadError,
        "^argument 1: cannot pickle '_thread.lock' object",
    ),
    "a keyword argument that cannot be pickled": lambda m: (
        lambda: m.predict(x={"k": LOCK}),
        PayloadError,
        r"^argument 'x' → \['k'\]: cannot pickle",
    ),
    "an unknown method": lambda m: (
        lambda: m.predikt.remote(1),
        UnknownMethodError,
        r"has no method 'predikt'; did you mean 'predict'\? \(it has: hang, predict, stream\)",
    ),
    "a property": lambda m: (
        lambda: m.width.remote(),
        UnknownMethodError,
        r"width is a property; only methods can be called: add one that returns it",
    ),
    "a private method": lambda m: (
        lambda: m._weights(),
        UnknownMethodError,
        "_weights is private: only methods without a leading underscore can be called",
    ),
    "wrong arguments of a method": lambda m: (
        lambda: m.predict(1, 2, 3),
        TypeError,
        r"predict\(\) takes from 1 to 2 positional arguments but 4 were given",
    ),
    "a negative timeout": lambda m: (
        lambda: m.predict.options(timeout=-1),
        ValueError,
        "timeout must be positive, not -1",
    ),
    "no number as a timeout": lambda m: (
        lambda: m.predict.options(timeout="1s"),
        TypeError,
        "timeout is a number of seconds, not '1s'",
    ),
    "retries of a method that may not be repeated": lambda m: (
        lambda: m.predict.options(retries=1),
        ValueError,
        r"predict is not marked idempotent=True",
    ),
    "waiting for a generator": lambda m: (
        lambda: m.stream(),
        TypeError,
        r"stream is a generator: iterate over it",
    ),
    "iterating over no generator": lambda m: (
        lambda: list(m.predict.remote()),
        TypeError,
        "predict is not a generator: await it",
    ),
    "a negative grace": lambda m: (lambda: m.stop(-1), ValueError, "grace_s must be 0 or more"),
    "waiting for a list of lists": lambda m: (
        lambda: fray.gather([m.predict.remote()]).result(),
        TypeError,
        r"fray\.gather takes what \.remote\(\.\.\.\) gave, not \[.*takes them one by one",
    ),
    "waiting for a number": lambda _: (
        lambda: fray.wait([5]),
        TypeError,
        r"fray\.wait takes what \.remote\(\.\.\.\) gave, not 5",
    ),
    "waiting for more than there are": lambda m: (
        lambda: fray.wait([m.predict.remote()], 2),
        ValueError,
        "num_returns must be between 1 and 1, not 2",
    ),
}


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("name", CALLS)
def test_an_actor_or_a_call_that_makes_no_sense(name: str, model: Any) -> None:
    check(*CALLS[name](model))
    assert model.predict("still") == "still"


@pytest.mark.usefixtures("nothing_starts", "model")
async def test_on_a_loop_what_is_refused_is_told_by_awaiting_the_handle_and_by_its_calls() -> None:
    refused = Actor.options(name="model").remote()
    for waiting in (refused, refused.predict.remote()):
        with pytest.raises(NameTakenError, match="'model' belongs to the actor"):
            await waiting


@pytest.mark.usefixtures("nothing_starts")
async def test_awaiting_a_generator_says_to_iterate_and_iterating_a_result_to_await(
    model: Any,
) -> None:
    with pytest.raises(TypeError, match=r"is a generator: iterate over it \(async for"):
        await model.stream.remote()
    with pytest.raises(TypeError, match="is not a generator: await it"):
        async for _ in model.predict.remote():
            pass


# ---- names and servers


def register(name: Any, actor: Any = Model, metadata: Any = None) -> None:
    FrayActorServer(fray_resolver()).register(name, actor, metadata)


ENDPOINT: Any = ActorEndpoint("a", "h:1", "j")  # type: ignore[arg-type]

NAMES: dict[str, Case] = {
    "nobody's name": (
        lambda: fray_resolver().lookup("nobody"),
        ActorNotFoundError,
        "no actor is registered as 'nobody' in namespace '",
    ),
    "an empty name": (lambda: fray_resolver().lookup(""), ValueError, "not empty, not ''"),
    "a number": (
        lambda: fray_resolver().lookup_all(5),  # type: ignore[arg-type]
        ValueError,
        "not empty, not 5",
    ),
    "a registration under no name": (
        lambda: register(""),
        ValueError,
        "name is a string that is not empty",
    ),
    "metadata of numbers": (
        lambda: register("x", metadata={"a": 1}),
        TypeError,
        r"metadata is a dict of strings, not \{'a': 1\}",
    ),
    "a constructor that wants more": (
        lambda: register("x", Demanding),
        TypeError,
        "missing 1 required positional argument: 'a'",
    ),
    "an address for an endpoint": (
        lambda: fray_resolver().register("x", "host:1"),  # type: ignore[arg-type]
        TypeError,
        "endpoint is an ActorEndpoint, not 'host:1'",
    ),
    "a registration that ends at once": (
        lambda: fray_resolver().register("x", ENDPOINT, ttl_seconds=0),
        ValueError,
        "ttl_seconds must be positive, not 0",
    ),
    "a namespace of another type": (
        lambda: fray_resolver(5),  # type: ignore[arg-type]
        ValueError,
        "namespace is a string that is not empty, not 5",
    ),
    "a local resolver for a server": (
        lambda: FrayActorServer(LocalResolver()),  # type: ignore[arg-type]
        TypeError,
        "not LocalResolver; with a LocalResolver use LocalActorServer",
    ),
    "a cluster's resolver for a local server": (
        lambda: LocalActorServer(fray_resolver()),  # type: ignore[arg-type]
        TypeError,
        "not SystemResolver; with the resolver of a cluster use FrayActorServer",
    ),
    "a port that there is not": (
        lambda: FrayActorServer(fray_resolver(), port=99999),
        ValueError,
        "port is between 0 and 65535, not 99999",
    ),
}


@pytest.mark.usefixtures("nothing_starts", "model")
@pytest.mark.parametrize("case", NAMES.values(), ids=NAMES)
def test_a_name_or_a_server_that_makes_no_sense(case: Case) -> None:
    check(*case)


# ---- jobs


def launch(**changes: Any) -> None:
    current_cluster().launch(request(**changes))


def launch_group(requests: Any, group: Any) -> None:
    current_cluster().launch_group(requests, group)


JOBS: dict[str, Case] = {
    "a space in a name": (lambda: request(name="my job"), ValueError, "spaces: 'my job'"),
    "no name": (lambda: request(name=""), ValueError, "job name must be a non-empty string"),
    "a function for an entrypoint": (
        lambda: request(entrypoint=work),
        ValueError,
        r"entrypoint is of type Entrypoint, such as Entrypoint.from_callable\(f\); not <function",
    ),
    "a result for an entrypoint": (
        lambda: Entrypoint.from_callable(work()),  # type: ignore[func-returns-value, arg-type]
        ValueError,
        "must be a function or something callable, not None",
    ),
    "arguments that its function does not take": (
        lambda: entry(1, 2),
        ValueError,
        r"cannot be called so: too many positional arguments \(it is work\(x: ",
    ),
    "a string of arguments": (
        lambda: Entrypoint.from_binary("ls", "-l"),
        ValueError,
        r"args must be a list of strings: \['-l'\]",
    ),
    "both workspace and docker_image": (
        lambda: EnvironmentConfig.create(workspace=".", docker_image="image"),
        ValueError,
        "a workspace or a docker_image, not both: '.' and 'image'",
    ),
    "neither of them": (
        EnvironmentConfig,
        ValueError,
        r"needs a workspace or a docker_image; EnvironmentConfig.create\(\) takes the current",
    ),
    "a variable that is a number": (
        lambda: EnvironmentConfig.create(env_vars={"SEED": 1}),  # type: ignore[dict-item]
        ValueError,
        "environment variable SEED must be a string",
    ),
    "a list of variables": (
        lambda: EnvironmentConfig.create(env_vars=["SEED=1"]),  # type: ignore[arg-type]
        ValueError,
        r"env_vars must map names to strings.*not \['SEED=1'\]",
    ),
    "a workspace that is not there": (
        lambda: launch(environment=EnvironmentConfig.create(workspace="/not/there")),
        ValueError,
        "workspace of job 'job' is not a folder of this machine: '/not/there'",
    ),
    "resources in words": (lambda: request(resources="two TPUs"), ValueError, "not 'two TPUs'"),
    "an unknown TPU": (lambda: ResourceConfig.with_tpu("v9-4"), ValueError, "unknown TPU .* 'v9-4"),
    "memory in words": (lambda: ResourceConfig(ram="lots"), ValueError, "ram must .* not 'lots'"),
    "no replicas": (
        lambda: ResourceConfig(replicas=0),
        ValueError,
        "replicas must be a whole number, at least 1, not 0",
    ),
    "an argument that cannot be pickled": (
        lambda: launch(entrypoint=entry(LOCK)),
        PayloadError,
        "argument 1 of the entrypoint of job 'job': cannot pickle '_thread.lock' object",
    ),
    "one such in a group": (
        lambda: launch_group([request(), request(name="b", entrypoint=entry(LOCK))], GROUP),
        PayloadError,
        "argument 1 of the entrypoint of job 'b'",
    ),
    "an empty group": (
        lambda: launch_group([], GROUP),
        ValueError,
        "a group needs at least one job",
    ),
    "a name for a group": (
        lambda: launch_group([request()], "group"),
        TypeError,
        "group is a JobGroupConfig, not 'group'",
    ),
    "a function for a request": (
        lambda: current_cluster().launch(work),  # type: ignore[arg-type]
        TypeError,
        "what is launched is a JobRequest, not <function work",
    ),
}

GROUP = JobGroupConfig("group")


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("case", JOBS.values(), ids=JOBS)
def test_a_job_that_makes_no_sense(case: Case) -> None:
    check(*case)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("method", ["poll", "wait", "monitor", "terminate"])
def test_an_id_that_no_job_has_is_a_key_error(method: str, cluster: LocalCluster) -> None:
    ask = getattr(cluster, method)
    check(
        lambda: ask("me/none-0000"), JobNotFoundError, "^there is no job me/none-0000; those that"
    )
    with pytest.raises(KeyError):
        ask("me/none-0000")
    check(lambda: ask(None), TypeError, r"named by the id that launch\(\) gave, not by None")


@pytest.mark.usefixtures("nothing_starts")
def test_waiting_for_several_with_an_unknown_one_is_a_key_error(cluster: LocalCluster) -> None:
    ask: Any = cluster.wait
    check(lambda: ask(["me/none-0000"]), KeyError, "there is no job me/none-0000")


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (ResourceConfig(cpu=100_000), "needs 100000 cpus; the largest host .* has"),
        (ResourceConfig.with_gpu("H100", 8), "needs 8 H100 gpus; no host has any"),
        (ResourceConfig.with_tpu("v5litepod-4"), "needs 4 v5litepod chips; no host has any"),
    ],
    ids=["cpus", "gpus", "tpus"],
)
def test_what_no_host_could_ever_have_is_refused_where_local_resources_are_real(
    resources: ResourceConfig, message: str
) -> None:
    with LocalCluster(strict=True) as strict:
        pair = [request(), request(resources=resources)]
        for make in (
            lambda: launch(resources=resources),
            lambda: launch_group(pair, GROUP),
            lambda: Actor.options(resources=resources).remote(),
        ):
            check(make, InfeasibleError, f"can never run here: {message}")
        assert started(strict) == ([], [])


def test_an_entry_point_that_does_not_import_in_the_task_fails_and_says_which_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module: Any = types.ModuleType("only_here")
    exec("def work(): pass\nclass Model:\n    def predict(self): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with LocalCluster(use_processes=True) as cluster:
        model: Any = fray.spawn(module.Model)
        job_id = cluster.launch(request(entrypoint=Entrypoint.from_callable(module.work)))
        info = cluster.wait(job_id)
        assert info.status is JobStatus.FAILED
        told = "there is no module 'only_here' in this environment. Install it for whoever receives"
        assert told in (info.error_message or "")
        with pytest.raises(ActorDied, match=r"there is no module 'only_here'.*did not start"):
            model.predict()


# ---- blocking on an event loop's thread

BLOCKING: dict[str, tuple[Callable[[Any], object], str]] = {
    "h.m(x)": (lambda m: m.predict(1), r"`await .*predict\.remote\(\.\.\.\)`"),
    "future.result()": (lambda m: m.hang.remote().result(), r"`await .*hang\.remote\(\.\.\.\)`"),
    "future.exception()": (lambda m: m.hang.remote().exception(), r"`await .*hang\.remote"),
    "for … in future": (lambda m: list(m.stream.remote()), r"`async for … in …`"),
    "fray.wait": (lambda m: fray.wait([m.hang.remote()]), r"`await fray\.wait_async\(…\)`"),
    "gather": (lambda m: fray.gather(m.hang.remote()).result(), r"`await fray\.gather\(…\)`"),
    "cluster.launch": (lambda _: launch(), r"`await cluster\.asynchronous\.launch\(…\)`"),
    "cluster.launch_group": (
        lambda _: launch_group([request()], GROUP),
        r"`await cluster\.asynchronous\.launch_group\(…\)`",
    ),
    **{
        f"cluster.{name}": (
            lambda _, name=name: getattr(current_cluster(), name)("id"),  # type: ignore[misc]
            rf"`await cluster\.asynchronous\.{name}\(…\)`",
        )
        for name in ("wait", "poll", "monitor", "terminate")
    },
    "cluster.list_jobs": (
        lambda _: current_cluster().list_jobs(),
        r"`await cluster\.asynchronous\.list_jobs\(…\)`",
    ),
    "resolver.lookup": (lambda _: fray_resolver().lookup("x"), r"`await resolver\.lookup_async\("),
    "resolver.lookup_all": (
        lambda _: fray_resolver().lookup_all("x"),
        r"`await resolver\.lookup_all_async\(…\)`",
    ),
    "resolver.list_actors": (
        lambda _: fray_resolver().list_actors(),
        r"`await resolver\.list_actors_async\(…\)`",
    ),
    "server.register": (lambda _: register("x"), r"`await server\.register_async\(…\)`"),
    "server.serve": (
        lambda _: FrayActorServer(fray_resolver()).serve(),
        r"`await server\.serve_async\(\)`",
    ),
    "server.shutdown": (
        lambda _: FrayActorServer(fray_resolver()).shutdown(),
        r"`await server\.shutdown_async\(\)`",
    ),
}


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("name", BLOCKING)
async def test_a_blocking_call_on_a_loop_raises_and_says_what_to_await(
    name: str, model: Any
) -> None:
    call, instead = BLOCKING[name]
    check(lambda: call(model), BlockingCallError, f"would block the event loop.*{instead}")
    assert await model.predict.options(timeout=10).remote("still") == "still"


@pytest.mark.parametrize("name", ["h.m(x)", "future.result()", "cluster.launch", "server.serve"])
async def test_a_blocking_call_on_frays_own_loop_raises_as_well(name: str) -> None:
    call, instead = BLOCKING[name]
    async with fray.connect("local"):
        model = await Actor.remote()
        check(lambda: call(model), BlockingCallError, f"would block the event loop.*{instead}")


# ---- which cluster

SPECS = {
    "cluster7": "write fray://host",
    "fray://": "write fray://host",
    "http://host:1": "write fray://host",
    "fray://host:door": "written host:port, not 'host:door'",
    "fray://host?x=1": "write fray://host",
    "local?workers=4": "no option 'workers' .options: max_workers, ",
    "local?max_workers=0": "max_workers is a number from 1, not '0'",
    "local?strict=maybe": "strict is 1 or 0, not 'maybe'",
}


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_that_cannot_be_read(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(lambda: create_cluster(spec), InvalidRequestError, SPECS[spec])
    check(lambda: fray.connect(spec), InvalidRequestError, SPECS[spec])
    monkeypatch.setenv("FRAY_CLUSTER_SPEC", spec)
    check(fray.connect, InvalidRequestError, SPECS[spec])


CLUSTERS: dict[str, Case] = {
    "no workers": (
        lambda: LocalCluster(max_workers=0),
        ValueError,
        "max_workers must be at least 1, not 0",
    ),
    "workers as a string": (
        lambda: LocalCluster(max_workers="4"),  # type: ignore[arg-type]
        TypeError,
        "max_workers is a whole number, not '4'",
    ),
    "a spec for a cluster": (
        lambda: set_current_cluster("local"),  # type: ignore[arg-type]
        TypeError,
        r"the current cluster is what create_cluster\(\) gives, not 'local'",
    ),
    "a cluster for a spec": (
        lambda: fray.connect(5),  # type: ignore[arg-type]
        ValueError,
        "a cluster is named by a string, not 5",
    ),
    "a number for a namespace": (
        lambda: fray.connect(namespace=5),  # type: ignore[arg-type]
        ValueError,
        "a namespace is a string that is not empty, not 5",
    ),
}


@pytest.mark.parametrize("case", CLUSTERS.values(), ids=CLUSTERS)
def test_a_cluster_that_makes_no_sense(case: Case) -> None:
    check(*case)


@pytest.mark.parametrize("has_token", [True, False], ids=["with a token", "without a token"])
def test_a_cluster_that_is_not_up_is_told_in_seconds(
    has_token: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fray.cluster.client.OPEN_TIMEOUT_S", 0.2)
    monkeypatch.setenv("FRAY_HOME", str(tmp_path))
    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "fray://127.0.0.1:1")
    monkeypatch.delenv("FRAY_TOKEN_FILE", raising=False)
    if has_token:
        (tmp_path / "token").write_text("anything")
        monkeypatch.setenv("FRAY_TOKEN_FILE", str(tmp_path / "token"))
    message = (
        r"no cluster answers at 127\.0\.0\.1:1 \(Connection refused\)\. Is it up, .* `fray up` "
        "starts one on this machine; FRAY_CLUSTER_SPEC says which one programs use"
    )
    check(lambda: create_cluster("fray://127.0.0.1:1"), ClusterUnavailable, message)


def test_a_token_that_is_not_the_clusters_is_told_at_once(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect() -> None:
        create_cluster(f"fray://{cluster.address}")

    wrong = tmp_path / "token"
    wrong.write_text("wrong")
    monkeypatch.setenv("FRAY_TOKEN_FILE", str(wrong))
    check(connect, ConnectionRefused, "token is not this cluster's, or has expired; check that the")
    monkeypatch.setenv("FRAY_TOKEN_FILE", str(tmp_path / "none"))
    check(connect, InvalidRequestError, "token file .*none cannot be read: No such file")
    monkeypatch.delenv("FRAY_TOKEN_FILE")
    monkeypatch.setenv("FRAY_HOME", str(tmp_path))
    check(connect, InvalidRequestError, "no token for this cluster: set FRAY_TOKEN_FILE")


# ---- after the end


def test_using_a_closed_cluster_says_that_it_was_closed_however_often() -> None:
    cluster = LocalCluster()
    with cluster:
        model = Actor.options(name="model").remote()
        server = FrayActorServer(cluster.resolver)
        job_id = cluster.launch(request())
        cluster.wait(job_id)
    uses: list[Callable[[], object]] = [
        lambda: cluster.launch(request()),
        cluster.list_jobs,
        lambda: cluster.wait(job_id),
        lambda: cluster.resolver.lookup("model"),
        lambda: model.predict(1),
        lambda: model.predict.remote(1),
        lambda: server.register("x", Model()),
    ]
    for use in uses * 2:
        check(use, ClusterClosed, "this connection to the cluster was closed; open another")
    server.shutdown()
    cluster.shutdown()


async def test_using_a_connection_after_its_block_says_so_too() -> None:
    async with fray.connect("local") as cluster:
        model = await Actor.remote()
    with pytest.raises(ClusterClosed, match="this connection was closed"):
        await cluster.launch(request())
    with pytest.raises(ClusterClosed, match="this connection was closed"):
        await cluster.list_jobs()
    with pytest.raises(ClusterClosed, match="this connection to the cluster was closed"):
        await model.predict.remote()


# ---- Ctrl-C


def interrupt(block: Callable[[], object], when: Callable[[], object]) -> None:
    """Expects Ctrl-C, which is pressed once ``when`` returned and the main thread waits."""

    def press() -> None:
        when()
        deadline = time.monotonic() + 60
        main = threading.main_thread()
        while time.monotonic() < deadline and not (waits(main, block) and sleeps(main)):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    with pytest.raises(KeyboardInterrupt):
        presser.start()
        block()
    presser.join()


def waits(thread: threading.Thread, block: Callable[[], object]) -> bool:
    """Whether a thread is inside ``block``, at a lock of Python's own."""
    frame = sys._current_frames()[thread.ident]  # pyright: ignore
    inmost = frame
    while frame is not None and frame.f_code is not block.__code__:  # pyright: ignore
        frame = frame.f_back
    return frame is not None and inmost.f_code.co_filename == threading.__file__


def sleeps(thread: threading.Thread) -> bool:
    """Whether the kernel has a thread asleep for good, not on its way to a lock or to the GIL.

    Python asks for signals between its instructions, and a lock's wait ends early for one that
    comes during it. One that comes in between, once the GIL is given up and before the kernel has
    put the thread to sleep, is seen at the next instruction only: where nothing ends the wait,
    never. Whoever presses Ctrl-C would press again; here that moment is avoided. Who waits for
    the GIL is woken each 5 ms.
    """
    before = _sleep_of(thread)
    time.sleep(0.02)
    return before is not None and before == _sleep_of(thread)


def _sleep_of(thread: threading.Thread) -> str | None:
    """How often a thread went to sleep; None while it is awake."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return facts["voluntary_ctxt_switches"] if facts["State"].startswith("S") else None


class Door:
    """Tells when it is waited at."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()

    @fray.method(concurrent=True)
    async def until_reached(self) -> None:
        await self.reached.wait()

    async def ping(self) -> str:
        self.reached.clear()
        return "pong"


def test_ctrl_c_during_a_call_cancels_the_call_and_harms_nothing_else(
    cluster: LocalCluster,
) -> None:
    door: Any = fray.spawn(Door)
    interrupt(lambda: door.wait(), door.until_reached)
    assert door.ping() == "pong"  # its turn has come: nobody is at the door any more
    future = door.wait.remote()
    for block in (
        lambda: future.result(),
        lambda: fray.wait([future]),
        lambda: fray.gather(future).result(),
    ):
        interrupt(block, door.until_reached)
        assert not future.done()  # the call goes on for whoever else has its future
    future.cancel()
    assert door.ping() == "pong"
    assert cluster.list_jobs() == cluster.list_jobs()
    door.kill().result()


def test_ctrl_c_while_waiting_for_a_job_leaves_the_job_and_the_connection_alone(
    cluster: LocalCluster,
) -> None:
    resolver = fray_resolver()
    server = FrayActorServer(resolver)
    server.register("door", Door())

    def wait_at_the_door() -> None:
        fray_resolver().lookup("door").wait()

    job_id = cluster.launch(request(entrypoint=Entrypoint.from_callable(wait_at_the_door)))
    reached = resolver.lookup("door").until_reached
    for block in (
        lambda: cluster.wait(job_id),
        lambda: cluster.monitor(job_id),
        lambda: server.serve(),
    ):
        interrupt(block, reached)
        assert cluster.poll(job_id).status is JobStatus.RUNNING
    cluster.terminate(job_id)
    assert cluster.wait(job_id).status is JobStatus.STOPPED
    server.shutdown()
