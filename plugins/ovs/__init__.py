"""Networks over several hosts: Open vSwitch, a tunnel to each peer, port security.

One bridge a network: networks with equal subnets and MACs have nothing in common but the wire,
where their keys distinguish them.  Limit: traffic between containers of one bridge is switched,
not routed, so access rules of the firewall (`netkit fw`) do not see it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_interface
from typing import ClassVar

from netkit.driver import (
    ANYWHERE,
    Driver,
    Endpoint,
    HostFacts,
    Network,
    TrafficPolicy,
    Traits,
    address_resources,
    derive_mac,
    ifname,
)
from netkit.errors import InvalidSpec
from netkit.model import HOST, Addr, Key, Link, Neigh, Peer, Resource, Route, Sysctl
from netkit.model.openvswitch import (
    ISOLATED,
    Datapath,
    OvsBridge,
    OvsFlows,
    OvsPort,
    PortOffload,
)
from plugins.ovs import device, flows, underlay
from plugins.ovs.access import enforced
from plugins.ovs.options import KNOWN, Options, parse


class Ovs:
    """`datapath` is the kernel's ("system"), or OVS's own in user space ("netdev")."""

    name: ClassVar[str] = "ovs"
    options: ClassVar[Collection[str]] = KNOWN
    uses_ipam: ClassVar[bool] = True
    supports_port_mapping: ClassVar[bool] = True
    traits: ClassVar[Traits] = Traits(openvswitch=True)

    def __init__(self, datapath: Datapath = "system") -> None:
        self._datapath = datapath

    def configure_for(self, host: HostFacts) -> Driver:
        return Ovs("system" if host.openvswitch else "netdev")

    def parse(self, options: Mapping[str, str]) -> Options:
        return parse(options)

    def policy(self, net: Network) -> TrafficPolicy:
        # Here and not in `parse`, which has the options only: subnets may be chosen after it.
        if options_of(net).device == "kernel" and self._datapath == "system":
            raise InvalidSpec(
                "option vxlan-device=kernel is for the userspace datapath: here tunnels are the "
                "kernel's already"
            )
        for subnet, peer in options_of(net).routes:
            for own in _subnets(net):
                if subnet.overlaps(own):
                    raise InvalidSpec(
                        f"option routes: {subnet} of {peer} overlaps this host's subnet {own}"
                    )
        return TrafficPolicy(link=bridge_name(net), mode="internal" if net.internal else "nat")

    def claims(self, net: Network) -> Iterable[str]:
        """Claim the tunnels: Open vSwitch takes one of a kind, far end and key."""
        opt = options_of(net)
        if opt.device == "kernel":
            return (f"VXLAN device with key {key_of(net)}",)
        if net.shared:
            return (f"{opt.tunnel} key {key_of(net)}",)
        return (f"{opt.tunnel} tunnel to {p} with key {key_of(net)}" for p in opt.peers)

    def check_span(self, net: Network) -> None:
        opt = options_of(net)
        for given, option in ((opt.peers, "peers"), (opt.local, "local"), (opt.routes, "routes")):
            if given:
                raise InvalidSpec(
                    f"option {option} is for scope local: the hosts of a global network are those "
                    "of the cluster (netkit cluster status)"
                )
        if opt.mode != "l2":
            raise InvalidSpec(f"option mode={opt.mode} is for scope local: all hosts have a subnet")

    def setup(self, owner: str) -> Iterable[Resource]:
        return underlay.setup(owner) if self._datapath == "netdev" else ()

    def network(self, net: Network) -> Iterator[Resource]:
        opt, br, owner = options_of(net), bridge_name(net), net.owner
        bridge = OvsBridge(
            name=br,
            datapath=self._datapath,
            mac=gateway_mac(net),
            mtu=opt.mtu,
            protected=opt.mode == "l2",
            owner=owner,
        )
        yield bridge
        # Networks are IPv4 only so far: else the host would configure IPv6 on the bridge, and take
        # routes from router advertisements that a container sends.
        for setting, value in (("accept_ra", "0"), ("disable_ipv6", "1")):
            name = f"net/ipv6/conf/{br}/{setting}"
            yield Sysctl(name=name, value=value, owner=owner, depends_on=(bridge.key,))
        addresses = [ip_interface((s.gateway, s.cidr.prefixlen)) for s in net.subnets if s.gateway]
        for address in addresses:
            yield Addr(dev=br, address=address, owner=owner, depends_on=(bridge.key,))
        peers = _peers(net)
        if (by_kernel := _device(net)) is not None:
            yield from by_kernel.resources()
            yield from by_kernel.known((e.mac, e.peer) for e in net.remote_endpoints)
        else:
            yield from (_tunnel(net, peer) for peer in peers)
        if opt.mode == "routed":
            after = tuple(("addr", HOST, br, str(a)) for a in addresses)
            yield from _routes(net, (bridge.key, *after))
            if self._datapath == "netdev":
                yield PortOffload(dev=br, port=br, owner=owner)
        if self._datapath == "netdev" and by_kernel is None:
            yield from underlay.towards(peers, opt.tunnel, owner, _rank(net))
        yield OvsFlows(bridge=br, name="network", flows=tuple(_flows(net)), owner=owner)
        # A group of flows for each peer: a container that starts there replaces that group alone.
        for peer in net.peers:
            there = tuple(_known(net, peer))
            if there:
                yield OvsFlows(bridge=br, name=f"known {peer}", flows=there, owner=owner)

    def endpoint(self, net: Network, ep: Endpoint) -> Iterator[Resource]:
        opt, owner, near = options_of(net), ep.owner(net), ifname(underlay.VETH, ep.id)
        # Before the link exists: an interface takes conf/default when it is made.
        quiet = Sysctl(name="net/ipv6/conf/default/disable_ipv6", value="1", ns=ep.ns, owner=owner)
        yield quiet
        mac = ep.mac or derive_mac(net.engine, ep.id)
        link = Link(
            name=near,
            kind="veth",
            peer=Peer(ns=ep.ns, name=ep.ifname, mac=mac),
            mtu=opt.mtu,
            owner=owner,
            depends_on=(quiet.key,),
        )
        yield link
        if self._datapath == "netdev":
            yield from underlay.ignore_packets(link)
        yield OvsPort(name=near, bridge=bridge_name(net), owner=owner)
        if self._datapath == "netdev":
            yield _offloads(ep, near, owner)
        yield OvsFlows(
            bridge=bridge_name(net),
            name=ep.id,
            flows=tuple(_container(net, ep, near, mac)),
            owner=owner,
        )
        # A group of their own: access rules change while the container runs, its addresses do not.
        rules = tuple(
            f for a in _ipv4(ep) for f in enforced(a, mac, ep.access, translates=not net.internal)
        )
        if rules:
            yield OvsFlows(
                bridge=bridge_name(net), name=f"{ep.id} access", flows=rules, owner=owner
            )
        yield from address_resources(net, ep, near, net.router)


def options_of(net: Network) -> Options:
    assert isinstance(net.options, Options)
    return net.options


def bridge_name(net: Network) -> str:
    return options_of(net).bridge or ifname("nko", net.id)


def tunnel_name(net: Network, peer: IPv4Address) -> str:
    """The peer in hexadecimal, then the network's id: a name has 15 characters at most.

    Where the kernel's VXLAN device makes tunnels it is the port of all peers.
    """
    if options_of(net).device == "kernel":
        return device.name_of(net.id)
    return f"{options_of(net).tunnel[0]}{int(peer):08x}{net.id[:6]}"


def key_of(net: Network) -> int:
    """Return 24 bits of a hash of the network's name: hosts agree without communication."""
    given = options_of(net).key
    if given is not None:
        return given
    digest = hashlib.sha256(f"netkit ovs {net.name}".encode()).digest()
    return int.from_bytes(digest[:3], "big") or 1


