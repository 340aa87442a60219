"""One page from all sources, and from those that are left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from netkit.errors import KernelError
from runtime.metrics.collection import Collection
from runtime.metrics.figures import Figures, by, one
from runtime.metrics.negotiation import Format
from runtime.metrics.series import BY_NAME


def good() -> Iterable[Figures]:
    return [one("netkit_images", 1), by("netkit_omitted_series", {"endpoints": 0})]


def more() -> Iterable[Figures]:
    return [by("netkit_omitted_series", {"subnets": 2})]


def bad() -> Iterator[Figures]:
    yield one("netkit_volumes", 1)
    raise KernelError("the kernel does not answer")


def test_a_part_that_fails_is_left_out_and_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ticks = iter(range(100))
    collection = Collection({"a": good, "b": bad}, lambda: float(next(ticks)))
    found = collection.figures()
    assert collection.figures().keys() == found.keys()
    assert found["netkit_scrape_failed"].values == {("a",): 0, ("b",): 1}
    assert found["netkit_scrape_duration_seconds"].values == {("a",): 1, ("b",): 1}
    assert "netkit_images" in found
    assert "netkit_volumes" not in found
    assert caplog.text.count("reading metrics of b failed: the kernel") == 1


def test_parts_may_have_values_of_one_series() -> None:
    found = Collection({"a": good, "b": more}).figures()
    assert found["netkit_omitted_series"].values == {("endpoints",): 0, ("subnets",): 2}


def test_the_page_has_figures_of_the_process() -> None:
    text = Collection({"a": good})().body(Format.PLAIN, compressed=False).decode()
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["process_threads"] >= 1
    assert values["process_open_fds"] >= 3
    assert values["process_resident_memory_bytes"] > 1 << 20
    assert values.keys() <= BY_NAME.keys()
    own = {"process", "python"}
    assert {name for name in BY_NAME if name.partition("_")[0] in own} <= values.keys()
