"""The names, parameters and defaults that the seed promises, walked one by one.

More parameters are fine where they come after the seed's and have defaults; another name, order
or default is not.
"""

import dataclasses
import inspect
import typing

import pytest

import fray.cluster
from fray.cluster import types as cluster_types
from fray.cluster.base import Cluster
from fray.cluster.types import (
    ActorStatus,
    CpuConfig,
    Entrypoint,
    EnvironmentConfig,
    GpuConfig,
    JobRequest,
    JobStatus,
    ResourceConfig,
    TpuConfig,
)

MISSING = inspect.Parameter.empty
EMPTY_LIST: list = []
EMPTY_DICT: dict = {}

DATACLASSES: dict[str, dict[str, object]] = {
    "CpuConfig": {"kind": "cpu", "variant": "cpu"},
    "GpuConfig": {"variant": MISSING, "kind": "gpu", "count": 1},
    "TpuConfig": {"variant": MISSING, "kind": "tpu", "topology": None},
    "ResourceConfig": {
        "cpu": 1,
        "ram": "128m",
        "disk": "1g",
        "device": CpuConfig(),
        "replicas": 1,
        "preemptible": True,
        "regions": None,
    },
    "EnvironmentConfig": {
        "workspace": None,
        "docker_image": None,
        "pip_packages": EMPTY_LIST,
        "env_vars": EMPTY_DICT,
        "extras": EMPTY_LIST,
    },
    "BinaryEntrypoint": {"command": MISSING, "args": MISSING},
    "CallableEntrypoint": {"callable": MISSING, "args": (), "kwargs": EMPTY_DICT},
    "Entrypoint": {"callable_entrypoint": None, "binary_entrypoint": None},
    "JobRequest": {
        "name": MISSING,
        "entrypoint": MISSING,
        "resources": ResourceConfig(),
        "environment": None,
        "max_retries_failure": 0,
        "max_retries_preemption": 100,
    },
    "TaskStatus": {"status": MISSING, "error_message": None},
    "JobInfo": {
        "job_id": MISSING,
        "status": MISSING,
        "tasks": MISSING,
        "name": MISSING,
        "error_message": None,
    },
    "JobGroupConfig": {
        "name": MISSING,
        "namespace": None,
        "same_region": True,
        "same_zone": False,
    },
    "ReservationConfig": {
        "min_resources": MISSING,
        "max_resources": MISSING,
        "priority": 0,
        "ttl_seconds": 3600,
        "preemptible": True,
    },
    "ReservationInfo": {
        "reservation_id": MISSING,
        "allocated_resources": MISSING,
        "pending_resources": MISSING,
        "jobs": MISSING,
        "expires_at": MISSING,
    },
}

FROZEN = ("CpuConfig", "GpuConfig", "TpuConfig", "EnvironmentConfig")
MUTABLE = ("ResourceConfig",)

CALLABLES: dict[str, tuple[object, dict[str, object]]] = {
    "ResourceConfig.with_tpu": (
        ResourceConfig.with_tpu,
        {"tpu_type": MISSING, "slice_count": 1, "kwargs": MISSING},
    ),
    "ResourceConfig.with_gpu": (
        ResourceConfig.with_gpu,
        {"gpu_type": "auto", "count": 1, "kwargs": MISSING},
    ),
    "ResourceConfig.with_cpu": (ResourceConfig.with_cpu, {"kwargs": MISSING}),
    "EnvironmentConfig.create": (
        EnvironmentConfig.create,
        dict.fromkeys(["workspace", "docker_image", "pip_packages", "env_vars", "extras"]),
    ),
    "create_environment": (
        cluster_types.create_environment,
        dict.fromkeys(["workspace", "docker_image", "pip_packages", "env_vars", "extras"]),
    ),
    "Entrypoint.from_callable": (
        Entrypoint.from_callable,
        {"c": MISSING, "args": (), "kwargs": None},
    ),
    "Entrypoint.from_binary": (Entrypoint.from_binary, {"command": MISSING, "args": MISSING}),
}

