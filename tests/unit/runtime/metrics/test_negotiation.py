"""Which format a client gets."""

from __future__ import annotations

import pytest

from runtime.metrics.negotiation import Format, chosen, takes_gzip

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain;version=0.0.4", False),
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0", True),
        ('application/openmetrics-text; version="1.0.0"', True),
        ("application/openmetrics-text; version=9.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.9", False),
        ("APPLICATION/OpenMetrics-Text;Q=1", True),
        ("application/openmetrics-text;q=x,text/plain;q=nan", False),
        (";;=,,;q", False),
    ],
)
def test_the_format_is_the_one_that_the_client_prefers(accept: str, openmetrics: bool) -> None:
    assert chosen(accept) is (Format.OPENMETRICS if openmetrics else Format.PLAIN)


@pytest.mark.parametrize(
    ("accept", "packed"),
    [
        ("", False), ("gzip", True), ("gzip, deflate", True), ("br;q=1, GZIP;q=0.1", True),
        ("gzip;q=0", False), ("identity", False), ("*", True), ("gzip;q=", False),
    ],
)  # fmt: skip
def test_gzip_is_for_those_that_take_it(accept: str, packed: bool) -> None:
    assert takes_gzip(accept) is packed
