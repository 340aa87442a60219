"""Addresses shared by peers: who gets which, from whom, and what is said when there is none."""

from __future__ import annotations

import msgspec
import pytest

from plugins.weave import lease
from plugins.weave.entries import Ballot, Entry, Member, Realm, Register, Transfer
from plugins.weave.holder import Fenced
from plugins.weave.holdings import Lost
from plugins.weave.meeting import Joined, Stranger
from plugins.weave.prefixes import Place, parse
from plugins.weave.removal import Removed
from plugins.weave.requests import UNREACHED, Allocated, Refused, Why
from plugins.weave.space_messages import (
    CODEC,
    Accept,
    Accepted,
    Ask,
    Denied,
    Prepare,
    Promise,
    Renew,
    Submit,
)
from plugins.weave.space_status import status
from plugins.weave.wire import WireError
from tests.unit.plugins.weave.space_world import RANGE, Host, World, shorten


def world(hosts: int, settle: float = 30.0) -> World:
    """Nothing is lost; the first founds."""
    made = World(7, hosts, loss=0.0)
    made.launch()
    made.run(settle)
    return made


def allocate(host: Host, ident: bytes, subnet: str = "", wait: float = 20.0) -> Allocated | Refused:
    wanted = parse(subnet) if subnet else None
    host.do(lambda space, now: space.allocate(ident, now, now + wait, subnet=wanted))
    host.world.run(wait * 1.3)
    return host.world.answers(host)[-1]


def claim(host: Host, ident: bytes, low: int, wait: float = 20.0) -> Allocated | Refused:
    host.do(lambda space, now: space.claim(ident, RANGE.first + low, now, now + wait))
    host.world.run(wait * 1.3)
    return host.world.answers(host)[-1]


def address(answer: Allocated | Refused) -> int:
    assert isinstance(answer, Allocated), answer
    return answer.address - RANGE.first


def refusal(answer: Allocated | Refused) -> tuple[Why, str]:
    assert isinstance(answer, Refused), answer
    return answer.why, answer.text


def cut(made: World, *away: int) -> None:
    made.groups = [1 if host.number in away else 0 for host in made.hosts]
    made.run(15)


def test_the_founder_allocates_at_once_and_alone() -> None:
    founder = world(1, 0.0).hosts[0]
    founder.do(lambda space, now: space.allocate(b"a", now, now))
    assert address(founder.world.answers(founder)[-1]) == 1
    assert founder.world.fences(founder) == [False]


def test_who_joins_gets_a_part_and_goes_on_alone() -> None:
    made = world(2)
    assert address(allocate(made.hosts[1], b"a")) == 0xF0
    cut(made, 1)
    got = [address(allocate(made.hosts[1], b"%d" % n, wait=1)) for n in range(14)]
    assert got == list(range(0xF1, 0xFF))
    why, text = refusal(allocate(made.hosts[1], b"more", wait=1))
    assert why == Why.UNREACHABLE
    assert made.hosts[0].me.hex()[:12] in text


def test_who_joined_and_was_cut_off_before_it_used_anything_has_addresses() -> None:
    made = world(3, 10.0)
    cut(made, 1, 2)
    got = {address(allocate(host, b"a", wait=1)) for host in made.hosts}
    assert got == {1, 0x70, 0xF0}


def test_who_has_an_address_gets_the_same_again_also_after_a_restart() -> None:
    made = world(2)
    first = address(allocate(made.hosts[1], b"a"))
    made.hosts[1].stop()
    made.hosts[1].start()
    made.run(1)
    assert address(allocate(made.hosts[1], b"a")) == first
    assert address(allocate(made.hosts[1], b"b")) != first


def test_space_of_a_subnet_is_shared_by_halves_until_it_is_full() -> None:
    made = world(2)
    subnet = "10.32.0.64/29"
    got = [address(allocate(made.hosts[n % 2], b"%d" % n, subnet, 5)) for n in range(6)]
    assert sorted(got) == [65, 66, 67, 68, 69, 70]
    for host in made.hosts:
        why, text = refusal(allocate(host, b"more", subnet, 5))
        assert (why, text) == (Why.EXHAUSTED, f"all 6 addresses of {subnet} are in use")


