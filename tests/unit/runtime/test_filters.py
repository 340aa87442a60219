from __future__ import annotations

import pytest

from netkit.errors import InvalidSpec
from runtime.filters import PruneFilter

MADE = "2024-05-01T12:00:00.000000000Z"
SECONDS = 1714564800  # the same moment


@pytest.mark.parametrize(
    ("filters", "taken"),
    [
        ({}, True),
        ({"until": [f"{SECONDS + 1}"]}, True),
        ({"until": [f"{SECONDS}"]}, False),
        ({"until": [f"{SECONDS + 1}", f"{SECONDS - 1}"]}, False),
        ({"label": ["tier"]}, True),
        ({"label": ["tier=web"]}, True),
        ({"label": ["tier=db"]}, False),
        ({"label": ["tier", "other"]}, False),
        ({"label!": ["other"]}, True),
        ({"label!": ["tier"]}, False),
        ({"label!": ["other", "tier=web"]}, False),
        ({"label!": ["tier=db"], "label": ["tier"]}, True),
    ],
)
def test_what_is_old_enough_and_labelled_as_asked_is_taken(
    filters: dict[str, list[str]], taken: bool
) -> None:
    assert PruneFilter(filters).matches(MADE, {"tier": "web", "x": ""}) is taken


def test_what_has_no_labels_has_none_of_them() -> None:
    assert not PruneFilter({"label": ["tier"]}).matches(MADE, None)
    assert PruneFilter({"label!": ["tier"]}).matches(MADE, None)


def test_unknown_filters_are_refused_and_further_ones_must_be_named() -> None:
    with pytest.raises(InvalidSpec, match="Invalid filter 'dangling'"):
        PruneFilter({"dangling": ["true"]})
    assert PruneFilter({"dangling": ["true"]}, {"dangling"}).matches(MADE, None)
