"""The kernel's side of a weave network on one host: what has to exist for it.

    veth --+                         +-- wx-ID  VXLAN, to peers over the kernel (fastdp)
    veth --+---- bridge wv-ID -------+
    veth --+                         +-- wt-ID  TAP, to peers through user space (sleeve)

Both ends of the overlay are isolated from each other, so that no frame that came from a peer goes
out to peers, learn nothing, and get no frame for an unknown address: what is behind them is
written into the tables by the overlay process (netkit.overlay), which also sets the VXLAN device
up, once what may come in by it is checked.  So without that process the network works on this
host, and nothing enters or leaves.  A container's port lets in frames from its own MAC and IPv4
addresses only; its neighbours' ARP requests are not sent to peers.

The host has an address on the network only with -o expose, then it is the subnet's gateway, or
with -o addresses.  Without, it takes no frame from the bridge at all: Linux would answer ARP, and
take packets, for any address of the host's, whatever interface has it (RFC 1122, 3.3.4.2, the weak
model).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, ip_interface
from typing import ClassVar

from netkit.driver import (
    IFACE_PREFIX,
    Endpoint,
    Mode,
    Network,
    OverlayPorts,
    TrafficPolicy,
    Traits,
    address_resources,
    derive_mac,
    ifname,
)
from netkit.errors import InvalidSpec
from netkit.model import HOST, Addr, Fdb, IPInterface, Key, Link, Neigh, Peer, Resource, Sysctl
from netkit.model.nftables import Hook, NftChain, NftElement, NftRule, NftSet
from plugins.options import default, flag, interfaces, link_name, number
from plugins.port_security import FIRST, PORT_SECURITY, admitted, guarded, table_of
from plugins.weave.domain import DOMAIN

BRIDGES = "wv-"  # how their names begin
ADDRESSES, ENCRYPTED, EXPOSE, MASQUERADE, MTU, MULTICAST, VNI = (
    "addresses", "encrypted", "expose", "masquerade", "mtu", "multicast", "vni",
)  # fmt: skip
DOCKER_MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"
MIN_MTU, MAX_MTU = 68, 65535  # RFC 791 needs 68 bytes; the IPv4 length field has 16 bits
MOST_ADDRESSES = 7  # of the host besides its gateway's: an endpoint has 8 at most
LARGEST_VNI = 2**24 - 1  # RFC 7348, 5
CLOSED, TO_HOST = "closed", "host"  # ports from which nothing is for the host; the chain for it
SECURITY = replace(PORT_SECURITY, rules=((TO_HOST, 1), *PORT_SECURITY.rules))
VXLAN_PORT = 6784  # UDP, as weave's fast datapath has it
LONGEST_FRAME = 62_600
"""Bytes of the kernel's frames (gso_max_size): sealed, with headers of datagrams of 1,500 to
9,000 bytes, one fits what one call sends by user space, 65,507 bytes.  Longer ones go as two.  TCP
leaves 321 bytes of it for headers: seven segments of an MTU of 8,900 need this much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    addresses: tuple[IPv4Interface, ...] = ()  # of the host, beside the gateways'
    encrypted: bool = False  # there is no VXLAN device, whose frames are in clear
    expose: bool = False  # the host has the gateways' addresses
    masquerade: bool = True
    mtu: int = 1400  # bytes, of containers: an underlay of 1,500 carries it sealed or by VXLAN
    multicast: bool = True
    vni: int | None = None  # derived from the network's name when not given

    @property
    def with_host(self) -> bool:
        """Whether the host is on the network."""
        return self.expose or bool(self.addresses)


UNSET = Options()
KNOWN = {
    ADDRESSES: f"of the host, A.B.C.D/LENGTH,... {default(UNSET.addresses)}",
    ENCRYPTED: f"never in clear, not even to trusted subnets {default(UNSET.encrypted)}",
    EXPOSE: f"the host is the gateway, and publishes ports {default(UNSET.expose)}",
    MASQUERADE: f"masquerade what leaves the network by this host {default(UNSET.masquerade)}",
    MTU: f"bytes of containers {default(UNSET.mtu)}",
    MULTICAST: f"multicast frames go to peers {default(UNSET.multicast)}",
    VNI: f"number of the network on the wire, 1 to {LARGEST_VNI} (default from its name)",
    DOCKER_MTU: "the same as mtu",
    PREFIX: f"of interfaces in containers {default(IFACE_PREFIX)}",
}


