"""What is rendered is read by prometheus_client's parsers, in both formats."""

from __future__ import annotations

import gzip
import math

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from runtime.metrics.exposition import Rendered, families
from runtime.metrics.figures import Buckets, Figures, many, one
from runtime.metrics.negotiation import Format
from runtime.metrics.series import ALL, BY_NAME, Series

BUCKETS = Buckets(((0.5, 1), (1.0, 3), (math.inf, 4)), 7.5)


def example(series: Series) -> Figures:
    if series.kind == "histogram":
        return Figures(series, buckets=BUCKETS)
    return many(series.name, {tuple(f"{label} 1" for label in series.labels): 3})


def page(*figures: Figures) -> Rendered:
    return Rendered(families(figures))


@pytest.mark.parametrize("series", ALL, ids=lambda series: series.name)
def test_every_series_is_read_as_what_it_is(series: Series) -> None:
    made = page(example(series))
    plain = made.body(Format.PLAIN, compressed=False).decode()
    exact = made.body(Format.OPENMETRICS, compressed=False).decode()
    (read,) = text_string_to_metric_families(plain)
    (strict,) = openmetrics_families(exact)
    bare = series.name.removesuffix("_total") if series.kind == "counter" else series.name
    assert (read.name, read.documentation) == (bare, series.help)
    assert read.type == {"info": "gauge"}.get(series.kind, series.kind)
    assert strict.type == series.kind
    names = {sample.name for family in (read, strict) for sample in family.samples}
    if series.kind == "histogram":
        assert names == {f"{series.name}{end}" for end in ("_bucket", "_sum", "_count")}
    else:
        assert names == {series.name}
        assert set(strict.samples[0].labels) == set(series.labels)


@pytest.mark.parametrize("series", ALL, ids=lambda series: series.name)
def test_names_follow_the_conventions_of_prometheus(series: Series) -> None:
    assert series.name.startswith(("netkit_", "process_", "python_"))
    assert series.name.endswith("_total") == (series.kind == "counter")
    assert series.name.endswith("_info") == (series.kind == "info")
    unlike = ("milliseconds", "_ms", "kilobytes", "_kb", "percent", "minutes")
    assert not any(word in series.name for word in unlike)
    assert series.part
    assert series.help.endswith(".") or series.name.startswith("python_")


def test_a_histogram_counts_up_to_infinity() -> None:
    name = "netkit_converge_duration_seconds"
    text = page(Figures(BY_NAME[name], buckets=BUCKETS)).body(Format.PLAIN, compressed=False)
    (read,) = text_string_to_metric_families(text.decode())
    counts = {s.labels["le"]: s.value for s in read.samples if s.name.endswith("_bucket")}
    assert counts == {"0.5": 1, "1.0": 3, "+Inf": 4}
    assert {s.name: s.value for s in read.samples if not s.labels} == {
        f"{name}_count": 4, f"{name}_sum": 7.5,
    }  # fmt: skip


def test_a_page_is_rendered_once_and_compressed() -> None:
    made = page(one("netkit_images", 3))
    plain = made.body(Format.PLAIN, compressed=False)
    assert made.body(Format.PLAIN, compressed=False) is plain
    assert gzip.decompress(made.body(Format.PLAIN, compressed=True)) == plain
    assert plain == (
        b"# HELP netkit_images Images, those without a name included.\n"
        b"# TYPE netkit_images gauge\nnetkit_images 3.0\n"
    )
    assert made.body(Format.OPENMETRICS, compressed=False).endswith(b"# EOF\n")
