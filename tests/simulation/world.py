"""One run: some hosts, the bad luck of years in less than a minute, and then peace."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from plugins.weave.entries import Reclaim
from plugins.weave.holdings import Lost
from plugins.weave.identity import PeerId
from plugins.weave.membership import WeAreRemoved
from plugins.weave.outbox import Recorded
from plugins.weave.output import Output
from plugins.weave.prefixes import parse
from plugins.weave.record import Kind
from plugins.weave.requests import Allocated
from plugins.weave.statements import Endpoint, encode
from plugins.weave.step import Address
from tests.simulation.checks import NETWORK, Checker, Truth, Violation, bounded, converged
from tests.simulation.host import Host
from tests.simulation.network import Clock, Network, Weather

STORM = 40.0
"""Seconds in which things go wrong."""
PEACE = 120.0
"""Seconds in which all has to be well after that."""
LOOK = 1.0
RANGE = parse("10.32.0.0/24")
PEERS = (*(3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 8, 8, 9) * 2, 10, 12, 16, 25)
CONFLICTS = 3
"""Addresses that everybody likes to choose."""


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    peers: int
    trace: str
    events: int
    datagrams: int
    octets: int
    healed: float
    """Seconds until all was well."""


class World:
    """Everything is drawn from the seed."""

    def __init__(
        self, seed: int, peers: int | None = None, host: type[Host] = Host
    ) -> None:
        """`host`: with sessions that are played, or `whole.WholeHost`."""
        self.seed, self._host = seed, host
        self.random = random.Random(f"world {seed}")
        self.clock = Clock()
        self.network = Network(self.clock, random.Random(f"network {seed}"))
        self.addresses: dict[Address, Host] = {}
        self.hosts: list[Host] = []
        self.checker, self.truth = Checker(), Truth()
        self.removed: set[PeerId] = set()
        self._names = 0
        drawn = self.random.choice(PEERS)
        for _ in range(drawn if peers is None else peers):
            self._add()
        self.hosts[0].founds = RANGE
        self.checker.strict = seed % 4 != 0

    def run(self) -> Result:
        """Raises Violation."""
        for host in self.hosts:
            self.clock.at(self.random.uniform(0, 5), self._start, host)
        self._weather()
        time = 1.0
        while time < STORM:
            self.clock.at(time, self.random.choice(self._accidents()))
            time += self.random.expovariate(0.7 + 0.03 * len(self.hosts))
        while self.clock.now < STORM:
            self.clock.run(self.clock.now + LOOK)
            self.checker.owners(self.hosts)
        self._calm()
        healed = self._heal()
        for host in self.hosts:
            bounded(host)
        return Result(
            self.seed, len(self.hosts), self.clock.trace, self.clock.events,
            self.network.datagrams, self.network.octets, healed,
        )  # fmt: skip

    # Hosts

    def _add(self) -> Host:
        number = len(self.hosts)
        host = self._host(number, self.clock, self.network, self.seed, self.addresses)
        host.watch = self._watch
        host.disk.keep = 8
        others = [other.address for other in self.hosts]
        host.targets = others if len(others) < 2 else self.random.sample(others, 2)
        self.hosts.append(host)
        return host

    def _watch(self, host: Host, output: Output) -> None:
        self.checker.step(host, output)
        for event in output.events:
            if isinstance(event, Allocated):
                address = (event.address & 0xFFFFFFFF).to_bytes(4, "big")
                value = encode(Endpoint(NETWORK, b"\6\0" + address, (address,)))
                self.clock.at(self.clock.now, self._say, host, event.ident, value)
            elif isinstance(event, Lost):
                self.clock.at(self.clock.now, self._unsay, host, event.ident)
            elif isinstance(event, Recorded):
                self._recorded(event)
            elif isinstance(event, WeAreRemoved):
                self.clock.at(self.clock.now, self._begin_anew, host, host.me)

    def _begin_anew(self, host: Host, removed: PeerId) -> None:
        if host.me == removed:
            self.removed.add(removed)
            host.crash()
            self._wipe(host)
            self._start(host)

    def _recorded(self, event: Recorded) -> None:
        operation = event.decided.entry.operation
        if isinstance(operation, Reclaim):
            self.removed.add(operation.peer)
            for host in self.hosts:  # nobody speaks to it any more: its user sees to that
                if host.me == operation.peer:
                    self.clock.at(self.clock.now + 5, self._begin_anew, host, host.me)

    def _start(self, host: Host) -> None:
        if host.mesh is not None or host.me in self.removed:
            return
        host.start()
        if host.mesh is not None:  # netkitd says what there is
            host.mesh.ourselves.resync(Kind.ENDPOINT, self.truth.endpoints.get(host.number, {}))
            host.act()

    def _up(self) -> list[Host]:
        return [host for host in self.hosts if host.mesh is not None]

    def _some(self) -> Host | None:
        up = self._up()
        return self.random.choice(up) if up else None

    # Accidents

    def _accidents(self) -> list[Callable[[], None]]:
        often = [self._put, self._put, self._delete, self._delete, *[self._allocate] * 4]
        return [
            *often, self._change, self._crash, self._crash_in_step, self._partition, self._one_way,
            self._cut, self._mend, self._weather, self._jump, self._freeze, self._join,
            self._remove, self._nonsense,
        ]  # fmt: skip

    def _endpoint(self, name: str) -> bytes:
        draw = self.random
        address = bytes((10, 2, 0, draw.randrange(CONFLICTS)))
        if draw.random() < 0.8:
            address = bytes((10, 3)) + draw.randbytes(2)
        mac = b"\2" + draw.randbytes(5)
        return encode(Endpoint(NETWORK, mac, (address,), (name,), name))

    def _put(self) -> None:
        host = self._some()
        if host is not None and host.mesh is not None:
            self._names += 1
            key = b"e%d" % self._names
            self._say(host, key, self._endpoint(f"c{self._names}"))

    def _say(self, host: Host, key: bytes, value: bytes) -> None:
        if host.mesh is None:
            return
        self.truth.put(host.number, key, value)
        host.mesh.ourselves.put(Kind.ENDPOINT, key, value)
        host.act()

    def _one_of(self) -> tuple[Host, bytes] | None:
        host = self._some()
        keys = sorted(self.truth.endpoints.get(host.number, {})) if host else []
        return (host, self.random.choice(keys)) if host and keys else None

    def _change(self) -> None:
        found = self._one_of()
        if found is not None and not found[1].startswith(b"a"):
            self._say(*found, self._endpoint(found[1].decode()))

    def _delete(self) -> None:
        found = self._one_of()
        if found is not None:
            self._unsay(*found)

    def _unsay(self, host: Host, key: bytes) -> None:
        self.truth.delete(host.number, key)
        if host.core is not None:
            if key.startswith(b"a"):
                self.checker.release(host.me, key)
                host.core.space.release(key, host.now)
            host.core.mesh.ourselves.delete(Kind.ENDPOINT, key)
            host.act()

    def _allocate(self) -> None:
        host = self._some()
        if host is not None and host.core is not None:
            for _ in range(self.random.choice((1, 1, 3))):
                self._names += 1
                host.core.space.allocate(b"a%d" % self._names, host.now, host.now + 20)
            host.act()

    def _crash(self) -> None:
        host = self._some()
        if host is not None:
            host.crash(reboot=self.random.random() < 0.5)
            self._disk(host)
            self.clock.at(self.clock.now + self.random.expovariate(0.1), self._start, host)

    def _crash_in_step(self) -> None:
        """After the next transaction, before anything of it is sent."""
        host = self._some()
        if host is not None:
            host.dies_before_sending = True
            self.clock.at(self.clock.now + self.random.uniform(1, 20), self._start, host)

    def _disk(self, host: Host) -> None:
        fate = self.random.random()
        if fate < 0.15 and not self.checker.strict:
            self.checker.removed.pop(host.number, None)
            self.checker.older.add(host.me)
            host.disk.take_back(self.random.randint(1, 8))
        elif 0.15 < fate < 0.25:
            self._wipe(host)

    def _wipe(self, host: Host) -> None:
        """It comes back as a new peer, which has none of the addresses."""
        self.checker.removed.pop(host.number, None)
        endpoints = self.truth.endpoints.get(host.number, {})
        for key in [key for key in endpoints if key.startswith(b"a")]:
            del endpoints[key]
        host.lose_disk()
        if not host.targets:
            host.targets = [self.hosts[1].address, self.hosts[2].address]

    def _partition(self) -> None:
        side = {host.number for host in self.hosts if self.random.random() < 0.5}
        for a in self.hosts:
            for b in self.hosts:
                if (a.number in side) != (b.number in side):
                    self.network.blocked.add((a.number, b.number))
        self.clock.at(self.clock.now + self.random.uniform(1, 30), self._mend)

    def _one_way(self) -> None:
        a, b = self.random.sample(self.hosts, 2)
        self.network.blocked.add((a.number, b.number))

    def _cut(self) -> None:
        a, b = self.random.sample(self.hosts, 2)
        self.network.blocked |= {(a.number, b.number), (b.number, a.number)}

    def _mend(self) -> None:
        self.network.blocked.clear()

    def _weather(self) -> None:
        draw = self.random
        bad = draw.random() < 0.6
        self.network.weather = Weather(
            loss=draw.choice((0.01, 0.05, 0.2, 0.5)) if bad else 0.0,
            damaged=0.01 if bad else 0.0,
            doubled=draw.choice((0.0, 0.1)),
            late=draw.choice((0.0, 0.2)),
        )

    def _jump(self) -> None:
        host = self._some()
        if host is not None:
            host.ahead += self.random.choice((1.0, 30.0, 3600.0))
            host.act()

    def _freeze(self) -> None:
        """A machine that was suspended: nothing that is sent to it arrives, its clock goes on."""
        host = self._some()
        if host is not None:
            others = [other.number for other in self.hosts if other is not host]
            for other in others:
                self.network.blocked |= {(host.number, other), (other, host.number)}
            self.clock.at(self.clock.now + self.random.uniform(1, 15), self._mend)

    def _join(self) -> None:
        if len(self.hosts) < 25:
            host = self._add()
            self._start(host)

    def _remove(self) -> None:
        """rmpeer of one that is down, by one that takes it for dead."""
        host = self._some()
        if host is None or host.mesh is None or self.random.random() < 0.5:
            return
        up = {other.me for other in self._up()}
        for peer in host.mesh.membership.dead():
            if peer not in up and host.core is not None and host.core.space.council is not None:
                host.core.space.remove_peer(peer, host.now, host.now + 30)
                host.act()
                return

    def _nonsense(self) -> None:
        """A peer of the network sends what is no message, or what others said in another place."""
        host, other = self._some(), self._some()
        if host is None or other is None or host.core is None or host is other:
            return
        blob = self.random.randbytes(self.random.randrange(200))
        host.mesh.received(other.me, blob, host.now)
        host.act()

    # Peace

    def _calm(self) -> None:
        self.network.blocked.clear()
        self.network.weather = Weather()
        for host in self.hosts:
            host.dies_before_sending = False
            if host.me in self.removed:
                host.crash()
                self._wipe(host)
            self._start(host)

    def _heal(self) -> float:
        began = self.clock.now
        why = ""
        while self.clock.now < began + PEACE:
            self.clock.run(self.clock.now + LOOK)
            self.checker.owners(self.hosts)
            why = converged(self.hosts, self.truth)
            if not why:
                return self.clock.now - began
        raise Violation(f"{PEACE:.0f} s after all was well {why}")
