"""Votes and leases: what a member may promise, and when a peer may believe it."""

from __future__ import annotations

import random

from plugins.weave import ballot as ballots
from plugins.weave import identity
from plugins.weave.ballot import Acceptor, Proposal
from plugins.weave.council import wanted_size
from plugins.weave.entries import Ballot, Entry, Realm, Register, Vote
from plugins.weave.lease import LEASE, PROMISE, Lease, Promises, blocking
from plugins.weave.space_messages import Promise
from tests.simulation.crypto import FakeCrypto

P, Q, R = (identity.make(FakeCrypto(), random.Random(n).randbytes).peer for n in range(3))
REALM = Realm(bytes(16), b"\x0a\0\0\0\x08", P)


def entry(which: int) -> Entry:
    return Entry(bytes(16), 1, 0, b"", Register(Realm(bytes([which]) * 16, REALM.prefix, P)))


def promise(ballot: Ballot, accepted: tuple[int, Entry] | None = None, no: str = "") -> Promise:
    earlier = accepted and Ballot(accepted[0], Q)
    return Promise(bytes(16), 1, ballot, earlier, accepted and accepted[1], no)


def proposal(number: int = 5) -> Proposal:
    return Proposal(ballot=Ballot(number, P), mine=entry(0), members=(P, Q, R), until=0.0)


def test_a_member_votes_in_no_ballot_below_its_promise() -> None:
    mine = Acceptor(1).promise(Ballot(3, P))
    assert mine is not None
    assert mine.promise(Ballot(2, P)) is None
    assert mine.accept(Ballot(2, R), entry(0)) is None
    assert mine.promise(Ballot(3, P)) == mine  # a message that came twice
    voted = mine.accept(Ballot(3, P), entry(0))
    assert voted is not None
    assert voted.accepted == Ballot(3, P)
    assert ballots.load(voted.dump()) == voted


def test_what_may_have_been_decided_is_proposed_again() -> None:
    ours = proposal()
    assert not ours.promised(P, promise(ours.ballot))
    assert ours.promised(Q, promise(ours.ballot, (2, entry(1))))
    assert ours.entry == entry(1)


def test_of_two_the_higher_ballot_is_the_one() -> None:
    ours = proposal()
    ours.promised(P, promise(ours.ballot, (2, entry(1))))
    ours.promised(Q, promise(ours.ballot, (3, entry(2))))
    assert ours.entry == entry(2)


def test_what_cannot_have_been_decided_is_not() -> None:
    """P and Q voted for nothing: R alone is no majority.  P objects, so that all three count."""
    ours = proposal()
    assert not ours.promised(P, promise(ours.ballot, None, "no"))
    assert not ours.promised(Q, promise(ours.ballot))
    assert ours.promised(R, promise(ours.ballot, (2, entry(1))))
    assert ours.entry == entry(0)


def test_nothing_is_put_to_the_vote_that_a_majority_objects_to() -> None:
    ours = proposal()
    assert not ours.promised(P, promise(ours.ballot, None, "it lives"))
    assert ours.hopeless == ""
    assert not ours.promised(Q, promise(ours.ballot, None, "it lives"))
    assert ours.hopeless == "it lives"


def test_a_majority_of_votes_decides() -> None:
    ours = proposal()
    assert not ours.accepted(Vote(P, bytes(64)))  # it was not put to the vote
    ours.promised(P, promise(ours.ballot))
    ours.promised(Q, promise(ours.ballot))
    assert not ours.accepted(Vote(P, bytes(64)))
    assert not ours.accepted(Vote(P, bytes(64)))
    assert ours.accepted(Vote(R, bytes(64)))


def test_promises_outlast_leases_by_the_slowest_and_the_fastest_clock() -> None:
    assert PROMISE / 1.1 > LEASE / 0.9


def test_as_many_grants_are_needed_as_leave_no_majority() -> None:
    for members in range(1, 6):
        left = members - blocking(members)
        assert left < members // 2 + 1
        assert left + 1 >= members // 2 + 1


def test_a_lease_counts_from_before_it_was_asked_for() -> None:
    lease = Lease(b"boot")
    first = lease.ask(100.0)
    second = lease.ask(200.0)
    lease.granted(P, first, 0)
    assert not lease.reckon((P, Q, R), 0)
    assert not lease.valid(200.0)
    lease.granted(Q, second, 0)
    assert lease.reckon((P, Q, R), 0)
    assert lease.until == 100.0 + LEASE
    lease.granted(R, second, 0)
    assert lease.reckon((P, Q, R), 0)
    assert lease.until == 200.0 + LEASE
    lease.granted(R, first, 0)  # late, of an older round
    assert not lease.reckon((P, Q, R), 0)


def test_who_knows_a_later_entry_does_not_count_until_we_do() -> None:
    lease = Lease(b"boot")
    lease.granted(P, lease.ask(100.0), 7)
    assert not lease.reckon((P,), 6)
    assert lease.reckon((P,), 7)


def test_answers_to_what_was_not_asked_do_not_count() -> None:
    lease = Lease(b"boot")
    lease.granted(P, 1, 0)
    assert not lease.reckon((P,), 0)


def test_a_lease_outlives_a_restart_but_no_boot() -> None:
    lease = Lease(b"boot")
    lease.granted(P, lease.ask(100.0), 0)
    lease.reckon((P,), 0)
    again, booted = Lease(b"boot"), Lease(b"other")
    again.restore(lease.dump())
    booted.restore(lease.dump())
    assert again.until == 100.0 + LEASE
    assert not booted.valid(0.0)


def test_a_member_that_starts_or_learns_of_a_council_waits_as_if_it_had_promised() -> None:
    promises = Promises(10.0)
    assert promises.free_at(P) == 10.0 + PROMISE
    promises.give(P, 50.0)
    assert promises.free_at(P) == 50.0 + PROMISE
    assert promises.free_at(Q) == 10.0 + PROMISE
    promises.changed(70.0)
    assert promises.free_at(P) == 70.0 + PROMISE
    promises.give(P, 80.0)
    promises.forget(80.0 + PROMISE)
    assert promises.free_at(P) == 70.0 + PROMISE  # which is over as well


def test_a_council_is_odd() -> None:
    assert [wanted_size(n) for n in (1, 2, 3, 6, 7, 2000)] == [1, 1, 3, 3, 5, 5]
