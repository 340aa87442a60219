"""Records of peers: who may say what, and what a copy of it is worth."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.weave import identity, limits
from plugins.weave.record import Kind, Record, decode, set_digest
from plugins.weave.records import Records
from plugins.weave.statements import Host, encode
from plugins.weave.taken import Faulty, InUse, Recovered
from plugins.weave.wire import WireError
from tests.simulation.crypto import FakeCrypto

CRYPTO = FakeCrypto()


class Peer:
    """A peer's records and a database that has what they ask for."""

    def __init__(self, number: int, rows: dict[tuple[str, bytes], bytes] | None = None) -> None:
        self.random = random.Random(number).randbytes
        self.identity = identity.make(CRYPTO, self.random)
        self.rows = {} if rows is None else rows
        self.start(self.random(8))

    def start(self, instance: bytes) -> None:
        self.records = Records(self.identity, CRYPTO, self.random)
        below = [(k, v) for (table, k), v in self.rows.items() if table == "weave_below"]
        blobs = [v for (table, _), v in self.rows.items() if table != "weave_below"]
        self.records.load(blobs, below)
        public = self.identity.public
        host = Host(public.signing, public.exchange, instance, 1)
        self.records.put(Kind.HOST, b"", encode(host))
        self.fresh: list[Record] = []
        self.events: list[object] = []
        self.note()

    def note(self) -> list[Record]:
        taken = self.records.take()
        for change in taken.writes:
            if change.value is None:
                self.rows.pop((change.table, change.key), None)
            else:
                self.rows[change.table, change.key] = change.value
        self.fresh += taken.fresh
        self.events += taken.events
        return taken.fresh

    def put(self, key: bytes, value: bytes = b"x") -> Record:
        self.records.put(Kind.ENDPOINT, key, value)
        return self.note()[-1]

    def delete(self, key: bytes) -> Record:
        self.records.delete(Kind.ENDPOINT, key)
        return self.note()[-1]

    def receive(self, *records: Record) -> None:
        self.records.merge(decode(record.blob) for record in records)
        self.note()

    def take_manifest(self, of: Peer) -> None:
        theirs = of.records.replica(of.identity.peer)
        assert theirs is not None
        assert self.records.adopt(of.identity.peer, theirs.version, theirs.items())
        self.note()

    def keys(self, of: Peer) -> list[bytes]:
        return [r.key for r in self.records.of(of.identity.peer, Kind.ENDPOINT)]

    def complete(self, of: Peer) -> bool:
        replica = self.records.replica(of.identity.peer)
        return replica is not None and replica.complete


@pytest.fixture
def peers() -> tuple[Peer, Peer]:
    return Peer(1), Peer(2)


def test_another_peer_has_what_was_put_and_not_what_was_deleted(peers: tuple[Peer, Peer]) -> None:
    a, b = peers
    a.put(b"one")
    a.put(b"two", b"old")
    a.put(b"two", b"new")
    a.delete(b"one")
    b.receive(*a.fresh)
    assert b.keys(a) == [b"two"]
    found = b.records.get(a.identity.peer, Kind.ENDPOINT, b"two")
    assert found is not None
    assert found.value == b"new"
    assert b.complete(a)


def test_what_is_said_already_is_not_said_again(peers: tuple[Peer, Peer]) -> None:
    a, _ = peers
    a.put(b"one")
    a.records.put(Kind.ENDPOINT, b"one", b"x")
    assert a.note() == []
    assert a.records.delete(Kind.ENDPOINT, b"none") is None


def test_nobody_can_speak_for_another_peer(peers: tuple[Peer, Peer]) -> None:
    a, b = peers
    mallory = Peer(3)
    b.receive(*a.fresh)
    told = mallory.put(b"mine")
    forged = decode(told.blob.replace(mallory.identity.peer, a.identity.peer))
    b.receive(forged)
    assert b.keys(a) == []
    host = mallory.fresh[0]
    b.receive(decode(host.blob.replace(mallory.identity.peer, a.identity.peer, 1)))
    assert not b.complete(mallory)
    damaged = bytearray(a.put(b"one").blob)
    damaged[-1] ^= 1
    b.receive(decode(bytes(damaged)))
    assert b.keys(a) == []


