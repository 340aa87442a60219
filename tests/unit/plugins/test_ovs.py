"""The ovs driver as a pure function, and on a kernel made of a dict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_interface
from typing import TypeVar

import pytest

from netkit.driver import Endpoint, HostFacts, Network, RemoteEndpoint, Subnet
from netkit.errors import InvalidSpec, KernelError
from netkit.kernel.ovs.switches import Switches
from netkit.model import Link, Netns, Resource, Rule, state
from netkit.model.openvswitch import (
    ISOLATED,
    Offload,
    OvsBridge,
    OvsFlows,
    OvsPort,
    PortOffload,
    SegmentedPort,
    TunnelRoute,
    ports_in,
)
from netkit.model.vxlan import ALL, VxlanFdb
from netkit.reconcile.converge import Change, converge, ownership
from netkit.reconcile.plan import Op
from netkit.testing.kernel import NETNS, FakeKernel
from plugins.firewall.iptables import layout
from plugins.ovs import Ovs, key_of, tunnel_name
from plugins.ovs.underlay import BRIDGE, NEAR

PEERS = "192.168.59.104,192.168.59.105"
ID = "c" * 64
T = TypeVar("T")


def network(subnet: str = "192.168.1.0/24", name: str = "mynet", **options: str) -> Network:
    cidr = IPv4Network(subnet)
    return Network(
        id=ID,
        name=name,
        driver="ovs",
        subnets=(Subnet(cidr=cidr, gateway=cidr[1]),),
        options=Ovs().parse(options),
    )


def endpoint(number: int = 9) -> Endpoint:
    return Endpoint(
        id=f"{number:02x}" * 32,
        network=ID,
        addresses=(ip_interface(f"192.168.1.{number}/24"),),
        mac=f"02:42:c0:a8:01:{number:02x}",
        ns=f"{NETNS}/c{number}",
        ifname="eth0",
        gateway=True,
    )


def of(kind: type[T], resources: Iterable[Resource]) -> list[T]:
    return [r for r in resources if isinstance(r, kind)]


def test_tunnels_meet_the_administrators_rules_and_none_about_containers() -> None:
    forward = [
        r for r in of(Rule, (*layout.frame("o"), *Ovs("netdev").setup("o"))) if r.chain == "FORWARD"
    ]
    targets = [(r.args[-1], r.args[:-2]) for r in sorted(forward, key=lambda r: r.rank)]
    assert targets[0] == ("DOCKER-USER", ())
    assert {("-i", NEAR), ("-o", NEAR)} == {args[:2] for _, args in targets[1:3]}
    assert {target for target, _ in targets[1:3]} == {"ACCEPT"}
    assert targets[3:] == [("DOCKER-FORWARD", ())]


def test_packets_of_tunnels_meet_no_more_rules_at_the_head_than_their_own() -> None:
    """Each network of the host has others in that chain."""
    raw = [r for r in of(Rule, Ovs("netdev").setup("o")) if r.table == "raw"]
    zone, done, *rest = sorted(raw, key=lambda r: r.rank)
    assert zone.args[:2] == done.args[:2] == ("-i", NEAR)
    assert (zone.args[3], done.args[3]) == ("CT", "ACCEPT")
    assert zone.key in done.needs
    assert all(r.rank > done.rank for r in rest)


def test_packets_of_tunnels_reach_the_host_without_a_packet_socket() -> None:
    """Read and written by one, a packet costs ovs-vswitchd more than by a tap device."""
    made = list(Ovs("netdev").setup("o"))
    assert of(Link, made) == []
    (bridge,), (port,) = of(OvsBridge, made), of(OvsPort, made)
    assert (port.name, port.bridge, port.kind, port.up) == (NEAR, bridge.name, "internal", True)
    # Another one would be unknown to Open vSwitch for as long as it keeps neighbours.
    assert port.mac


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peers": "10.0.0.1,x"}, "'x' for option peers"),
        ({"peers": "224.0.0.1"}, "no address of another host"),
        ({"peers": "10.0.0.1", "local": "10.0.0.1"}, "local: 10.0.0.1 is among the peers"),
        ({"tunnel": "ipip"}, "use gre, vxlan, geneve"),
        ({"key": "0"}, "option key"),
        ({"key": str(2**24), "tunnel": "vxlan"}, "use 1 to 16777215"),
        ({"mtu": "12"}, "option mtu"),
        ({"mtu": "1400", "com.docker.network.driver.mtu": "1400"}, "give one"),
        ({"mode": "l3"}, "use l2, routed"),
        ({"mode": "routed", "routes": "192.168.2.0/24"}, "use SUBNET=PEER"),
        ({"mode": "routed", "routes": "192.168.2.1/24=10.0.0.9"}, "use SUBNET=PEER"),
        ({"mode": "routed", "routes": "10.1.0.0/16=10.0.0.8,10.1.2.0/24=10.0.0.9"}, "overlap"),
        ({"routes": "192.168.2.0/24=10.0.0.9"}, "mode=routed"),
        ({"bridge": "a-name-that-is-too-long"}, "bridge"),
        ({"bfd": "perhaps"}, "option bfd"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(
    options: Mapping[str, str], words: str
) -> None:
    with pytest.raises(InvalidSpec, match=re.escape(words)):
        Ovs().parse(options)


@pytest.mark.parametrize(("tunnel", "mtu"), [("gre", 1458), ("vxlan", 1450), ("geneve", 1450)])
def test_the_mtu_leaves_room_for_the_tunnel(tunnel: str, mtu: int) -> None:
    net = network(tunnel=tunnel)
    (bridge,) = of(OvsBridge, Ovs().network(net))
    (link,) = of(Link, Ovs().endpoint(net, endpoint()))
    assert (bridge.mtu, link.mtu) == (mtu, mtu)


def test_hosts_agree_on_the_key_by_the_networks_name_alone() -> None:
    mine, theirs = network(), replace(network(), id="d" * 64, engine="9")
    assert key_of(mine) == key_of(theirs) != key_of(network(name="other"))
    assert 0 < key_of(mine) < 2**24
    assert key_of(network(key="77")) == 77


def test_there_is_a_tunnel_to_each_peer_named_after_it() -> None:
    net = network(peers=PEERS)
    tunnels = of(OvsPort, Ovs().network(net))
    assert [t.name for t in tunnels] == ["gc0a83b68cccccc", "gc0a83b69cccccc"]
    assert [dict(t.options)["remote_ip"] for t in tunnels] == PEERS.split(",")
    assert {dict(t.options)["key"] for t in tunnels} == {str(key_of(net))}
    assert all(t.kind == "gre" and t.protected and t.bfd for t in tunnels)


def test_a_given_local_address_and_no_bfd_reach_the_tunnels() -> None:
    (tunnel,) = of(OvsPort, Ovs().network(network(peers="10.0.0.9", local="10.0.0.1", bfd="0")))
    assert dict(tunnel.options)["local_ip"] == "10.0.0.1"
    assert not tunnel.bfd


def test_routed_tunnels_are_where_normal_never_leads() -> None:
    net = network(mode="routed", routes="192.168.2.0/24=10.0.0.9")
    (tunnel,) = of(OvsPort, Ovs().network(net))
    assert (tunnel.tag, tunnel.protected) == (ISOLATED, False)
    (flows,) = of(OvsFlows, Ovs().network(net))
    into = [f for f in flows.flows if tunnel.name in f and "NORMAL" in f]
    assert into == []


def test_a_route_into_ones_own_subnet_is_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"192\.168\.1\.0/25 of 10\.0\.0\.9 overlaps"):
        Ovs().policy(network(mode="routed", routes="192.168.1.0/25=10.0.0.9"))


def test_the_kernels_datapath_needs_no_way_around_and_no_offload_switched_off() -> None:
    driver = Ovs().configure_for(HostFacts(openvswitch=True))
    net = network(peers=PEERS)
    everything = [*driver.network(net), *driver.endpoint(net, endpoint()), *driver.setup("x")]
    for kind in (TunnelRoute, Rule, Offload, PortOffload):
        assert of(kind, everything) == []
    assert {b.datapath for b in of(OvsBridge, everything)} == {"system"}


def test_tunnels_in_user_space_are_translated_at_the_host() -> None:
    driver = Ovs().configure_for(HostFacts())
    net = network(peers=PEERS)
    found = list(driver.network(net))
    assert {str(r.dst): r.bridge for r in of(TunnelRoute, found)} == {
        f"{p}/32": BRIDGE for p in PEERS.split(",")
    }
    assert {(r.table, r.args[1]) for r in of(Rule, found)} == {
        (table, f"{p}/32") for table in ("nat", "raw") for p in PEERS.split(",")
    }


BY_KERNEL = {"tunnel": "vxlan", "vxlan-device": "kernel"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vxlan-device": "kernel"}, "tunnel=vxlan in mode l2"),
        ({**BY_KERNEL, "mode": "routed"}, "tunnel=vxlan in mode l2"),
        ({**BY_KERNEL, "local": "10.0.0.1"}, "option local"),
        ({**BY_KERNEL, "bridge": "br0"}, "option bridge"),
        ({**BY_KERNEL, "bfd": "true"}, "option bfd"),
        ({**BY_KERNEL, "vxlan-device": "nic"}, "vxlan-device: use ovs, kernel"),
    ],
)
def test_a_vxlan_device_of_the_kernels_is_refused_where_it_is_not_right(
    options: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidSpec, match=message):
        Ovs().parse(options)


def test_a_vxlan_device_of_the_kernels_is_for_the_userspace_datapath() -> None:
    with pytest.raises(InvalidSpec, match="userspace datapath"):
        Ovs("system").policy(network(peers=PEERS, **BY_KERNEL))


def test_a_vxlan_device_of_the_kernels_is_the_one_port_to_all_peers() -> None:
    net = network(peers=PEERS, **BY_KERNEL)
    found = list(Ovs("netdev").network(net))
    (link,), (port,) = of(Link, found), of(OvsPort, found)
    assert (link.kind, link.mtu, link.name) == ("vxlan", 1450, port.name)
    assert ("id", str(key_of(net))) in (link.options or ())
    assert port.protected
    assert not port.kind
    assert {(f.mac, str(f.peer)) for f in of(VxlanFdb, found)} == {
        (ALL, p) for p in PEERS.split(",")
    }
    assert of(TunnelRoute, found) == []
    assert [p.port for p in of(SegmentedPort, found)] == [port.name]


def test_packets_of_the_key_that_are_of_no_peer_are_dropped() -> None:
    rules = of(Rule, Ovs("netdev").network(network(peers=PEERS, **BY_KERNEL)))
    *accept, drop = sorted(rules, key=lambda r: r.rank)
    assert {r.args[1] for r in accept} == {f"{p}/32" for p in PEERS.split(",")}
    assert drop.args[-1] == "DROP"
    assert "-s" not in drop.args


def test_where_hosts_share_state_the_device_has_an_entry_for_each_container() -> None:
    peer = IPv4Address("192.168.59.104")
    there = RemoteEndpoint(peer=peer, mac="02:00:00:00:00:07", address=IPv4Address("192.168.1.77"))
    net = replace(
        network(**BY_KERNEL), shared=True, peers=(peer,), remote_endpoints=(there,)
    )  # fmt: skip
    found = list(Ovs("netdev").network(net))
    (link,) = of(Link, found)
    assert ("learning", "off") in (link.options or ())
    assert {(f.mac, f.peer) for f in of(VxlanFdb, found)} == {(ALL, peer), (there.mac, peer)}


def test_a_network_without_peers_has_no_device() -> None:
    assert of(Link, Ovs("netdev").network(network(**BY_KERNEL))) == []


def test_a_container_leaves_to_the_switch_what_that_can_do_at_its_port() -> None:
    net = network()
    for administered in (False, True):
        made = list(Ovs("netdev").endpoint(net, replace(endpoint(), administered=administered)))
        (offload,), (link,) = of(PortOffload, made), of(Link, made)
        assert (offload.dev, offload.port) == ("eth0", link.name)
        assert offload.tunnels == administered
        assert ("ovsport", link.name) in offload.needs


def test_the_host_leaves_to_the_switch_what_that_can_do_where_it_routes() -> None:
    routed = network(mode="routed", routes="192.168.2.0/24=10.0.0.9")
    (offload,) = of(PortOffload, Ovs("netdev").network(routed))
    assert offload.dev == offload.port
    assert ("ovsbridge", offload.port) in offload.needs
    assert of(PortOffload, Ovs("netdev").network(network(peers=PEERS))) == []


def test_flows_speak_of_ports_that_the_network_has() -> None:
    net, ep = network(peers=PEERS), endpoint()
    resources = [*Ovs().network(net), *Ovs().endpoint(net, ep)]
    ports = {p.name for p in of(OvsPort, resources)}
    for flows in of(OvsFlows, resources):
        assert flows.ports <= ports
        assert all(ports_in(f) <= ports for f in flows.flows)
    assert tunnel_name(net, IPv4Address("192.168.59.104")) in ports


def everything(driver: Ovs, net: Network) -> list[Resource]:
    eps = [endpoint(9), endpoint(10)]
    spaces = [Netns(path=ep.ns, owner=ep.owner(net)) for ep in eps]
    return [
        *driver.setup(f"netkit:{net.engine}:global"),
        *driver.network(net),
        *spaces,
        *(r for ep in eps for r in driver.endpoint(net, ep)),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("datapath", ["system", "netdev"])
@pytest.mark.parametrize(
    "options", [{"peers": PEERS}, {"mode": "routed", "routes": "192.168.2.0/24=10.0.0.9"}, {}]
)
def test_all_of_it_comes_and_goes_and_a_failure_at_any_step_leaves_nothing(
    datapath: str, options: dict[str, str]
) -> None:
    driver, net = Ovs(datapath), network(**options)
    desired = state(everything(driver, net))
    mine = ownership(net.engine, NETNS)
    kernel = FakeKernel()
    steps = len(converge(Change.of(desired), kernel, mine))
    assert converge(Change.of(desired), kernel, mine) == ()
    converge(Change.of({}, desired), kernel, mine)
    shared = {k for k, r in kernel.things.items() if not r.global_setting}
    assert shared == set()
    for step in range(steps):
        kernel = FakeKernel(fail_at=step)
        with pytest.raises(Exception, match="injected"):
            converge(Change.of(desired), kernel, mine)
        assert {k for k, r in kernel.things.items() if not r.global_setting} == set()


class Failing:
    """Stands in for the database and for ovs-vswitchd: it takes a change, and then no more."""

    remote = "tcp:127.0.0.1:1"
    alive = runs = True

    def __init__(self) -> None:
        self.changes = 0

    def change(self, write: object, *, wait: bool) -> None:
        self.changes += 1
        if self.changes > 1:
            raise KernelError("the undo fails")

    def view(self, read: object) -> None:
        raise KernelError("could not add network device")


def test_an_undo_that_fails_does_not_take_the_place_of_the_first_error() -> None:
    database = Failing()
    switches = Switches(database, database)  # type: ignore[arg-type]
    port = OvsPort(name="g0", bridge="br0", kind="gre", owner="netkit:0:x")
    with pytest.raises(KernelError, match="could not add network device") as raised:
        switches.apply(None, [Op(None, port)])  # type: ignore[arg-type]
    assert database.changes == 2
    assert [n.partition(": ")[2] for n in raised.value.__notes__] == ["the undo fails"]


def test_a_removal_whose_remains_cannot_be_cleared_may_have_taken_effect() -> None:
    """Without that mark a change that fails would leave the bridge removed."""
    database = Failing()
    switches = Switches(database, database)  # type: ignore[arg-type]
    bridge = OvsBridge(name="br0", datapath="system", owner="netkit:0:x")
    with pytest.raises(KernelError, match="could not add network device") as raised:
        switches.apply(None, [Op(bridge, None)])  # type: ignore[arg-type]
    assert (database.changes, raised.value.done, raised.value.unsure) == (1, 0, True)
