"""Durations in Docker's words, on both sides of each limit."""

from __future__ import annotations

import pytest

from netkit.durations import human_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59.9, "59 seconds"), (60, "About a minute"),
        (119, "About a minute"), (120, "2 minutes"), (59 * 60, "59 minutes"), (3599, "59 minutes"),
        (60 * 60, "About an hour"), (89 * 60, "About an hour"), (90 * 60, "2 hours"),
        (47 * 3600, "47 hours"), (48 * 3600, "2 days"), (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"), (59 * 86400, "8 weeks"), (60 * 86400, "2 months"),
        (729 * 86400, "24 months"), (730 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations_are_in_the_words_of_go_units(seconds: float, words: str) -> None:
    assert human_duration(seconds) == words
