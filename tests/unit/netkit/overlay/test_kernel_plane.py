"""To whom frames go by the kernel, while a process starts and while sessions are made anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netkit.overlay.core import Reach, Where
from netkit.overlay.kernel_plane import HOLD, LINGER, KernelPlane
from netkit.overlay.loop import Loop
from netkit.overlay.store import Rows

PEER = b"p" * 16
FAST = Reach(
    number=1, path="fastdp", why="", where=Where("192.0.2.7", 6783), index=5,
    sources=frozenset({IPv4Address("192.0.2.7")}),
)  # fmt: skip
NEW = replace(FAST, path="sleeve", index=6)
"""A new session, of which it is not known yet whether VXLAN works."""


class Planes:
    def __init__(self) -> None:
        self._made: list[tuple[Loop, KernelPlane]] = []

    def __call__(self, rows: Rows | None = None, now: float = 0.0) -> KernelPlane:
        loop = Loop()
        plane = KernelPlane(loop, rows or {}, now)
        self._made.append((loop, plane))
        return plane

    def close(self) -> None:
        for loop, plane in self._made:
            plane.close()
            loop.close()


@pytest.fixture
def planes() -> Iterator[Planes]:
    made = Planes()
    yield made
    made.close()


def told(plane: KernelPlane, now: float, reach: Reach | None = None) -> bool:
    """Whether frames go by the kernel, and what is to be kept has been kept."""
    fast = plane.fast({PEER: reach} if reach else {}, now)
    plane.changes(fast)
    return PEER in fast


def kept(plane: KernelPlane) -> Rows:
    rows: Rows = {}
    for row in plane.changes(plane.fast({PEER: FAST}, 0.0)):
        assert row.value is not None
        rows.setdefault(row.table, {})[row.key] = row.value
    return rows


def test_a_process_that_starts_goes_on_as_the_one_before_it(planes: Planes) -> None:
    rows = kept(planes())
    plane = planes(rows, 1000.0)
    assert told(plane, 1000.0)
    assert plane.deadline == 1000.0 + HOLD
    assert told(plane, 1000.0 + HOLD - 1)
    assert not told(plane, 1000.0 + HOLD)


def test_a_new_session_has_some_seconds_to_find_the_kernel_s_way_again(planes: Planes) -> None:
    plane = planes()
    assert told(plane, 10.0, FAST)
    assert told(plane, 11.0, NEW)
    assert told(plane, 10.0 + LINGER - 0.1, NEW)
    assert not told(plane, 10.0 + LINGER, NEW)
    assert not told(plane, 10.0 + LINGER + 1, NEW)


@pytest.mark.parametrize("reach", [
    replace(NEW, index=5), replace(NEW, key=b"k" * 32), replace(NEW, sources=frozenset()),
    replace(NEW, where=Where("192.0.2.8", 6783)), replace(NEW, path="relay", where=None),
], ids=["the way broke", "sealed", "not for it", "elsewhere", "by others"])  # fmt: skip
def test_what_the_core_says_is_done_at_once_where_clear_frames_may_not_go(
    planes: Planes, reach: Reach
) -> None:
    plane = planes()
    assert told(plane, 10.0, FAST)
    assert not told(plane, 10.1, reach)


def test_rows_that_are_damaged_are_passed_over(planes: Planes) -> None:
    rows = kept(planes())
    for table in rows.values():
        table[PEER] = b"\xc1"
    assert not told(planes(rows, 0.0), 0.0)
