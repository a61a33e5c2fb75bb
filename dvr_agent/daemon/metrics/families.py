"""Makes prometheus_client's metric families of definitions; a name or label that is not defined is an error here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from dvr_agent.daemon.buckets import Buckets
from dvr_agent.daemon.metrics.definitions import METRICS, PREFIX, Definition, Type

Labels = tuple[str, ...]
"""Values of a metric's labels, in the order of its definition."""


class Families:
    """Collects families in the order in which they are added."""

    def __init__(self) -> None:
        self._families: list[Metric] = []

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families)

    def gauge(self, name: str, value: float | None) -> None:
        """Add a gauge without labels; None: it has no value yet, and is absent."""
        if value is not None:
            self.gauges(name, {(): value})

    def gauges(self, name: str, values: Mapping[Labels, float]) -> None:
        """Add a gauge with labels."""
        one = _definition(name, "gauge")
        self._add(GaugeMetricFamily(one.name, one.help, labels=list(one.labels)), values)

    def counter(self, name: str, value: float) -> None:
        """Add a counter without labels."""
        self.counters(name, {(): value})

    def counters(self, name: str, values: Mapping[Labels, float]) -> None:
        """Add a counter with labels."""
        one = _definition(name, "counter")
        self._add(CounterMetricFamily(one.name, one.help, labels=list(one.labels)), values)

    def histograms(self, name: str, values: Mapping[Labels, Buckets]) -> None:
        """Add a histogram, with labels or without."""
        one = _definition(name, "histogram")
        family = HistogramMetricFamily(one.name, one.help, labels=list(one.labels))
        for labels, buckets in values.items():
            counts = [(_bound(bound), number) for bound, number in buckets.cumulative()]
            family.add_metric(labels, buckets=counts, sum_value=buckets.sum)
        self._families.append(family)

    def summaries(self, name: str, values: Iterable[tuple[Labels, int, float]]) -> None:
        """Add a summary: (labels, number, sum) each."""
        one = _definition(name, "summary")
        family = SummaryMetricFamily(one.name, one.help, labels=list(one.labels))
        for labels, number, total in values:
            family.add_metric(labels, count_value=number, sum_value=total)
        self._families.append(family)

    def _add(self, family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[Labels, float]) -> None:
        for labels, value in values.items():
            family.add_metric(labels, value)
        self._families.append(family)


def _definition(name: str, kind: Type) -> Definition:
    found = METRICS[PREFIX + name]
    assert found.type == kind, f"{name} is a {found.type}"
    return found


def _bound(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]
