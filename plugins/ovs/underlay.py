"""Connect tunnels of the userspace datapath to the host's network.  Pure.

That datapath ends tunnels only at an address of a bridge of its own.  The host's interface stays
as it is; instead there is a short way between the host and OVS, with translation on it:

    eth0 -- host: DNAT of tunnel packets from peers, SNAT -- nkuh --[nku0] 169.254.250.2
                                                    169.254.250.1   ends tunnels

The way is an internal port and not a veth pair: ovs-vswitchd writes a packet to a tap device and
the host has it, where a packet socket (packet(7)) allocates, queues and clones, and drops what is
more than some 90 packets at once.

The kernel's datapath needs none of this.  Sources: OVS Documentation/howto/userspace-tunneling.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from netkit.driver import ANYWHERE, derive_mac
from netkit.model import HOST, Addr, Link, Neigh, Resource, Route, Rule, Sysctl
from netkit.model.openvswitch import OvsBridge, OvsPort, PortOffload, TunnelRoute

BRIDGE, NEAR = "nku0", "nkuh"
HERE, THERE = IPv4Interface("169.254.250.1/30"), IPv4Interface("169.254.250.2/30")
VETH = "nkv"  # begins the names of containers' links
MAC, NEAR_MAC = derive_mac("netkit ovs underlay"), derive_mac("netkit ovs underlay, host")
MATCH = {
    "gre": ("-p", "47"),  # RFC 2784
    "vxlan": ("-p", "udp", "--dport", "4789"),  # RFC 7348
    "geneve": ("-p", "udp", "--dport", "6081"),  # RFC 8926
}
# A conntrack zone of its own for tunnels: a peer's packets may have come before we translated for
# it, and the kernel does not translate a connection that it tracks untranslated already.
ZONE = "20043"  # any zone that no other program on the host uses


def setup(owner: str) -> Iterator[Resource]:
    """Yield what all networks of the host share."""
    bridge = OvsBridge(
        name=BRIDGE, datapath="netdev", secure=False, mac=MAC, tunnel_address=THERE, owner=owner
    )
    near = OvsPort(
        name=NEAR, bridge=BRIDGE, kind="internal", mac=NEAR_MAC, up=True, owner=owner
    )  # fmt: skip
    yield bridge
    yield near
    yield PortOffload(dev=NEAR, port=NEAR, owner=owner, depends_on=(near.key,))
    # The far end's address is on an interface of this host, if not the host's.
    yield Sysctl(
        name=f"net/ipv4/conf/{NEAR}/accept_local", value="1", owner=owner, depends_on=(near.key,)
    )
    yield Sysctl(name="net/ipv4/ip_forward", value="1", owner=owner)
    yield Addr(dev=NEAR, address=HERE, owner=owner, depends_on=(near.key,))
    here = ("addr", HOST, NEAR, str(HERE))
    far = IPv4Network(THERE.ip)
    yield Route(dst=far, dev=NEAR, owner=owner, depends_on=(here, bridge.key))
    yield Neigh(dev=NEAR, address=THERE.ip, mac=MAC, owner=owner, depends_on=(near.key,))
    out = _rule("nat", "POSTROUTING", "-s", str(far), "-j", "MASQUERADE", owner=owner)
    yield out
    # At the head, and no more of that chain: each network has rules there that are not about
    # tunnels, and every packet of a tunnel would be compared with all of them.
    zone = _zone("-i", NEAR, owner=owner, after=out, rank=-11)
    yield zone
    passed = _rule("raw", "PREROUTING", "-i", NEAR, "-j", "ACCEPT", owner=owner, rank=-10)
    yield replace(passed, depends_on=(zone.key,))
    yield unseen(owner)
    # After the administrator's own chain, before those about containers, which cost each packet.
    for side in (("-i", NEAR, "-s", str(far)), ("-o", NEAR, "-d", str(far))):
        yield _rule("filter", "FORWARD", *side, "-j", "ACCEPT", owner=owner, rank=-2)


def unseen(owner: str) -> Rule:
    """Keep the host from the packets of containers, which Open vSwitch reads beside it."""
    return _rule("raw", "PREROUTING", "-i", f"{VETH}+", "-j", "DROP", owner=owner, rank=-9)


def of_any_peer(end: IPv4Address, tunnel: str, owner: str) -> Iterator[Resource]:
    """Tunnels to and from peers that others know, who come and go: ovn-controller makes a port for
    each, and Open vSwitch drops what is of no port.  `end` is the address of the host for them."""
    yield TunnelRoute(dst=ANYWHERE, bridge=BRIDGE, gateway=HERE.ip, owner=owner)
    yield from _translated(("-d", str(IPv4Network(end)), *MATCH[tunnel]), owner, 0)


def towards(peers: Iterable[IPv4Address], tunnel: str, owner: str, rank: int) -> Iterator[Resource]:
    """Tunnels to and from these peers.  `rank` distinguishes networks with the same peers."""
    for peer in peers:
        source = str(IPv4Network(peer))
        yield TunnelRoute(dst=IPv4Network(peer), bridge=BRIDGE, gateway=HERE.ip, owner=owner)
        yield from _translated(("-s", source, *MATCH[tunnel]), owner, rank)


def ignore_packets(link: Link) -> Iterator[Sysctl]:
    """Keep the host from answering on a link that OVS reads by a packet socket (packet(7)).

    It would get all packets as well, past all flows: it answers ARP on any interface for all of
    its addresses.  IPv4 itself is dropped by a rule, see `setup`.
    """
    for name in (f"ipv4/conf/{link.name}/arp_ignore=8", f"ipv6/conf/{link.name}/disable_ipv6=1"):
        setting, _, value = name.partition("=")
        yield Sysctl(name=f"net/{setting}", value=value, owner=link.owner, depends_on=(link.key,))


def _translated(which: tuple[str, ...], owner: str, rank: int) -> Iterator[Rule]:
    """Translate tunnels to the host to where Open vSwitch ends them."""
    args = (*which, "-m", "addrtype", "--dst-type", "LOCAL")
    target = ("-j", "DNAT", "--to-destination", str(THERE.ip))
    into = _rule("nat", "PREROUTING", *args, *target, owner=owner, rank=rank)
    yield into
    yield _zone(*args, owner=owner, rank=rank, after=into)


def _zone(*args: str, owner: str, after: Rule, rank: int = 0) -> Rule:
    """Track in the zone, only once the rule `after` translates what is tracked there."""
    target = ("-j", "CT", "--zone", ZONE)
    rule = _rule("raw", "PREROUTING", *args, *target, owner=owner, rank=rank)
    return replace(rule, depends_on=(after.key,))


def _rule(table: str, chain: str, *args: str, owner: str, rank: int = 0) -> Rule:
    return Rule(table=table, chain=chain, args=args, owner=owner, rank=rank)
