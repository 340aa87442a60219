"""The weave driver as a pure function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from netkit.driver import Endpoint, Network, NoFirewall, Subnet
from netkit.errors import Forbidden, InUse, InvalidSpec, KernelError
from netkit.model import (
    HOST,
    PORT_FLAGS,
    Addr,
    Fdb,
    Key,
    Link,
    Neigh,
    Resource,
    Route,
    Sysctl,
    state,
)
from netkit.network.controller import Controller
from netkit.spec import EndpointSpec, NetworkSpec, PortSpec, Sandbox, SubnetSpec
from netkit.store import Database
from netkit.testing.kernel import NETNS, FakeKernel, Inline
from plugins.weave.driver import Weave, bridge_name, host_mac, tap_name, vni_of, vxlan_name

ID = "ab" * 32
CIDR = ip_network("10.32.0.0/16")


def network(name: str = "lane", *, gateway: bool = True, **options: str) -> Network:
    return Network(
        id=ID, name=name, driver="weave",
        subnets=(Subnet(cidr=CIDR, gateway=CIDR[1] if gateway else None),),
        options=Weave().parse(options),
    )  # fmt: skip


def endpoint(net: Network) -> Endpoint:
    return Endpoint(
        id="cd" * 32, network=net.id, addresses=(ip_interface("10.32.0.7/16"),),
        mac="02:42:0a:20:00:07", ns=f"{NETNS}/c1", ifname="eth0", gateway=True,
    )  # fmt: skip


def links(net: Network) -> dict[str, Link]:
    return {r.name: r for r in Weave().network(net) if isinstance(r, Link)}


def of(kind: type[Resource], resources: object) -> list[Resource]:
    return [r for r in resources if isinstance(r, kind)]  # type: ignore[attr-defined]


def test_both_ends_of_the_overlay_learn_nothing_and_are_apart() -> None:
    net = network()
    ends = [links(net)[n] for n in (tap_name(net), vxlan_name(net) or "")]
    assert [end.kind for end in ends] == ["tap", "vxlan"]
    for end in ends:
        flags = {name: getattr(end, name) for name in PORT_FLAGS}
        assert flags == {
            "hairpin": None, "isolated": True, "locked": None, "learning": False, "flood": False,
            "mcast_flood": True, "bcast_flood": None, "neigh_suppress": True,
        }  # fmt: skip
    assert [end.up for end in ends] == [True, None]  # the process sets it up, once it is guarded


def test_frames_of_a_sealed_network_have_no_way_out_in_clear() -> None:
    net = network(encrypted="true")
    assert vxlan_name(net) is None
    assert {link.kind for link in links(net).values()} == {"bridge", "tap"}


def test_hosts_agree_on_the_number_by_the_name() -> None:
    one, two = network("lane"), replace(network("lane"), id="cd" * 32)
    assert vni_of(one) == vni_of(two) != vni_of(network("other"))
    assert vni_of(network(vni="5")) == 5
    assert 0 < vni_of(one) < 2**24
    options = dict(links(one)[vxlan_name(one) or ""].options or ())
    assert (options["id"], options["dstport"], options["learning"]) == (
        str(vni_of(one)), "6784", "off",
    )  # fmt: skip


@pytest.mark.parametrize("expose", [False, True])
def test_the_host_has_an_address_only_when_it_is_exposed(expose: bool) -> None:
    net = network(expose=str(expose).lower())
    assert [str(a.key[3]) for a in of(Addr, Weave().network(net))] == ["10.32.0.1/16"] * expose
    assert Weave().policy(net).mode == ("nat" if expose else "isolated")
    inside = replace(net, internal=True)
    assert Weave().policy(inside).mode == ("internal" if expose else "isolated")


def test_the_other_addresses_of_a_subnet_stay_when_its_first_one_goes() -> None:
    ep = endpoint(network())
    names = {(r.ns, r.name): r.value for r in of(Sysctl, Weave().endpoint(network(), ep))}
    assert names[ep.ns, f"net/ipv4/conf/{ep.ifname}/promote_secondaries"] == "1"
    own = {r.name: r.value for r in of(Sysctl, Weave().network(network()))}
    bridge = bridge_name(network())
    assert own[f"net/ipv4/conf/{bridge}/promote_secondaries"] == "1"


def test_containers_of_a_network_without_a_gateway_have_no_default_route() -> None:
    for gateway in (False, True):
        net = network(gateway=gateway)
        assert len(of(Route, Weave().endpoint(net, endpoint(net)))) == gateway


def test_a_container_is_bound_to_its_port_and_known_to_the_bridge() -> None:
    net = network()
    made = state(Weave().endpoint(net, endpoint(net)))
    (port,) = of(Link, made.values())
    assert isinstance(port, Link)
    assert (port.locked, port.learning, port.flood, port.mtu) == (True, False, False, 1400)
    assert port.gso_max_size == links(net)[tap_name(net)].gso_max_size == 62_600
    (fdb,), (neighbour,) = of(Fdb, made.values()), of(Neigh, made.values())
    assert fdb.key == ("fdb", HOST, port.name, "02:42:0a:20:00:07")
    assert neighbour.key == ("neigh", HOST, port.master, "10.32.0.7")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vni": "0"}, "option vni: use 1 to 16777215"),
        ({"vni": "16777216"}, "option vni"),
        ({"mtu": "67"}, "option mtu"),
        ({"mtu": "1400", "com.docker.network.driver.mtu": "1400"}, "are the same: give one"),
        ({"encrypted": "perhaps"}, "option encrypted: use true or false"),
        ({"expose": "10.32.0.1"}, "option expose: use true or false"),
    ],
)
def test_a_bad_option_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        Weave().parse(options)


def test_multicast_frames_stay_on_the_host_where_that_is_asked() -> None:
    net = network(multicast="false")
    ends = [links(net)[n] for n in (tap_name(net), vxlan_name(net) or "")]
    assert [end.mcast_flood for end in ends] == [False, False]


def test_the_bridge_s_address_is_the_same_whatever_its_ports_are() -> None:
    net = network()
    bridge = next(link for link in links(net).values() if link.kind == "bridge")
    assert bridge.mac == host_mac(net)


@dataclass
class Bench:
    """A controller with the network "lane", and the container "web" on it, which has its .1."""

    folder: Path
    kernel: FakeKernel

    def start(self) -> Controller:
        made = Controller(
            Database(self.folder / "db"), Inline(self.kernel, "0"), {"weave": Weave()},
            NoFirewall(), engine="0",
        )  # fmt: skip
        made._lifecycle.ensure_predefined = lambda: None  # type: ignore[method-assign]
        made.restore({BOX.id: BOX})
        return made

    def addresses(self) -> list[str]:
        """Of the bridge."""
        return [k[3] for k in self.kernel.things if k[0] == "addr" and k[2].startswith("wv-")]

    def mtus(self) -> set[int | None]:
        return {r.mtu for r in self.kernel.things.values() if isinstance(r, Link)}

    def things(self) -> dict[Key, Resource]:
        """But settings, which stay as they were last set."""
        return {k: r for k, r in self.kernel.things.items() if not r.global_setting}

    def closed(self) -> int:
        """How many ports send nothing to the host."""
        return len([k for k in self.kernel.things if k[0] == "nft-element" and k[2] == "closed"])


BOX = Sandbox(id="e" * 64, name="web", ns=f"{NETNS}/c1")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, FakeKernel())


@pytest.fixture
def controller(bench: Bench) -> Controller:
    return bench.start()


@pytest.fixture
def lane(controller: Controller) -> str:
    spec = NetworkSpec(name="lane", driver="weave", subnets=(SubnetSpec(subnet=str(CIDR)),))
    id = controller.create(spec)[0].id
    (record,) = controller.open(BOX, [EndpointSpec(network=id)], ())
    assert record.address == "10.32.0.1/16"
    assert not record.gateway
    return id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1", "use A.B.C.D/LENGTH"),
        ("10.0.0.1/24,x", "'x'"),
        ("10.0.0.1/255.0.0.0", "use A.B.C.D/LENGTH"),
        ("10.0.0.1/24 10.0.0.1/8", "an address twice"),
        (",".join(f"10.0.0.{n}/24" for n in range(1, 9)), "8 addresses: 7 at most"),
    ],
)
def test_addresses_of_the_host_are_checked(text: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        Weave().parse({"addresses": text})


def test_the_host_takes_frames_where_it_has_an_address(
    bench: Bench, controller: Controller
) -> None:
    spec = NetworkSpec(name="lane", driver="weave", subnets=(SubnetSpec(subnet=str(CIDR)),))
    id = controller.create(spec)[0].id
    assert (bench.addresses(), bench.closed()) == ([], 2)
    controller.reconfigure(id, {"addresses": "192.168.1.250/24,10.32.0.9/16"})
    assert sorted(bench.addresses()) == ["10.32.0.9/16", "192.168.1.250/24"]
    assert bench.closed() == 0
    ports = controller.overlay(id)
    assert ports is not None
    assert [str(a) for a in ports.host_addresses] == ["192.168.1.250/24", "10.32.0.9/16"]
    controller.reconfigure(id, {"addresses": ""})
    assert (bench.addresses(), bench.closed()) == ([], 2)


def test_it_tells_where_frames_leave_for_other_hosts(controller: Controller, lane: str) -> None:
    ports = controller.overlay(lane)
    assert ports is not None
    assert [ports.bridge, ports.tap, ports.vxlan] == [f"w{x}-{lane[:12]}" for x in "vtx"]
    assert ports.vni == vni_of(network("lane"))


def test_two_networks_of_one_number_are_refused(controller: Controller) -> None:
    first, second = (
        NetworkSpec(name=name, driver="weave", options={"vni": "7"}) for name in ("one", "two")
    )
    controller.create(first)
    with pytest.raises(Forbidden, match=r"network number 7 \(option vni\) belongs to network one"):
        controller.create(second)


def test_ports_are_not_published_where_the_host_has_no_address(
    controller: Controller, lane: str
) -> None:
    box, port = Sandbox(id="f" * 64, name="two", ns=f"{NETNS}/c2"), PORT
    with pytest.raises(InvalidSpec, match="network lane publishes no ports: this host has no addr"):
        controller.open(box, [EndpointSpec(network=lane)], (port,))


PORT = PortSpec(proto="tcp", container_port=80)


def test_the_host_comes_to_a_network_and_leaves_it_while_containers_are_there(
    bench: Bench, controller: Controller, lane: str
) -> None:
    assert (bench.addresses(), bench.closed()) == ([], 3)
    record = controller.reconfigure("lane", {"expose": "true"})
    assert record.spec.subnets[0].gateway == "10.32.0.2"  # .1 is the container's
    assert (bench.addresses(), bench.closed()) == (["10.32.0.2/16"], 0)
    assert controller.policy(lane).mode == "nat"  # type: ignore[union-attr]
    second = bench.start()  # after a kill
    assert second.find("lane").spec == record.spec
    assert bench.addresses() == ["10.32.0.2/16"]
    second.reconfigure("lane", {"expose": "false"})
    assert (bench.addresses(), bench.closed()) == ([], 3)
    second.reconfigure("lane", {"expose": "true"}, gateway="10.32.7.7")
    assert bench.addresses() == ["10.32.7.7/16"]


@pytest.mark.parametrize(
    ("options", "gateway", "error", "said"),
    [
        ({"vni": "5"}, "", InvalidSpec, "option vni of network lane cannot be changed: of this"),
        ({"expose": "maybe"}, "", InvalidSpec, "option expose: use true or false"),
        ({"expose": "true"}, "10.32.0.1", InUse, "10.32.0.1 is held by container web"),
        ({"expose": "true"}, "10.99.0.1", InvalidSpec, "10.99.0.1 is in no subnet of network lane"),
        ({"mtu": "1300"}, "10.32.0.9", InvalidSpec, "the host has no address on network lane"),
    ],
)
def test_what_cannot_be_changed_leaves_all_as_it_was(
    bench: Bench, controller: Controller, lane: str, options: dict[str, str], gateway: str,
    error: type[Exception], said: str,
) -> None:  # fmt: skip
    before, things = controller.find("lane"), dict(bench.kernel.things)
    with pytest.raises(error, match=said):
        controller.reconfigure("lane", options, gateway=gateway)
    assert controller.find("lane") == before
    assert bench.kernel.things == things


def test_the_mtu_changes_in_place(bench: Bench, controller: Controller, lane: str) -> None:
    bench.kernel.log.clear()
    controller.reconfigure("lane", {"mtu": "1300"})
    assert bench.mtus() == {1300}
    assert all(step.startswith("~") for step in bench.kernel.log)
    controller.reconfigure(lane, {"mtu": "1300"})


@pytest.mark.parametrize("at", range(6))
def test_a_failure_at_any_step_leaves_all_as_it_was(
    bench: Bench, controller: Controller, lane: str, at: int
) -> None:
    before, things = controller.find("lane"), bench.things()
    bench.kernel.fail_at = at
    with pytest.raises(KernelError, match="injected"):
        controller.reconfigure("lane", {"expose": "true", "mtu": "1300"})
    assert controller.find("lane") == before
    assert bench.things() == things
    assert controller.reconfigure("lane", {"expose": "true"}).spec.subnets[0].gateway == "10.32.0.2"
