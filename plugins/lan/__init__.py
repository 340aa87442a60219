"""Containers on the host's own segment: a bridge with the host's NIC in it, and no translation.

    -o parent=eth0   a bridge of ours, br-eth0, takes the NIC as a port, and what it had
    -o bridge=br0    the administrator's bridge, NIC and all, used as it is

Neighbours see containers as they see any host: own MAC address, address of the LAN, the LAN's
router (--gateway).  So nothing is published, and -p is an error.  What a container may send is
checked at its port: see `plugins.port_security`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from netkit.driver import (
    IFACE_PREFIX,
    Endpoint,
    Network,
    Segment,
    TrafficPolicy,
    Traits,
    address_resources,
    ifname,
)
from netkit.errors import InvalidSpec
from netkit.model import HOST, Link, Peer, Resource, Sysctl
from netkit.model.uplink import EnslavedNic
from plugins.options import default, link_name, number
from plugins.port_security import PORT_SECURITY, admitted, guarded

PARENT, BRIDGE, PROBE = "parent", "bridge", "probe"
MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"
MIN_MTU, MAX_MTU = 68, 65535  # RFC 791 needs 68 bytes; the IPv4 length field has 16 bits
PROBE_FOR = 600  # milliseconds; hosts answer ARP within one, sleeping ones within some hundred
LONGEST_PROBE = 10_000  # milliseconds; RFC 5227 itself waits 7 s at most
KNOWN = {
    PARENT: "NIC of the host to make a bridge with; this or bridge",
    BRIDGE: "bridge of the administrator's that has the NIC; this or parent",
    PROBE: f"milliseconds that an address is probed for; 0: not {default(PROBE_FOR)}",
    MTU: "bytes (default that of the bridge)",
    PREFIX: f"of interfaces in containers {default(IFACE_PREFIX)}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    bridge: str
    parent: str = ""  # "": the bridge is the administrator's
    probe: int = PROBE_FOR  # milliseconds; 0: addresses are not probed
    mtu: int | None = None  # bytes, of containers' ends


class Lan:
    name: ClassVar[str] = "lan"
    options: ClassVar[Collection[str]] = KNOWN
    uses_ipam: ClassVar[bool] = True
    supports_port_mapping: ClassVar[bool] = False
    traits: ClassVar[Traits] = Traits(port_security=PORT_SECURITY)

    def parse(self, options: Mapping[str, str]) -> Options:
        if bool(options.get(PARENT)) == bool(options.get(BRIDGE)):
            raise InvalidSpec(
                "the lan driver needs either -o parent=NIC, to make a bridge with it, "
                "or -o bridge=NAME, to use one that has it"
            )
        prefix = options.get(PREFIX) or IFACE_PREFIX
        link_name(prefix + "999", PREFIX)  # leave room for the number
        probe = number(options, PROBE, 0, LONGEST_PROBE)
        given = options.get(PARENT) or ""
        parent = link_name(given, PARENT) if given else ""
        return Options(
            parent=parent,
            bridge=bridge_name(parent) if parent else link_name(options[BRIDGE], BRIDGE),
            probe=PROBE_FOR if probe is None else probe,
            mtu=number(options, MTU, MIN_MTU, MAX_MTU),
        )

    def policy(self, net: Network) -> TrafficPolicy:
        if net.internal:
            raise InvalidSpec("a lan network cannot be internal: it is the LAN itself")
        return TrafficPolicy(link=options_of(net).bridge, mode="bridged", masquerade=False)

    def segment(self, net: Network) -> Segment:
        opt = options_of(net)
        return Segment(link=opt.bridge, probe=opt.probe / 1000)

    def network(self, net: Network) -> Iterable[Resource]:
        opt = options_of(net)
        if opt.parent:
            # Its MAC address and MTU are the NIC's: ARP entries for the NIC stay valid.
            yield Link(name=opt.bridge, kind="bridge", filtered=True, owner=net.owner)
            yield EnslavedNic(dev=opt.parent, bridge=opt.bridge, owner=net.owner)
        else:
            yield Link(name=opt.bridge, kind="bridge", up=None, accept_existing=True)
        yield from guarded(net)

    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        opt, owner, near = options_of(net), ep.owner(net), ifname("veth", ep.id)
        quiet = Sysctl(name="net/ipv6/conf/default/disable_ipv6", value="1", ns=ep.ns, owner=owner)
        if ep.ns != HOST:
            yield quiet
        yield from admitted(net, ep, near)
        yield Link(
            name=near,
            kind="veth",
            peer=Peer(ns=ep.ns, name=ep.ifname, mac=ep.mac),
            master=opt.bridge,
            mtu=opt.mtu,
            owner=owner,
            depends_on=(quiet.key,) if ep.ns != HOST else (),
        )
        yield from address_resources(net, ep, near, ep.router)


def options_of(net: Network) -> Options:
    assert isinstance(net.options, Options)
    return net.options


def bridge_name(parent: str) -> str:
    """One NIC, one bridge: a second network on it is refused as a second one on its bridge."""
    name = f"br-{parent}"
    if len(name.encode()) <= 15:
        return name
    return ifname("br-", hashlib.sha256(parent.encode()).hexdigest())
