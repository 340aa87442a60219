"""What becomes of frames, without a clock: counts, times and order."""

from __future__ import annotations

from random import Random

import pytest

from netkit.kernel.relay.way import HEADER, MAX_HELD, Way
from netkit.model.impairment import PERFECT, Impairment

FRAME = b"h" * HEADER + b"data" * 20


def way(seed: int = 1, **what: float) -> Way:
    out = Way(Random(seed))
    out.impair(Impairment(**what))  # type: ignore[arg-type]
    return out


def test_a_frame_arrives_after_its_delay_and_not_before() -> None:
    one = way(delay=0.02)
    one.accept(FRAME, 5.0)
    assert one.next_due() == 5.02
    assert one.arriving(5.019) == []
    assert one.arriving(5.0203) == [FRAME]
    assert one.report()["late_max"] == pytest.approx(0.0003)
    assert one.next_due() is None


def test_jitter_stays_within_its_bounds_on_both_sides() -> None:
    one = way(delay=0.02, jitter=0.005)
    dues = []
    for _ in range(2000):
        one.accept(FRAME, 0.0)
        dues.append(one.next_due() or 0.0)
        one.arriving(1.0)
    assert 0.015 <= min(dues) < 0.0155
    assert 0.0245 < max(dues) <= 0.025


@pytest.mark.parametrize(
    ("name", "count"), [("loss", "lost"), ("duplicate", "duplicated"), ("corrupt", "corrupted"),
                        ("reorder", "reordered")]
)  # fmt: skip
def test_shares_are_as_asked_within_three_sigma(name: str, count: str) -> None:
    one = way(**{name: 0.1}, delay=0.001)
    for _ in range(10_000):
        one.accept(FRAME, 0.0)
    sigma = (10_000 * 0.1 * 0.9) ** 0.5
    assert abs(one.counts[count] - 1000) < 3 * sigma
    arrived = len(one.arriving(1.0))
    assert arrived == 10_000 - one.counts["lost"] + one.counts["duplicated"]


def test_what_is_corrupted_differs_in_one_bit_behind_the_header() -> None:
    one = way(corrupt=1.0)
    one.accept(FRAME, 0.0)
    (got,) = one.arriving(0.0)
    flipped = [a ^ b for a, b in zip(FRAME, got, strict=True)]
    assert sum(each.bit_count() for each in flipped) == 1
    assert not any(flipped[:HEADER])


def test_what_is_reordered_overtakes() -> None:
    one = way(seed=3, delay=0.02, reorder=0.5)
    frames = [FRAME + bytes([n]) for n in range(20)]
    for frame in frames:
        one.accept(frame, 0.0)
    first = one.arriving(0.001)
    assert 0 < len(first) < 20
    assert sorted(first + one.arriving(0.02)) == frames


def test_a_rate_spaces_frames_and_its_queue_has_a_bound() -> None:
    one = way(rate=1_000_000)
    frame = b"x" * 1200  # 9.6 ms of it
    for _ in range(100):
        one.accept(frame, 0.0)
    assert one.counts["overflowed"] == 79
    assert len(one.arriving(0.0481)) == 5
    assert len(one.arriving(10.0)) == 16


def test_what_is_under_way_has_a_bound_in_bytes() -> None:
    one = way(delay=60.0)
    big = b"x" * (1 << 20)
    for _ in range(100):
        one.accept(big, 0.0)
    assert one.counts["overflowed"] == 100 - (MAX_HELD >> 20)


def test_the_same_seed_is_the_same_fate() -> None:
    def fate(seed: int) -> list[int]:
        one = way(seed, loss=0.5)
        for n in range(64):
            one.accept(FRAME + bytes([n]), 0.0)
        return [frame[-1] for frame in one.arriving(0.0)]

    assert fate(7) == fate(7) != fate(8)


def test_what_is_under_way_arrives_though_the_link_is_no_longer_impaired() -> None:
    one = way(delay=0.02)
    one.accept(FRAME, 0.0)
    one.impair(PERFECT)
    assert not one.passes  # nothing overtakes it unseen
    assert one.arriving(0.02) == [FRAME]
    assert one.passes
