"""From ``cluster.toml`` or ``cluster.json``, and ``--resources``, to settings of `fray up`. Pure.

::

    name = "lab"
    host = "0.0.0.0"
    port = 50051
    lease_s = 60                       # how long a host may be silent before its tasks end
    retention = { jobs = 10000, age_s = 604800 }    # what is remembered of ended jobs

    environments = { size = "20g", count = 64 }     # what each host keeps that is not in use

    [logs]                             # of jobs, for the time after their hosts
    location = "gs://bucket/logs"      # as fsspec knows it, or a folder that all hosts share
    keep = "20g"                       # of ended jobs, the newest
    days = 30

    [tls]                              # only where fray is not to make the certificate itself
    certificate = "/etc/fray/cert.pem"
    key = "/etc/fray/key.pem"
    authority = "/etc/fray/ca.pem"

    [worker]
    name = "box"
    task_user = "auto"                 # as root: accounts of tasks; or a name, or { alice = "al" }
    [worker.resources]
    cpu = 8
    memory = "16g"
    gpu = { H100 = 8 }
    tpu = { "v5litepod-4" = 2 }
    region = "us-central1"

Every key may be left out. Without ``[worker]`` no worker is started: hosts join by themselves. One
host of a slice of several says which: ``slice = { name = "a", type = "v5litepod-16", index = 0 }``.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, cast

from fray.cli.errors import UsageFailure
from fray.cluster.accelerators import TpuTopology, tpu_topology
from fray.cluster.archive.layout import LogRetention
from fray.cluster.archive.store import check_location
from fray.cluster.constraints import check_labels
from fray.cluster.hosttimes import LEASE_S_MIN
from fray.cluster.resources import parse_bytes
from fray.cluster.retention import RetentionPolicy
from fray.cluster.shelflimits import ShelfLimits
from fray.errors import InvalidRequestError

KEYS = ("name", "host", "port", "lease_s", "retention", "environments", "logs", "tls", "worker")
RETENTION_KEYS = ("jobs", "age_s")
ENVIRONMENT_KEYS = ("size", "count")
LOG_KEYS = ("location", "keep", "days")
TLS_KEYS = ("certificate", "key", "authority")
WORKER_KEYS = ("name", "resources", "task_user")
RESOURCE_KEYS = (
    "cpu",
    "memory",
    "disk",
    "gpu",
    "tpu",
    "slice",
    "region",
    "zone",
    "labels",
    "preemptible",
)
SLICE_KEYS = ("name", "type", "index", "topology")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The worker that comes with a controller.

    Attributes:
        name: None names it after the host.
        resources: What it says that it has; None lets it look.
        task_user: Accounts of its tasks: ``auto``, a name, or a table by user; None for its own.
    """

    name: str | None = None
    resources: Mapping[str, Any] | None = None
    task_user: str | Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How a cluster that leaves the loopback is encrypted.

    Attributes:
        insecure: Whether it is not.
        certificate: The files of the controller's certificate, of its key, and of who has signed
            it; empty where fray makes them.
    """

    insecure: bool = False
    certificate: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The log archive.

    Attributes:
        location: As fsspec knows it; empty for the cluster's own folder on the controller's host.
        keep_bytes: How much is kept of ended jobs, > 0.
        days: How long, > 0.
    """

    location: str = ""
    keep_bytes: int = LogRetention().bytes_max
    days: float = LogRetention().age_max_s / 86400


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """What a cluster file says.

    Attributes:
        name: None where it does not say.
        host: Likewise.
        port: Likewise.
        lease_s: Likewise; how long a host goes on without hearing from the controller.
        retention: Likewise; how long ended jobs are remembered.
        environments: Likewise; how much hosts keep of environments that are not in use.
        logs: None where it does not say.
        worker: None for no worker.
        tls: None where it does not say.
    """

    name: str | None = None
    host: str | None = None
    port: int | None = None
    lease_s: float | None = None
    retention: RetentionPolicy | None = None
    environments: ShelfLimits | None = None
    logs: LogSettings | None = None
    worker: WorkerSettings | None = None
    tls: TlsSettings | None = None


def parse_cluster_file(file_name: str, text: str) -> ClusterFile:
    """Reads a cluster file.

    Args:
        file_name: Its name: the suffix says how it is written. For errors, too.
        text: What is in it.

    Raises:
        UsageFailure: It cannot be read; the message names the wrong key.
    """
    try:
        return _cluster_file(_parsed(file_name, text))
    except UsageFailure as exc:
        raise UsageFailure(f"{file_name}: {exc}") from exc


