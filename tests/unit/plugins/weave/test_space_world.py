"""Peers that share addresses, in worlds where everything happens, and which notice mistakes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from plugins.weave import lease
from plugins.weave.allocator import Pool
from plugins.weave.holdings import Holdings
from plugins.weave.lease import Lease, Promises
from tests.unit.plugins.weave.space_world import Story, Violation, World, shorten

STEPS = 40


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def agree(world: World) -> bool:
    """Whether all follow one ledger up to one entry, or have met nobody who follows any."""
    heads = {
        (host.space.council.replica.ledger.id, host.space.council.replica.ledger.head)
        for host in world.hosts if host.space is not None and host.space.council is not None
    }  # fmt: skip
    return len(heads) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_no_address_is_ever_owned_or_used_twice_and_all_agree_after_healing(seed: int) -> None:
    story = Story(seed)
    story.run(STEPS)
    for _ in range(10):  # something may just have been decided
        if agree(story.world):
            return
        story.world.run(20)
    raise AssertionError("they do not agree")


@pytest.mark.slow
def test_a_seed_replays_exactly() -> None:
    traces = set()
    for _ in range(2):
        story = Story(3)
        story.run(STEPS)
        traces.add(story.world.trace)
    assert len(traces) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_members_who_all_propose_at_once_make_one_entry_for_each_number(seed: int) -> None:
    story = Story(seed)
    story.crowd(STEPS)
    assert agree(story.world)


def caught(seeds: range, crowd: bool) -> bool:
    """Whether some world notices."""
    for seed in seeds:
        story = Story(seed)
        try:
            if crowd:
                story.crowd(STEPS)
            else:
                story.run(STEPS)
        except Violation:
            return True
        except Exception:  # a mistake may also end in an assertion of the code itself
            return True
    return False


Mutate = Callable[[pytest.MonkeyPatch], None]
MUTATIONS: dict[str, Mutate] = {}
CROWDED = {"offers_are_forgotten_by_a_restart"}


def mutation(mutate: Mutate) -> Mutate:
    MUTATIONS[mutate.__name__] = mutate
    return mutate


@mutation
def promises_shorter_than_leases(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease, "PROMISE", 300.0)


@mutation
def leases_outlive_a_boot(patch: pytest.MonkeyPatch) -> None:
    def restore(self: Lease, data: bytes) -> None:
        self.until = msgspec.msgpack.decode(data)[1]

    patch.setattr(Lease, "restore", restore)


@mutation
def promises_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Promises, "free_at", lambda self, peer: 0.0)


@mutation
def half_is_a_majority(patch: pytest.MonkeyPatch) -> None:
    for module in ("plugins.weave.entries", "plugins.weave.ballot"):
        patch.setattr(f"{module}.majority", lambda members: max(members // 2, 1))


@mutation
def what_is_offered_is_still_given_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "offer", lambda self, prefix: None)


@mutation
def offers_are_forgotten_by_a_restart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("plugins.weave.donation.Giver.restore", lambda *_: None)


@mutation
def one_grant_is_a_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease, "blocking", lambda members: 1)


@mutation
def addresses_are_not_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holdings, "taken", lambda *_: None)


@mutation
def fences_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lease, "valid", lambda self, now: True)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_worlds_notice_a_missing_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)
    assert caught(range(60), name in CROWDED)