def test_records_of_a_peer_that_has_not_said_who_it_is_wait_for_that(
    peers: tuple[Peer, Peer],
) -> None:
    a, b = peers
    a.put(b"one")
    b.receive(a.fresh[1])
    assert b.keys(a) == []
    b.receive(*a.fresh)
    assert b.keys(a) == [b"one"]


def test_a_deletion_that_was_withheld_is_noticed_and_made_good(peers: tuple[Peer, Peer]) -> None:
    a, b = peers
    a.put(b"one")
    a.put(b"two")
    b.receive(*a.fresh)
    a.delete(b"one")
    b.receive(a.put(b"three"))
    assert b.keys(a) == [b"one", b"three", b"two"]
    assert not b.complete(a)
    b.take_manifest(a)
    assert b.keys(a) == [b"three", b"two"]
    assert b.complete(a)


def test_a_manifest_that_is_not_the_origins_changes_nothing(peers: tuple[Peer, Peer]) -> None:
    a, b = peers
    a.put(b"one")
    a.put(b"two")
    b.receive(*a.fresh)
    mine = a.records.replica(a.identity.peer)
    assert mine is not None
    assert not b.records.adopt(a.identity.peer, mine.version, mine.items()[:-1])
    assert not b.records.adopt(a.identity.peer, mine.version + 1, mine.items())
    assert b.keys(a) == [b"one", b"two"]


def test_what_was_deleted_does_not_come_back_by_old_records(peers: tuple[Peer, Peer]) -> None:
    a, b = peers
    old = [a.put(b"%d" % n) for n in range(limits.DELETIONS + 10)]
    b.receive(*a.fresh)
    gone = [a.delete(record.key) for record in old]
    b.receive(*gone[:-1])  # so that b is not complete and a missing record could be any
    b.receive(*old[:-1])
    a.put(b"last")
    assert b.keys(a) == [old[-1].key]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=25), st.randoms())
def test_in_whatever_order_records_come_the_result_is_the_same(
    steps: list[tuple[int, bool]], order: random.Random
) -> None:
    a, b = Peer(1), Peer(2)
    for number, put in steps:
        key = b"%d" % number
        if put:
            a.records.put(Kind.ENDPOINT, key, b"%d" % order.randrange(5))
        else:
            a.records.delete(Kind.ENDPOINT, key)
        a.note()
    host, *rest = a.fresh
    shuffled = [*rest, *rest]
    order.shuffle(shuffled)
    b.receive(host)
    for record in shuffled:
        b.receive(record)
    assert b.keys(a) == a.keys(a)
    assert b.complete(a)


def test_a_restart_goes_on_with_what_was_written(peers: tuple[Peer, Peer]) -> None:
    a, b = peers
    a.put(b"one")
    a.put(b"two")
    a.delete(b"two")
    b.receive(*a.fresh)
    before = a.records.replica(a.identity.peer)
    a.start(b"instance")
    after = a.records.replica(a.identity.peer)
    assert before is not None
    assert after is not None
    assert after.version > before.version
    b.receive(*a.fresh)
    assert b.keys(a) == a.keys(a) == [b"one"]
    assert b.complete(a)
    b.start(b"instance")
    assert b.keys(a) == [b"one"]
    assert b.complete(a)


def test_a_peer_with_an_older_copy_of_its_state_goes_on_above_what_it_forgot(
    peers: tuple[Peer, Peer],
) -> None:
    a, b = peers
    copy = dict(a.rows)
    for name in (b"one", b"two"):
        a.put(name)
    b.receive(*a.fresh)
    said = list(a.fresh)
    a.rows = copy
    a.start(b"instance")
    said += [a.put(b"one", b"other")]
    a.start(b"instanc3")  # the epoch is beyond what others know, whatever they know
    a.receive(*said)
    b.receive(*said, *a.fresh, a.put(b"new"))
    b.take_manifest(a)
    assert b.complete(a)
    assert b.keys(a) == a.keys(a)
    assert [e for e in b.events if isinstance(e, Faulty)] == []