def _parsed(file_name: str, text: str) -> object:
    suffix = file_name.rpartition(".")[2].lower()
    if suffix in ("yaml", "yml"):
        raise UsageFailure(
            "cluster files are TOML or JSON, not YAML; write the same keys as cluster.toml"
            ' (name = "lab", port = 50051, [worker.resources] cpu = 8)'
        )
    try:
        return json.loads(text) if suffix == "json" else tomllib.loads(text)
    except ValueError as exc:
        raise UsageFailure(f"not {'JSON' if suffix == 'json' else 'TOML'}: {exc}") from exc


def _cluster_file(value: object) -> ClusterFile:
    table = _table(value, "", KEYS)
    port = table.get("port")
    if port is not None and (not _is_whole(port) or not 0 <= port <= 65535):
        raise UsageFailure(f"port must be a whole number from 0 to 65535, not {port!r}")
    return ClusterFile(
        name=_text(table, "name"),
        host=_text(table, "host"),
        port=port,
        lease_s=_lease_s(table),
        retention=_retention(table["retention"]) if "retention" in table else None,
        environments=_environments(table["environments"]) if "environments" in table else None,
        logs=_logs(table["logs"]) if "logs" in table else None,
        worker=_worker(table["worker"]) if "worker" in table else None,
        tls=_tls(table["tls"]) if "tls" in table else None,
    )


def _tls(value: object) -> TlsSettings:
    table = _table(value, "tls", TLS_KEYS)
    files = [_text(table, key, "tls.") for key in TLS_KEYS]
    missing = [key for key, file in zip(TLS_KEYS, files, strict=True) if not file]
    if missing:
        raise UsageFailure(f"tls.{missing[0]} is missing: a certificate takes all three files")
    return TlsSettings(certificate=tuple(file for file in files if file))


def _lease_s(table: Mapping[str, Any]) -> float | None:
    value = table.get("lease_s")
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not LEASE_S_MIN <= value < inf:
        raise UsageFailure(f"lease_s must be a number from {LEASE_S_MIN:g}, not {value!r}")
    return float(value)


def _retention(value: object) -> RetentionPolicy:
    table = _table(value, "retention", RETENTION_KEYS)
    usual = RetentionPolicy()
    jobs, age_s = table.get("jobs", usual.jobs_max), table.get("age_s", usual.age_s)
    if not _is_whole(jobs):
        raise UsageFailure(f"retention.jobs must be a whole number, not {jobs!r}")
    if not isinstance(age_s, int | float):
        raise UsageFailure(f"retention.age_s must be a number of seconds, not {age_s!r}")
    try:
        return RetentionPolicy(jobs, float(age_s) if not isinstance(age_s, bool) else age_s)
    except InvalidRequestError as exc:
        raise UsageFailure(str(exc)) from exc


def _environments(value: object) -> ShelfLimits:
    table = _table(value, "environments", ENVIRONMENT_KEYS)
    usual = ShelfLimits()
    count = table.get("count", usual.count_max)
    if not _is_whole(count) or count < 1:
        raise UsageFailure(f"environments.count must be a whole number above 0, not {count!r}")
    size = _text(table, "size", "environments.")
    try:
        size_bytes = (
            usual.size_bytes_max if size is None else parse_bytes(size, what="environments.size")
        )
    except InvalidRequestError as exc:
        raise UsageFailure(str(exc)) from exc
    if size_bytes <= 0:
        raise UsageFailure(f"environments.size must be more than nothing, not {size!r}")
    return ShelfLimits(count, size_bytes)


def _logs(value: object) -> LogSettings:
    table = _table(value, "logs", LOG_KEYS)
    usual = LogSettings()
    days = table.get("days", usual.days)
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days < inf:
        raise UsageFailure(f"logs.days must be a number above 0, not {days!r}")
    try:
        location = (
            check_location(_text(table, "location", "logs.") or "") if "location" in table else ""
        )
        keep = _text(table, "keep", "logs.")
        keep_bytes = usual.keep_bytes if keep is None else parse_bytes(keep, what="logs.keep")
    except InvalidRequestError as exc:
        raise UsageFailure(str(exc)) from exc
    if keep_bytes <= 0:
        raise UsageFailure(f"logs.keep must be more than nothing, not {keep!r}")
    return LogSettings(location, keep_bytes, float(days))


def _worker(value: object) -> WorkerSettings:
    table = _table(value, "worker", WORKER_KEYS)
    resources = table.get("resources")
    return WorkerSettings(
        name=_text(table, "name", "worker."),
        resources=None if resources is None else check_resources(resources, "worker.resources"),
        task_user=_task_user(table),
    )


