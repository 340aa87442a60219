"""Ratios of alternating rounds: `bench.planes`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.flows import Flow
from bench.planes import Path, ratio


def path(found: Sequence[float]) -> Path:
    return Path("path", "bare", "protected", Flow("near", "far", "10.0.0.1"), list(found))


def test_each_round_is_compared_with_the_same_round_of_the_other_path() -> None:
    base = [10.0, 20.0, 40.0] * 20  # the machine's speed; the ratio does not follow it
    assert ratio(path([1.5 * b for b in base]), path(base)) == (1.5, 1.5, 1.5)


def test_the_interval_is_by_order_of_the_rounds() -> None:
    """Of 100 the 41st and the 60th, in sorted order, with the normal approximation."""
    ratios = [float(n) for n in range(1, 101)]
    middle, low, high = ratio(path(ratios[::-1]), path([1.0] * 100))
    assert (middle, low, high) == (50.5, 41.0, 60.0)


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_interval_of_few_rounds_is_all_of_them(rounds: int) -> None:
    ratios = [float(n) for n in range(1, rounds + 1)]
    assert ratio(path(ratios), path([1.0] * rounds))[1:] == (ratios[0], ratios[-1])


def test_paths_with_different_numbers_of_rounds_are_not_compared() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratio(path([1.0]), path([1.0, 1.0]))