class Weave:
    name: ClassVar[str] = "weave"
    options: ClassVar[Collection[str]] = KNOWN
    uses_ipam: ClassVar[bool] = True
    supports_port_mapping: ClassVar[bool] = True
    traits: ClassVar[Traits] = Traits(
        domain=DOMAIN,
        port_security=SECURITY,
        changeable=frozenset({ADDRESSES, EXPOSE, MASQUERADE, MTU, DOCKER_MTU, MULTICAST}),
        any_address=True,
        overlay=True,
    )

    def parse(self, options: Mapping[str, str]) -> Options:
        if MTU in options and DOCKER_MTU in options:
            raise InvalidSpec(f"options {MTU} and {DOCKER_MTU} are the same: give one")
        prefix = options.get(PREFIX) or IFACE_PREFIX
        link_name(prefix + "999", PREFIX)  # leave room for the number
        # As docker has it for its overlay: `--opt encrypted`, without a value.
        bare = {k: "true" for k in (ENCRYPTED, EXPOSE) if options.get(k) == ""}
        given = {**options, **bare}
        mtu = number(options, DOCKER_MTU if DOCKER_MTU in options else MTU, MIN_MTU, MAX_MTU)
        return Options(
            addresses=interfaces(options, ADDRESSES, MOST_ADDRESSES),
            encrypted=flag(given, ENCRYPTED, UNSET.encrypted),
            expose=flag(given, EXPOSE, UNSET.expose),
            masquerade=flag(options, MASQUERADE, UNSET.masquerade),
            mtu=UNSET.mtu if mtu is None else mtu,
            multicast=flag(options, MULTICAST, UNSET.multicast),
            vni=number(options, VNI, 1, LARGEST_VNI),
        )

    def policy(self, net: Network) -> TrafficPolicy:
        opt = options_of(net)
        mode: Mode = "isolated"
        if opt.expose:
            mode = "internal" if net.internal else "nat"
        return TrafficPolicy(
            link=bridge_name(net), mode=mode, masquerade=opt.masquerade, siblings=BRIDGES,
            around=net.name == self.name,  # as the registry has it for an overlay
        )  # fmt: skip

    def overlay(self, net: Network) -> OverlayPorts:
        return OverlayPorts(
            vni=vni_of(net), bridge=bridge_name(net), tap=tap_name(net), vxlan=vxlan_name(net),
            mtu=options_of(net).mtu, host_mac=host_mac(net), host_addresses=_of_host(net),
            port=VXLAN_PORT,
        )  # fmt: skip

    def claims(self, net: Network) -> Iterable[str]:
        """Claim the number: the kernel has one VXLAN device of a number and a port."""
        return (f"weave's network number {vni_of(net)} (option {VNI})",)

    def network(self, net: Network) -> Iterator[Resource]:
        opt, br, owner = options_of(net), bridge_name(net), net.owner
        yield Link(
            name=br,
            kind="bridge",
            mac=host_mac(net),  # else it changes with every port that comes
            mtu=opt.mtu,
            filtered=True,  # else access rules would not hold between neighbours on the bridge
            snooping=False,  # else the host itself would report that it listens, to all peers
            owner=owner,
        )
        ends = [_tap(net)] if opt.encrypted else [_tap(net), _vxlan(net)]
        yield from ends
        # Networks are IPv4 only so far: else the host would configure IPv6 on these, and send from
        # them.
        for name in (br, *(end.name for end in ends)):
            yield _setting(f"conf/{name}/disable_ipv6", "1", owner, after=("link", HOST, name))
        yield _setting(f"conf/{br}/accept_ra", "0", owner, after=("link", HOST, br))
        yield _promoting(br, HOST, owner)
        yield from guarded(net)
        yield from _shielded(net, [end.name for end in ends])
        yield from (Addr(dev=br, address=each, owner=owner) for each in _of_host(net))

    def endpoint(self, net: Network, ep: Endpoint) -> Iterator[Resource]:
        opt, owner, near = options_of(net), ep.owner(net), ifname("veth", ep.id)
        after: tuple[Key, ...] = ()
        if ep.ns != HOST:
            # Before the link is created: it takes conf/default when it is made.
            quiet = _setting("conf/default/disable_ipv6", "1", owner, ns=ep.ns)
            yield quiet
            after = (quiet.key,)
        mac = ep.mac or derive_mac(net.engine, ep.id)
        yield from admitted(net, ep, near)
        if not opt.with_host:
            yield _closed(net, near, owner)
        wire = Link(
            name=near,
            kind="veth",
            peer=Peer(ns=ep.ns, name=ep.ifname, mac=mac),
            master=bridge_name(net),
            mtu=opt.mtu,
            gso_max_size=LONGEST_FRAME,
            hairpin=bool(ep.published),  # to itself, where br_netfilter translates
            locked=True,
            learning=False,
            flood=False,
            owner=owner,
            depends_on=after,
        )
        yield wire
        if ep.ns != HOST:
            yield _promoting(ep.ifname, ep.ns, owner, wire.key)
        yield Fdb(dev=near, mac=mac, owner=owner)
        for a in ep.addresses:
            # The bridge knows it: a neighbour that asks for it here does not reach peers.
            yield Neigh(dev=bridge_name(net), address=a.ip, mac=mac, owner=owner)
        yield from address_resources(net, ep, near, ep.router or net.router)