def _task_user(table: Mapping[str, Any]) -> str | Mapping[str, str] | None:
    value: Any = table.get("task_user")
    if isinstance(value, dict):
        accounts = cast("dict[str, Any]", value)
        if accounts and all(isinstance(account, str) and account for account in accounts.values()):
            return accounts
        raise UsageFailure("worker.task_user must be a table from users to accounts")
    return _text(table, "task_user", "worker.")


def parse_resources(text: str) -> Mapping[str, Any]:
    """Reads ``--resources``, as in ``{"cpu": 8, "memory": "16g", "gpu": {"H100": 8}}``.

    Args:
        text: JSON.

    Raises:
        UsageFailure: It is not, or the message names the wrong key.
    """
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise UsageFailure(
            f'--resources is JSON, as in \'{{"cpu": 8, "memory": "16g"}}\': {exc}'
        ) from exc
    return check_resources(value, "--resources")


def check_resources(value: object, where: str) -> Mapping[str, Any]:
    """Checks what a worker is said to have.

    Args:
        value: From a file or the command line.
        where: Where it stands, for errors.

    Raises:
        UsageFailure: It makes no sense; the message names the wrong key.
    """
    table = _table(value, where, RESOURCE_KEYS)
    cpu = table.get("cpu", 0)
    if isinstance(cpu, bool) or not isinstance(cpu, int | float) or not 0 <= cpu < 1e6:
        raise UsageFailure(f"{where}.cpu must be a number of CPUs, not {cpu!r}")
    for name in ("memory", "disk"):
        try:
            parse_bytes(_text(table, name, f"{where}.") or 0, what=f"{where}.{name}")
        except InvalidRequestError as exc:
            raise UsageFailure(str(exc)) from exc
    _check_gpus(table.get("gpu", {}), f"{where}.gpu")
    _check_tpus(table.get("tpu", {}), f"{where}.tpu", where)
    if "slice" in table:
        _check_slice(_table(table["slice"], f"{where}.slice", SLICE_KEYS), f"{where}.slice")
    for name in ("region", "zone"):
        _text(table, name, f"{where}.")
    try:
        check_labels(table.get("labels", {}), f"{where}.labels")
    except InvalidRequestError as exc:
        raise UsageFailure(str(exc)) from exc
    if not isinstance(table.get("preemptible", False), bool):
        raise UsageFailure(f"{where}.preemptible is true or false, not {table['preemptible']!r}")
    return table


def _check_gpus(value: object, where: str) -> None:
    for model, count in _counts(value, where, '{"H100": 8}'):
        if isinstance(count, bool) or not isinstance(count, int | float) or not 0 < count < 1e6:
            raise UsageFailure(f"{where}.{model} must be a number above 0, not {count!r}")


def _check_tpus(value: object, where: str, above: str) -> None:
    for model, count in _counts(value, where, '{"v5litepod-4": 2}'):
        if not _is_whole(count) or count < 1:
            raise UsageFailure(f"{where}.{model} must be a whole number above 0, not {count!r}")
        hosts = _topology(model, where).vm_count
        if hosts > 1:
            raise UsageFailure(
                f"{where}: a {model} has {hosts} hosts, each with a worker of its own; give"
                f' {above}.slice, as in {{"name": "a", "type": "{model}", "index": 0}}'
            )


def _counts(value: object, where: str, example: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        raise UsageFailure(f"{where} is a table of numbers by model, as in {example}")
    return list(cast("Mapping[str, Any]", value).items())


def _check_slice(table: Mapping[str, Any], where: str) -> None:
    for key in ("name", "type"):
        if _text(table, key, f"{where}.") is None:
            raise UsageFailure(f"{where}.{key} is missing")
    _text(table, "topology", f"{where}.")
    hosts, index = _topology(table["type"], where).vm_count, table.get("index", 0)
    if not _is_whole(index) or not 0 <= index < hosts:
        raise UsageFailure(
            f"{where}.index must be a whole number from 0 to {hosts - 1}, not {index!r}"
        )


def _topology(model: str, where: str) -> TpuTopology:
    try:
        return tpu_topology(model)
    except InvalidRequestError as exc:
        raise UsageFailure(f"{where}: {exc}") from exc


def _table(value: object, where: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageFailure(f"{where or 'it'} must be a table, not {value!r}")
    table = cast("Mapping[str, Any]", value)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise UsageFailure(f"unknown key {f'{where}.{key}' if where else key!r}; {hint}")
    return table


def _text(table: Mapping[str, Any], key: str, where: str = "") -> str | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise UsageFailure(f"{where}{key} must be a text, not {value!r}")
    return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


__all__ = [
    "ClusterFile",
    "LogSettings",
    "TlsSettings",
    "WorkerSettings",
    "check_resources",
    "parse_cluster_file",
    "parse_resources",
]
