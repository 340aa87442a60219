"""Render figures as a table of ratios.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.measures import Measure


@dataclass(frozen=True)
class Row:
    measure: Measure
    samples: Mapping[str, Sequence[float]]  # by peer; empty: could not be measured

    def median(self, peer: str) -> float | None:
        return statistics.median(self.samples[peer]) if self.samples.get(peer) else None

    def ratio(self, peer: str) -> float | None:
        """Ours over theirs: below 1 is better."""
        ours, theirs = self.median("netkit"), self.median(peer)
        return ours / theirs if ours is not None and theirs else None

    def verdict(self) -> str:
        """Whether every aim is met that could be compared."""
        ours = self.median("netkit")
        if ours is None or not self.measure.aim:
            return ""
        pairs = (
            (ours, self.measure.most),
            (self.ratio("floor"), self.measure.floor_ratio),
            (self.ratio("dockerd"), self.measure.ratio),
        )
        compared = [have <= most for have, most in pairs if have is not None and most is not None]
        if not compared:
            return "not compared"
        return "met" if all(compared) else "missed"


def render(rows: Sequence[Row], peers: Sequence[str]) -> str:
    """Medians beside each other, and netkit's as a share of each peer's and of the floor's."""
    others = [peer for peer in peers if peer != "netkit"]
    head = ["", "unit", *peers, *(f"of {peer}" for peer in others), "aim (at most)", ""]
    table = [head]
    for row in rows:
        figures = [_figure(row.median(peer)) for peer in peers]
        shares = [_share(row.ratio(peer)) for peer in others]
        table.append(
            [row.measure.name, row.measure.unit, *figures, *shares, row.measure.aim, row.verdict()]
        )
    widths = [max(len(line[n]) for line in table) for n in range(len(head))]
    return "\n".join(_line(line, widths) for line in table)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, unit, *rest = (
        cell.ljust(width) if n < 2 else cell.rjust(width)
        for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, unit, *rest]).rstrip()


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
