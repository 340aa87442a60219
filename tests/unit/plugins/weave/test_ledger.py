"""The ledger of addresses: which decisions hold, what they amount to, who is believed."""

from __future__ import annotations

import random

import msgspec
import pytest

from plugins.weave import identity, prefixes
from plugins.weave import ledger as ledgers
from plugins.weave.entries import (
    Ballot,
    Council,
    Decided,
    Entry,
    Genesis,
    Member,
    Operation,
    Realm,
    Reason,
    Reclaim,
    Register,
    Transfer,
    Vote,
    vote_text,
)
from plugins.weave.identity import Identity, PeerId
from plugins.weave.ledger import CHECKPOINT, Ledger
from plugins.weave.ledger_replica import Forked, LedgerReplica
from plugins.weave.outbox import Outbox
from plugins.weave.prefixes import parse
from plugins.weave.space_messages import CODEC, PAGE, Page, Pull
from plugins.weave.wire import MAX_MESSAGE, WireError
from tests.simulation.crypto import FakeCrypto

CRYPTO = FakeCrypto()
PEERS = [identity.make(CRYPTO, random.Random(n).randbytes) for n in range(9)]
F, A, B, C = PEERS[:4]
REALM = Realm(bytes(16), parse("10.32.0.0/16").encode(), F.peer)
GENESIS = Genesis(REALM, Member(F.peer, F.public.signing))
OTHER = Realm(b"n" * 16, parse("192.168.1.0/24").encode(), A.peer)


def member(who: Identity) -> Member:
    return Member(who.peer, who.public.signing)


def give(
    prefix: str, giver: Identity, taker: Identity, epoch: int, realm: Realm = REALM
) -> Transfer:
    return Transfer(realm, parse(prefix).encode(), giver.peer, taker.peer, epoch)


def reclaim(peer: Identity, heir: Identity, after: int, reason: Reason = Reason.REMOVED) -> Reclaim:
    return Reclaim(peer.peer, heir.peer, heir.peer, after, reason)


def entry(ledger: Ledger, operation: Operation) -> Entry:
    number = ledger.number + 1
    return Entry(
        ledger.id, number, ledger.generation, ledger.head, operation, ledger.checkpoint()
    )  # fmt: skip


def decided(made: Entry, *voters: Identity) -> Decided:
    ballot = Ballot(1, voters[0].peer)
    text = vote_text(made, ballot)
    votes = tuple(Vote(each.peer, CRYPTO.sign(each.signing, text)) for each in voters)
    return Decided(made, ballot, votes)


def apply(ledger: Ledger, *operations: Operation) -> list[bool]:
    return [ledger.apply(entry(ledger, each)) for each in operations]


def owner(ledger: Ledger, address: str, realm: Realm = REALM) -> tuple[PeerId, int]:
    owned = ledger.owner(realm, parse(address).first)
    return owned.owner, owned.epoch


def test_the_founder_owns_all_and_gives_parts_of_it() -> None:
    ledger = Ledger(GENESIS)
    assert owner(ledger, "10.32.7.7") == (F.peer, 0)
    assert apply(ledger, give("10.32.7.0/24", F, A, 0)) == [True]
    assert owner(ledger, "10.32.7.7") == (A.peer, 1)
    assert owner(ledger, "10.32.8.1") == (F.peer, 0)


def test_nobody_gives_what_is_anothers() -> None:
    ledger = Ledger(GENESIS)
    apply(ledger, give("10.32.7.0/24", F, A, 0))
    assert "is owned by" in ledger.objection(give("10.32.7.0/25", F, B, 0))
    assert "part of" in ledger.objection(give("10.32.0.0/20", F, B, 0))
    assert "is not in" in ledger.objection(give("10.33.0.0/24", F, B, 0))
    assert apply(ledger, give("10.32.7.0/25", F, B, 0)) == [False]
    assert owner(ledger, "10.32.7.7") == (A.peer, 1)


def test_what_was_signed_once_gives_once() -> None:
    ledger = Ledger(GENESIS)
    first = give("10.32.7.0/24", F, A, 0)
    apply(ledger, first, give("10.32.7.0/24", A, F, 1))
    assert owner(ledger, "10.32.7.7") == (F.peer, 2)
    assert "is of epoch 2" in ledger.objection(first)
    assert apply(ledger, first) == [False]


def test_what_comes_back_is_one_piece_again() -> None:
    ledger = Ledger(GENESIS)
    apply(ledger, give("10.32.7.0/24", F, A, 0), give("10.32.7.0/24", A, F, 1))
    assert list(ledger.pieces(REALM)) == [(REALM.range.first, REALM.range.last, F.peer)]


