from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest

import fray.cli.clusterfile as clusterfile
from fray.cli.clusterfile import (
    ClusterFile,
    LogSettings,
    WorkerSettings,
    check_resources,
    parse_cluster_file,
    parse_resources,
)
from fray.cli.errors import UsageFailure
from fray.cluster.hosttimes import LEASE_S
from fray.cluster.shelflimits import ShelfLimits
from fray.cluster.worker.hosts import host_resources

EXAMPLE = """
name = "lab"
host = "0.0.0.0"
port = 1234

[worker]
name = "box"
resources = { cpu = 8, memory = "16g", gpu = { H100 = 8 }, region = "us-central1" }
"""


def test_toml_and_json_mean_the_same() -> None:
    told = parse_cluster_file("cluster.toml", EXAMPLE)
    assert (told.name, told.host, told.port) == ("lab", "0.0.0.0", 1234)
    assert told.worker is not None
    assert told.worker.name == "box"
    assert told.worker.resources == {
        "cpu": 8,
        "memory": "16g",
        "gpu": {"H100": 8},
        "region": "us-central1",
    }
    assert parse_cluster_file("cluster.json", json.dumps(tomllib.loads(EXAMPLE))) == told


def test_example_of_the_documentation_is_valid() -> None:
    doc = clusterfile.__doc__
    assert doc is not None
    block = doc.split("::\n\n")[1].split("\n\nEvery")[0]
    told = parse_cluster_file("cluster.toml", re.sub(r"^    ", "", block, flags=re.M))
    assert told.lease_s == LEASE_S
    assert told.logs == LogSettings("gs://bucket/logs", 20 << 30, 30)
    assert told.environments == ShelfLimits()
    assert told.worker is not None
    assert host_resources(json.dumps(told.worker.resources)).region == "us-central1"


def test_logs_are_kept_as_usual_but_for_what_is_said() -> None:
    assert parse_cluster_file("c.toml", "[logs]").logs == LogSettings()
    assert parse_cluster_file("c.toml", "[logs]\ndays = 2").logs == LogSettings(days=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("logs = 'gs://x'", "logs must be a table"),
        ("[logs]\ndays = 0", "logs.days must be a number above 0"),
        ("[logs]\nkeep = '0'", "logs.keep must be more than nothing"),
        ("[logs]\nkeep = 'lots'", "logs.keep"),
        ("[logs]\nlocation = 's3://me:pw@x'", "has a password in it"),
        ("[logs]\nplace = 'x'", "unknown key 'logs.place'"),
    ],
)
def test_logs_that_make_no_sense_are_refused(text: str, told: str) -> None:
    with pytest.raises(UsageFailure, match=told):
        parse_cluster_file("c.toml", text)


def test_what_is_kept_of_environments_is_as_usual_but_for_what_is_said() -> None:
    def told(text: str) -> ShelfLimits | None:
        return parse_cluster_file("c.toml", text).environments

    assert told("") is None
    assert told("environments = {}") == ShelfLimits()
    assert told("environments = { size = '50g' }") == ShelfLimits(size_bytes_max=50 << 30)
    assert told("environments = { count = 3 }") == ShelfLimits(count_max=3)