def test_what_is_full_is_refused_before_its_time() -> None:
    made = world(2)
    for n in range(2):
        allocate(made.hosts[0], b"%d" % n, "10.32.0.64/30", 1)
    made.hosts[1].do(
        lambda space, now: space.allocate(b"x", now, now + 600, subnet=parse("10.32.0.64/30"))
    )
    made.run(10)
    assert refusal(made.answers(made.hosts[1])[-1])[0] == Why.EXHAUSTED


def test_a_certain_address_is_got_from_its_owner() -> None:
    made = world(3)
    assert address(claim(made.hosts[1], b"a", 77)) == 77
    assert made.hosts[2].space is not None
    assert made.hosts[2].space.owner(RANGE.first + 77) == made.hosts[1].me
    why, text = refusal(claim(made.hosts[2], b"b", 77))
    assert why == Why.TAKEN
    assert text == f"10.32.0.77 is in use at {made.hosts[1].me.hex()[:12]}"
    assert refusal(claim(made.hosts[1], b"b", 77))[1] == "10.32.0.77 is in use here"
    cut(made, 1)
    why, text = refusal(claim(made.hosts[2], b"b", 77))
    assert (why, "out of reach" in text) == (Why.UNREACHABLE, True)


def test_a_freed_address_can_be_claimed_at_once_here_and_elsewhere() -> None:
    made = world(2)
    for number in (1, 1, 0, 1):
        host = made.hosts[number]
        host.do(lambda space, now: space.claim(b"a", RANGE.first + 77, now, now + 5))
        made.run(5)
        assert address(made.answers(host)[-1]) == 77
        host.do(lambda space, now: space.release(b"a", now))


def test_who_had_an_address_until_just_now_gets_it_again() -> None:
    made = world(2)
    host = made.hosts[1]
    first = address(allocate(host, b"a", wait=1))
    host.do(lambda space, now: space.release(b"a", now))
    assert address(allocate(host, b"b", wait=1)) != first
    assert address(allocate(host, b"a", wait=1)) == first


@pytest.mark.parametrize(
    "bad",
    [
        (b"", None, None),
        (b"x" * 129, None, None),
        (b"x", "10.33.0.0/24", None),
        (b"x", None, 0),
        (b"x", None, 255),
    ],
)
def test_what_can_never_be_is_refused_at_once(
    bad: tuple[bytes, str | None, int | None]
) -> None:  # fmt: skip
    ident, subnet, low = bad
    space = world(1, 1.0).hosts[0].space
    assert space is not None
    wanted = parse(subnet) if subnet else None
    address = RANGE.first + (low or 1)
    with pytest.raises(ValueError, match=r"ident|is not in|no address"):
        space.claim(ident, RANGE.first if low == 0 else address, 0.0, 0.0, subnet=wanted)


def test_who_met_nobody_says_so() -> None:
    made = World(7, 2, loss=0.0)
    for host in made.hosts:
        host.start()
    why, text = refusal(allocate(made.hosts[0], b"a", wait=5))
    assert (why, text) == (Why.NOT_JOINED, UNREACHED)
    made.hosts[1].do(lambda space, now: space.found(RANGE, now))
    assert address(allocate(made.hosts[0], b"a")) == 0xF0


def test_a_network_outside_the_range_has_addresses_of_its_own() -> None:
    made = world(3)
    prefix = parse("192.168.77.0/24")
    got = {}
    for name in (b"one", b"other"):
        for host in made.hosts[1:]:
            ident = name + b"%d" % host.number
            host.do(lambda space, now, i=ident, n=name: space.allocate(
                i, now, now + 20, place=Place(n, prefix)
            ))  # fmt: skip
            made.run(20)
            answer = made.answers(host)[-1]
            assert isinstance(answer, Allocated)
            assert answer.length == 24
            got[name, host.number] = answer.address - prefix.first
    assert got[b"one", 1] != got[b"one", 2]
    assert [got[b"other", n] for n in (1, 2)] == [got[b"one", n] for n in (1, 2)]
    space = made.hosts[2].space
    assert space is not None
    place = Place(b"one", prefix)
    assert space.owner(prefix.first + got[b"one", 1], place) == made.hosts[1].me
    assert space.owner(RANGE.first + 9, place) is None


def test_a_network_within_the_range_shares_its_addresses() -> None:
    made = world(1, 1.0)
    place = Place(b"n", parse("10.32.0.64/28"))
    for ident in (b"a", b"b"):
        made.hosts[0].do(lambda space, now, i=ident: space.allocate(i, now, now, place=place))
    assert [(address(each), each.length) for each in made.answers(made.hosts[0])
            if isinstance(each, Allocated)] == [(65, 28), (66, 28)]  # fmt: skip
    assert refusal(claim(made.hosts[0], b"c", 65, 1))[0] == Why.TAKEN