CLUSTER: dict[str, dict[str, object]] = {
    "launch": {"request": MISSING},
    "monitor": {"job_id": MISSING},
    "poll": {"job_id": MISSING},
    "terminate": {"job_id": MISSING},
    "list_jobs": {},
    "wait": {"job_id": MISSING, "raise_on_failure": False},
    "create_reservation": {"config": MISSING},
    "release_reservation": {"reservation_id": MISSING},
    "get_reservation": {"reservation_id": MISSING},
    "launch_group": {"requests": MISSING, "group": MISSING, "reservation_id": None},
    "get_namespace": {},
}


def default_of(field: dataclasses.Field) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING if field.default is dataclasses.MISSING else field.default


def assert_begins_with(actual: dict[str, object], promised: dict[str, object]) -> None:
    assert list(actual)[: len(promised)] == list(promised)
    assert {name: actual[name] for name in promised} == promised
    assert all(actual[name] is not MISSING for name in list(actual)[len(promised) :])


@pytest.mark.parametrize("name", DATACLASSES)
def test_a_dataclass_has_the_fields_and_defaults_of_the_seed(name):
    cls = getattr(cluster_types, name)
    assert_begins_with({f.name: default_of(f) for f in dataclasses.fields(cls)}, DATACLASSES[name])
    assert all(f.init for f in dataclasses.fields(cls))


@pytest.mark.parametrize("name", FROZEN + MUTABLE)
def test_what_the_seed_calls_frozen_is_frozen_and_what_it_calls_mutable_is_not(name):
    frozen = getattr(cluster_types, name).__dataclass_params__.frozen
    assert frozen == (name in FROZEN)


@pytest.mark.parametrize("name", CALLABLES)
def test_a_function_has_the_parameters_and_defaults_of_the_seed(name):
    function, promised = CALLABLES[name]
    parameters = inspect.signature(function).parameters
    assert_begins_with({p.name: p.default for p in parameters.values()}, promised)


@pytest.mark.parametrize("name", CLUSTER)
def test_cluster_has_the_methods_parameters_and_defaults_of_the_seed(name):
    parameters = list(inspect.signature(getattr(Cluster, name)).parameters.values())
    assert parameters[0].name == "self"
    assert_begins_with({p.name: p.default for p in parameters[1:]}, CLUSTER[name])


@pytest.mark.parametrize(
    "name", [*DATACLASSES, "JobStatus", "JobId", "create_environment", "Cluster"]
)
def test_the_seed_finds_its_names_in_fray_cluster(name):
    assert hasattr(fray.cluster, name)


def test_cluster_is_a_protocol():
    assert getattr(Cluster, "_is_protocol", False)


@pytest.mark.parametrize(
    ("cls", "methods"),
    [
        (CpuConfig, ["device_flops"]),
        (GpuConfig, ["device_flops", "total_flops"]),
        (TpuConfig, ["chip_count", "vm_count", "device_flops", "total_flops"]),
        (ResourceConfig, ["chip_count", "device_flops", "total_flops"]),
    ],
)
def test_devices_and_resources_have_the_methods_of_the_seed(cls, methods):
    for method in methods:
        parameters = list(inspect.signature(getattr(cls, method)).parameters.values())[1:]
        expected = [("dtype", "bf16")] if method.endswith("_flops") else []
        assert [(p.name, p.default) for p in parameters] == expected


def test_statuses_are_those_of_the_seed():
    assert [s.value for s in JobStatus] == [
        "pending",
        "running",
        "succeeded",
        "failed",
        "stopped",
    ]
    assert [s.value for s in ActorStatus] == ["pending", "running", "stopped", "failed"]
    assert JobStatus.finished(JobStatus.FAILED)
    assert not JobStatus.finished(JobStatus.RUNNING)


def test_a_tpu_type_may_be_any_string_as_the_seeds_examples_pass_it():
    hints = typing.get_type_hints(ResourceConfig.with_tpu)
    assert hints["tpu_type"] is str


def test_a_space_in_the_name_of_a_job_is_a_value_error():
    with pytest.raises(ValueError, match="spaces"):
        JobRequest("a job", Entrypoint.from_callable(print))
