"""Which format a client takes: RFC 9110 section 12.5.  Pure.

prometheus_client's choose_encoder ignores weights, and repeats in its answer whatever version the
client wrote.
"""

from __future__ import annotations

from enum import Enum


class Format(Enum):
    """The value is the Content-Type."""

    PLAIN = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_RANGES = {
    Format.OPENMETRICS: {"application/openmetrics-text": 2, "application/*": 1},
    Format.PLAIN: {"text/plain": 2, "text/*": 1, "*/*": 0},
}
_VERSIONS = {Format.OPENMETRICS: "1.0.0", Format.PLAIN: "0.0.4"}


def chosen(accept: str) -> Format:
    """OpenMetrics for those that prefer its version 1.0.0, or prefer none of the two; else the
    text format 0.0.4, also for those that accept neither."""
    weights = dict.fromkeys(Format, 0.0)
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        values = dict(part.partition("=")[::2] for part in parameters)
        for format, ranges in _RANGES.items():
            version = values.get("version", "").strip('"')
            if name in ranges and (not version or version == _VERSIONS[format]):
                weights[format] = max(weights[format], _weight(values.get("q", "1")))
    named = weights[Format.OPENMETRICS] > 0
    preferred = weights[Format.OPENMETRICS] >= weights[Format.PLAIN]
    return Format.OPENMETRICS if named and preferred else Format.PLAIN


def takes_gzip(accept_encoding: str) -> bool:
    for item in accept_encoding.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        values = dict(part.partition("=")[::2] for part in parameters)
        if name in {"gzip", "*"}:
            return _weight(values.get("q", "1")) > 0
    return False


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)  # "nan" is compared as 0
    except ValueError:
        return 0.0
