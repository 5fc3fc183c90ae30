"""Every metric that fray's processes show. The guide's table is checked against this one.

A label's values are bounded: by states, by the attempts that run on a host (`ATTEMPTS_MAX`), by
devices. Nobody's names of hosts, users or actors are labels: the scraped address says the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fray.cluster.metrics.histogram import Histogram

ATTEMPTS_MAX = 500
"""So many attempts of a host have figures of their own, the oldest first."""


class Kind(StrEnum):
    """What a metric's values are."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: As Prometheus knows it, with its unit; a counter's ends in ``_total``.
        kind: What its values are.
        help: One clause.
        labels: Names.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


def _no_labels() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric's value at a moment.

    Attributes:
        metric: Its name.
        value: The value; of a histogram, itself.
        labels: All that the metric has.
    """

    metric: str
    value: float | Histogram
    labels: Mapping[str, str] = field(default_factory=_no_labels)


_ATTEMPT = ("job", "task", "attempt")

METRICS = (
    # Of each agent: its host.
    Metric("fray_host_cpus", Kind.GAUGE, "CPUs of the host"),
    Metric("fray_host_cpu_seconds_total", Kind.COUNTER, "CPU time of the host", ("mode",)),
    Metric("fray_host_memory_total_bytes", Kind.GAUGE, "memory of the host"),
    Metric("fray_host_memory_available_bytes", Kind.GAUGE, "memory that programs could still get"),
    Metric("fray_host_disk_total_bytes", Kind.GAUGE, "disk with the agent's files"),
    Metric("fray_host_disk_free_bytes", Kind.GAUGE, "what is free of it"),
    Metric("fray_host_network_received_bytes_total", Kind.COUNTER, "received, loopback left out"),
    Metric("fray_host_network_sent_bytes_total", Kind.COUNTER, "sent, loopback left out"),
    Metric("fray_gpu_utilization_ratio", Kind.GAUGE, "share of time in which it worked", ("gpu",)),
    Metric("fray_gpu_memory_used_bytes", Kind.GAUGE, "memory of the GPU in use", ("gpu",)),
    Metric("fray_gpu_memory_total_bytes", Kind.GAUGE, "memory of the GPU", ("gpu",)),
    # Of each agent: its attempts, and their logs.
    Metric("fray_attempt_cpu_seconds_total", Kind.COUNTER, "CPU time of all processes", _ATTEMPT),
    Metric("fray_attempt_memory_bytes", Kind.GAUGE, "memory of all processes", _ATTEMPT),
    Metric("fray_attempt_processes", Kind.GAUGE, "processes", _ATTEMPT),
    Metric("fray_attempt_read_bytes_total", Kind.COUNTER, "read from disks", _ATTEMPT),
    Metric("fray_attempt_written_bytes_total", Kind.COUNTER, "written to disks", _ATTEMPT),
    Metric("fray_attempt_gpu_memory_bytes", Kind.GAUGE, "memory of GPUs in use", _ATTEMPT),
    Metric("fray_attempt_log_bytes_total", Kind.COUNTER, "output so far", _ATTEMPT),
    Metric("fray_host_attempts", Kind.GAUGE, "attempts on the host", ("state",)),
    Metric("fray_logs_shipped_bytes_total", Kind.COUNTER, "output sent to the log archive"),
    Metric("fray_logs_behind_bytes", Kind.GAUGE, "output that is not in the log archive yet"),
    Metric("fray_logs_failures_total", Kind.COUNTER, "times that the log archive was away"),
    # Of the controller.
    Metric("fray_jobs", Kind.GAUGE, "jobs that are remembered", ("status",)),
    Metric("fray_queue_tasks", Kind.GAUGE, "tasks without a place"),
    Metric("fray_queue_oldest_seconds", Kind.GAUGE, "how long the oldest job has waited"),
    Metric("fray_job_wait_seconds", Kind.HISTOGRAM, "from the submission to the first task"),
    Metric("fray_attempts", Kind.GAUGE, "attempts that have a place", ("state",)),
    Metric("fray_hosts", Kind.GAUGE, "hosts", ("health",)),
    Metric("fray_plan_seconds", Kind.HISTOGRAM, "making one plan"),
    Metric("fray_commit_seconds", Kind.HISTOGRAM, "from a command to the durable change"),
    Metric("fray_journal_revision", Kind.GAUGE, "changes of the ledger since its beginning"),
    Metric("fray_journal_bytes", Kind.GAUGE, "size of the journal on disk"),
    # Of every one of them.
    Metric("fray_info", Kind.GAUGE, "1; its version", ("version", "role")),
    Metric("fray_process_cpu_seconds_total", Kind.COUNTER, "CPU time of this process"),
    Metric("fray_process_memory_bytes", Kind.GAUGE, "resident memory of this process"),
    Metric("fray_process_links", Kind.GAUGE, "processes that it is connected to"),
    Metric("fray_process_calls_in_flight", Kind.GAUGE, "calls without an answer", ("direction",)),
    Metric("fray_process_calls_total", Kind.COUNTER, "calls of all actors here", ("direction",)),
    Metric("fray_process_network_bytes_total", Kind.COUNTER, "bytes on its links", ("direction",)),
)
"""In the order of the guide."""

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}

__all__ = ["ATTEMPTS_MAX", "BY_NAME", "METRICS", "Kind", "Metric", "Reading"]
