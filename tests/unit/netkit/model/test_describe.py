"""Users see a resource as a description in the field's terms, never as a repr."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

import netkit
from netkit.errors import Conflict, NetkitError, NotConverged
from netkit.model import (
    Addr,
    BridgeRedirect,
    Chain,
    ConnectedRoute,
    Fdb,
    Link,
    Neigh,
    Netns,
    Peer,
    Resource,
    Route,
    Rule,
    Stray,
    Sysctl,
    differences,
    state,
)  # fmt: skip
from netkit.model.ipset import IpSet
from netkit.model.nftables import Hook, NftChain, NftElement, NftRule, NftSet, NftTable
from netkit.model.openvswitch import (
    Offload,
    OvsBridge,
    OvsFlows,
    OvsPort,
    PortOffload,
    SegmentedPort,
    TunnelRoute,
)
from netkit.model.ovn import Chassis, LogicalAcl, LogicalPort, LogicalSwitch, Northbound
from netkit.model.uplink import EnslavedNic
from netkit.model.vxlan import VxlanFdb
from netkit.reconcile.converge import Change, converge
from netkit.reconcile.plan import Op, diff
from netkit.testing.kernel import FakeKernel

OWNER = "netkit:e:n"
REPR = re.compile(r"\w+\(|\w+=(None|True|False|\(|')|None|\(\)|IPv4|\{'|frozenset|netkit\.\w+")
NET, IP = IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1")
FACE = IPv4Interface("10.0.0.1/24")

SAMPLES: tuple[tuple[Resource, str], ...] = (
    (Link(name="br0", kind="bridge"), "bridge br0"),
    (Link(name="eth7", kind="", ns="/run/x"), "interface eth7 in /run/x"),
    (Link(name="v", kind="veth", peer=Peer(ns="/run/x", name="eth0")), "veth v"),
    (Netns(path="/run/x"), "network namespace /run/x"),
    (Addr(dev="br0", address=FACE), "address 10.0.0.1/24 on br0"),
    (ConnectedRoute(dev="br0", address=FACE), "connected route to 10.0.0.0/24 on br0"),
    (Route(dst=NET, dev="br0", gateway=IP), "route to 10.0.0.0/24 via 10.0.0.1 on br0"),
    (Neigh(dev="br0", address=IP, mac="02:00:00:00:00:01"),
     "neighbour 10.0.0.1 at 02:00:00:00:00:01 on br0"),
    (
        BridgeRedirect(dev="veth1", bridge="br0", mac="02:00:00:00:00:01"),
        "redirect from 02:00:00:00:00:01 at port veth1 to br0",
    ),
    (Fdb(dev="veth1", mac="02:00:00:00:00:01"), "MAC address 02:00:00:00:00:01 behind port veth1"),
    (Sysctl(name="net/ipv4/ip_forward", value="1"), "setting net/ipv4/ip_forward=1"),
    (Chain(table="nat", name="DOCKER"), "iptables -t nat -N DOCKER"),
    (Rule(table="nat", chain="DOCKER", args=("-j", "DROP")), "iptables -t nat -A DOCKER -j DROP"),
    (Stray(table="nat", chain="DOCKER", number="7", text="tcp dport 80 dnat to 172.17.0.2"),
     "rule without netkit's mark in nat DOCKER: tcp dport 80 dnat to 172.17.0.2"),
    (NftTable(name="netkit"), "nft table ip netkit"),
    (NftChain(table="netkit", name="in", hook=Hook(kind="filter", point="input", priority=0)),
     "nft chain ip netkit in"),
    (NftSet(table="netkit", name="m", fields=("ipv4_addr",)), "nft set ip netkit m"),
    (NftElement(table="netkit", set="m", key_fields=("10.0.0.1", "80")),
     "nft element ip netkit m { 10.0.0.1 . 80 }"),
    (NftRule(table="bridge netkit", chain="in", expression="accept"),
     "nft rule bridge netkit in accept"),
    (IpSet(name="nks-1", members=(NET,)), "ipset nks-1"),
    (OvsBridge(name="nko1", datapath="netdev"), "Open vSwitch bridge nko1"),
    (OvsPort(name="g1", bridge="nko1", kind="gre"), "port g1 of Open vSwitch bridge nko1"),
    (OvsFlows(bridge="nko1", name="web"), "flows of web in Open vSwitch bridge nko1"),
    (TunnelRoute(dst=NET, bridge="nko1", gateway=IP),
     "Open vSwitch route to 10.0.0.0/24 via 10.0.0.1 on nko1"),
    (Offload(dev="eth0", checksums=False), "checksum offload off of eth0"),
    (PortOffload(dev="eth0", port="nkv1"), "offloads of eth0 as Open vSwitch has them at nkv1"),
    (SegmentedPort(port="nkvx1"), "TCP segmentation by Open vSwitch at port nkvx1"),
    (VxlanFdb(dev="nkvx1", mac="02:00:00:00:00:01", peer=IP),
     "MAC address 02:00:00:00:00:01 to 10.0.0.1 by nkvx1"),
    (Chassis(), "this host as a chassis of OVN"),
    (Northbound(remote="tcp:10.0.0.1:6641"), "northbound database of OVN at tcp:10.0.0.1:6641"),
    (LogicalSwitch(name="netkit-1", network="wide"), "logical switch netkit-1 of OVN"),
    (LogicalPort(name="netkit-1-2", switch="netkit-1", addresses="02:00:00:00:00:01 10.0.0.1"),
     "logical port netkit-1-2 of OVN"),
    (LogicalAcl(name="2-r-1", switch="netkit-1", priority=3, allow=True, text="ip4"),
     "ACL 2-r-1 of logical switch netkit-1 of OVN"),
    (EnslavedNic(dev="eth0", bridge="br-eth0"), "port eth0 of bridge br-eth0"),
)  # fmt: skip


def kinds(root: type[Resource] = Resource) -> Iterator[type[Resource]]:
    for kind in root.__subclasses__():
        if kind.__module__.startswith("netkit."):
            yield kind
        yield from kinds(kind)


def test_every_resource_there_is_has_a_description() -> None:
    for module in pkgutil.iter_modules(netkit.__path__, "netkit."):
        if not module.ispkg and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # By name: of a dataclass with slots there are two classes.
    assert {type(r).__name__ for r, _ in SAMPLES} == {kind.__name__ for kind in kinds()}


@pytest.mark.parametrize(("resource", "rendered"), SAMPLES, ids=lambda v: type(v).__name__)
def test_it_is_in_the_fields_terms(resource: Resource, rendered: str) -> None:
    assert (str(resource), f"{resource}") == (rendered, rendered)
    assert str(Op(None, resource)) == f"+ {rendered}"


def errors() -> Iterator[NetkitError]:
    """What the planner reports about each kind: when it is another's, missing, or desired twice.

    A shared resource is set without a check.
    """
    for resource, _ in SAMPLES:
        ours = replace(resource, owner=OWNER)
        other = changed(resource)
        for want, have in (([ours], [other]), ([resource], []), ([ours, other], [])):
            try:
                diff(state(want), state(have), lambda _: False)
            except NetkitError as error:
                yield error
        late = Forgetful()
        try:
            converge(Change.of(state([ours])), late, lambda _: True)
        except NotConverged as error:
            yield error


class Forgetful(FakeKernel):
    def apply(self, ops: object) -> None:
        return None


def changed(r: Resource) -> Resource:
    """Return a resource with the same key and other values, as another tool would make it."""
    other: dict[str, object] = {
        "kind": "dummy", "mtu": 9000, "mac": "02:00:00:00:00:09", "value": "0", "text": "",
        "gateway": IPv4Address("10.0.0.9"), "mounted": False, "placed": False, "hook": None,
        "fields": ("ifname",), "members": (), "datapath": "system", "checksums": True, "tag": 7,
        "digest": getattr(r, "digest", ""), "count": 3, "bridge": getattr(r, "bridge", ""),
    }  # fmt: skip
    if isinstance(r, EnslavedNic):
        other["bridge"] = "br9"
    names = r.__dataclass_fields__
    return replace(r, **{k: v for k, v in other.items() if k in names}, owner="x")


def test_no_error_of_the_planner_holds_a_repr() -> None:
    messages = [str(error) for error in errors()]
    assert len(messages) > 2 * len(SAMPLES)
    assert {text: found.group() for text in messages if (found := REPR.search(text))} == {}


def test_an_interface_of_another_kind_is_reported_as_docker_does() -> None:
    nic = Link(name="nic0", kind="veth", ns="", master="b", mac="02:00:00:00:00:01")
    want = state([Link(name="nic0", kind="bridge", owner=OWNER)])
    with pytest.raises(Conflict) as caught:
        diff(want, state([nic]), lambda _: False)
    assert str(caught.value) == (
        "existing interface nic0 is not a bridge but a veth, and is not netkit's: remove it, or "
        "choose another name"
    )
    with pytest.raises(Conflict, match="belongs to another netkit, engine e2:"):
        diff(want, state([replace(nic, kind="bridge", owner="netkit:e2:n")]), lambda _: False)
    with pytest.raises(Conflict, match="is not netkit's, it is marked 'uplink to R2':"):
        diff(want, state([replace(nic, owner="uplink to R2")]), lambda _: False)


@pytest.mark.parametrize(("mtu", "words"), [(1, "mtu 1, not 1500"), (0, "mtu 0, not 1500")])
def test_numbers_are_not_taken_for_switches(mtu: int, words: str) -> None:
    want = Link(name="br0", kind="bridge", mtu=1500, up=True)
    assert differences(want, replace(want, mtu=mtu)) == words
    assert differences(want, replace(want, up=False)) == "up off, not on"
