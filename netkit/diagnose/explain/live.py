"""Read the facts of a live host through netkit.kernel.  The only I/O of this package.

Nothing is changed by looking: legacy tables that are not there do not come into being.
Limits: routes of the main table; IPv4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, ip_interface
from types import MappingProxyType

from netkit.diagnose.explain.facts import (
    Container,
    Facts,
    Guard,
    Interface,
    KnownNetwork,
    Path,
    Place,
    Published,
    Switched,
)
from netkit.diagnose.explain.guards import Guards, guards
from netkit.diagnose.explain.listed import layer2, nft
from netkit.diagnose.explain.options import Members
from netkit.diagnose.explain.ruleset import Chain, RuleSet
from netkit.diagnose.explain.saved import iptables
from netkit.kernel.iptables import ipset
from netkit.kernel.netlink import bpf_redirect, fib, rtnl
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.netlink.neighbours import forwarding
from netkit.kernel.ruleset_dump import Listing, listing
from netkit.kernel.session import Session
from netkit.kernel.sysctl import observe as settings
from netkit.model import HOST, Sysctl
from netkit.model.layout import FirewallLayout
from netkit.spec import EndpointRecord

SET = re.compile(r"--match-set (\S+)")
OWN_RULES = 3  # local, main, default
BRIDGE_NF = "net/bridge/bridge-nf-call-iptables"
SETTINGS = ("forwarding", "route_localnet", "rp_filter", "accept_local", "proxy_arp_pvlan")
Links = dict[int, rtnl.SeenLink]  # by index


def look(
    home: str,
    networks: Iterable[KnownNetwork],
    endpoints: Iterable[EndpointRecord],
    namespace: Callable[[str], str],
    access: Mapping[str, str] = MappingProxyType({}),
    layouts: Iterable[FirewallLayout] = (),
    *,
    rules: bool = True,
) -> Facts:
    """Read all that decides about packets in the namespace at `home` ("": the daemon's own).

    `namespace` gives the file of a sandbox's namespace by its id; `access` names the user's rules
    that rules of ours stand for, by their digest; `layouts` are those of our firewalls.
    Without `rules` those of the firewall are left out: most of what this costs.  KernelError if
    the kernel or a tool refuses; a container removed meanwhile is left out.
    """
    endpoints, networks = list(endpoints), list(networks)
    names = {n.id: n.name for n in networks}
    listed = listing(home) if rules else Listing(saved=())
    secured = {n.port_security for n in networks if n.port_security is not None}
    watched, known = guards(listed.bridged, secured) if listed.bridged else Guards()
    with Session(home, Tally()) as session:
        links = _links(session, HOST)
        locks, addresses = _locks(session, links), _addresses(session)
        inside = _containers(session, links, endpoints, networks, namespace)
        return Facts(
            interfaces={i.name: i for i in _interfaces(session, links, addresses, locks)},
            routes=tuple(_paths(session, HOST, links)),
            rules=RuleSet.of(_chains(listed, _sets(session, listed))),
            containers={c.name: c for c in inside},
            networks={id[:12]: name for id, name in names.items()},
            ports=tuple(_published(endpoints)),
            access=access,
            layouts=tuple(layouts),
            policy_routing=fib.rules(session.netlink(HOST)) > OWN_RULES,
            guards={**locks, **watched}, routed=_routed(session, addresses),
            overlays=frozenset(n.overlay.bridge for n in networks if n.overlay is not None),
            layer2=", ".join(layer2(listed.bridged, known)) if listed.bridged else "",
        )


def _sets(session: Session, rules: Listing) -> Members:
    """The address sets (hash:net) that rules match with; of other kinds nothing is known."""
    names = {name for _, text in rules.saved for name in SET.findall(text)}
    found = ipset.observe(session, [("ipset", "4", name) for name in names])
    return {s.name: s.members for s in found.values()}


def _chains(rules: Listing, sets: Members) -> Iterator[Chain]:
    for tool, text in rules.saved:
        unprinted = rules.without_set if tool == "iptables-nft" else ()
        yield from iptables(tool, text, sets, unprinted)
    saved = "\n".join(text for tool, text in rules.saved if tool == "iptables-nft")
    printed = {line[1:] for line in saved.splitlines() if line.startswith("*")}
    for text, plain in rules.native:
        yield from nft(text, plain, known=printed)


def _links(session: Session, ns: str) -> Links:
    seen = map(rtnl.seen_link, session.netlink(ns).dump(rtnl.all_links()))
    return {s.index: s for s in seen}


def _addresses(session: Session) -> dict[int, list[IPv4Interface]]:
    out: dict[int, list[IPv4Interface]] = {}
    for message in session.netlink(HOST).dump(rtnl.addresses(0)):
        index = rtnl.IFADDR.unpack_from(message)[4]
        address = rtnl.seen_addr(message).address
        if isinstance(address, IPv4Interface):
            out.setdefault(index, []).append(address)
    return out


def _routed(
    session: Session, addresses: dict[int, list[IPv4Interface]]
) -> frozenset[IPv4Address]:
    """Those that the table `local` does not have."""
    own = fib.own(session.netlink(HOST))
    exact, wide = {n[0] for n in own if n.prefixlen == 32}, [n for n in own if n.prefixlen < 32]
    every = (a.ip for some in addresses.values() for a in some)
    return frozenset(a for a in every if a not in exact and not any(a in n for n in wide))


def _interfaces(
    session: Session,
    links: Links,
    addresses: dict[int, list[IPv4Interface]],
    locks: Mapping[str, Guard],
) -> Iterator[Interface]:
    routers = [k.name for k in links.values() if not k.master]
    paths = [f"net/ipv4/conf/{name}/{s}" for name in ("all", *routers) for s in SETTINGS]
    found = settings(session, [("sysctl", HOST, p) for p in (*paths, BRIDGE_NF)])
    read = {r.name: r.value for r in found.values() if isinstance(r, Sysctl)}

    def setting(name: str, what: str) -> int:
        return int(read.get(f"net/ipv4/conf/{name}/{what}", "0"))

    loaded, everywhere = BRIDGE_NF in read, read.get(BRIDGE_NF, "0") != "0"
    for k in links.values():
        name = k.name
        master = links.get(k.master)
        macs = locks[name].macs if name in locks else frozenset[str]()
        yield Interface(
            name=name,
            addresses=tuple(addresses.get(k.index, ())),
            bridge=k.kind == "bridge",
            master=master.name if master else "",
            isolated=k.port.get("isolated", False),
            hairpin=k.port.get("hairpin", False),
            redirected=k.port.get("isolated", False) and bpf_redirect.leads(session, HOST, k, macs),
            filtered=k.kind == "bridge"
            and loaded
            and (everywhere or k.bridge.get("filtered", False)),
            up=k.up,
            forwarding=setting(name, "forwarding") == 1,
            route_localnet=bool(setting("all", "route_localnet") | setting(name, "route_localnet")),
            rp_filter=max(setting("all", "rp_filter"), setting(name, "rp_filter")),
            accept_local=bool(setting("all", "accept_local") | setting(name, "accept_local")),
            proxy_arp_pvlan=setting(name, "proxy_arp_pvlan") == 1,
        )


def _locks(session: Session, links: Links) -> dict[str, Guard]:
    """Return what locked bridge ports accept."""
    locked = {k.index: k.name for k in links.values() if k.port.get("locked")}
    macs: dict[str, set[str]] = {name: set() for name in locked.values()}
    for e in forwarding(session.netlink(HOST)) if locked else ():
        if e.port in locked and not e.own:
            macs[locked[e.port]].add(e.mac)
    return {name: Guard(macs=frozenset(found)) for name, found in macs.items()}


def _paths(session: Session, ns: str, links: Links) -> Iterator[Path]:
    """Routes of a namespace; one that leads nowhere has no device."""
    for route in fib.entries(session.netlink(ns)):
        dev = links.get(route.oif)
        yield Path(
            dst=route.dst,
            dev=dev.name if dev else "",
            gateway=route.gateway,
            source=route.source,
            metric=route.metric,
        )


def _containers(
    session: Session,
    host: Links,
    endpoints: list[EndpointRecord],
    networks: list[KnownNetwork],
    namespace: Callable[[str], str],
) -> Iterator[Container]:
    names = {n.id: n.name for n in networks}
    switched = {n.id for n in networks if n.openvswitch}
    by_sandbox: dict[str, list[EndpointRecord]] = {}
    for e in endpoints:
        by_sandbox.setdefault(e.sandbox, []).append(e)
    for sandbox, records in by_sandbox.items():
        ns = namespace(sandbox)
        if ns == HOST:
            yield Container(name=records[0].owner_name, id=sandbox, on_host=True)
            continue
        if not session.exists(ns):
            continue
        links = _links(session, ns)
        inside = {k.name: k for k in links.values()}
        bridged = [e for e in records if e.network not in switched]
        places = [place for e in bridged for place in _places(e, inside, host, names)]
        yield Container(
            name=records[0].owner_name,
            id=sandbox,
            places=tuple(places),
            elsewhere={
                e.ifname: Switched(
                    id=e.id, network=names[e.network], address=IPv4Interface(e.address).ip
                )
                for e in records
                if e.network in switched
            },
            routes=tuple(_paths(session, ns, links)),
        )


def _places(
    e: EndpointRecord,
    inside: dict[str, rtnl.SeenLink],
    host: Links,
    names: dict[str, str],
) -> Iterator[Place]:
    """Where the wire of an endpoint is plugged in, one for each of its addresses."""
    near = host.get(inside[e.ifname].link) if e.ifname in inside else None
    bridge = host.get(near.master) if near else None
    for address in map(ip_interface, e.addresses):
        if near is None or bridge is None or not isinstance(address, IPv4Interface):
            continue
        yield Place(
            network=names.get(e.network, e.network[:12]),
            address=address,
            ifname=e.ifname,
            port=near.name,
            bridge=bridge.name,
            id=e.id,
            mac=inside[e.ifname].mac,
        )


def _published(endpoints: Iterable[EndpointRecord]) -> Iterator[Published]:
    for e in endpoints:
        for p in e.ports:
            if p.host_port:
                yield Published(
                    container=e.owner_name,
                    proto=p.proto,
                    container_port=p.container_port,
                    host_ip=p.host_ip or "0.0.0.0",
                    host_port=p.host_port,
                    address=IPv4Interface(e.address).ip if e.address else None,
                )
