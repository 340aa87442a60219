"""Networks over many hosts: OVN switches them, netkit does the rest.  Pure.

    containers ==veth== [br-int] --- tunnels of ovn-controller's --- other chassis
                           |
    host ---- nkg... (gateway, one on every host, with one address)

A network is a logical switch, a container a logical port on it with port security.  The gateway is
a port that every host has for itself (`localport`), so each host routes, translates and publishes
for its own containers, as with the ovs driver; nothing of that is OVN's.  Access rules
(`netkit fw`) are ACLs.  docs/ovn.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_interface
from typing import ClassVar

from netkit.driver import (
    Driver,
    Endpoint,
    HostFacts,
    Network,
    OvnFacts,
    TrafficPolicy,
    Traits,
    address_resources,
    derive_mac,
    ifname,
)
from netkit.errors import InvalidSpec
from netkit.model import Addr, Link, Peer, Resource, Sysctl
from netkit.model.openvswitch import OvsPort, PortOffload
from netkit.model.ovn import (
    CHASSIS,
    INTEGRATION,
    NORTHBOUND,
    Chassis,
    LogicalPort,
    LogicalSwitch,
    Northbound,
    gateway_port,
)
from plugins.ovn.access import enforced
from plugins.ovn.options import KNOWN, Options, parse
from plugins.ovs import underlay

TUNNEL = "geneve"


class Ovn:
    """`userspace`: Open vSwitch's datapath is its own, not the kernel's.  `facts`: of netkitd's
    flags, without any of them where the host is an administrator's chassis, or none."""

    name: ClassVar[str] = "ovn"
    options: ClassVar[Collection[str]] = KNOWN
    uses_ipam: ClassVar[bool] = True
    supports_port_mapping: ClassVar[bool] = True
    traits: ClassVar[Traits] = Traits(openvswitch=True)

    def __init__(self, facts: OvnFacts = OvnFacts(), *, userspace: bool = False) -> None:  # noqa: B008
        self._facts = facts
        self._userspace = userspace

    def configure_for(self, host: HostFacts) -> Driver:
        return Ovn(host.ovn, userspace=not host.openvswitch)

    def parse(self, options: Mapping[str, str]) -> Options:
        return parse(options)

    def policy(self, net: Network) -> TrafficPolicy:
        given, known = options_of(net).northbound, self._facts.northbound
        if given and known and given != known:
            raise InvalidSpec(
                f"option nb={given}: netkitd --ovn-nb is {known}, and a host is of one OVN"
            )
        return TrafficPolicy(link=gateway_name(net), mode="internal" if net.internal else "nat")

    def check_span(self, net: Network) -> None:
        """Any network may be on all hosts of a cluster."""

    def setup(self, owner: str) -> Iterator[Resource]:
        facts = self._facts
        yield Chassis(
            southbound=facts.southbound or None,
            encap_ip=facts.encap_ip,
            userspace=self._userspace,
        )
        if facts.northbound:
            yield Northbound(remote=facts.northbound)
        if not self._userspace:
            return
        if facts.encap_ip is None:
            yield underlay.unseen(owner)
            return
        yield from underlay.setup(owner)
        yield from underlay.of_any_peer(facts.encap_ip, TUNNEL, owner)

    def network(self, net: Network) -> Iterator[Resource]:
        opt, port, owner = options_of(net), gateway_name(net), net.owner
        switch, mac = switch_name(net), gateway_mac(net)
        if opt.northbound:
            yield Northbound(remote=opt.northbound)
        addresses = [ip_interface((s.gateway, s.cidr.prefixlen)) for s in net.subnets if s.gateway]
        yield LogicalSwitch(
            name=switch,
            network=net.name,
            gateway=" ".join([mac, *(str(a.ip) for a in addresses)]),
            owner=owner,
            depends_on=(NORTHBOUND,) if opt.northbound or self._facts.northbound else (),
        )
        gateway = OvsPort(
            name=port,
            bridge=INTEGRATION,
            kind="internal",
            iface_id=gateway_port(switch),
            mac=mac,
            mtu=opt.mtu,
            up=True,
            owner=owner,
            depends_on=(CHASSIS,),
        )
        yield gateway
        for setting, value in (("accept_ra", "0"), ("disable_ipv6", "1")):  # IPv4 only so far
            name = f"net/ipv6/conf/{port}/{setting}"
            yield Sysctl(name=name, value=value, owner=owner, depends_on=(gateway.key,))
        for address in addresses:
            yield Addr(dev=port, address=address, owner=owner, depends_on=(gateway.key,))

    def endpoint(self, net: Network, ep: Endpoint) -> Iterator[Resource]:
        opt, owner, near = options_of(net), ep.owner(net), ifname(underlay.VETH, ep.id)
        switch, mac = switch_name(net), ep.mac or derive_mac(net.engine, ep.id)
        # Before the link exists: an interface takes conf/default when it is made.
        quiet = Sysctl(name="net/ipv6/conf/default/disable_ipv6", value="1", ns=ep.ns, owner=owner)
        yield quiet
        link = Link(
            name=near,
            kind="veth",
            peer=Peer(ns=ep.ns, name=ep.ifname, mac=mac),
            mtu=opt.mtu,
            owner=owner,
            depends_on=(quiet.key,),
        )
        yield link
        port = port_name(net, ep)
        yield OvsPort(
            name=near, bridge=INTEGRATION, iface_id=port, owner=owner, depends_on=(CHASSIS,)
        )
        if self._userspace:
            yield from underlay.ignore_packets(link)
            yield PortOffload(
                dev=ep.ifname, ns=ep.ns, via=near, port=near, tunnels=ep.administered, owner=owner
            )
        yield LogicalPort(
            name=port,
            switch=switch,
            addresses=" ".join([mac, *map(str, ep.ipv4)]),
            port=near,
            owner=owner,
        )
        yield from enforced(
            ep, port=port, switch=switch, host_mac=gateway_mac(net), owner=owner,
            translates=not net.internal,
        )  # fmt: skip
        yield from address_resources(net, ep, near, net.router)


def options_of(net: Network) -> Options:
    assert isinstance(net.options, Options)
    return net.options


def network_tag(net: Network) -> str:
    """12 hex digits that are the network's on all hosts: they share its id, or know its name."""
    if net.shared:
        return net.id[:12]
    return hashlib.sha256(f"netkit ovn {net.name}".encode()).hexdigest()[:12]


def switch_name(net: Network) -> str:
    return f"netkit-{network_tag(net)}"


def port_name(net: Network, ep: Endpoint) -> str:
    return f"{switch_name(net)}-{ep.id[:12]}"


def gateway_name(net: Network) -> str:
    """The host's interface on the network."""
    return ifname("nkg", net.id)


def gateway_mac(net: Network) -> str:
    """Equal on all hosts: a container is never moved to another's."""
    return derive_mac("netkit ovn gateway", network_tag(net))
