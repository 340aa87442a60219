"""Addresses of what a host owns: each given to one, rested, counted, and passed on in halves."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from plugins.weave.allocator import REST, Pool
from plugins.weave.entries import Realm
from plugins.weave.identity import PeerId
from plugins.weave.prefixes import Prefix, PrefixMap, cover, decode, parse

WHOLE = parse("10.32.0.0/24")
SUBNETS = (WHOLE, parse("10.32.0.0/28"), parse("10.32.0.64/30"), parse("10.32.0.128/25"))


def pool_of(prefix: Prefix, *owned: Prefix) -> Pool:
    pool = Pool(Realm(bytes(16), prefix.encode(), PeerId(bytes(16))))
    pool.own([(each.first, each.last) for each in owned or (prefix,)])
    return pool


def test_the_lowest_address_that_a_host_may_have_comes_first() -> None:
    pool = pool_of(WHOLE)
    assert [pool.take(b"%d" % n, WHOLE) for n in range(2)] == [WHOLE.first + 1, WHOLE.first + 2]


def test_the_ends_of_a_subnet_are_not_given_out() -> None:
    small = parse("10.32.0.64/30")
    pool = pool_of(WHOLE)
    got = [pool.take(b"%d" % n, small) for n in range(3)]
    assert got == [small.first + 1, small.first + 2, None]


def test_a_freed_address_rests_before_it_is_given_out_again() -> None:
    small = parse("10.32.0.64/30")
    pool = pool_of(WHOLE)
    first = pool.take(b"a", small)
    assert first is not None
    pool.take(b"b", small)
    pool.release(first, 100.0)
    assert pool.take(b"c", small) is None
    assert pool.rested(100.0 + REST - 0.1) == []
    assert pool.next_rested() == 100.0 + REST
    assert pool.rested(100.0 + REST) == [first]
    assert pool.take(b"c", small) == first


def test_a_resting_address_is_given_to_who_asks_for_it_by_value() -> None:
    pool = pool_of(WHOLE, parse("10.32.0.64/32"))
    address = pool.take(b"a", WHOLE)
    assert address is not None
    pool.release(address, 100.0)
    assert pool.available(address)
    assert pool.claim(b"b", address) == b"b"
    assert not pool.available(address)
    assert pool.resting(WHOLE) == 0
    assert pool.rested(100.0 + REST) == []
    assert pool.claim(b"a", address) == b"b"


def test_who_had_an_address_gets_it_back_while_it_rests_unless_it_was_passed_on() -> None:
    pool = pool_of(WHOLE)
    for ident in (b"a", b"b", b"c"):
        pool.take(ident, WHOLE)
    pool.release(WHOLE.first + 2, 0.0)
    assert pool.take(b"b", WHOLE) == WHOLE.first + 2
    pool.release(WHOLE.first + 2, 1.0)
    assert pool.take(b"b", parse("10.32.0.128/25")) == WHOLE.first + 129, "of another subnet"
    pool.release(WHOLE.first + 129, 1.0)
    pool.offer(parse("10.32.0.2/32"))
    assert pool.take(b"b", parse("10.32.0.0/28")) == WHOLE.first + 4
    pool.withdraw(parse("10.32.0.2/32"))
    assert pool.rested(1.0 + REST) == [WHOLE.first + 2, WHOLE.first + 129]
    assert pool.take(b"b", parse("10.32.0.128/25")) == WHOLE.first + 129, "the lowest"


def test_parts_of_a_subnet_that_are_others_come_last() -> None:
    small, low = parse("10.32.0.64/29"), (parse("10.32.0.64/30"), parse("10.32.0.66/31"))
    pool = pool_of(WHOLE)
    got = [pool.take(b"%d" % n, small, low) for n in range(7)]
    assert [each and each - WHOLE.first for each in got] == [68, 69, 70, 65, 66, 67, None]
    pool.release(WHOLE.first + 69, 0.0)
    pool.rested(REST)
    assert pool.take(b"more", small, low) == WHOLE.first + 69


def test_who_asks_again_has_what_it_has() -> None:
    pool = pool_of(WHOLE)
    address = pool.take(b"a", WHOLE)
    assert pool.has(b"a", WHOLE) == address
    assert pool.has(b"a", parse("10.32.0.128/25")) is None
    assert address is not None
    assert pool.claim(b"b", address) == b"a"


def test_nothing_of_another_peer_is_given_out() -> None:
    pool = pool_of(WHOLE, parse("10.32.0.128/31"))
    assert pool.claim(b"a", WHOLE.first + 5) is None
    assert pool.take(b"a", WHOLE) == WHOLE.first + 128
    assert pool.take(b"b", parse("10.32.0.0/28")) is None


def test_what_is_offered_to_another_is_not_given_out() -> None:
    pool = pool_of(WHOLE, parse("10.32.0.128/31"))
    pool.offer(parse("10.32.0.128/32"))
    assert pool.take(b"a", WHOLE) == WHOLE.first + 129
    assert not pool.available(WHOLE.first + 128)
    pool.withdraw(parse("10.32.0.128/32"))
    assert pool.available(WHOLE.first + 128)


def test_what_was_lost_is_told_and_forgotten() -> None:
    pool = pool_of(WHOLE)
    for n in range(4):
        pool.take(b"%d" % n, WHOLE)
    pool.release(WHOLE.first + 2, 0.0)
    lost = pool.own([(WHOLE.first + 3, WHOLE.last)])
    assert lost == [(WHOLE.first + 1, b"0"), (WHOLE.first + 2, b"")]
    assert sorted(pool.uses) == [WHOLE.first + 3, WHOLE.first + 4]
    assert pool.rested(REST) == []


@pytest.mark.parametrize(
    ("whole", "subnet", "spare"),
    [
        ("10.32.0.0/12", "10.32.0.0/12", "10.47.240.0/20"),  # a 256th
        ("10.32.0.0/24", "10.32.0.0/24", "10.32.0.240/28"),  # a few, of a small range
        ("10.32.0.0/12", "10.32.8.0/24", "10.32.8.192/26"),  # half of what is free, aligned
        ("10.32.0.0/12", "10.32.8.4/30", "10.32.8.6/32"),
        ("10.32.0.4/31", "10.32.0.4/31", "10.32.0.5/32"),
        ("fd00::/64", "fd00::/64", "fd00::ff00:0:0:0/72"),
    ],
)
def test_what_is_passed_on(whole: str, subnet: str, spare: str) -> None:
    pool = pool_of(parse(whole))
    assert str(pool.spare(parse(subnet))) == spare


def test_the_last_address_is_passed_on_and_then_nothing() -> None:
    small = parse("10.32.0.64/30")
    pool = pool_of(WHOLE)
    pool.take(b"a", small)
    assert str(pool.spare(small)) == "10.32.0.66/32"
    pool.take(b"b", small)
    assert pool.spare(small) is None  # its ends are of no use to anyone


@given(st.data())
def test_what_is_passed_on_is_free_and_of_use(data: st.DataObject) -> None:
    pool = pool_of(WHOLE, *data.draw(st.lists(st.sampled_from(_PARTS), min_size=1, unique=True)))
    pool.own(sorted(pool.owned))
    for address in data.draw(st.sets(st.integers(WHOLE.first, WHOLE.last), max_size=60)):
        pool.claim(b"x", address)
    subnet = data.draw(st.sampled_from(SUBNETS))
    spare = pool.spare(subnet)
    if spare is None:
        assert pool.free(subnet) == 0
        return
    assert subnet.contains(spare)
    assert all(pool.available(each) for each in range(spare.first, spare.last + 1))
    first, last = subnet.hosts
    assert any(first <= each <= last for each in range(spare.first, spare.last + 1))


_PARTS = [parse(f"10.32.0.{n * 16}/28") for n in range(16)]


class Allocating(RuleBasedStateMachine):
    """The pool beside a dictionary that does the same slowly."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.idents = 0.0, 0
        self.pool = pool_of(WHOLE)
        self.owned = set(range(WHOLE.first, WHOLE.last + 1))
        self.offered: set[Prefix] = set()
        self.uses: dict[int, bytes] = {}
        self.rests: dict[int, float] = {}

    def free(self, *, resting: bool = False) -> set[int]:
        offered = {at for each in self.offered for at in range(each.first, each.last + 1)}
        free = self.owned - offered - self.uses.keys()
        return free if resting else free - self.rests.keys()

    @rule(subnet=st.sampled_from(SUBNETS))
    def take(self, subnet: Prefix) -> None:
        self.idents += 1
        first, last = subnet.hosts
        wanted = min((each for each in self.free() if first <= each <= last), default=None)
        assert self.pool.take(b"%d" % self.idents, subnet) == wanted
        if wanted is not None:
            self.uses[wanted] = b"%d" % self.idents

    @rule(address=st.integers(WHOLE.first, WHOLE.last))
    def claim(self, address: int) -> None:
        self.idents += 1
        ident = b"%d" % self.idents
        free = address in self.free(resting=True)
        holder = self.pool.claim(ident, address)
        assert holder == (ident if free else self.uses.get(address))
        if free:
            self.uses[address] = ident
            self.rests.pop(address, None)

    @precondition(lambda self: self.uses)
    @rule(which=st.integers(0, 255))
    def release(self, which: int) -> None:
        address = sorted(self.uses)[which % len(self.uses)]
        self.pool.release(address, self.now)
        del self.uses[address]
        self.rests[address] = self.now + REST

    @rule(seconds=st.sampled_from((1.0, 10.0, 31.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        over = {each for each, until in self.rests.items() if until <= self.now}
        assert set(self.pool.rested(self.now)) == over
        for each in over:
            del self.rests[each]

    @rule(prefix=st.sampled_from(_PARTS))
    def offer(self, prefix: Prefix) -> None:
        inside = set(range(prefix.first, prefix.last + 1))
        if inside <= self.free():
            self.pool.offer(prefix)
            self.offered.add(prefix)

    @precondition(lambda self: self.offered)
    @rule(given_=st.booleans())
    def settle(self, given_: bool) -> None:
        prefix = min(self.offered)
        self.offered.remove(prefix)
        if given_:
            self.owned -= set(range(prefix.first, prefix.last + 1))
            self.own()
        self.pool.withdraw(prefix)

    @rule(prefix=st.sampled_from(_PARTS), gain=st.booleans())
    def own_other(self, prefix: Prefix, gain: bool) -> None:
        inside = set(range(prefix.first, prefix.last + 1))
        if prefix not in self.offered:
            self.owned = self.owned | inside if gain else self.owned - inside
            self.own()

    def own(self) -> None:
        runs: list[tuple[int, int]] = []
        for each in sorted(self.owned):
            if runs and runs[-1][1] + 1 == each:
                runs[-1] = runs[-1][0], each
            else:
                runs.append((each, each))
        held = {**self.uses, **dict.fromkeys(self.rests, b"")}
        lost = {each: ident for each, ident in held.items() if each not in self.owned}
        assert dict(self.pool.own(runs)) == lost
        for each in lost:
            self.uses.pop(each, None)
            self.rests.pop(each, None)

    @invariant()
    def counts_are_right(self) -> None:
        first, last = WHOLE.hosts
        free = sum(first <= each <= last for each in self.free())
        offered = {at for each in self.offered for at in range(each.first, each.last + 1)}
        hidden = sum(each in self.uses or each in self.rests for each in offered)
        assert self.pool.free(WHOLE) == free - hidden
        assert self.pool.total == len(self.owned)


TestAllocating = Allocating.TestCase
TestAllocating.settings = settings(max_examples=10, stateful_step_count=50, deadline=None)


@pytest.mark.slow
def test_a_hundred_thousand_operations_do_as_the_dictionary_does() -> None:
    chance, model = random.Random(1), Allocating()
    for step in range(100_000):
        kind = chance.random()
        if kind < 0.3:
            model.take(chance.choice(SUBNETS))
        elif kind < 0.5:
            model.claim(WHOLE.first + chance.randrange(256))
        elif kind < 0.8 and model.uses:
            model.release(chance.randrange(256))
        elif kind < 0.9:
            model.wait(chance.choice((1.0, 10.0, 31.0)))
        elif kind < 0.93:
            model.offer(chance.choice(_PARTS))
        elif kind < 0.96 and model.offered:
            model.settle(chance.random() < 0.5)
        elif kind >= 0.96:
            model.own_other(chance.choice(_PARTS), chance.random() < 0.7)
        if step % 100 == 0:
            model.counts_are_right()


@pytest.mark.slow
def test_a_whole_range_is_given_out_in_two_seconds() -> None:
    pool = pool_of(parse("10.32.0.0/16"))
    began = time.process_time()
    got = {pool.take(b"%d" % n, pool.whole) for n in range(65_534)}
    assert time.process_time() - began < 2
    assert len(got) == 65_534
    assert None not in got
    assert pool.take(b"more", pool.whole) is None


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32)), max_size=12), st.data())
def test_the_longest_prefix_counts(made: list[tuple[int, int]], data: st.DataObject) -> None:
    values: PrefixMap[int] = PrefixMap()
    kept: dict[Prefix, int] = {}
    for number, (low, length) in enumerate([(0, 24), *made]):
        first = WHOLE.first + (low >> 32 - length << 32 - length)
        values.set(Prefix(4, first, length), number)
        kept[Prefix(4, first, length)] = number
    expected = [
        kept[max((each for each in kept if each.first <= at <= each.last), key=lambda p: p.length)]
        for at in range(WHOLE.first, WHOLE.last + 1)
    ]
    found = [value for first, last, value in values.pieces() for _ in range(first, last + 1)]
    assert found == expected
    at = data.draw(st.integers(0, 255))
    covering = values.covering(Prefix(4, WHOLE.first + at, 32))
    assert covering is not None
    assert covering[1] == expected[at]


@given(st.integers(0, 300), st.integers(0, 300))
def test_runs_are_made_of_whole_prefixes(one: int, other: int) -> None:
    first, last = sorted((one, other))
    parts = list(cover(4, first, last))
    assert [each for part in parts for each in range(part.first, part.last + 1)] == list(
        range(first, last + 1)
    )
    assert all(decode(part.encode()) == part for part in parts)