def test_a_second_process_with_our_key_is_noticed(peers: tuple[Peer, Peer]) -> None:
    a, _ = peers
    copy = Peer(1, dict(a.rows))
    for n in range(3):
        copy.start(b"second-%d" % n)
    a.receive(*copy.fresh)
    assert any(isinstance(event, Recovered) for event in a.events)
    assert not any(isinstance(event, InUse) for event in a.events)
    a.put(b"here")
    copy.receive(*a.fresh)
    a.receive(copy.put(b"there"))
    copy.receive(a.put(b"here", b"again"))
    a.receive(copy.put(b"there", b"again"))
    assert any(isinstance(event, InUse) for event in [*a.events, *copy.events])


def test_two_records_of_one_version_show_a_faulty_peer_and_one_of_them_counts_everywhere(
    peers: tuple[Peer, Peer],
) -> None:
    a, b = peers
    c = Peer(3)
    twin = Peer(1)
    one, other = a.put(b"one", b"1"), twin.put(b"other", b"2")
    assert one.version == other.version
    b.receive(a.fresh[0], one, other)
    c.receive(a.fresh[0], other, one)
    assert b.keys(a) == c.keys(a)
    assert [type(e) for e in b.events] == [type(e) for e in c.events] == [Faulty]


def test_a_removed_peer_is_refused_for_ever_and_a_forgotten_one_up_to_a_version(
    peers: tuple[Peer, Peer],
) -> None:
    a, b = peers
    a.put(b"one")
    b.receive(*a.fresh)
    b.records.forget(a.identity.peer, a.fresh[-1].version)
    b.note()
    assert b.keys(a) == []
    b.start(b"instance")
    b.receive(*a.fresh)
    assert b.keys(a) == []
    a.start(b"instance")
    b.receive(*a.fresh)
    assert b.records.replica(a.identity.peer) is not None
    b.records.remove(a.identity.peer)
    b.note()
    a.start(b"instanc3")
    b.receive(*a.fresh)
    b.start(b"instance")
    b.receive(*a.fresh)
    assert b.records.replica(a.identity.peer) is None
    assert b.records.refused(a.identity.peer)


def test_what_is_too_large_or_too_much_is_refused(
    peers: tuple[Peer, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = peers
    with pytest.raises(WireError, match="1096 at most"):
        a.put(b"k" * 200, b"v" * 1000)
    a.put(b"one")
    a.put(b"two")
    monkeypatch.setattr(limits, "RECORDS", 2)
    with pytest.raises(WireError, match="2 records at most"):
        a.put(b"three")
    b.receive(*a.fresh)
    assert b.keys(a) == [b"one"]
    assert isinstance(b.events[0], Faulty)
    monkeypatch.setattr(limits, "ORIGINS", 2)
    c = Peer(3)
    b.receive(*c.fresh)
    assert b.records.replica(c.identity.peer) is None


def test_one_that_says_too_much_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOTAL", 20)
    a, b, c = Peer(1), Peer(2), Peer(3)
    for n in range(40):
        b.put(b"%d" % n)
    c.put(b"mine")
    a.receive(*b.fresh)
    a.receive(*c.fresh)
    assert a.keys(c) == [b"mine"]
    assert len(a.records) < 25
    assert any(isinstance(event, Faulty) for event in a.events)
    a.records.remove(b.identity.peer)
    a.note()
    assert len(a.records) == 3


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_record_are_a_wire_error(blob: bytes) -> None:
    with pytest.raises(WireError):
        decode(blob)


def test_a_damaged_row_costs_that_row_only(peers: tuple[Peer, Peer]) -> None:
    a, b = peers
    a.put(b"one")
    b.receive(*a.fresh)
    b.rows["weave_record", b"damaged"] = b"\x00" * 90
    b.start(b"instance")
    assert b.keys(a) == [b"one"]


def test_the_digest_of_a_set_depends_on_nothing_but_the_set() -> None:
    assert set_digest([b"b", b"a"]) == set_digest([b"a", b"b"]) != set_digest([b"a"])
