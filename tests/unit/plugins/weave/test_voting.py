"""Members of a council that vote at once: messages in any order, crashes in between."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from plugins.weave import identity
from plugins.weave.ballot import Acceptor, Proposal
from plugins.weave.context import Context
from plugins.weave.council import Council
from plugins.weave.entries import Council as NewCouncil
from plugins.weave.entries import Genesis, Member, Realm, Register
from plugins.weave.identity import PeerId
from plugins.weave.ledger_replica import TABLE
from plugins.weave.outbox import Outbox, Recorded
from plugins.weave.prefixes import parse
from plugins.weave.space_messages import CODEC, Submit
from plugins.weave.voting import Voting
from tests.simulation.crypto import FakeCrypto

CRYPTO = FakeCrypto()
RUNS = 60


class Split(AssertionError):
    """Two entries of one number."""


class Box:
    """A member: what it wrote, and its process."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.identity = identity.make(CRYPTO, self.random.randbytes)
        self.rows: dict[bytes, bytes] = {}

    def begin(self, others: list[Box], now: float) -> None:
        keys = {each.identity.peer: each.identity.public for each in others}
        context = Context(
            identity=self.identity, crypto=CRYPTO, random=self.random.randbytes, keys=keys.get,
            boot=b"", out=Outbox(self.identity.peer), since=now,
        )  # fmt: skip
        context.view(frozenset(keys), now)
        if self.rows:
            self.council = Council.restore(context, self.rows, now)
        else:
            founder = others[0].identity
            realm = Realm(bytes(16), parse("10.32.0.0/24").encode(), founder.peer)
            member = Member(founder.peer, founder.public.signing)
            self.council = Council.found(context, Genesis(realm, member), now)


class Room:
    """Some members, all messages on their way, and what was decided."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.boxes = [Box(1000 * seed + n) for n in range(self.random.choice((3, 3, 5)))]
        self.pool: list[tuple[PeerId, PeerId, bytes]] = []
        self.entries: dict[int, bytes] = {}
        self.names = 0
        for box in self.boxes:
            box.begin(self.boxes, self.now)
            self.settle(box)
        members = tuple(
            Member(each.identity.peer, each.identity.public.signing) for each in self.boxes
        )
        self.boxes[0].council.request(NewCouncil(members), 0.0, 10.0)
        self.settle(self.boxes[0])
        for _ in range(200):
            self.deliver()

    def settle(self, box: Box) -> None:
        out = box.council.context.out
        while out.own:
            box.council.receive(out.own.pop(0), box.identity.peer, self.now)
        outcome = out.take()
        for change in outcome.persist:
            if change.table == TABLE and change.value is not None:
                box.rows[change.key] = change.value
        for event in outcome.events:
            if isinstance(event, Recorded):
                entry = event.decided.entry
                if self.entries.setdefault(entry.number, entry.hash) != entry.hash:
                    raise Split(f"two entries {entry.number}")
        if self.random.random() < 0.05:  # it crashes before it sends
            box.begin(self.boxes, self.now)
            return
        self.pool += [(box.identity.peer, to, CODEC.encode(each)) for to, each in outcome.messages]

    def deliver(self) -> None:
        """One of the messages, again perhaps, or never."""
        if not self.pool:
            return
        at = self.random.randrange(len(self.pool))
        source, to, data = self.pool[at]
        if self.random.random() < 0.9:
            del self.pool[at]
        if self.random.random() < 0.2:
            return
        box = next(each for each in self.boxes if each.identity.peer == to)
        box.council.receive(CODEC.decode(data), source, self.now)
        self.settle(box)

    def propose(self) -> None:
        self.names += 1
        name = self.names.to_bytes(16, "big")
        box = self.random.choice(self.boxes)
        realm = Realm(name, parse("172.16.0.0/24").encode(), box.identity.peer)
        submit = Submit(box.council.replica.ledger.id, Register(realm))
        box.council.receive(submit, box.identity.peer, self.now)
        self.settle(box)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            chance = self.random.random()
            if chance < 0.75:
                self.deliver()
            elif chance < 0.85:
                self.propose()
            elif chance < 0.9:
                self.random.choice(self.boxes).begin(self.boxes, self.now)
            else:
                self.now += 0.5
                box = self.random.choice(self.boxes)
                box.council.tick(self.now)
                self.settle(box)


@pytest.mark.parametrize("seed", range(4))
def test_there_is_one_entry_for_each_number(seed: int) -> None:
    room = Room(seed)
    room.run(300)
    assert len(room.entries) > 1


@pytest.mark.slow
def test_there_is_one_entry_for_each_number_whatever_happens() -> None:
    entries = 0
    for seed in range(4 * RUNS):
        room = Room(seed)
        room.run(600)
        entries += len(room.entries)
    assert entries > 4 * RUNS


def lower_ballots_are_voted_for(patch: pytest.MonkeyPatch) -> None:
    def accept(self: Acceptor, ballot: object, entry: object) -> Acceptor:
        return msgspec.structs.replace(self, accepted=ballot, entry=entry)

    patch.setattr(Acceptor, "accept", accept)


def votes_are_forgotten_by_a_restart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Voting, "restore", lambda self, row: self.advanced())


def earlier_votes_are_not_proposed_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Proposal, "_earlier", lambda self: None)


def earlier_votes_are_dropped_too_soon(patch: pytest.MonkeyPatch) -> None:
    def earlier(self: Proposal) -> object:
        voted = [each for each in self.promises.values() if each.entry is not None]
        return voted[0].entry if len(voted) >= self.needed else None

    patch.setattr(Proposal, "_earlier", earlier)


def half_is_a_majority(patch: pytest.MonkeyPatch) -> None:
    for module in ("plugins.weave.entries", "plugins.weave.ballot"):
        patch.setattr(f"{module}.majority", lambda members: max(members // 2, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutate",
    [lower_ballots_are_voted_for, votes_are_forgotten_by_a_restart, half_is_a_majority,
     earlier_votes_are_not_proposed_again, earlier_votes_are_dropped_too_soon],
)  # fmt: skip
def test_a_missing_rule_makes_two(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)

    def rooms() -> None:
        for seed in range(8 * RUNS):
            Room(seed).run(600)

    with pytest.raises(Split):
        rooms()