def test_an_heir_gets_all_up_to_a_point() -> None:
    ledger = Ledger(GENESIS)
    apply(ledger, give("10.32.7.0/24", F, A, 0), give("10.32.9.0/24", F, A, 0), reclaim(A, B, 1))
    assert owner(ledger, "10.32.7.7") == (B.peer, 3)
    assert owner(ledger, "10.32.9.7") == (A.peer, 2)  # came after the point


def test_what_a_realm_is_made_of_is_its_creators_and_then_his_heirs() -> None:
    ledger = Ledger(GENESIS)
    assert owner(ledger, "192.168.1.9", OTHER) == (A.peer, 0)
    apply(ledger, give("192.168.1.128/25", A, B, 0, OTHER))
    assert owner(ledger, "192.168.1.9", OTHER) == (A.peer, 0)
    unknown = Realm(b"m" * 16, parse("192.168.2.0/24").encode(), A.peer)
    apply(ledger, reclaim(A, C, ledger.number))
    assert owner(ledger, "192.168.1.9", OTHER) == (C.peer, 2)
    assert owner(ledger, "192.168.1.200", OTHER) == (B.peer, 1)
    assert owner(ledger, "192.168.2.9", unknown) == (C.peer, 2)
    later = Realm(b"m" * 16, parse("192.168.2.0/24").encode(), A.peer, ledger.number)
    assert owner(ledger, "192.168.2.9", later) == (A.peer, 2)


def test_an_expired_lease_takes_only_what_there_is() -> None:
    ledger = Ledger(GENESIS)
    assert "owns nothing" in ledger.objection(reclaim(A, B, 0, Reason.EXPIRED))
    apply(ledger, Register(OTHER))
    assert ledger.objection(reclaim(A, B, 1, Reason.EXPIRED)) == ""
    assert "in the council" in ledger.objection(reclaim(F, B, 1, Reason.EXPIRED))


def test_a_state_is_what_its_bytes_say() -> None:
    ledger = Ledger(GENESIS)
    apply(ledger, give("10.32.7.0/24", F, A, 0), give("192.168.1.4/32", A, B, 0, OTHER))
    apply(ledger, reclaim(A, C, 1), Council((member(F), member(B), member(C))))
    again = ledgers.load(ledger.dump())
    assert again.dump() == ledger.dump()
    assert list(again.pieces(OTHER)) == list(ledger.pieces(OTHER))
    with pytest.raises(WireError):
        ledgers.load(ledger.dump()[:-1])


def test_the_largest_entry_fits_a_message_and_a_record() -> None:
    ledger = Ledger(GENESIS)
    council = Council(tuple(member(each) for each in PEERS[:5]))
    made = Entry(ledger.id, 2**63 - 1, 2**63 - 1, b"p" * 32, council, b"c" * 32)
    assert len(CODEC.encode(decided(made, *PEERS[:3]))) <= 970 - len(b"entry")
    assert len(CODEC.encode(Page(ledger.id, 2**62, 4095, 4096, bytes(PAGE)))) <= MAX_MESSAGE


class Reader:
    """A peer's book, and what it has to say."""

    def __init__(self, who: Identity = A) -> None:
        self.out = Outbox(who.peer)
        self.replica = LedgerReplica(GENESIS, CRYPTO, self.out)
        self.replica.write()
        self.rows: dict[bytes, bytes] = {}
        self.keep()

    def keep(self) -> None:
        for change in self.out.changes:
            if change.value is None:
                self.rows.pop(change.key, None)
            else:
                self.rows[change.key] = change.value
        self.out.changes = []

    def learn(self, message: Decided, now: float = 0.0) -> bool:
        return bool(self.replica.learn(message, F.peer, now))

    def write(self, count: int) -> None:
        """Addresses, one by one, signed by the founder."""
        for n in range(self.replica.ledger.number, self.replica.ledger.number + count):
            operation = give(f"10.32.{1 + n // 256}.{n % 256}/32", F, B, 0)
            assert self.learn(decided(entry(self.replica.ledger, operation), F))
        self.keep()


def test_only_what_a_majority_signed_is_an_entry() -> None:
    reader = Reader()
    made = entry(reader.replica.ledger, give("10.32.7.0/24", F, A, 0))
    assert not reader.learn(decided(made, A))  # who is not in the council
    forged = decided(made, F)
    other = entry(reader.replica.ledger, give("10.32.7.0/24", F, B, 0))
    assert not reader.learn(msgspec.structs.replace(forged, entry=other))
    assert reader.replica.ledger.number == 0
    assert reader.learn(forged)
    council = Council((member(F), member(A), member(B)))
    assert reader.learn(decided(entry(reader.replica.ledger, council), F))
    made = entry(reader.replica.ledger, give("10.32.9.0/24", F, A, 0))
    assert not reader.learn(decided(made, F))
    assert not reader.learn(decided(made, F, F))  # one vote twice is one vote
    assert reader.learn(decided(made, F, B))