def test_what_a_gone_founder_had_of_a_network_is_its_heirs() -> None:
    made = world(2)
    founder, other = made.hosts
    prefix = parse("fd00:77::/64")
    founder.do(lambda space, now: space.leave(now, now + 60))
    made.run(60)
    other.do(lambda space, now: space.allocate(b"a", now, now, place=Place(b"n", prefix)))
    answer = made.answers(other)[-1]
    assert isinstance(answer, Allocated)
    assert answer.address == prefix.first + 1


def test_without_its_founder_a_host_stops_when_its_lease_ends_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten(monkeypatch)
    made = world(2)
    lone = made.hosts[1]
    allocate(lone, b"a")
    cut(made, 1)
    made.run(0.8 * lease.LEASE)
    assert isinstance(allocate(lone, b"b", wait=1), Allocated)
    assert made.fences(lone)[-1] is False
    while not made.fences(lone)[-1]:
        made.run(10)
    fence = [each for each in lone.events if isinstance(each, Fenced)][-1]
    assert fence.fenced
    assert f"out of reach: {made.hosts[0].me.hex()[:12]}" in fence.text
    assert refusal(allocate(lone, b"c", wait=1))[0] == Why.NO_LEASE
    made.groups = [0, 0]
    made.run(120)
    assert made.fences(lone)[-1] is False
    assert isinstance(allocate(lone, b"c"), Allocated)


def test_what_a_host_owned_that_is_gone_comes_back_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten(monkeypatch)
    made = world(2)
    allocate(made.hosts[1], b"a")
    made.hosts[1].stop()
    made.run(lease.PROMISE * 0.85)
    founder = made.hosts[0].space
    assert founder is not None
    assert founder.owner(RANGE.first + 0xF0) == made.hosts[1].me
    made.run(lease.PROMISE * 0.35)
    assert founder.owner(RANGE.first + 0xF0) == made.hosts[0].me
    made.hosts[1].start()  # it was switched off all the time
    made.run(200)
    assert any(isinstance(each, Lost) for each in made.hosts[1].events)
    assert isinstance(allocate(made.hosts[1], b"b"), Allocated)


def test_rmpeer_takes_what_a_lost_host_had() -> None:
    made = world(4, 200.0)
    for n in range(1, 4):
        allocate(made.hosts[n], b"a")
    gone, by = made.hosts[3], made.hosts[2]
    before = gone.me
    by.do(lambda space, now: space.remove_peer(before, now, now + 20))
    assert [(each.done, "can be reached" in each.text) for each in by.events
            if isinstance(each, Removed)] == [(False, True)]  # fmt: skip
    gone.stop()
    made.run(30)
    by.do(lambda space, now: space.remove_peer(before, now, now + 20))
    made.run(30)
    removed = [each for each in by.events if isinstance(each, Removed)][-1]
    assert (removed.done, removed.addresses) == (True, 16)


def test_rmpeer_of_most_who_decide_needs_force_and_others_are_asked() -> None:
    made = world(3)
    for host in made.hosts[1:]:
        allocate(host, b"a", wait=3)
    founder, one, other = made.hosts
    founder.stop()
    made.run(30)
    lost = founder.me
    one.do(lambda space, now: space.remove_peer(lost, now, now + 20))
    made.run(40)
    removed = [each for each in one.events if isinstance(each, Removed)][-1]
    assert (removed.done, "--force" in removed.text) == (False, True)
    one.do(lambda space, now: space.remove_peer(lost, now, now + 20, force=True))
    made.run(60)
    assert [each for each in one.events if isinstance(each, Removed)][-1].done
    assert other.space is not None
    assert other.space.owner(RANGE.first + 9) == founder.me  # nobody asked its user
    other.do(lambda space, now: space.remove_peer(lost, now, now + 20, force=True))
    made.run(200)
    assert other.space.owner(RANGE.first + 9) == one.me
    assert isinstance(allocate(other, b"b"), Allocated)
    assert not any(isinstance(each, Lost) for each in (*one.events, *other.events))


