"""Containers, ports and access rules come and go; addresses go round: no rule is stale or missing.

On iptables made of text, with foreign rules in between, which must stay untouched.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netkit.driver import Access, Endpoint
from netkit.errors import AlreadyExists, Conflict
from netkit.kernel.iptables.chains import from_save
from netkit.model import Resource, Rule
from netkit.network.access import AccessRule
from netkit.network.config import NetworkConfig
from netkit.network.controller import Controller
from netkit.portallocator import PortAllocator
from netkit.spec import EndpointRecord, EndpointSpec, LinkedPorts, NetworkSpec, PortSpec, Sandbox
from netkit.spec import SubnetSpec as Sub
from netkit.store import Database
from netkit.testing.kernel import NETNS, Inline
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.host import Host
from plugins.none import Null
from tests.unit.netkit.kernel.iptables.saved_tables import ListedKernel

pytestmark = pytest.mark.slow

ICC = "com.docker.network.bridge.enable_icc"
NAMES = ("a", "b", "c", "d", "e", "f")
FOREIGN = "-s 203.0.113.{n}/32 -d 10.6.0.{n}/32 -p tcp -m tcp --dport 80 -j DROP"
PLACES = (
    ("filter", "DOCKER"), ("filter", "DOCKER-FORWARD"), ("filter", "FORWARD"),
    ("filter", "DOCKER-ACCESS"), ("filter", "DOCKER-USER"), ("nat", "DOCKER"),
    ("nat", "POSTROUTING"), ("filter", "MY-CHAIN"),
)  # fmt: skip
# There a rule typed by hand stays above ours; in FORWARD ours are to be the first.
HEADLESS = {("filter", "DOCKER"), ("nat", "DOCKER"), ("filter", "DOCKER-FORWARD")}


class City:
    """One host: what its user did, and the rules that follow from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kernel = ListedKernel()
        self.kernel.tools.tables["filter"]["MY-CHAIN"] = []
        self.database = Database(path)
        self.boxes: dict[str, Sandbox] = {}  # those that are open
        self.rules: dict[str, AccessRule] = {}
        self.foreign: dict[tuple[str, str], list[str]] = {p: [] for p in PLACES}
        self.headed: set[tuple[str, str]] = set()  # begin with a foreign rule
        self.count = 0
        self.rendered: dict[tuple[object, ...], list[Resource]] = {}  # by what it was asked for
        self.net = self.started()
        for name, icc in (("open", "true"), ("apart", "false")):
            subnet = Sub(subnet=f"10.{6 if icc == 'true' else 7}.0.0/28")
            self.net.create(NetworkSpec(name=name, subnets=(subnet,), options={ICC: icc}))

    def started(self) -> Controller:
        drivers = {"bridge": Bridge(), "host": Host(), "null": Null()}
        self.inline = Inline(self.kernel, "e1")
        net = Controller(
            self.database, self.inline, drivers, Iptables(), engine="e1",
            settings=NetworkConfig(), ports=PortAllocator(lambda: range(30000, 30400), frozenset),
        )  # fmt: skip
        net.restore({b.id: b for b in self.boxes.values()})
        return net

    # what may happen

    def step(self, chance: random.Random) -> None:
        acts = [self.open, self.close, self.allow, self.disallow, self.insert, self.withdraw]
        weights = [8, 6, 4, 2, 2, 1]
        if chance.random() < 0.02:
            self.kill(chance)
            return
        chance.choices(acts, weights)[0](chance)

    def open(self, chance: random.Random) -> None:
        name = chance.choice(NAMES)
        if name in self.boxes:
            return
        network = self.net.find(chance.choice(("open", "apart", "bridge")))
        opens = tuple(
            LinkedPorts(sandbox=ident(n), ports=(("tcp", 80), ("udp", 53)))
            for n in chance.sample(NAMES, chance.randrange(3))
            if n != name
        )
        box = Sandbox(id=ident(name), name=name, ns=f"{NETNS}/{name}")
        want = EndpointSpec(network=network.id, opens=opens)
        with suppress(Conflict):  # one of the ports is taken
            self.net.open(box, [want], ports(chance))
            self.boxes[name] = box

    def close(self, chance: random.Random) -> None:
        if not self.boxes:
            return
        name = chance.choice(sorted(self.boxes))
        self.net.close(ident(name))
        del self.boxes[name]
        if chance.random() < 0.3:  # removed, and not only stopped
            self.net.forget(ident(name))
            removed = {ident(name)}
            self.rules = {i: r for i, r in self.rules.items() if not {r.target, r.source} & removed}

    def allow(self, chance: random.Random) -> None:
        target, source = chance.sample(NAMES, 2)
        known = {e.sandbox for e in self.net.endpoints()}
        if ident(target) not in known:
            return
        nets = tuple(f"198.51.{chance.randrange(100)}.0/24" for _ in range(chance.choice((1, 12))))
        by_name = chance.random() < 0.5
        first = chance.choice((0, 80, 8000))
        rule = AccessRule(
            verdict=chance.choice(("accept", "drop")),
            target=ident(target),
            sources=() if by_name else nets,
            source=ident(source) if by_name else "",
            proto="tcp" if first else "",
            first=first,
            last=first and first + chance.choice((0, 9)),
            published=bool(first) and chance.random() < 0.5,
        )
        with suppress(Conflict, AlreadyExists):  # reported already
            made = self.net.add_access_rule(rule, first=chance.random() < 0.2)
            self.rules[made.id] = made

    def disallow(self, chance: random.Random) -> None:
        if self.rules:
            id = chance.choice(sorted(self.rules))
            self.net.remove_access_rule(id)
            del self.rules[id]

    def insert(self, chance: random.Random) -> None:
        """Add a foreign rule at the head (`iptables -I`) or the end (`-A`) of a chain."""
        place = chance.choice(PLACES)
        chain = self.kernel.tools.tables[place[0]][place[1]]
        self.count += 1
        spec = FOREIGN.format(n=self.count % 250)
        if chance.random() < 0.5:
            chain.insert(0, spec)
            self.foreign[place].insert(0, spec)
            self.headed |= {place} & HEADLESS
        else:
            chain.append(spec)
            self.foreign[place].append(spec)

    def withdraw(self, chance: random.Random) -> None:
        place = chance.choice(PLACES)
        if self.foreign[place]:
            spec = self.foreign[place].pop(0)
            self.kernel.tools.tables[place[0]][place[1]].remove(spec)
            self.headed.discard(place)

    def kill(self, _: random.Random) -> None:
        self.database.close()
        self.database = Database(self.path)
        self.kernel.forget()
        self.net = self.started()

    # what must be

    def check(self) -> None:
        rules = list(self.due())
        due = {(r.table, r.chain, r.digest, r.owner) for r in rules}
        seen: list[tuple[str, str, str, str]] = []
        for table in self.kernel.tools.tables:
            listed = from_save(self.kernel.tools.save(4, table))
            for chain, entries in listed.items():
                ours = [e for e in entries if e.owner is not None]
                seen += [(table, chain, e.digest, e.owner or "") for e in ours]
                assert [e.rank for e in ours] == sorted(e.rank for e in ours), chain
                foreign = [e.spec for e in entries if e.owner is None]
                assert foreign == self.foreign.get((table, chain), []), chain
        assert len(seen) == len(set(seen))
        assert set(seen) == due
        sets = {r.args[r.args.index("--match-set") + 1] for r in rules if "set" in r.args}
        assert {k[2] for k in self.kernel.things if k[0] == "ipset"} == sets
        for table, chain in self.headed:
            listed = self.kernel.tools.tables[table][chain]
            assert listed[0] in self.foreign[table, chain], "what was put first is first"

    def due(self) -> Iterator[Rule]:
        """Render every rule from what the user did."""
        firewall, registry = Iptables(), self.net._parts.registry
        made = [*firewall.setup("netkit:e1:global")]
        for entry in registry.all():
            if entry.policy is not None:
                made += firewall.network(entry.config, entry.policy)
        for record in self.net.endpoints():
            entry = registry.get(record.network)
            if entry.policy is None:
                continue
            ep = Endpoint(
                id=record.id, network=record.network, mac=record.mac, ns="", ifname=record.ifname,
                addresses=(ip_interface(record.address),),
            )  # fmt: skip
            icc = entry.policy.icc
            access = [*self._access(record, icc), *self._links(record, icc)]
            # What is rendered depends on nothing else: a network keeps its policy.
            asked = (record.id, record.address, record.mac, record.ports, *access)
            if asked not in self.rendered:
                self.rendered[asked] = [
                    *firewall.endpoint(entry.config, entry.policy, ep, record.ports, access)
                ]
            made += self.rendered[asked]
        yield from (r for r in made if isinstance(r, Rule))

    def _access(self, record: EndpointRecord, icc: bool) -> Iterator[Access]:
        for rule in self.rules.values():
            if rule.target != record.sandbox:
                continue
            known = rule.verdict == "accept" and not icc  # neighbours, by their MAC address
            named = [(s, "") for s in rule.sources]
            named += [(e.address.split("/")[0],
                       e.mac if known and e.network == record.network else "")
                      for e in self.net.endpoints(sandbox=rule.source or "-")]  # fmt: skip
            for mac in {mac for _, mac in named}:
                yield Access(
                    id=rule.id, verdict=rule.verdict, priority=rule.seq, mac=mac,  # type: ignore[arg-type]
                    sources=tuple(ip_network(s) for s, m in named if m == mac),
                    proto=rule.proto, first=rule.first, last=rule.last, published=rule.published,
                )  # fmt: skip

    def _links(self, child: EndpointRecord, icc: bool) -> Iterator[Access]:
        for parent in self.net.endpoints(network=child.network):
            for opened in parent.spec.opens:
                for proto, port in opened.ports if opened.sandbox == child.sandbox else ():
                    if not icc:
                        yield Access(
                            id="0" * 12, verdict="accept", link=True, proto=proto,
                            sources=(ip_network(parent.address.split("/")[0]),),
                            first=port, last=port, mac=parent.mac,
                        )  # fmt: skip


