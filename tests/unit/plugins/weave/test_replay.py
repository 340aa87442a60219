"""The window of counters, against a set that remembers all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.weave.replay import WINDOW, ReplayWindow

NEAR = st.integers(-2 * WINDOW, 2 * WINDOW)
STEPS = st.lists(st.one_of(NEAR, st.integers(-130, 130), st.just(WINDOW), st.just(-WINDOW)))


@pytest.mark.slow
@given(st.integers(0, 2**64 - 1), STEPS)
def test_each_counter_is_taken_once_and_none_that_is_too_old(start: int, steps: list[int]) -> None:
    window, taken, highest = ReplayWindow(), set(), -1
    counter = start
    for step in [0, *steps]:
        counter = min(max(counter + step, 0), 2**64 - 1)
        fresh = counter not in taken and counter > highest - WINDOW
        assert window.take(counter) == fresh
        if fresh:
            taken.add(counter)
            highest = max(highest, counter)
        assert window.highest == highest


def test_a_whole_window_may_come_backwards() -> None:
    window = ReplayWindow()
    assert window.take(10_000 + WINDOW)
    assert all(window.take(counter) for counter in range(10_000 + WINDOW - 1, 10_000, -1))
    assert not window.take(10_000)
    assert not any(window.take(counter) for counter in range(10_001, 10_001 + WINDOW))
    assert window.take(10_001 + WINDOW)


def test_all_of_a_long_stream_is_taken() -> None:
    window = ReplayWindow()
    assert all(window.take(counter) for counter in range(4 * WINDOW))
    assert not any(window.take(counter) for counter in range(4 * WINDOW))


def test_a_leap_forgets_what_is_behind() -> None:
    window = ReplayWindow()
    assert window.take(5)
    assert window.take(2**40)
    assert not window.take(5)
    assert not window.take(2**40 - WINDOW)
    assert window.take(2**40 - WINDOW + 1)
