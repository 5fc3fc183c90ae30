"""Readings as Prometheus reads them, behind ``GET /metrics``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from fray.cluster.metrics.histogram import Histogram
from fray.cluster.metrics.table import BY_NAME, Kind, Metric, Reading

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

METRICS_PATH = "/metrics"

Source: TypeAlias = Callable[[], Awaitable[Iterable[Reading]]]
"""Reads all that a process shows."""


def render(readings: Iterable[Reading]) -> tuple[str, bytes]:
    """A page of readings.

    Args:
        readings: Of metrics of the table.

    Returns:
        Content type and body.

    Raises:
        KeyError: A reading is of no metric, or lacks a label.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
    from prometheus_client.registry import Collector

    class Readings(Collector):
        def collect(self) -> Iterator[Family]:
            by_metric: dict[str, list[Reading]] = {}
            for reading in readings:
                by_metric.setdefault(reading.metric, []).append(reading)
            for name, each in by_metric.items():
                yield _family(BY_NAME[name], each)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Readings())
    return CONTENT_TYPE_LATEST, generate_latest(registry)


def _family(metric: Metric, readings: list[Reading]) -> Family:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    if metric.kind is Kind.HISTOGRAM:
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for reading in readings:
            labels = [reading.labels[name] for name in metric.labels]
            assert isinstance(reading.value, Histogram), metric.name
            buckets = [(_bound(le), float(n)) for le, n in reading.value.cumulative()]
            family.add_metric(labels, buckets, reading.value.sum)
        return family
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    plain = kind(metric.name, metric.help, labels=metric.labels)
    for reading in readings:
        assert not isinstance(reading.value, Histogram), metric.name
        plain.add_metric([reading.labels[name] for name in metric.labels], reading.value)
    return plain


def _bound(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(value)


class MetricsPage:
    """A page whose source comes later: a door is opened with its pages, before there is anything.

    Attributes:
        source: Reads what is shown; None shows nothing yet.
    """

    def __init__(self) -> None:
        self.source: Source | None = None

    async def __call__(self) -> tuple[str, bytes]:
        """The page as it is now."""
        return render([] if self.source is None else await self.source())


__all__ = ["METRICS_PATH", "MetricsPage", "Source", "render"]