def options_of(net: Network) -> Options:
    assert isinstance(net.options, Options)
    return net.options


def bridge_name(net: Network) -> str:
    return ifname(BRIDGES, net.id)


def tap_name(net: Network) -> str:
    """Its end of the overlay through user space."""
    return ifname("wt-", net.id)


def vxlan_name(net: Network) -> str | None:
    """Its end of the overlay through the kernel; None where what it carries must not be clear."""
    return None if options_of(net).encrypted else ifname("wx-", net.id)


def vni_of(net: Network) -> int:
    """Return its number on the wire: hosts agree without communication, by the name."""
    given = options_of(net).vni
    if given is not None:
        return given
    digest = hashlib.sha256(f"netkit weave {net.name}".encode()).digest()
    return int.from_bytes(digest[:3], "big") or 1


def host_mac(net: Network) -> str:
    """Return the bridge's address: what peers know the host by where it has an IP address."""
    return derive_mac(net.engine, net.id)


def _of_host(net: Network) -> tuple[IPInterface, ...]:
    """This host's addresses on the network."""
    opt = options_of(net)
    gateways = (
        ip_interface((s.gateway, s.cidr.prefixlen))
        for s in net.subnets if opt.expose and s.gateway is not None
    )  # fmt: skip
    return (*gateways, *opt.addresses)


def _shielded(net: Network, ends: Iterable[str]) -> Iterator[Resource]:
    """Drop what comes from these ports for the host itself, while it is not on the network."""
    table, owner = table_of(net), net.owner
    hook = Hook(kind="filter", point="input", priority=FIRST)
    yield NftSet(table=table, name=CLOSED, fields=("ifname",), owner=owner)
    yield NftChain(table=table, name=TO_HOST, hook=hook, owner=owner)
    text = f"iifname @{CLOSED} counter drop"
    yield NftRule(table=table, chain=TO_HOST, expression=text, owner=owner)
    yield from (_closed(net, port, owner) for port in ends if not options_of(net).with_host)


def _closed(net: Network, port: str, owner: str) -> NftElement:
    return NftElement(table=table_of(net), set=CLOSED, key_fields=(port,), owner=owner)


def _tap(net: Network) -> Link:
    return Link(
        name=tap_name(net),
        kind="tap",
        gso_max_size=LONGEST_FRAME,
        **_end(net),  # type: ignore[arg-type]
    )


def _vxlan(net: Network) -> Link:
    """With `up` None: it stays down until the overlay process checks what comes in by it."""
    options = {
        "df": "set",  # a path that is narrower than was probed is noticed, nothing is cut up
        "dstport": str(VXLAN_PORT),
        "id": str(vni_of(net)),
        "learning": "off",
        "ttl": "64",
        "udpcsum": "on",  # without a cost: the inner checksum gives the outer one (RFC 1624)
    }
    return Link(
        name=ifname("wx-", net.id),
        kind="vxlan",
        options=tuple(sorted(options.items())),
        up=None,
        **_end(net),  # type: ignore[arg-type]
    )


def _end(net: Network) -> dict[str, object]:
    """Return what both ends of the overlay have in common."""
    opt = options_of(net)
    return {
        "master": bridge_name(net), "mtu": opt.mtu, "owner": net.owner,
        "isolated": True, "learning": False, "flood": False, "neigh_suppress": True,
        "mcast_flood": opt.multicast,
    }  # fmt: skip


def _promoting(device: str, ns: str, owner: str, after: Key | None = None) -> Sysctl:
    """Else the first address of a subnet takes with it all others of that subnet."""
    return Sysctl(
        name=f"net/ipv4/conf/{device}/promote_secondaries", value="1", ns=ns, owner=owner,
        depends_on=(after or ("link", ns, device),),
    )  # fmt: skip


def _setting(
    name: str, value: str, owner: str, *, ns: str = HOST, after: Key | None = None
) -> Sysctl:
    return Sysctl(
        name=f"net/ipv6/{name}", value=value, ns=ns, owner=owner,
        depends_on=(after,) if after else (),
    )  # fmt: skip
