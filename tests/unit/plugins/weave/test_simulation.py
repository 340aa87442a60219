"""The core on a simulated network: what must never be is not, and all agree in the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest

from plugins.weave import limits
from plugins.weave.absent import Absent
from plugins.weave.allocator import Pool
from plugins.weave.antientropy import AntiEntropy
from plugins.weave.carriers import Carriers
from plugins.weave.forwarding import Forwarding
from plugins.weave.identity import PeerId
from plugins.weave.ourselves import Ourselves
from plugins.weave.record import Record
from plugins.weave.replica import Replica
from plugins.weave.trust import Trust
from tests.simulation.checks import Checker, Violation
from tests.simulation.complete import CompleteHost
from tests.simulation.host import Host
from tests.simulation.whole import WholeHost
from tests.simulation.world import World
from tests.stages import CLONE

SEEDS = 1000
PARTS = 8
"""Of these seeds: so that one test does not take minutes."""
WHOLE = 5
"""Each of so many seeds is run with real sessions, every other of these with ways, too."""
KINDS: dict[int, tuple[str, type[Host]]] = {
    0: (" --whole", WholeHost), WHOLE: (" --complete", CompleteHost)
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_that_happens_breaks_an_invariant(part: int) -> None:
    failed = []
    for seed in range(part, SEEDS, PARTS):
        try:
            option, host = KINDS.get(seed % (2 * WHOLE), ("", Host))
            World(seed, host=host).run()
        except Violation as violation:
            failed.append(f"python -m tests.simulation --seed {seed}{option}: {violation}")
    assert failed == []


def complete_worlds() -> None:
    for seed in range(1, 30):
        World(seed, host=CompleteHost).run()


@pytest.mark.slow
def test_a_key_that_is_taken_up_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Carriers, "_without_keys", staticmethod(lambda told, before: told))
    monkeypatch.setattr(Carriers, "_used", lambda self, known, keys, now: keys)
    with pytest.raises(Violation, match="taken up that was put away"):
        complete_worlds()


@pytest.mark.slow
def test_data_in_clear_that_is_to_be_sealed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trust, "needs_sealing", lambda self, where: False)
    with pytest.raises(Violation, match="clear"):
        complete_worlds()


def trace(seed: int, hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.simulation", "--whole", "--seed", str(seed)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(CLONE)}
    return subprocess.run(
        command, cwd=CLONE, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 5])
def test_a_seed_does_the_same_again(seed: int) -> None:
    runs = {trace(seed, hash_seed) for hash_seed in ("0", "1", "77")}
    assert len(runs) == 1
    assert "trace=" in runs.pop()


def caught(seeds: Iterable[int]) -> str:
    """What the first violation was."""
    for seed in seeds:
        try:
            World(seed).run()
        except Violation as violation:
            return str(violation)
    return ""


def old_records_count(self: Replica, record: Record) -> bool:
    return True


def manifests_are_ignored(self: Replica, version: int, items: Iterable[bytes]) -> bool:
    return False


def removal_is_not_remembered(self: Absent, origin: PeerId) -> list[object]:
    return []


def accusations_are_taken(self: Ourselves, incarnation: int, now: float) -> None:
    return


def comparisons_are_not_answered(self: AntiEntropy, peer: PeerId, message: object) -> None:
    return


def deletions_are_kept(self: Replica, record: Record) -> None:
    self.gone.pop(record.place, None)
    self.live.pop(record.place, None)
    self._digest = None
    self.complete = False
    (self.gone if record.value is None else self.live)[record.place] = record


def the_last_claim_wins(self: object, network: bytes, address: bytes, key: object) -> None:
    self.by.setdefault((network, address), []).insert(0, key)  # type: ignore[attr-defined]


def what_was_given_away_is_kept(self: Pool, runs: Iterable[tuple[int, int]]) -> list[object]:
    self._owned = sorted({*self._owned, *runs})
    self._recount()
    return []


def everybody_owns_everything(self: Pool, runs: Iterable[tuple[int, int]]) -> list[object]:
    self._owned = [(self.whole.first, self.whole.last)]
    self._recount()
    return []


FIRST = {removal_is_not_remembered: 20, the_last_claim_wins: 30, everybody_owns_everything: 1}
"""Seeds that are not tried, to save time: some seeds later they are caught."""
CLAIMS = type(Forwarding(lambda peer: True)._macs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name", "broken", "says"),
    [
        (Replica, "counts", old_records_count, "is back as it was before"),
        (Replica, "adopt", manifests_are_ignored, "records differ"),
        (Absent, "remove", removal_is_not_remembered, "is back"),
        (Ourselves, "contradict", accusations_are_taken, "after all was well"),
        (AntiEntropy, "_on_compare", comparisons_are_not_answered, "after all was well"),
        (Replica, "_place", deletions_are_kept, "keeps too much"),
        (Pool, "own", what_was_given_away_is_kept, "own the same addresses"),
        (Pool, "own", everybody_owns_everything, "in use at two places"),
        (CLAIMS, "add", the_last_claim_wins, "ARP wrongly"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_core_is_caught(
    where: type,
    name: str,
    broken: Callable[..., object],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(where, name, broken)
    if broken is deletions_are_kept:
        monkeypatch.setattr(limits, "DELETIONS", 1)
    if broken is everybody_owns_everything:
        monkeypatch.setattr(Checker, "owners", lambda self, hosts: None)
    first = FIRST.get(broken, 0)
    assert says in caught(range(first, first + 60))
