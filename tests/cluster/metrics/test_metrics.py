"""Metrics: their names, how Prometheus reads them, and what is counted."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fray.cluster.metrics.exposition import MetricsPage, render
from fray.cluster.metrics.histogram import SHORT_S, Histogram
from fray.cluster.metrics.table import BY_NAME, METRICS, Kind, Reading
from fray.cluster.usage import AcceleratorUse, AttemptUse, HostFigures, HostUse
from fray.cluster.worker.gpus import Gpus
from fray.cluster.worker.usage import with_rates
from fray.ids import AttemptId, WorkerId

GUIDE = Path(__file__).parents[3] / "docs" / "logs-and-metrics.md"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions_of_prometheus(metric: Any):
    assert re.fullmatch(r"fray_[a-z][a-z_]*", metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert not re.search(r"_(ms|milliseconds|kb|mb|percent)(_|$)", metric.name)
    assert metric.help
    assert BY_NAME[metric.name] is metric


def test_guide_lists_every_metric_as_it_is():
    row = r"^\| `(fray_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$"
    rows = re.findall(row, GUIDE.read_text(), re.M)
    assert rows == [(m.name, m.kind.value, ", ".join(m.labels) or "–", m.help) for m in METRICS]


def test_page_is_what_prometheus_reads():
    took = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        took.observe(value)
    content_type, body = render(
        [
            Reading("fray_jobs", 3, {"status": "running"}),
            Reading("fray_jobs", 1, {"status": "pending"}),
            Reading("fray_logs_shipped_bytes_total", 10),
            Reading("fray_plan_seconds", took),
        ]
    )
    assert content_type.startswith("text/plain")
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert found[("fray_jobs", ("status", "running"))] == 3
    assert found[("fray_logs_shipped_bytes_total",)] == 10
    assert found[("fray_plan_seconds_bucket", ("le", "0.1"))] == 2
    assert found[("fray_plan_seconds_bucket", ("le", "+Inf"))] == 4
    assert found[("fray_plan_seconds_sum",)] == pytest.approx(7.65)


def test_reading_of_no_metric_is_a_bug():
    with pytest.raises(KeyError):
        render([Reading("fray_nonsense", 1)])


async def test_page_is_empty_before_there_is_anything_to_read():
    assert (await MetricsPage()())[1] == b""


@given(st.lists(st.floats(0, 100)))
def test_histogram_counts_each_value_once(values: list[float]):
    histogram = Histogram(SHORT_S)
    for value in values:
        histogram.observe(value)
    cumulative = histogram.cumulative()
    assert cumulative[-1] == (float("inf"), len(values))
    for bound, count in cumulative:
        assert count == sum(1 for value in values if value <= bound)


# ---- what is used


def host(busy_s: float, *attempts: AttemptUse) -> HostUse:
    figures = HostFigures(4, busy_s, 0.0, 0.0, 100, 50, 100, 50)
    return HostUse(WorkerId("w"), figures, attempts)


def attempt(number: int, cpu_s: float) -> AttemptUse:
    return AttemptUse(AttemptId(f"ann/a-1111/0#{number}"), "running", 0.0, cpu_s, 1, 1)


def test_what_was_used_lately_is_the_difference_of_two_looks():
    use = with_rates(host(30.0, attempt(0, 9.0), attempt(1, 1.0)), host(10.0, attempt(0, 4.0)), 10)
    assert use.cpus == 2.0
    assert [each.cpus for each in use.attempts] == [0.5, None]


def test_counter_that_began_anew_is_no_negative_use():
    assert with_rates(host(1.0, attempt(0, 1.0)), host(9.0, attempt(0, 9.0)), 10).cpus == 0.0


class NvmlError(Exception):
    pass


class StandInNvml:
    """A stand-in for ``pynvml`` on a machine with two GPUs, of which one tells little."""

    NVMLError = NvmlError

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> object:
        return b"NVIDIA H100" if handle else "NVIDIA H100"

    def nvmlDeviceGetMigMode(self, handle: int) -> object:
        raise NvmlError("not supported")

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> object:
        return SimpleNamespace(used=10, total=80)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> object:
        if handle:
            raise NvmlError("not supported")
        return SimpleNamespace(gpu=50)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[object]:
        return [SimpleNamespace(pid=7, usedGpuMemory=5), SimpleNamespace(pid=8, usedGpuMemory=None)]


class NoDriver(StandInNvml):
    def nvmlInit(self) -> None:
        raise NvmlError("driver not loaded")


def test_gpus_tell_what_their_driver_tells():
    gpus = Gpus(StandInNvml())
    assert gpus.read() == (
        AcceleratorUse("gpu", 0, "NVIDIA H100", 10, 80, 0.5),
        AcceleratorUse("gpu", 1, "NVIDIA H100", 10, 80, None),
    )
    assert gpus.memory_by_pid() == {7: 10, 8: 0}


def test_host_without_a_driver_has_no_gpus_and_no_errors():
    assert Gpus(NoDriver()).read() == ()
    assert Gpus(NoDriver()).memory_by_pid() == {}
