"""The seed's examples on the local cluster: in threads, and in processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fray.cluster.current import close_connections

from . import scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["local", "local?use_processes=1"], ids=["threads", "processes"])
def spec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("FRAY_CLUSTER_SPEC", request.param)
    monkeypatch.delenv("FRAY_NAMESPACE", raising=False)
    yield request.param
    close_connections()


@pytest.mark.usefixtures("spec")
def test_training_runs_on_every_slice(caplog: pytest.LogCaptureFixture) -> None:
    scenarios.training(tasks=2, num_slices=2, caplog=caplog)


@pytest.mark.usefixtures("spec")
def test_a_training_that_fails_raises_with_the_cause() -> None:
    scenarios.training_that_fails()


@pytest.mark.usefixtures("spec")
def test_inference_is_spread_over_servers_until_they_are_shut_down() -> None:
    scenarios.inference(num_servers=4)


@pytest.mark.usefixtures("spec")
def test_reinforcement_learning_publishes_checkpoints_to_all_its_workers(tmp_path: Path) -> None:
    scenarios.reinforcement_learning(tmp_path, num_rollout_workers=4)


@pytest.mark.usefixtures("spec")
@pytest.mark.parametrize("spec", ["local"], indirect=True)
def test_the_curriculum_counts_each_reported_result_once(tmp_path: Path) -> None:
    scenarios.curriculum_counts_what_was_reported(tmp_path)


@pytest.mark.usefixtures("spec")
def test_documents_are_transformed_in_shards(tmp_path: Path) -> None:
    scenarios.data(tmp_path)


def test_a_pipeline_runs_locally() -> None:
    from examples_local import test_local_zephyr_pipeline

    test_local_zephyr_pipeline()


def test_local_development_needs_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    from examples_local import test_local_inference

    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "replaced")  # and restored afterwards
    test_local_inference()
    assert os.environ["FRAY_CLUSTER_SPEC"] == "local"
    close_connections()


def test_a_program_switches_clusters_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from examples_local import test_switch_to_cluster

    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "replaced")
    monkeypatch.setenv("TEST_CLUSTER_SPEC", "local?use_processes=1")
    test_switch_to_cluster()
    close_connections()


def test_the_examples_run_as_programs_that_leave_nothing_running(tmp_path: Path) -> None:
    names = ("training", "inference", "rl")
    ended = scenarios.run_programs(names, "local", tmp_path)
    for name in names:
        assert ended[name].returncode == 0, ended[name].stderr
        assert scenarios.SAID_AT_THE_END[name] in ended[name].stdout
    # The trainer has turned logging on; nothing else is said there.
    said = ended["rl"].stderr.splitlines()
    rest = [line for line in said if "INFO:fray.job:[replica-0] Step" not in line]
    assert rest == [], "\n".join(rest)
    assert ended["training"].stderr == ended["inference"].stderr == ""
