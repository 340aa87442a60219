"""Whether long frames go whole, by what was lost."""

from __future__ import annotations

from random import Random

import pytest

from netkit.overlay.sleeve.shortening import CALM, ENOUGH, FEW, LENGTHEN, SHORTEN, Shortening
from netkit.overlay.sleeve.tables import PeerCounts

pytestmark = pytest.mark.slow  # many datagrams


class Road:
    """A path that loses a share of datagrams, and what its end counts."""

    def __init__(self) -> None:
        self.counts, self.choice, self.now = PeerCounts(), Shortening(), 0.0
        self._random = Random(1)

    def send(self, loss: float, frames: int = 2000, seconds: float = 1.0) -> bool:
        """Frames of 44 segments, then a look."""
        each = 44 if self.choice.whole else 1
        for _ in range(frames * 44 // each):
            if self._random.random() < (1 - loss) ** each:
                self.counts.payloads += 1
                self.counts.datagrams += each
            else:
                self.counts.missing += 1
        self.now += seconds
        return self.choice.look(self.counts, self.now)


def test_a_path_without_loss_stays_whole() -> None:
    road = Road()
    assert not any(road.send(0) for _ in range(50))
    assert road.choice.whole


@pytest.mark.parametrize("loss", [0.005, 0.01, 0.2])
def test_a_lossy_path_is_shortened_and_stays_so(loss: float) -> None:
    road = Road()
    assert road.send(loss)
    assert not road.choice.whole
    assert not any(road.send(loss) for _ in range(10))
    assert road.choice.loss == pytest.approx(loss, rel=0.3)


def test_the_share_is_of_datagrams_in_either_form() -> None:
    road = Road()
    road.send(0.004, 20_000)
    whole = road.choice.loss
    road.send(0.004, 2000)
    assert whole == pytest.approx(0.004, rel=0.1)
    assert road.choice.loss == pytest.approx(whole, rel=0.3)


def test_it_is_whole_again_after_a_calm_while() -> None:
    road = Road()
    road.send(0.01)
    changes = [road.send(0, 100, seconds=1.0) for _ in range(int(CALM) + 2)]
    assert changes.index(True) == int(CALM)
    assert road.choice.whole


def test_between_the_bounds_nothing_changes() -> None:
    loss = (SHORTEN * LENGTHEN) ** 0.5
    for before in (True, False):
        road = Road()
        if not before:
            road.send(0.01)
        assert not any(road.send(loss, 5000, seconds=10) for _ in range(4))
        assert road.choice.whole == before


def test_too_few_say_nothing() -> None:
    choice, few = Shortening(), FEW - 1
    assert not choice.look(PeerCounts(payloads=few, datagrams=44 * few, missing=few), 0)
    assert choice.whole
    assert choice.look(PeerCounts(payloads=FEW, datagrams=44 * FEW, missing=FEW), 1)


def test_without_a_loss_a_look_takes_many() -> None:
    choice = Shortening()
    choice.look(PeerCounts(payloads=10, datagrams=440, missing=5), 0)
    assert not choice.look(PeerCounts(payloads=50, datagrams=ENOUGH, missing=5), 1)
    assert choice.loss > SHORTEN
    choice.look(PeerCounts(payloads=60, datagrams=ENOUGH + 440, missing=5), 2)
    assert choice.loss == 0


def test_counts_of_a_new_worker_are_begun_with() -> None:
    road = Road()
    road.send(0)
    road.counts = PeerCounts()
    assert not road.send(0, 100)
    assert not road.send(0)
    assert road.choice.whole
    assert road.choice.loss == 0