def gateway_mac(net: Network) -> str:
    return flows.router_mac(key_of(net), next(iter(_subnets(net)), ANYWHERE))


def _subnets(net: Network) -> tuple[IPv4Network, ...]:
    return tuple(s.cidr for s in net.subnets if isinstance(s.cidr, IPv4Network))


def _ipv4(ep: Endpoint) -> Iterator[IPv4Address]:
    return (a.ip for a in ep.addresses if isinstance(a, IPv4Interface))


def _peers(net: Network) -> tuple[IPv4Address, ...]:
    """The peers that the user named, or those that the cluster reports."""
    return net.peers if net.shared else options_of(net).peers


def _offloads(ep: Endpoint, near: str, owner: str) -> PortOffload:
    return PortOffload(
        dev=ep.ifname, ns=ep.ns, via=near, port=near, tunnels=ep.administered, owner=owner
    )


def _container(net: Network, ep: Endpoint, port: str, mac: str) -> Iterator[str]:
    for address in _ipv4(ep):
        yield from flows.container(port, mac, address)
    if net.shared:
        yield from flows.delivered(port, mac)


def _known(net: Network, peer: IPv4Address) -> Iterator[str]:
    port = tunnel_name(net, peer)
    for other in net.remote_endpoints:
        if other.peer == peer:
            yield from flows.known(port, other.mac, other.address)


