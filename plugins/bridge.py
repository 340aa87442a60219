"""A Linux bridge, and one veth pair per container."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Network, ip_interface
from typing import ClassVar, cast

from netkit.driver import (
    IFACE_PREFIX,
    Endpoint,
    Mode,
    Network,
    TrafficPolicy,
    address_resources,
    derive_mac,
    ifname,
)
from netkit.errors import InvalidSpec, NotSupported
from netkit.model import HOST, Addr, BridgeRedirect, Fdb, Key, Link, Neigh, Peer, Resource, Sysctl
from plugins.options import default, flag, ipv4, link_name, number

NAME = "com.docker.network.bridge.name"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
ICC = "com.docker.network.bridge.enable_icc"
BINDING = "com.docker.network.bridge.host_binding_ipv4"
MODE = "com.docker.network.bridge.gateway_mode_ipv4"
INHIBIT = "com.docker.network.bridge.inhibit_ipv4"
TRUSTED = "com.docker.network.bridge.trusted_host_interfaces"
DEFAULT = "com.docker.network.bridge.default_bridge"
MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"
SOURCE = "com.docker.network.host_ipv4"
IPV6_ONLY = (
    "com.docker.network.bridge.gateway_mode_ipv6",
    "com.docker.network.host_ipv6",
)

DOCKER0 = "docker0"
MODES = ("nat", "nat-unprotected", "routed", "isolated")
MIN_MTU, MAX_MTU = 68, 65535  # RFC 791 needs 68 bytes; the IPv4 length field has 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    name: str | None = None
    masquerade: bool = True
    icc: bool = True
    binding: str = "0.0.0.0"
    mode: str = "nat"
    address: bool = True  # the host keeps the gateway address on the bridge
    trusted: tuple[str, ...] = ()
    mtu: int | None = None  # bytes
    prefix: str = IFACE_PREFIX
    source: IPv4Address | None = None
    existing: bool = False  # the administrator's (netkitd -b br0): used as it is, never changed


UNSET = Options()
KNOWN = {
    NAME: "name of the bridge on the host (default br- and the network's id)",
    MASQUERADE: f"masquerade what leaves the network {default(UNSET.masquerade)}",
    ICC: f"containers may reach each other {default(UNSET.icc)}",
    BINDING: f"address that ports are published on {default(UNSET.binding)}",
    MODE: f"{', '.join(MODES[:-1])} or {MODES[-1]} {default(UNSET.mode)}",
    INHIBIT: f"the host has no address on the bridge {default(not UNSET.address)}",
    TRUSTED: "interfaces, a:b, from which containers are reached directly "
             f"{default(UNSET.trusted)}",
    DEFAULT: f"this is the network of containers that name none {default(UNSET.existing)}",
    MTU: "bytes (default that of the host's bridge)",
    PREFIX: f"of interfaces in containers {default(UNSET.prefix)}",
    SOURCE: "address that the network is masqueraded as (default that of the way out)",
}  # fmt: skip


class Bridge:
    name: ClassVar[str] = "bridge"
    options: ClassVar[Collection[str]] = KNOWN | dict.fromkeys(IPV6_ONLY, "")
    uses_ipam: ClassVar[bool] = True
    supports_port_mapping: ClassVar[bool] = True

    def parse(self, options: Mapping[str, str]) -> Options:
        if later := sorted(options.keys() & set(IPV6_ONLY)):
            raise NotSupported(f"IPv6 is not supported yet: leave out option {later[0]}")
        mode = options.get(MODE) or UNSET.mode
        if mode not in MODES:
            raise InvalidSpec(f"invalid value {mode!r} for option {MODE}: use {', '.join(MODES)}")
        is_default = flag(options, DEFAULT, UNSET.existing)
        trusted = tuple(t for t in options.get(TRUSTED, "").split(":") if t)
        prefix = options.get(PREFIX) or UNSET.prefix
        link_name(prefix + "999", PREFIX)  # leave room for the number
        return Options(
            name=link_name(options[NAME], NAME) if options.get(NAME) else None,
            masquerade=flag(options, MASQUERADE, UNSET.masquerade),
            icc=flag(options, ICC, UNSET.icc),
            binding=str(ipv4(options, BINDING)) if options.get(BINDING) else UNSET.binding,
            mode=mode,
            address=not flag(options, INHIBIT, not UNSET.address),
            trusted=tuple(link_name(t, TRUSTED) for t in trusted),
            mtu=number(options, MTU, MIN_MTU, MAX_MTU) if options.get(MTU) != "0" else None,
            prefix=prefix,
            source=ipv4(options, SOURCE),
            existing=is_default and options.get(NAME, DOCKER0) not in {"", DOCKER0},
        )

    def policy(self, net: Network) -> TrafficPolicy:
        opt = options_of(net)
        if opt.mode == "isolated" and not net.internal:
            raise InvalidSpec(
                f"option {MODE}: gateway mode 'isolated' can only be used for an internal network"
            )
        mode = opt.mode if opt.mode == "isolated" or not net.internal else "internal"
        return TrafficPolicy(
            link=bridge_name(net),
            mode=cast(Mode, mode),
            icc=opt.icc,
            masquerade=opt.masquerade,
            source=opt.source,
            binding=opt.binding,
            trusted=opt.trusted,
        )

    def network(self, net: Network) -> Iterable[Resource]:
        opt, br = options_of(net), bridge_name(net)
        if opt.existing:
            yield from _required(net, br)
            return
        link = Link(
            name=br,
            kind="bridge",
            mac=derive_mac(net.engine, net.id),  # else it changes with every port that comes
            mtu=opt.mtu,
            # Else access rules would not hold between neighbours on the bridge.
            filtered=True if opt.icc else None,
            owner=net.owner,
            # The administrator's br0 is there to be joined; a docker0 that is not ours has an
            # engine of its own, which gives out the same addresses.
            accept_existing=opt.name not in {None, DOCKER0},
        )
        yield link
        if not any(isinstance(s.cidr, IPv6Network) for s in net.subnets):
            for setting, value in (("accept_ra", "0"), ("disable_ipv6", "1")):
                yield _sysctl(f"net/ipv6/conf/{br}/{setting}", value, net.owner, after=link.key)
        if not opt.address or opt.mode == "isolated":
            return
        for s in net.subnets:
            if s.gateway is not None:
                address = ip_interface((s.gateway, s.cidr.prefixlen))
                yield Addr(dev=br, address=address, owner=net.owner)

    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        opt, owner, near = options_of(net), ep.owner(net), ifname("veth", ep.id)
        after: tuple[Key, ...] = ()
        if ep.ns != HOST and all(isinstance(a, IPv4Interface) for a in ep.addresses):
            # Before the link is created: an address that was never there needs no removal.
            quiet = _sysctl("net/ipv6/conf/default/disable_ipv6", "1", owner, ns=ep.ns)
            yield quiet
            after = (quiet.key,)
        yield Link(
            name=near,
            kind="veth",
            peer=Peer(ns=ep.ns, name=ep.ifname, mac=ep.mac),
            master=bridge_name(net),
            mac=_last_mac(net) if opt.name not in {None, DOCKER0} else None,
            mtu=opt.mtu,
            hairpin=bool(ep.published),  # to itself, where br_netfilter translates
            isolated=True if not opt.icc else None,
            locked=True if not opt.icc and ep.mac else None,
            owner=owner,
            depends_on=after,
        )
        if ep.mac and not opt.icc:
            yield from _settled(net, ep, ep.mac, near)
        if ep.has_accept_rules and not opt.icc:
            yield from _detour(net)
        yield from address_resources(net, ep, near, net.router)


def _last_mac(net: Network) -> str:
    """Return the MAC of the host's end of a pair, at a bridge whose own we may not set.

    Such a bridge takes the lowest address of its ports (net/bridge/br_stp_if.c,
    br_stp_recalculate_bridge_id).  With one that sorts behind those of NICs, and is the same for
    all, the gateway's address does not change under containers that know it already.
    """
    return f"fe{derive_mac(net.engine, net.id)[2:]}"


def _settled(net: Network, ep: Endpoint, mac: str, near: str) -> Iterable[Resource]:
    """Bind a container's addresses to its port, since rules match addresses: no other uses them.

    What the host knows by ARP on a bridge that may be the administrator's is left alone.
    """
    yield Fdb(dev=near, mac=mac, owner=ep.owner(net))
    yield BridgeRedirect(dev=near, bridge=bridge_name(net), mac=mac, owner=ep.owner(net))
    if options_of(net).name in {None, DOCKER0}:
        for a in ep.addresses:
            yield Neigh(dev=bridge_name(net), address=a.ip, mac=mac, owner=ep.owner(net))


def _detour(net: Network) -> Iterable[Resource]:
    """The host answers ARP for isolated neighbours, and routes between them: through iptables.

    RFC 3069; kernel Documentation/networking/ip-sysctl.rst, proxy_arp_pvlan; arp(7), proxy_delay
    (by default up to 0.8 s, so that a true answer could come first: here there is none).
    """
    br = bridge_name(net)
    for name in (f"neigh/{br}/proxy_delay=0", f"conf/{br}/proxy_arp_pvlan=1"):
        setting, _, value = name.partition("=")
        yield _sysctl(f"net/ipv4/{setting}", value, net.owner, after=("link", HOST, br))


def _required(net: Network, br: str) -> Iterable[Resource]:
    """Yield resources without owner: they must exist, and are not ours to change or delete."""
    yield Link(name=br, kind="bridge", up=None, accept_existing=True)
    for s in net.subnets:
        if s.gateway is not None:
            yield Addr(dev=br, address=ip_interface((s.gateway, s.cidr.prefixlen)))


def options_of(net: Network) -> Options:
    assert isinstance(net.options, Options)
    return net.options


def bridge_name(net: Network) -> str:
    return options_of(net).name or ifname("br-", net.id)


def _sysctl(
    name: str, value: str, owner: str, *, ns: str = HOST, after: Key | None = None
) -> Sysctl:
    return Sysctl(name=name, value=value, ns=ns, owner=owner, depends_on=(after,) if after else ())
