"""A world of a few peers that share addresses: seeded, one event after the other, no real time.

Messages are lost, doubled, late and out of order; hosts lose each other, stop, start, are wiped;
their clocks are off by up to a tenth, and begin anew with a boot.  After every event the world
looks for what must never be: an address that two hosts may use, or do use.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable

import pytest

from plugins.weave import council, holder, identity, lease
from plugins.weave.holder import Fenced
from plugins.weave.holdings import Lost
from plugins.weave.identity import PeerId, PublicKeys
from plugins.weave.outbox import Outcome, Recorded
from plugins.weave.prefixes import parse
from plugins.weave.requests import Allocated, Refused
from plugins.weave.space import TABLES, Space
from plugins.weave.space_messages import CODEC
from plugins.weave.space_status import in_use, usable
from plugins.weave.step import Event
from tests.simulation.crypto import FakeCrypto

CRYPTO = FakeCrypto()
RANGE = parse("10.32.0.0/24")
Rows = dict[str, dict[bytes, bytes]]


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Leases of minutes instead of days, in the same proportion."""
    patch.setattr(lease, "LEASE", 720.0)
    patch.setattr(lease, "PROMISE", 900.0)
    patch.setattr(holder, "RENEW", 60.0)
    patch.setattr(council, "GONE", 120.0)
    patch.setattr(council, "SETTLED", 20.0)


class Violation(AssertionError):
    """What must never be."""


