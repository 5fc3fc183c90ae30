"""What `RayContext`, and zephyr on it, ask Ray for."""

from __future__ import annotations

import os

import pytest

from fray.job import RayContext
from zephyr import Backend, Dataset, get_backend
from zephyr.backends import RayBackend


@pytest.fixture(autouse=True)
def _without_a_choice(monkeypatch):
    for name in ("JAX_PLATFORMS", "FRAY_CLUSTER_SPEC"):
        monkeypatch.delenv(name, raising=False)


def platforms():
    return os.environ.get("JAX_PLATFORMS")


class Asked:
    def platforms(self):
        return platforms()


def assigned(_=None):
    import ray

    return ray.get_runtime_context().get_assigned_resources()


@pytest.mark.usefixtures("ray")
def test_jax_takes_no_accelerator_that_was_not_asked_for(monkeypatch):
    context = RayContext()
    actor = context.create_actor(Asked)
    assert context.get([context.run(platforms), actor.platforms.remote()]) == ["cpu", "cpu"]
    own = RayContext(runtime_env={"env_vars": {"JAX_PLATFORMS": "mine"}})
    assert own.get(own.run(platforms)) == "mine"
    for asks in ({"num_gpus": 1}, {"resources": {"TPU": 4}}):
        assert "runtime_env" not in RayContext(**asks)._options
    monkeypatch.setenv("JAX_PLATFORMS", "chosen")
    assert "runtime_env" not in RayContext()._options


@pytest.mark.usefixtures("ray")
def test_within_ray_a_pipeline_runs_there_with_the_memory_that_it_needs():
    assert isinstance(get_backend(), RayBackend)
    dataset = Dataset.from_list([1]).map(assigned)
    (found,) = Backend.execute(dataset)
    assert (found["CPU"], found.get("memory")) == (1, None)
    (found,) = Backend.execute(dataset, memory="64MB")
    assert found["memory"] == 64 << 20
    (found,) = get_backend("ray", memory_per_worker="32MB").execute(dataset)
    assert found["memory"] == 32 << 20