def test_who_leaves_gives_all_to_another() -> None:
    made = world(2)
    founder, other = made.hosts
    allocate(other, b"a")
    founder.do(lambda space, now: space.leave(now, now + 60))
    made.run(60)
    removed = [each for each in founder.events if isinstance(each, Removed)][-1]
    assert (removed.done, removed.addresses) == (True, 240)
    assert other.space is not None
    assert other.space.owner(RANGE.first + 9) == other.me
    assert isinstance(allocate(other, b"b"), Allocated)


def test_of_two_that_were_founded_apart_the_unused_one_gives_way() -> None:
    made = World(7, 2, loss=0.0)
    for host in made.hosts:
        host.start()
    made.groups = [0, 1]
    for host in made.hosts:
        host.do(lambda space, now: space.found(RANGE, now))
    allocate(made.hosts[0], b"a")
    made.groups = [0, 0]
    made.run(60)
    assert [type(each) for each in made.hosts[1].events if isinstance(each, Joined)] == [Joined]
    assert address(allocate(made.hosts[1], b"b")) == 0xF0


def test_two_that_were_founded_and_used_apart_are_told_of_each_other() -> None:
    made = World(7, 2, loss=0.0)
    for host in made.hosts:
        host.start()
    made.groups = [0, 1]
    for host in made.hosts:
        host.do(lambda space, now: space.found(RANGE, now))
        allocate(host, b"a")
    made.groups = [0, 0]
    made.run(60)
    for host in made.hosts:  # the user has to choose
        assert [type(each) for each in host.events if isinstance(each, Stranger)] == [Stranger]


# -- those who lie -------------------------------------------------------------------------------


def test_an_insider_gives_nothing_that_is_anothers() -> None:
    made = world(3)
    victim, liar = made.hosts[1:]
    allocate(victim, b"a")
    allocate(liar, b"a")
    founder = made.hosts[0].space
    assert founder is not None
    assert founder.council is not None
    ledger = founder.council.replica.ledger
    prefix = parse("10.32.0.240/28").encode()
    epoch = founder.council.replica.ledger.owner(ledger.main, RANGE.first + 0xF0).epoch
    theft = Transfer(ledger.main, prefix, victim.me, liar.me, epoch, b"s" * 64)
    signed = theft.signed(ledger.id)
    own = msgspec.structs.replace(theft, signature=liar.world.hosts[2].space.context.sign(signed))  # type: ignore[union-attr]
    before = founder.owner(RANGE.first + 0xF0), ledger.number
    for operation in (theft, own):
        message = CODEC.encode(Submit(ledger.id, operation))
        made.hosts[0].do(lambda space, now, m=message: space.receive(liar.me, m, now))
    made.run(30)
    assert (founder.owner(RANGE.first + 0xF0), ledger.number) == before


def test_messages_of_those_who_do_not_decide_change_nothing() -> None:
    made = world(3)
    liar = made.hosts[2]
    founder = made.hosts[0].space
    assert founder is not None
    assert founder.council is not None
    ledger = founder.council.replica.ledger
    before = ledger.number
    stranger = Realm(b"x" * 16, parse("172.16.0.0/16").encode(), made.hosts[1].me)
    lies = [
        Accepted(ledger.id, 1, Ballot(1, liar.me), bytes(64)),
        Denied(ledger.id, ledger.main.id, RANGE.encode(), 9),
        Ask(ledger.id, stranger, parse("172.16.0.0/16").encode(), 0),
        Renew(ledger.id, 1, 10**9),
    ]
    for lie in lies:
        message = CODEC.encode(lie)
        made.hosts[0].do(lambda space, now, m=message: space.receive(liar.me, m, now))
    made.run(30)
    assert ledger.number == before
    assert founder.owner(RANGE.first + 9) == made.hosts[0].me


def test_what_is_no_message_is_refused() -> None:
    space = world(1, 1.0).hosts[0].space
    assert space is not None
    for bad in (b"", b"\x00", b"\xff" * 50, bytes(2000), CODEC.encode(Renew(bytes(16), 1, 1))[:-1]):
        with pytest.raises(WireError):
            space.receive(space.me, bad, 0.0)


def test_a_state_that_is_damaged_is_not_used() -> None:
    made = world(1, 1.0)
    host = made.hosts[0]
    allocate(host, b"a")
    host.stop()
    host.disk["weave_ledger"][b"genesis"] = b"junk"
    with pytest.raises(WireError):
        host.start()


