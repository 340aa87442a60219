"""What a source of metrics yields: values of one series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.metrics.series import BY_NAME, Series


@dataclass(frozen=True, slots=True)
class Buckets:
    """Of a histogram: (upper bound in the series' unit, how many up to it), and the sum."""

    cumulative: tuple[tuple[float, int], ...]  # the last bound is infinity
    total: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Values by labels, in the order of the series' labels."""

    series: Series
    values: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    buckets: Buckets | None = None  # of a histogram, which has no labels


Source = Callable[[], Iterable[Figures]]


def one(name: str, value: float) -> Figures:
    """Of a series without labels."""
    return Figures(BY_NAME[name], {(): value})


def by(name: str, values: Mapping[str, float]) -> Figures:
    """Of a series with one label."""
    return Figures(BY_NAME[name], {(label,): value for label, value in values.items()})


def many(name: str, values: Mapping[Any, float]) -> Figures:
    """By tuples with a value for each of the series' labels."""
    return Figures(BY_NAME[name], values)
