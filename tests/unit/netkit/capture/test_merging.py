"""Packets leave in the order of their stamps, and none waits without end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netkit.capture.merging import MARGIN, MOST_BYTES, MOST_PACKETS, Merging, Packet


def at(point: int, stamp: int, size: int = 1) -> Packet:
    return Packet(point=point, stamp=stamp, data=bytes(size), length=size, flags=0)


def stamps(packets: object) -> list[int]:
    return [p.stamp for p in packets]  # type: ignore[attr-defined]


def test_a_packet_waits_until_every_point_was_read_past_it() -> None:
    merging = Merging(2)
    merging.add(at(0, 100))
    merging.read(0, 100 + 2 * MARGIN)
    assert stamps(merging.ordered()) == []
    merging.add(at(1, 50))
    merging.read(1, 100 + MARGIN - 1)
    assert stamps(merging.ordered()) == [50]
    merging.read(1, 100 + MARGIN)
    assert stamps(merging.ordered()) == [100]


def test_a_point_that_is_gone_keeps_nothing_back() -> None:
    merging = Merging(2)
    merging.add(at(0, 100))
    merging.read(0, 100 + MARGIN)
    assert stamps(merging.ordered()) == []
    merging.gone(1)
    assert stamps(merging.ordered()) == [100]


def test_without_any_point_all_go() -> None:
    merging = Merging(1)
    merging.add(at(0, 100))
    merging.gone(0)
    assert stamps(merging.ordered()) == [100]


def test_what_waits_is_bounded_by_number_and_by_size() -> None:
    merging = Merging(2)
    for n in range(MOST_PACKETS + 5):
        merging.add(at(0, n))
    assert stamps(merging.ordered()) == [0, 1, 2, 3, 4]
    large = Merging(2)
    for n in range(5):
        large.add(at(0, n, MOST_BYTES // 4))
    assert stamps(large.ordered()) == [0]
    assert stamps(large.rest()) == [1, 2, 3, 4]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40 * MARGIN)), max_size=60))
def test_whatever_comes_within_the_margin_leaves_in_order(
    sent: list[tuple[int, int]],
) -> None:
    """Each packet is queued up to MARGIN after its stamp; points are read one after the other."""
    queued = sorted((stamp + (n * 7919) % MARGIN, point, stamp) for n, (point, stamp) in
                    enumerate(sent))  # fmt: skip
    merging, left, now = Merging(3), [], 0
    while queued:
        now += MARGIN // 3
        for point in range(3):
            for item in [q for q in queued if q[1] == point and q[0] <= now]:
                merging.add(at(point, item[2]))
                queued.remove(item)
            merging.read(point, now)
        left += stamps(merging.ordered())
    left += stamps(merging.rest())
    assert left == sorted(left)
    assert len(left) == len(sent)