def ident(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def ports(chance: random.Random) -> list[PortSpec]:
    """A few ports, a range, many scattered ones: some collide with a neighbour's."""
    out: list[PortSpec] = []
    for _ in range(chance.randrange(3)):
        first, count = chance.randrange(1, 40) * 500, chance.choice((1, 1, 20))
        ip = chance.choice(("", "127.0.0.1", "192.0.2.1"))
        shift = chance.choice((0, 7))
        out += [spec(first + n, first + n + shift, ip) for n in range(count)]
    if chance.random() < 0.2:
        taken = {s.host_first for s in out}
        some = [p for p in chance.sample(range(21000, 29000), 40) if p not in taken]
        out += [spec(p, chance.randrange(1, 9999)) for p in some]
    return [*{(s.host_first, s.proto): s for s in out}.values()]


def spec(host: int, inside: int, ip: str = "") -> PortSpec:
    return PortSpec(proto="tcp", container_port=inside, host_ip=ip, host_first=host, host_last=host)


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reserve host ports in memory only: the test does not touch this machine's ports."""
    monkeypatch.setattr("netkit.portallocator._bound", lambda *_: None)


def test_addresses_and_ports_recycled_a_thousand_times_leave_no_rule_stale_or_missing(
    tmp_path: Path,
) -> None:
    chance = random.Random(20)
    city = City(tmp_path / "db")
    try:
        for _ in range(1000):
            city.step(chance)
            city.check()
        assert city.count > 50
    finally:
        city.database.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 2**32), max_size=30))
def test_no_sequence_of_events_leaves_a_rule_stale_or_missing(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int]
) -> None:
    city = City(tmp_path_factory.mktemp("city") / "db")
    try:
        for seed in seeds:
            city.step(random.Random(seed))
            city.check()
    finally:
        city.database.close()
