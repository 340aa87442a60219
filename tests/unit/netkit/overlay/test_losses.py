"""Which peers are notified that what they send gets lost, and when."""

from __future__ import annotations

from netkit.overlay.losses import CONFIRMATIONS, REPEAT, Losses
from netkit.overlay.sleeve.shortening import CALM
from netkit.overlay.sleeve.tables import Received


class World:
    """Two peers that send 4,400 datagrams a second, in payloads of 44."""

    def __init__(self) -> None:
        self.losses, self.now, self.missing = Losses(), 0.0, {1: 0, 2: 0}

    def second(self, *lossy: int) -> list[tuple[int, bool]]:
        self.now += 1
        for peer in lossy:
            self.missing[peer] += 40
        n = int(self.now)
        received = {p: Received(100 * n, 4400 * n, m) for p, m in self.missing.items()}
        return self.losses.look(received, self.now)

    def seconds(self, count: float, *lossy: int) -> list[tuple[int, bool]]:
        return [each for _ in range(int(count)) for each in self.second(*lossy)]


def test_nothing_is_reported_while_nothing_is_lost() -> None:
    assert World().seconds(100) == []


def test_a_loss_is_reported_to_whom_it_concerns_and_again_while_it_lasts() -> None:
    world = World()
    assert world.second(2) == [(2, True)]
    assert world.seconds(REPEAT - 1, 2) == []
    assert world.second(2) == [(2, True)]


def test_that_nothing_is_lost_any_more_is_reported_a_few_times() -> None:
    world = World()
    world.second(1)
    reports = world.seconds(CALM + CONFIRMATIONS * REPEAT + 20)
    assert reports.count((1, False)) == CONFIRMATIONS
    assert reports[-CONFIRMATIONS:] == [(1, False)] * CONFIRMATIONS


def test_of_who_sends_nothing_there_is_nothing_to_report() -> None:
    world = World()
    world.second(1)
    assert world.losses.look({}, world.now + 100) == []


def test_a_peer_that_is_gone_is_forgotten() -> None:
    world = World()
    world.second(1, 2)
    world.losses.only([2])
    world.missing[1] = 0
    assert world.seconds(REPEAT, 2) == [(2, True)]
