"""When a process that does not answer is killed."""

from __future__ import annotations

from runtime.network.weave.liveness import CALM, FIRST, MOST, Liveness


def until_killed(liveness: Liveness) -> int:
    """How many calls in a row go unanswered before it is."""
    count = 1
    while not liveness.unanswered():
        count += 1
    return count


def test_two_calls_in_a_row_have_to_go_unanswered() -> None:
    liveness = Liveness()
    for _ in range(5):
        assert not liveness.unanswered()
        liveness.answered(0.0)
    assert until_killed(liveness) == FIRST == 2


def test_one_that_hangs_again_and_again_is_killed_less_and_less_often() -> None:
    liveness, waited = Liveness(), []
    for kill in range(7):
        waited.append(until_killed(liveness))
        liveness.killed(float(kill))
        liveness.answered(kill + 0.5)
    assert waited == [2, 4, 8, 16, 32, MOST, MOST]


def test_one_that_has_answered_for_long_is_as_at_first() -> None:
    liveness = Liveness()
    liveness.killed(100.0)
    liveness.answered(99.0 + CALM)
    assert until_killed(liveness) == 2 * FIRST
    liveness.answered(100.0 + CALM)
    assert until_killed(liveness) == FIRST
