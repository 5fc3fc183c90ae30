"""The seed's examples inside a real Ray, where they ask for nothing that it has not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fray.cluster import RayCluster, current_cluster
from fray.cluster.current import close_connections
from tests.conftest import joined_to_ray

from . import scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@pytest.fixture(scope="module")
def ray(ray_address: str) -> Iterator[ModuleType]:
    with joined_to_ray(ray_address, "tests/seed", "tests/seed/stubs") as module:
        yield module


@pytest.fixture(autouse=True)
def _inside_ray(ray: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("FRAY_CLUSTER_SPEC", "FRAY_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    yield
    close_connections()


def test_documents_are_transformed_in_shards(tmp_path: Path) -> None:
    assert isinstance(current_cluster(), RayCluster)
    scenarios.data(tmp_path)


def test_inference_is_spread_over_servers_until_they_are_shut_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scenarios.project_in(tmp_path))  # which has the extra that is asked for
    scenarios.inference(num_servers=2)


def test_a_program_switches_clusters_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from examples_local import test_switch_to_cluster

    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "replaced")
    monkeypatch.setenv("TEST_CLUSTER_SPEC", "ray")
    test_switch_to_cluster()
