"""Render figures as Prometheus and OpenMetrics have them, by prometheus_client.

The only module that imports the library (1 MiB, 10 ms): who has no --metrics-addr does not load it.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import exposition as plain
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from runtime.metrics.figures import Figures
from runtime.metrics.negotiation import Format

GZIP_LEVEL = 1  # a fifth of the size for a millisecond a hundred kilobytes


class Standard:
    """Figures of the process and of Python's garbage collector, as every Python program has."""

    def __init__(self) -> None:
        apart = CollectorRegistry()  # not the library's global one
        self._collectors: tuple[Collector, ...] = (
            ProcessCollector(registry=None), GCCollector(registry=apart)
        )  # fmt: skip

    def collect(self) -> list[Metric]:
        return [family for each in self._collectors for family in each.collect()]


class Rendered(Collector):
    """One collection, rendered at first request of each format."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families
        self._done: dict[tuple[Format, bool], bytes] = {}

    def collect(self) -> Iterator[Metric]:
        """As a registry of the library."""
        return iter(self._families)

    def body(self, format: Format, *, compressed: bool) -> bytes:
        if (format, compressed) not in self._done:
            if compressed:
                data = gzip.compress(self.body(format, compressed=False), GZIP_LEVEL)
            elif format is Format.OPENMETRICS:
                data = openmetrics.generate_latest(self)  # type: ignore[no-untyped-call]
            else:
                data = plain.generate_latest(self)
            self._done[format, compressed] = data
        return self._done[format, compressed]


def families(found: Iterable[Figures]) -> list[Metric]:
    return [_family(each) for each in found]


def _family(figures: Figures) -> Metric:
    series, labels = figures.series, figures.series.labels
    match series.kind:
        case "histogram":
            assert figures.buckets is not None
            bounds = [
                (floatToGoString(bound), count)  # type: ignore[no-untyped-call]
                for bound, count in figures.buckets.cumulative
            ]
            return HistogramMetricFamily(
                series.name, series.help, buckets=bounds, sum_value=figures.buckets.total
            )
        case "info":
            info = InfoMetricFamily(series.name.removesuffix("_info"), series.help)
            for values in figures.values:
                info.add_metric([], dict(zip(labels, values, strict=True)))
            return info
        case "counter":
            made: CounterMetricFamily | GaugeMetricFamily = CounterMetricFamily(
                series.name.removesuffix("_total"), series.help, labels=labels
            )
        case "gauge":
            made = GaugeMetricFamily(series.name, series.help, labels=labels)
    for values, value in figures.values.items():
        made.add_metric(values, value)
    return made