def _device(net: Network) -> device.Device | None:
    """None where Open vSwitch makes the tunnels, or there are none."""
    opt, peers = options_of(net), _peers(net)
    if opt.device != "kernel" or not peers:
        return None
    return device.Device(
        name=device.name_of(net.id),
        bridge=bridge_name(net),
        key=key_of(net),
        mtu=opt.mtu,
        peers=peers,
        learning=not net.shared,
        owner=net.owner,
        rank=_rank(net),
    )


def _rank(net: Network) -> int:
    """Of rules that distinguish networks with the same peers."""
    return 1 + int(net.id[:4], 16)


def _tunnel(net: Network, peer: IPv4Address) -> OvsPort:
    opt = options_of(net)
    options = {"remote_ip": str(peer), "key": str(key_of(net))}
    if opt.local is not None:
        options["local_ip"] = str(opt.local)
    return OvsPort(
        name=tunnel_name(net, peer),
        bridge=bridge_name(net),
        kind=opt.tunnel,
        options=tuple(sorted(options.items())),
        protected=opt.mode == "l2",
        tag=ISOLATED if opt.mode == "routed" else None,
        bfd=opt.bfd,
        owner=net.owner,
    )


def _flows(net: Network) -> Iterator[str]:
    opt = options_of(net)
    yield from flows.base(gateway_mac(net))
    gateways = tuple(s.gateway for s in net.subnets if isinstance(s.gateway, IPv4Address))
    ports = {tunnel_name(net, peer): peer for peer in _peers(net)}  # one, if it is a device
    for port, peer in ports.items():
        if opt.mode == "routed":
            theirs = tuple(subnet for subnet, at in opt.routes if at == peer)
            yield from flows.routed(port, key_of(net), _subnets(net)[:1], theirs)
        else:
            yield from flows.stretched(port, gateway_mac(net), gateways, shared=net.shared)


def _routes(net: Network, after: tuple[Key, ...]) -> Iterator[Resource]:
    """Yield routes to peers' subnets by their gateways, whose MAC addresses are computed."""
    br = bridge_name(net)
    for subnet, _ in options_of(net).routes:
        gateway = subnet.network_address + (1 if subnet.prefixlen < 31 else 0)
        mac = flows.router_mac(key_of(net), subnet)
        yield Neigh(dev=br, address=gateway, mac=mac, owner=net.owner, depends_on=after)
        reach = Route(dst=IPv4Network(gateway), dev=br, owner=net.owner, depends_on=after)
        yield reach
        if subnet.prefixlen < 32:
            yield Route(
                dst=subnet, dev=br, gateway=gateway, owner=net.owner, depends_on=(reach.key,)
            )
