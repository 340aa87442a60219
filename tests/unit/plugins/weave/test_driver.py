"""The weave driver as a pure function."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from netkit.driver import Endpoint, Network, NoFirewall, Subnet
from netkit.errors import Forbidden, InvalidSpec
from netkit.model import HOST, PORT_FLAGS, Addr, Fdb, Link, Neigh, Resource, Route, state
from netkit.network.controller import Controller
from netkit.spec import EndpointSpec, NetworkSpec, PortSpec, Sandbox
from netkit.store import Database
from netkit.testing.kernel import NETNS, FakeKernel, Inline
from plugins.weave.driver import Weave, host_mac, tap_name, vni_of, vxlan_name

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


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(
        Database(tmp_path / "db"), Inline(FakeKernel(), "0"), {"weave": Weave()}, NoFirewall(),
        engine="0",
    )  # fmt: skip
    made._lifecycle.ensure_predefined = lambda: None  # type: ignore[method-assign]
    made.start()
    return made


def test_two_networks_of_one_number_are_refused(controller: Controller) -> None:
    first, second = (
        NetworkSpec(name=name, driver="weave", options={"vni": "7"}) for name in ("one", "two")
    )
    controller.create(first)
    with pytest.raises(Forbidden, match=r"network number 7 \(option vni\) belongs to network one"):
        controller.create(second)


def test_ports_are_not_published_where_the_host_has_no_address(controller: Controller) -> None:
    net = controller.create(NetworkSpec(name="lane", driver="weave"))[0].id
    box = Sandbox(id="e" * 64, name="web", ns=f"{NETNS}/c1")
    port = PortSpec(proto="tcp", container_port=80)
    with pytest.raises(InvalidSpec, match="network lane publishes no ports: this host has no addr"):
        controller.open(box, [EndpointSpec(network=net)], (port,))
    (record,) = controller.open(box, [EndpointSpec(network=net)], ())
    assert record.address
    assert not record.gateway
