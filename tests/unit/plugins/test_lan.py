"""The lan driver as a pure function, and how it claims addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from netkit.driver import Driver, Network, NoFirewall, Segment, SharedSegment
from netkit.errors import Conflict, Forbidden, InUse, InvalidSpec, KernelError
from netkit.model import Link, Netns, Resource, Route, state
from netkit.model.uplink import EnslavedNic
from netkit.network.controller import Controller
from netkit.reconcile.converge import Change, converge, ownership
from netkit.spec import EndpointSpec, NetworkSpec, PortSpec, Sandbox, SubnetSpec
from netkit.store import Database
from netkit.testing.kernel import NETNS, FakeKernel, Inline
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from plugins.lan import Lan, bridge_name

RANGE = SubnetSpec(subnet="10.211.55.0/24", gateway="10.211.55.1", ip_range="10.211.55.128/30")


@dataclass
class Printers:
    """A segment on which these addresses are in use."""

    there: dict[IPv4Address, str] = field(default_factory=dict)
    asked: list[IPv4Address] = field(default_factory=list)
    announced: list[tuple[str, str, IPv4Address]] = field(default_factory=list)

    def has(self, *addresses: str) -> None:
        self.there = {IPv4Address(a): f"00:80:77:00:00:{n:02x}" for n, a in enumerate(addresses)}

    def occupied(
        self, segment: Segment, addresses: Sequence[IPv4Address]
    ) -> Mapping[IPv4Address, str]:
        assert segment.link in {"br-eth0", "br-eth1"}
        self.asked += addresses
        return {a: self.there[a] for a in addresses if a in self.there}

    def announce(self, ns: str, link: str, address: IPv4Address) -> None:
        self.announced.append((ns, link, address))


@dataclass
class Bench:
    net: Controller
    kernel: FakeKernel
    printers: Printers

    def lan(self, *subnets: SubnetSpec, **options: str) -> str:
        spec = NetworkSpec(
            name="lan0", driver="lan", subnets=subnets or (RANGE,), options=options or EITHER
        )
        return self.net.create(spec)[0].id

    def open(self, n: int, network: str, *ports: PortSpec, ip: str = "") -> str:
        sandbox = Sandbox(id=f"{n:064x}", name=f"c{n}", ns=f"{NETNS}/c{n}")
        (record,) = self.net.open(sandbox, [EndpointSpec(network=network, ip=ip)], ports)
        return record.address


EITHER = {"parent": "eth0"}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    kernel, printers = FakeKernel(), Printers()
    net = Controller(
        Database(tmp_path / "db"),
        Inline(kernel, "e1"),
        {"lan": Lan()},
        NoFirewall(),
        engine="e1",
        segments=printers,
    )
    restore_without_built_in(net)
    return Bench(net, kernel, printers)


def restore_without_built_in(net: Controller) -> None:
    net._lifecycle.ensure_predefined = lambda: None  # type: ignore[method-assign]
    net.start()


def test_it_is_a_driver_on_a_segment() -> None:
    driver: Driver = Lan()
    assert isinstance(driver, SharedSegment)
    assert not driver.supports_port_mapping


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either -o parent=NIC"),
        ({"parent": "eth0", "bridge": "br0"}, "either -o parent=NIC"),
        ({"parent": "eth0/1"}, "invalid interface name"),
        ({"parent": "eth0", "probe": "1 s"}, "probe"),
        ({"parent": "eth0", "probe": "10001"}, "probe"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        Lan().parse(options)


def test_the_bridge_is_named_after_its_nic_however_long_that_is() -> None:
    assert bridge_name("enp0s31f6") == "br-enp0s31f6"
    long = {bridge_name(f"enp0s31f6np{n}x") for n in range(9)}
    assert len(long) == 9
    assert all(len(name) == 15 for name in long)


def test_neighbours_are_notified_of_the_new_holder_of_an_address(bench: Bench) -> None:
    lan, other = bench.lan(), bench.net.create(NetworkSpec(name="two", driver="lan",
        subnets=(SubnetSpec(subnet="10.9.0.0/24", gateway="10.9.0.1"),),
        options={"parent": "eth1"}))[0].id  # fmt: skip
    bench.open(1, lan)
    first = (f"{NETNS}/c1", "eth0", IPv4Address("10.211.55.128"))
    assert bench.printers.announced == [first]
    bench.net.connect(
        Sandbox(id=f"{1:064x}", name="c1", ns=f"{NETNS}/c1"), EndpointSpec(network=other)
    )
    assert bench.printers.announced == [first, (f"{NETNS}/c1", "eth1", IPv4Address("10.9.0.2"))]


def test_up_again_down(bench: Bench) -> None:
    network = bench.lan()
    assert bench.open(1, network) == "10.211.55.128/24"
    things = list(bench.kernel.things.values())
    assert [(r.dev, r.bridge) for r in things if isinstance(r, EnslavedNic)] == [
        ("eth0", "br-eth0")
    ]
    assert [r.gateway for r in things if isinstance(r, Route)] == [IPv4Address("10.211.55.1")]
    veth = next(r for r in things if isinstance(r, Link) and r.kind == "veth")
    mac = bench.net.endpoints(network=network)[0].mac
    elements = {k[2:] for k in bench.kernel.things if k[0] == "nft-element"}
    assert elements == {
        ("ports", veth.name),
        ("macs", veth.name, mac),
        ("sources", veth.name, "10.211.55.128"),
        ("identities", veth.name, mac, "10.211.55.128"),
    }
    bench.net.close(f"{1:064x}")
    bench.net.remove("lan0")
    assert [k for k in bench.kernel.things if k[0] != "sysctl"] == []


def test_what_a_container_may_send_is_settled_before_it_is_on_the_wire() -> None:
    net = Network(id="ab" * 32, name="n", driver="lan", options=Lan().parse(EITHER), engine="e")
    from netkit.driver import Endpoint

    ep = Endpoint(
        id="cd" * 32, network=net.id, addresses=(IPv4Interface("10.0.0.2/24"),),
        mac="02:00:00:00:00:05", ns=f"{NETNS}/web", ifname="eth0",
    )  # fmt: skip
    kernel = FakeKernel()
    want = state(
        [*Lan().network(net), Netns(path=ep.ns, owner=net.owner), *Lan().endpoint(net, ep)]
    )
    steps = [str(op) for op in converge(Change.of(want), kernel, ownership("e", NETNS))]
    wire = next(i for i, step in enumerate(steps) if step.startswith("+ veth"))
    assert wire > max(i for i, step in enumerate(steps) if step.startswith("+ nft"))


def test_an_address_in_use_is_skipped_and_not_probed_again(bench: Bench) -> None:
    network = bench.lan()
    bench.printers.has("10.211.55.128", "10.211.55.129")
    assert bench.open(1, network) == "10.211.55.130/24"
    assert bench.open(2, network) == "10.211.55.131/24"
    assert [str(a)[-3:] for a in bench.printers.asked] == ["128", "129", "130", "131"]
    (mac, other) = (r.mac for r in bench.net.endpoints(network=network))
    assert mac != other


def test_when_no_other_is_left_foreign_addresses_are_asked_about_anew(bench: Bench) -> None:
    network = bench.lan()
    bench.printers.has("10.211.55.128", "10.211.55.129", "10.211.55.130", "10.211.55.131")
    with pytest.raises(Conflict, match="no available IPv4 addresses"):
        bench.open(1, network)
    assert bench.net.endpoints() == []
    bench.printers.has("10.211.55.128", "10.211.55.131")
    assert bench.open(2, network) == "10.211.55.129/24"


def test_a_static_address_in_use_is_refused(bench: Bench) -> None:
    network = bench.lan()
    bench.printers.has("10.211.55.200")
    with pytest.raises(InUse, match=r"10\.211\.55\.200 is in use on br-eth0 by 00:80:77"):
        bench.open(1, network, ip="10.211.55.200")
    assert bench.open(1, network, ip="10.211.55.201") == "10.211.55.201/24"


def test_a_static_address_that_was_somebodys_is_probed_again(bench: Bench) -> None:
    network = bench.lan()
    bench.printers.has("10.211.55.128")
    bench.open(1, network)
    with pytest.raises(InUse, match="is in use on br-eth0"):
        bench.open(2, network, ip="10.211.55.128")
    bench.printers.has()
    bench.net.reserve("f" * 64, [EndpointSpec(network=network, ip="10.211.55.128")])
    bench.net.forget("f" * 64)
    assert bench.open(2, network, ip="10.211.55.128") == "10.211.55.128/24"


def test_without_a_probe_no_host_is_asked(bench: Bench) -> None:
    bench.printers.has("10.211.55.128")
    assert bench.open(1, bench.lan(parent="eth0", probe="0")) == "10.211.55.128/24"
    assert bench.printers.asked == []


def test_a_joining_container_is_probed_for_too(bench: Bench) -> None:
    network = bench.lan()
    box = Sandbox(id="1" * 64, name="c", ns=f"{NETNS}/c")
    bench.net.open(box, [], [])
    bench.printers.has("10.211.55.128")
    assert bench.net.connect(box, EndpointSpec(network=network)).address == "10.211.55.129/24"
    bench.printers.has("10.211.55.200")
    bench.net.disconnect(box.id, network)
    with pytest.raises(InUse):
        bench.net.connect(box, EndpointSpec(network=network, ip="10.211.55.200"))
    assert bench.net.endpoints() == []


def test_no_router_of_our_choice_is_made_up_for_the_lan(bench: Bench) -> None:
    network = bench.lan(SubnetSpec(subnet="10.211.55.0/24"))
    assert bench.open(1, network) == "10.211.55.1/24"
    assert not [r for r in bench.kernel.things.values() if isinstance(r, Route)]


def test_publishing_a_port_on_the_lan_is_an_error_that_says_what_to_do(bench: Bench) -> None:
    network = bench.lan()
    with pytest.raises(InvalidSpec, match=r"lan0 publishes no ports: .* leave out -p"):
        bench.open(1, network, PortSpec(proto="tcp", container_port=80, host_first=8080))
    assert bench.net.endpoints() == []


def test_a_driver_without_a_policy_publishes_no_ports_either(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lan, "policy", lambda self, net: None)
    network = bench.lan()
    with pytest.raises(InvalidSpec, match="lan0 publishes no ports: its containers are reached at"):
        bench.open(1, network, PortSpec(proto="tcp", container_port=80, host_first=8080))
    assert bench.net.endpoints() == []


def test_a_nic_has_one_network(bench: Bench) -> None:
    bench.lan()
    second = SubnetSpec(subnet="10.1.0.0/24")
    with pytest.raises(Forbidden, match="interface br-eth0 belongs to network lan0"):
        bench.net.create(NetworkSpec(name="lan1", driver="lan", subnets=(second,), options=EITHER))


def test_there_is_no_internal_lan(bench: Bench) -> None:
    with pytest.raises(InvalidSpec, match="internal"):
        bench.net.create(
            NetworkSpec(name="x", driver="lan", subnets=(RANGE,), options=EITHER, internal=True)
        )


class Unplugged(FakeKernel):
    """A host whose NIC is missing."""

    def _must_fit(self, r: Resource, *, new: bool) -> None:
        if isinstance(r, EnslavedNic):
            raise KernelError(f"there is no interface {r.dev}")
        super()._must_fit(r, new=new)


def test_a_missing_nic_at_the_start_of_the_daemon_hinders_nothing_else(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    drivers = {"lan": Lan(), "bridge": Bridge()}

    def made(kernel: FakeKernel) -> Controller:
        net = Controller(database, Inline(kernel, "e1"), drivers, NoFirewall(), engine="e1")
        restore_without_built_in(net)
        return net

    first = made(FakeKernel())
    first.create(NetworkSpec(name="lan0", driver="lan", subnets=(RANGE,), options=EITHER))
    first.create(NetworkSpec(name="lane", driver="bridge"))
    rebooted = Unplugged()
    again = made(rebooted)
    links = [r.name for r in rebooted.things.values() if isinstance(r, Link)]
    assert [name for name in links if name != "br-eth0"] == [f"br-{again.find('lane').id[:12]}"]
    assert again.find("lan0")


@pytest.mark.parametrize("firewall", [Iptables(), Nftables()])
def test_the_firewall_lets_pass_what_is_bridged_and_closes_nothing(
    firewall: Iptables | Nftables,
) -> None:
    net = Network(id="ab" * 32, name="n", driver="lan", options=Lan().parse(EITHER), engine="e")
    rules = [*firewall.network(net, Lan().policy(net))]
    texts = [" ".join(getattr(r, "args", ())) or str(r.key) for r in rules]
    assert not any("DROP" in t or "closed" in t or "MASQ" in t for t in texts)
    assert any("br-eth0" in t for t in texts)