def test_everything_may_be_left_out() -> None:
    assert parse_cluster_file("c.toml", "") == ClusterFile()
    assert parse_cluster_file("c.toml", "[worker]") == ClusterFile(worker=WorkerSettings())
    assert parse_cluster_file("c.json", "{}").worker is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot = 1", "c.toml: unknown key 'prot'; did you mean 'port'?"),
        (
            "zone = 'x'",
            "c.toml: unknown key 'zone'; known are name, host, port, lease_s, retention, "
            "environments, logs, tls, worker",
        ),
        ("worker.resource.cpu = 1", "unknown key 'worker.resource'; did you mean 'resources'?"),
        ("worker.resources.cpus = 1", "unknown key 'worker.resources.cpus'; did you mean 'cpu'?"),
        ("worker = 3", "worker must be a table, not 3"),
        ("port = 'x'", "port must be a whole number from 0 to 65535, not 'x'"),
        ("port = true", "port must be a whole number"),
        ("port = 65536", "port must be a whole number"),
        ("environments = 5", "environments must be a table, not 5"),
        ("environments = { bytes = 5 }", "unknown key 'environments.bytes'; known are size, count"),
        (
            "environments = { count = 0 }",
            "environments.count must be a whole number above 0, not 0",
        ),
        ("environments = { count = 1.5 }", "environments.count must be a whole number above 0"),
        ("environments = { size = 'big' }", "environments.size must be a number with a unit"),
        ("environments = { size = '0' }", "environments.size must be more than nothing, not '0'"),
        ("environments = { size = 5 }", "environments.size must be a text, not 5"),
        ("retention = { jobs = -1 }", "retention keeps 0 jobs or more, not -1"),
        ("retention = { jobs = 1.5 }", "retention.jobs must be a whole number, not 1.5"),
        ("retention = { age_s = 0 }", "retention's age_s is above 0, not 0"),
        ("retention = { age_s = 'x' }", "retention.age_s must be a number of seconds, not 'x'"),
        ("lease_s = 1", "lease_s must be a number from 3, not 1"),
        ("lease_s = inf", "lease_s must be a number from 3, not inf"),
        ("lease_s = true", "lease_s must be a number from 3, not True"),
        ("name = ''", "name must be a text, not ''"),
        ("worker.name = 3", "worker.name must be a text, not 3"),
        ("worker.resources.cpu = -1", "worker.resources.cpu must be a number of CPUs, not -1"),
        ("worker.resources.cpu = nan", "worker.resources.cpu must be a number"),
        ("worker.resources.memory = 'lots'", "worker.resources.memory must be a number with a"),
        ("worker.resources.memory = 8", "worker.resources.memory must be a text, not 8"),
        ("worker.resources.gpu = 3", "worker.resources.gpu is a table of numbers by model"),
        ("worker.resources.gpu.H100 = 0", "worker.resources.gpu.H100 must be a number above 0"),
        ("worker.resources.tpu.v9-1 = 1", "worker.resources.tpu: unknown TPU type 'v9-1'"),
        ("worker.resources.tpu.v6e-8 = 1.5", "worker.resources.tpu.v6e-8 must be a whole number"),
        ("worker.resources.tpu.v6e-16 = 1", "a v6e-16 has 4 hosts, each with a worker of its own"),
        ("worker.resources.slice.name = 'a'", "worker.resources.slice.type is missing"),
        ("worker.resources.region = 3", "worker.resources.region must be a text"),
        ("port = ", "c.toml: not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(UsageFailure, match=re.escape(told)):
        parse_cluster_file("c.toml", text)


def test_host_of_a_slice_says_which_it_is() -> None:
    member = {"name": "a", "type": "v5litepod-16", "index": 3}
    assert check_resources({"slice": member}, "x") == {"slice": member}
    assert host_resources(json.dumps({"slice": member})).slice is not None
    with pytest.raises(UsageFailure, match="index must be a whole number from 0 to 3, not 4"):
        check_resources({"slice": {**member, "index": 4}}, "x")


def test_yaml_is_told_what_to_do() -> None:
    with pytest.raises(UsageFailure, match=r"cluster.yaml: .* not YAML; write the same keys as"):
        parse_cluster_file("cluster.yaml", "name: lab")


def test_json_that_is_none_is_told() -> None:
    with pytest.raises(UsageFailure, match=r"cluster.json: not JSON"):
        parse_cluster_file("cluster.json", "name: lab")
    with pytest.raises(UsageFailure, match="must be a table"):
        parse_cluster_file("cluster.json", "[]")


@pytest.mark.parametrize("text", ["", "cpu=8", "[]", "3", '{"cpus": 1}', '{"cpu": "8"}'])
def test_odd_resources_are_wrong_usage(text: str) -> None:
    with pytest.raises(UsageFailure, match="--resources"):
        parse_resources(text)


@pytest.mark.parametrize(
    "resources",
    [
        {},
        {"cpu": 0.5, "memory": "512m", "disk": "1t"},
        {"gpu": {"H100": 8, "A100": 0.5}, "tpu": {"v5litepod-4": 2}},
        {"zone": "us-central1-a"},
        {"labels": {"rack": "r1"}, "preemptible": True},
        {"slice": {"name": "s", "type": "v5litepod-16", "index": 1, "topology": "4x4"}},
    ],
)
def test_good_resources_are_left_as_they_are(resources: dict[str, Any]) -> None:
    assert parse_resources(json.dumps(resources)) == resources
    host_resources(json.dumps(resources))  # the worker thinks so too