def test_founders_are_who_they_say() -> None:
    """A ledger's id is a hash of how it began."""
    space = world(1, 1.0).hosts[0].space
    assert space is not None
    assert space.council is not None
    genesis = space.council.replica.ledger.genesis
    other = msgspec.structs.replace(genesis, founder=Member(space.me, bytes(32)))
    assert other.id != genesis.id


# -- status --------------------------------------------------------------------------------------


def test_status_says_who_owns_what_and_who_is_out_of_reach() -> None:
    made = world(2)
    allocate(made.hosts[1], b"a", wait=3)
    cut(made, 1)
    space = made.hosts[0].space
    assert space is not None
    shown = status(space, made.hosts[0].now)
    assert (shown.range, shown.entries, shown.fenced) == ("10.32.0.0/24", 1, None)
    assert [(each.addresses, each.reachable, each.council) for each in shown.peers] == [
        (240, True, True), (16, False, False),
    ]  # fmt: skip
    assert shown.unreachable == 16 / 256
    assert shown.peers[0].free == 239
    assert shown.peers[1].reclaimed_in is not None
    assert shown.peers[1].reclaimed_in > lease.LEASE
    other = made.hosts[1].space
    assert other is not None
    shown = status(other, made.hosts[1].now)
    assert (shown.used, shown.active, shown.resting) == (1, 1, 0)
    assert shown.lease_left is not None
    assert 0 < shown.lease_left < lease.LEASE


def test_what_is_in_use_outside_of_the_range_is_not_counted_as_of_it() -> None:
    founder = world(1, 0.0).hosts[0]
    place = Place(b"far", parse("10.99.0.0/24"))
    founder.do(lambda space, now: space.allocate(b"a", now, now))
    founder.do(lambda space, now: space.allocate(b"b", now, now, place=place))
    assert founder.space is not None
    shown = status(founder.space, founder.now)
    assert (shown.used, shown.active) == (2, 1)


def test_status_says_what_requests_wait_for_and_what_the_user_has_to_do() -> None:
    made = World(7, 1, loss=0.0)
    host = made.hosts[0]
    host.start()
    host.do(lambda space, now: space.claim(b"a", RANGE.first + 3, now, now + 60))
    assert host.space is not None
    shown = status(host.space, host.now)
    assert (shown.range, [each.wanted for each in shown.waiting]) == (None, ["10.32.0.3"])
    assert shown.waiting[0].why == UNREACHED


def test_nobody_asks_for_space_that_nobody_waits_for() -> None:
    made = world(2)
    cut(made, 1)
    host = made.hosts[1]
    assert host.space is not None
    claim(host, b"a", 5, wait=5)
    made.run(60)
    assert host.space.seeker.searches == {}
    host.do(lambda space, now: space.claim(b"b", RANGE.first + 5, now, now + 60))
    assert len(host.space.seeker.searches) == 1
    host.do(lambda space, now: space.release(b"b", now))
    assert host.space.seeker.searches == {}


def test_a_vote_is_remembered_over_a_restart() -> None:
    made = world(3, 200.0)
    one, voter, other = made.hosts
    assert voter.space is not None
    assert voter.space.council is not None
    ledger = voter.space.council.replica.ledger
    assert len(ledger.council) == 3
    realm = Realm(b"r" * 16, parse("172.16.0.0/16").encode(), one.me)
    made_entry = Entry(ledger.id, ledger.number + 1, 0, ledger.head, Register(realm))
    voter.space.receive(one.me, CODEC.encode(Prepare(ledger.id, ballot(50, one), made_entry)), 0.0)
    voter.space.receive(one.me, CODEC.encode(Accept(ledger.id, ballot(50, one), made_entry)), 0.0)
    outcome = voter.space.take()
    assert any(isinstance(message, Accepted) for _, message in outcome.messages)
    voter.write(outcome)
    voter.stop()
    voter.start()
    assert voter.space is not None
    later = msgspec.structs.replace(made_entry, operation=Register(ledger.main))
    voter.space.receive(other.me, CODEC.encode(Prepare(ledger.id, ballot(60, other), later)), 0.0)
    answers = [each for _, each in voter.space.take().messages if isinstance(each, Promise)]
    assert [each.entry for each in answers] == [made_entry]
    voter.space.receive(one.me, CODEC.encode(Accept(ledger.id, ballot(59, one), made_entry)), 0.0)
    assert not any(isinstance(each, Accepted) for _, each in voter.space.take().messages)


def ballot(number: int, host: Host) -> Ballot:
    return Ballot(number, host.me)
