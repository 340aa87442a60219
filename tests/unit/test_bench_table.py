"""Whether aims are met: `bench.table`."""

from __future__ import annotations

import pytest

from bench.measures import Measure
from bench.table import Row


def row(
    *,
    most: float | None = None,
    ratio: float | None = None,
    floor_ratio: float | None = None,
    **samples: float,
) -> Row:
    measure = Measure(
        "a row", "ms", lambda *_: [], "an aim", ratio=ratio, most=most, floor_ratio=floor_ratio
    )
    return Row(measure, {peer: [figure] for peer, figure in samples.items()})


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (row(most=5, netkit=5), "met"),
        (row(most=5, netkit=5.1), "missed"),
        (row(floor_ratio=1.3, netkit=1.3, floor=1), "met"),
        (row(floor_ratio=1.3, netkit=1.4, floor=1), "missed"),
        (row(ratio=0.2, netkit=1, dockerd=5), "met"),
        (row(ratio=0.2, netkit=1, dockerd=4), "missed"),
        (row(ratio=0.2, floor_ratio=1.3, netkit=1, dockerd=4, floor=1), "missed"),
        (row(ratio=0.2, floor_ratio=1.3, netkit=1, dockerd=5, floor=0.5), "missed"),
        (row(ratio=0.2, floor_ratio=1.3, netkit=1, dockerd=5, floor=1), "met"),
        (row(ratio=0.2, floor_ratio=1.3, netkit=1, floor=1), "met"),
        (row(ratio=0.2, netkit=1), "not compared"),
        (row(most=5, dockerd=1), ""),
    ],
)
def test_every_aim_that_could_be_compared_has_to_be_met(made: Row, verdict: str) -> None:
    assert made.verdict() == verdict