class Host:
    """A machine: a disk, a clock, and at times a process with the peer's part in it."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.random = random.Random(f"{world.seed}/{number}")
        self.wipe()

    def wipe(self) -> None:
        """A new disk, and so another peer."""
        self.disk: Rows = {table: {} for table in TABLES}
        self.records: dict[tuple[PeerId, bytes], tuple[int, bytes]] = {}
        self.identity = identity.make(CRYPTO, self.random.randbytes)
        self.me = self.identity.peer
        self.world.keys[self.me] = self.identity.public
        self.space: Space | None = None
        self.events: list[Event] = []
        self.due = self.until = float("inf")
        self.runs: list[tuple[int, int]] = []
        self.used: set[tuple[bytes, int]] = set()
        self.ledger = b""
        self.boot()

    def boot(self) -> None:
        self.rate = 0.9 + 0.2 * self.random.random()
        self.offset = self.world.now
        self.boot_id = self.random.randbytes(8)

    @property
    def now(self) -> float:
        return (self.world.now - self.offset) * self.rate

    def start(self) -> None:
        self.space = Space(
            identity=self.identity, crypto=CRYPTO, random=self.random.randbytes,
            keys=self.world.keys.get, boot=self.boot_id, now=self.now,
        )  # fmt: skip
        self.space.restore(self.disk, self.now)
        for (origin, key), (_, value) in sorted(self.records.items()):
            if origin != self.me:
                self.space.received(origin, key, value, self.now)
        self.settle()

    def stop(self) -> None:
        self.space = None
        self.due = float("inf")

    def do(self, call: Callable[[Space, float], object]) -> None:
        """One call, and what follows from it."""
        if self.space is not None:
            call(self.space, self.now)
            self.settle()

    def settle(self) -> None:
        assert self.space is not None
        outcome = self.space.take()
        accident = self.world.random.random() if self.world.crashes else 1.0
        if accident < self.world.crashes:  # before anything was written
            self.stop()
            return
        self.write(outcome)
        if accident < 2 * self.world.crashes:  # before anything was sent
            self.stop()
            return
        for peer, message in outcome.messages:
            self.world.send(self, peer, CODEC.encode(message))
        for key, value in outcome.publish:
            version = self.records.get((self.me, key), (0, b""))[0] + 1
            self.records[self.me, key] = version, value
        if outcome.publish:
            self.world.spread(self)
        self.world.received(self, outcome.events)
        self.events += outcome.events
        wait = (self.space.deadline() - self.now) / self.rate
        self.due = self.world.now + max(wait, 0.01)
        if self.due < float("inf"):
            self.world.at(self.due, lambda due=self.due: self.tick(due))
        self.world.check(self)

    def write(self, outcome: Outcome) -> None:
        for change in outcome.persist:
            if change.value is None:
                self.disk[change.table].pop(change.key, None)
            else:
                self.disk[change.table][change.key] = change.value

    def tick(self, due: float) -> None:
        if due == self.due:
            self.do(lambda space, now: space.tick(now))

    def sync(self, records: dict[tuple[PeerId, bytes], tuple[int, bytes]]) -> None:
        for place, record in sorted(records.items()):
            if place[0] == self.me or record[0] <= self.records.get(place, (0,))[0]:
                continue
            self.records[place] = record
            self.do(lambda space, now, p=place, r=record: space.received(*p, r[1], now))

    # -- what is looked at -----------------------------------------------------------------------

    def note(self) -> None:
        """What it may give out and what is in use there, until its lease ends."""
        space = self.space
        self.runs = usable(space, self.now) if space else []
        self.used = set(in_use(space, self.now)) if space else set()
        if space is not None and space.council is not None:
            self.ledger = space.council.replica.ledger.id
            self.until = self.offset + space.council.holder.lease.until / self.rate


class World:
    def __init__(self, seed: int, hosts: int, *, loss: float = 0.05) -> None:
        self.seed, self.loss = seed, loss
        self.crashes = 0.0  # how likely one is, with every call
        self.random = random.Random(seed)
        self.now = 0.0
        self.keys: dict[PeerId, PublicKeys] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.groups: list[int] = [0] * hosts
        self.cuts: set[frozenset[int]] = set()  # pairs that do not reach each other
        self.hosts = [Host(self, number) for number in range(hosts)]
        self.trace = 0
        self.entries: dict[tuple[bytes, int, int], bytes] = {}
        self.holders: dict[tuple[PeerId, bytes, int], bytes] = {}
        self.at(5.0, self.gossip)

    # -- time ------------------------------------------------------------------------------------

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._numbers), call))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, number, call = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            self.trace = hash((self.trace, when, number))
            call()
        self.now = end

    # -- the network -----------------------------------------------------------------------------

    def joined(self, one: Host, other: Host) -> bool:
        near = self.groups[one.number] == self.groups[other.number]
        return near and frozenset((one.number, other.number)) not in self.cuts

    def host(self, peer: PeerId) -> Host | None:
        return next((host for host in self.hosts if host.me == peer), None)

    def send(self, source: Host, peer: PeerId, data: bytes) -> None:
        target = self.host(peer)
        if target is None:
            return
        copies = 2 if self.random.random() < self.loss else 1
        for _ in range(copies):
            if self.random.random() >= self.loss:
                delay = 0.001 + self.random.expovariate(50)
                if self.random.random() < self.loss / 10:
                    delay += self.random.expovariate(0.01)
                self.at(self.now + delay, lambda: self._arrive(source.me, source, target, data))

    def _arrive(self, sender: PeerId, source: Host, target: Host, data: bytes) -> None:
        if self.joined(source, target) and source.me == sender:
            target.do(lambda space, now: space.receive(sender, data, now))

    def spread(self, source: Host) -> None:
        """Records go to those that can be reached."""
        for target in self.hosts:
            if target is not source and self.random.random() >= self.loss:
                delay = 0.01 + self.random.expovariate(20)
                self.at(self.now + delay, lambda t=target: self._sync(source, t))

    def _sync(self, source: Host, target: Host) -> None:
        if source.space and target.space and self.joined(source, target):
            target.sync(source.records)

    def gossip(self) -> None:
        one, other = self.random.choices(self.hosts, k=2)
        self._sync(one, other)
        self._sync(other, one)
        for host in self.hosts:
            alive = self._alive(host)
            if host.space is not None and alive != host.space.context.alive.keys():
                host.do(lambda space, now, alive=alive: space.view(alive, now))
        self.at(self.now + 10.0, self.gossip)

    def _alive(self, host: Host) -> frozenset[PeerId]:
        return frozenset(
            each.me for each in self.hosts
            if each is not host and each.space is not None and self.joined(host, each)
        )  # fmt: skip

    # -- what must never be ----------------------------------------------------------------------

    def received(self, host: Host, events: Iterable[Event]) -> None:
        """There is one entry for each number, and one holder of an address on a host."""
        for event in events:
            if isinstance(event, Recorded):
                entry = event.decided.entry
                place = (entry.ledger, entry.generation, entry.number)
                if self.entries.setdefault(place, entry.hash) != entry.hash:
                    raise Violation(f"two entries {entry.number}")
            elif isinstance(event, Allocated):
                held = (host.me, event.realm.id, event.address)
                if self.holders.setdefault(held, event.ident) != event.ident:
                    raise Violation(f"address {event.address:x} was given to two")
            elif isinstance(event, Lost):
                self.holders.pop((host.me, event.realm.id, event.address), None)

    def check(self, host: Host) -> None:
        host.note()
        for other in self.hosts:
            if other is host or other.space is None or other.until <= self.now:
                continue
            if other.ledger != host.ledger:  # founded apart: the user is told
                continue
            if _overlap(host.runs, other.runs):
                raise Violation(f"hosts {host.number} and {other.number} own the same address")
            if not host.used.isdisjoint(other.used):
                raise Violation(f"hosts {host.number} and {other.number} use the same address")

    # -- for tests -------------------------------------------------------------------------------

    def launch(self) -> None:
        """The first founds, the others join."""
        for host in self.hosts:
            host.start()
        self.hosts[0].do(lambda space, now: space.found(RANGE, now))

    def answers(self, host: Host) -> list[Allocated | Refused]:
        return [each for each in host.events if isinstance(each, Allocated | Refused)]

    def fences(self, host: Host) -> list[bool]:
        return [each.fenced for each in host.events if isinstance(each, Fenced)]


def _overlap(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> bool:
    runs = sorted([*one, *other])
    return any(last >= first for (_, last), (first, _) in itertools.pairwise(runs))


class Story:
    """A world in which things happen at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"story {seed}")
        loss = self.random.choice((0.0, 0.05, 0.3))
        self.world = World(seed, self.random.randint(3, 7), loss=loss)
        self.idents = itertools.count()
        self.gone: list[PeerId] = []  # peers that will never come back

    def run(self, steps: int) -> None:
        self.world.launch()
        self.world.run(30)
        for _ in range(steps):
            self.step()
            self.world.run(self.random.choice((0.1, 1, 10, 10, 60, 300, 1000)))
        self.heal()

    def step(self) -> None:
        host = self.random.choice(self.world.hosts)
        if host.space is None:
            self.begin(host)
        else:
            self.random.choices(
                (self.allocate, self.claim, self.release, self.split, self.join, self.stop,
                 self.wipe, self.remove, self.accidents, self.leave),
                (30, 8, 12, 8, 8, 6, 2, 4, 4, 1),
            )[0](host)  # fmt: skip

    def begin(self, host: Host) -> None:
        if self.random.random() < 0.5:
            host.boot()
        host.start()

    def allocate(self, host: Host) -> None:
        subnet = self.random.choice((None, None, parse("10.32.0.64/28"), parse("10.32.0.128/25")))
        for _ in range(self.random.choice((1, 1, 4, 40))):
            ident = b"%d" % next(self.idents)
            host.do(lambda s, now, i=ident: s.allocate(i, now, now + 60, subnet=subnet))

    def claim(self, host: Host) -> None:
        address, ident = RANGE.first + self.random.randrange(1, 255), b"%d" % next(self.idents)
        host.do(lambda space, now: space.claim(ident, address, now, now + 60))

    def release(self, host: Host) -> None:
        assert host.space is not None
        idents = sorted({use.ident for pool in host.space.holdings.pools.values()
                         for use in pool.uses.values() if use.ident})  # fmt: skip
        for ident in self.random.sample(idents, min(len(idents), 5)):
            for held in [h for h, i in self.world.holders.items() if i == ident]:
                del self.world.holders[held]
            host.do(lambda space, now, i=ident: space.release(i, now))

    def split(self, host: Host) -> None:
        if self.random.random() < 0.4:
            for other in self.random.sample(self.world.hosts, 2):
                self.world.cuts.add(frozenset((host.number, other.number)))
            return
        parts = self.random.choice((2, 2, 3))
        self.world.groups = [self.random.randrange(parts) for _ in self.world.hosts]

    def join(self, host: Host) -> None:
        self.world.groups = [0] * len(self.world.hosts)
        self.world.cuts.clear()

    def stop(self, host: Host) -> None:
        host.stop()

    def wipe(self, host: Host) -> None:
        self.gone.append(host.me)
        host.stop()
        host.wipe()
        host.start()

    def leave(self, host: Host) -> None:
        host.do(lambda space, now: space.leave(now, now + 60))
        self.world.run(self.random.choice((0.1, 100)))
        self.wipe(host)

    def remove(self, host: Host) -> None:
        if self.gone and host.space is not None and host.space.council is not None:
            peer = self.random.choice(self.gone)
            host.do(lambda space, now: space.remove_peer(peer, now, now + 30))

    def accidents(self, host: Host) -> None:
        self.world.crashes = self.random.choice((0.0, 0.0, 0.002))

    def crowd(self, rounds: int) -> None:
        """All members of a council propose at once, and hosts crash in between."""
        self.world.launch()
        self.world.run(200)  # a council of three or five
        crashes = self.random.choice((0.01, 0.02))
        for _ in range(rounds):
            self.world.crashes, self.world.loss = crashes, 0.3
            for host in self.world.hosts:
                if host.space is None:
                    self.begin(host)
                for _ in range(3):
                    self.claim(host)
            self.world.run(self.random.choice((0.2, 1, 3)))
            if self.random.random() < 0.4:
                self.world.groups = [self.random.randrange(2) for _ in self.world.hosts]
            else:
                self.world.groups = [0] * len(self.world.hosts)
        self.heal()

    def heal(self) -> None:
        self.world.crashes, self.world.loss = 0.0, min(self.world.loss, 0.05)
        self.join(self.world.hosts[0])
        for host in self.world.hosts:
            if host.space is None:
                self.begin(host)
        self.world.run(300)