def test_two_entries_for_one_number_are_told() -> None:
    reader = Reader()
    made = entry(reader.replica.ledger, give("10.32.7.0/24", F, A, 0))
    twin = entry(reader.replica.ledger, give("10.32.7.0/24", F, B, 0))
    assert reader.learn(decided(made, F))
    assert not reader.learn(decided(twin, F))
    assert [each.forced for each in reader.out.events if isinstance(each, Forked)] == [False]
    assert owner(reader.replica.ledger, "10.32.7.7") == (A.peer, 1)


def test_nobody_takes_over_by_force_unless_the_user_agrees() -> None:
    reader = Reader()
    ledger = reader.replica.ledger
    made = Entry(ledger.id, 1, 1, b"", Council((member(C),)))
    assert not reader.learn(decided(made, C))
    assert [each.forced for each in reader.out.events if isinstance(each, Forked)] == [True]
    reader.replica.approved.add(made.hash)
    assert reader.learn(decided(made, C))
    assert ledger.council == (C.peer,)


def test_a_book_is_what_its_rows_say() -> None:
    reader = Reader()
    reader.write(2 * CHECKPOINT + 5)
    again = LedgerReplica.restore(reader.rows, CRYPTO, Outbox(A.peer))
    assert again.ledger.dump() == reader.replica.ledger.dump()
    assert len(reader.rows) < 2 * CHECKPOINT + 10  # older ones are gone
    del reader.rows[b"e" + (2 * CHECKPOINT + 1).to_bytes(8, "big")]
    reader.rows[b"e" + (2 * CHECKPOINT + 1).to_bytes(8, "big")] = b"x"
    with pytest.raises(WireError):
        LedgerReplica.restore(reader.rows, CRYPTO, Outbox(A.peer))


def exchange(ahead: Reader, behind: Reader, rounds: int = 40) -> None:
    """All that they have to tell each other, nothing lost."""
    for now in range(rounds):
        behind.replica.ask(F.peer, 10.0 * now)
        for _ in range(4):
            for _, message in _taken(behind.out):
                assert isinstance(message, Pull)
                ahead.replica.answer(message, A.peer)
            for _, message in _taken(ahead.out):
                if isinstance(message, Decided):
                    behind.learn(message, 10.0 * now)
                elif isinstance(message, Page):
                    behind.replica.page(message, F.peer, 10.0 * now)


def _taken(out: Outbox) -> list[tuple[PeerId, object]]:
    told, out.messages = list(out.messages), []
    return list(told)


@pytest.mark.parametrize("entries", [3, CHECKPOINT + 5, 3 * CHECKPOINT + 9])
def test_who_was_away_catches_up(entries: int) -> None:
    ahead, behind = Reader(F), Reader()
    ahead.write(2)
    council = Council((member(F), member(A), member(B)))
    ahead.learn(decided(entry(ahead.replica.ledger, council), F))
    for n in range(3, entries):
        operation = give(f"10.32.9.{n % 256}/32", F, B, 0)
        ahead.learn(decided(entry(ahead.replica.ledger, operation), F, B))
    exchange(ahead, behind)
    assert behind.replica.ledger.dump() == ahead.replica.ledger.dump()
    behind.keep()
    again = LedgerReplica.restore(behind.rows, CRYPTO, Outbox(A.peer))
    assert again.ledger.dump() == ahead.replica.ledger.dump()


def test_pages_that_are_not_what_was_signed_are_not_believed() -> None:
    ahead, behind = Reader(F), Reader()
    ahead.write(3 * CHECKPOINT)
    behind.replica.ask(F.peer, 0.0)
    pulls = [each for _, each in _taken(behind.out) if isinstance(each, Pull)]
    ahead.replica.answer(pulls[0], A.peer)
    forged = Ledger(GENESIS)
    for _, message in _taken(ahead.out):
        if isinstance(message, Decided):
            behind.learn(message)
        elif isinstance(message, Page):
            data = forged.dump()[: len(message.data)]
            behind.replica.page(msgspec.structs.replace(message, data=data), F.peer, 0.0)
    assert behind.replica.ledger.number == 0
    exchange(ahead, behind)
    assert behind.replica.ledger.number == ahead.replica.ledger.number


def test_a_prefix_has_no_bits_beyond_its_length() -> None:
    for bad in (b"", b"\x0a\x20\0\0\x21", b"\x0a\x20\0\1\x18", bytes(6)):
        with pytest.raises(WireError):
            prefixes.decode(bad)
