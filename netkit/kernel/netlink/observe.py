"""Observe links, addresses, routes, neighbours and forwarding tables.

The owner of a link is its ifalias.  What needs a link is as much ours as the link is, if it
carries our protocol number where there is one; a link inside a container is ours if the
host's end of the same pair is, and thinks so as well: what a container can write proves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Interface, ip_address, ip_interface

from netkit.kernel import release
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import IFINFO, Tally, attributes
from netkit.kernel.netlink.kinds import KINDS, TAP
from netkit.kernel.session import OPEN_AT_ONCE, Session
from netkit.model import (
    HOST,
    Addr,
    ConnectedRoute,
    Fdb,
    Key,
    Link,
    LinkInside,
    Neigh,
    Peer,
    Resource,
    Route,
)

MARK = "netkit:"
TYPES = frozenset({"link", "addr", "connected", "route", "neigh", "fdb"})
# IFA_PROTO came with Linux 5.18; before, an address is ours if its link is.
ADDRESSES_ARE_MARKED = release.running() >= (5, 18)


def observe(session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
    """Observe those of `keys` that exist.  For a route it reads its namespace's main table.

    The second word of other keys is a namespace that may hold the other end of a pair.
    """
    by_ns: dict[str, list[Key]] = {}
    namespaces: dict[str, None] = {}  # in which the other end of a pair is looked for
    for key in sorted(keys):
        namespaces.setdefault(key[1])
        if key[0] in TYPES:
            by_ns.setdefault(key[1], []).append(key)
    by_ns = {ns: ks for ns, ks in by_ns.items() if session.exists(ns)}
    # As many at a time as keep their sockets open, and the host last: then it asks for no far end
    # that was not seen.
    order = [ns for ns in by_ns if ns != HOST] + [HOST] * (HOST in by_ns)
    out: dict[Key, Resource] = {}
    for start in range(0, len(order), OPEN_AT_ONCE - 1):
        some = {ns: by_ns[ns] for ns in order[start : start + OPEN_AT_ONCE - 1]}
        out |= _observed(session, some, list(namespaces))
    return out


def _observed(
    session: Session, by_ns: dict[str, list[Key]], namespaces: list[str]
) -> dict[Key, Resource]:
    for ns, ks in by_ns.items():
        session.look(ns, (k[2] for k in ks if k[0] != "route"))
    _look_around(session, by_ns)
    peers = _peers(session, by_ns, namespaces)
    parents = _parents(session, by_ns)
    out: dict[Key, Resource] = {}
    for ns, ks in by_ns.items():
        out |= _links(session, ks, peers, parents)
        out |= _addresses(session, ns, [k for k in ks if k[0] == "addr"])
        out |= _connected(session, ns, [k for k in ks if k[0] == "connected"])
        out |= _routes(session, ns, {k[2] for k in ks if k[0] == "route"})
        out |= _neighbours(session, ns, [k for k in ks if k[0] == "neigh"])
        out |= _forwarding(session, ns, [k for k in ks if k[0] == "fdb"])
    return out


def owned(session: Session, prefix: str) -> dict[Key, Resource]:
    """Links of the host whose alias starts with `prefix`, and our addresses and routes on them."""
    ours = {s.name: s for s in session.all_links(HOST) if s.alias.startswith(prefix)}
    keys: list[Key] = [("link", HOST, name) for name in ours]
    indexes = {s.index for s in ours.values()}
    # Full dumps: rtnetlink finds nothing by its mark.
    for message in session.netlink(HOST).dump(rtnl.routes(4, rtnl.RTPROT_NETKIT)):
        r = rtnl.seen_route(message)
        if r.oif in indexes and r.proto == rtnl.RTPROT_NETKIT:
            keys.append(("route", HOST, str(r.dst)))
    names = {s.index: s.name for s in ours.values()}
    for message in session.netlink(HOST).dump(rtnl.addresses()) if ADDRESSES_ARE_MARKED else ():
        a, name = rtnl.seen_addr(message), names.get(rtnl.link_of_addr(message))
        if name is not None and a.proto == rtnl.RTPROT_NETKIT:
            keys.append(("addr", HOST, name, str(a.address)))
    return {k: r for k, r in observe(session, keys).items() if (r.owner or "").startswith(prefix)}


def ipv4_of(ns: str, name: str) -> tuple[IPv4Interface, ...]:
    """Addresses of a link as the kernel lists them, of any origin; () if there is no link."""
    with Session(ns, Tally()) as session:
        if (link := session.link(HOST, name)) is None:
            return ()
        seen = map(rtnl.seen_addr, session.netlink(HOST).dump(rtnl.addresses(link.index)))
        return tuple(a.address for a in seen if isinstance(a.address, IPv4Interface))


def port_mtus(ns: str, bridge: str) -> dict[str, int]:
    """The MTU of each port of a bridge, by the port's name; {} if there is no bridge."""
    with Session(ns, Tally()) as session:
        if (link := session.link(HOST, bridge)) is None:
            return {}
        seen = map(rtnl.seen_link, session.netlink(HOST).dump(rtnl.all_links(link.index)))
        return {s.name: s.mtu for s in seen if s.master == link.index}


class HostNamespaces:
    """Implements netkit.frontends.libnetwork.interfaces.Namespaces, of the process's own host."""

    def links(self, ns: str) -> list[LinkInside]:
        with Session("", Tally()) as session:
            if not session.exists(ns):
                return []
            seen = session.all_links(ns)
            session.look(HOST, {s.link for s in seen if s.nsid is not None and s.link})
            return [LinkInside(name=s.name, mark=_mark_of_near(session, s)) for s in seen]

    def is_there(self, mark: str) -> bool:
        return bool(marked_links(HOST, {mark}))


def _mark_of_near(session: Session, far: rtnl.SeenLink) -> str:
    """The owner mark of the host's end of a pair; "" where the two are none, or it has none."""
    if far.nsid is None or not far.link:
        return ""
    near = session.link(HOST, far.link)
    of_a_pair = near is not None and near.kind == far.kind == "veth" and near.link == far.index
    return near.alias if near is not None and of_a_pair else ""


def marked_links(ns: str, owners: Collection[str]) -> set[str]:
    """Names of the links of a namespace that bear one of these marks."""
    out: set[str] = set()
    with Session(ns, Tally()) as session:
        for body in session.netlink(HOST).dump(rtnl.all_links()):
            a = attributes(body, IFINFO.size)
            if a.get(rtnl.IFLA_IFALIAS, b"")[:-1].decode(errors="replace") in owners:
                out.add(a[rtnl.IFLA_IFNAME][:-1].decode(errors="replace"))
    return out


def _look_around(session: Session, by_ns: dict[str, list[Key]]) -> None:
    """Fetch masters, and host ends of container links, in one go a namespace."""
    hosts: set[int] = set()
    for ns, ks in by_ns.items():
        seen = [s for k in ks if k[0] != "route" and (s := session.link(ns, k[2]))]
        masters = {s.master for s in seen if s.master}
        session.look(ns, masters)
        if ns != HOST:
            hosts |= {s.link for s in seen if s.nsid is not None and s.link}
    if hosts:
        session.look(HOST, hosts)


def _links(
    session: Session, keys: list[Key], peers: dict[Key, Peer], parents: dict[Key, str]
) -> dict[Key, Resource]:
    out: dict[Key, Resource] = {}
    for key in keys:
        if key[0] != "link" or (s := session.link(key[1], key[2])) is None:
            continue
        master = session.link(key[1], s.master) if s.master else None
        peer = peers.get(key)
        far = session.link(peer.ns, peer.name) if peer else None
        out[key] = Link(
            name=s.name,
            ns=key[1],
            kind=s.kind,
            peer=peer,
            master=master.name if master else None,
            mtu=s.mtu if far is None or far.mtu == s.mtu else 0,
            gso_max_size=_gso(s, far),
            mac=s.mac,
            up=s.up and (far is None or far.up),
            parent=parents.get(key),
            options=s.options,
            owner=owner_of(session, key[1], s),
            **s.port,
            **s.bridge,
        )
    return out


def _gso(s: rtnl.SeenLink, far: rtnl.SeenLink | None) -> int | None:
    """Of kinds that have one in the model."""
    if s.kind not in {"veth", TAP}:
        return None
    return s.gso if far is None or far.gso == s.gso else 0


def owner_of(session: Session, ns: str, end: rtnl.SeenLink) -> str | None:
    """The mark of a link; of a container's end of a pair, that of the other end.

    Whatever the other end's name is and wherever it is: so a container's end is known for ours
    when another tool has renamed or moved the host's.
    """
    if end.alias.startswith(MARK):
        return end.alias
    if ns == HOST or end.kind != "veth" or not end.link:
        return None
    if end.nsid is None:
        other = session.link(ns, end.link)
    else:
        reply = session.netlink(ns).run([rtnl.get_link_in(end.nsid, end.link)])[0]
        other = rtnl.seen_link(reply.messages[0]) if reply.messages else None
    if other is None or other.link != end.index or not other.alias.startswith(MARK):
        return None
    return other.alias


def _parents(session: Session, by_ns: dict[str, list[Key]]) -> dict[Key, str]:
    """Return parents of the links in `by_ns` that are on the host."""
    out: dict[Key, str] = {}
    for ns, ks in by_ns.items():
        links = {k: s for k in ks if k[0] == "link" and (s := session.link(ns, k[2]))}
        hang = {k: s for k, s in links.items() if s.link and s.kind in KINDS}
        if not hang:
            continue
        places = {None: HOST} if ns == HOST else _numbers(session, ns, [HOST])
        here = {k: s.link for k, s in hang.items() if s.nsid in places}
        session.look(HOST, here.values())
        for k, index in here.items():
            if parent := session.link(HOST, index):
                out[k] = parent.name
    return out


def _peers(session: Session, by_ns: dict[str, list[Key]], namespaces: list[str]) -> dict[Key, Peer]:
    """Far ends of pairs, as far as they are in one of `namespaces`."""
    out: dict[Key, Peer] = {}
    for ns, ks in by_ns.items():
        pairs = {
            k: s
            for k in ks
            if k[0] == "link" and (s := session.link(ns, k[2])) and s.kind == "veth"
        }
        if not pairs:
            continue
        places = {None: ns} | _numbers(session, ns, [HOST] if ns != HOST else namespaces)
        if any(s.nsid not in places for s in pairs.values()):  # rarely, of a container
            places |= _numbers(session, ns, namespaces)
        wanted: dict[str, set[int]] = {}
        for s in pairs.values():
            if s.nsid in places:
                wanted.setdefault(places[s.nsid], set()).add(s.link)
        for place, indexes in wanted.items():
            session.look(place, indexes)
        for k, s in pairs.items():
            at = places.get(s.nsid)
            far = session.link(at, s.link) if at is not None else None
            if at is not None and far is not None and far.link == s.index:
                out[k] = Peer(ns=at, name=far.name, mac=far.mac)
    return out


def _numbers(session: Session, ns: str, namespaces: list[str]) -> dict[int | None, str]:
    """Map the nsids that `ns` has of other namespaces to these."""
    out: dict[int | None, str] = {}
    for start in range(0, len(namespaces), OPEN_AT_ONCE):
        with session.files(namespaces[start : start + OPEN_AT_ONCE]) as files:
            replies = session.netlink(ns).get([rtnl.get_nsid(fd) for fd in files.values()])
            for path, reply in zip(files, replies, strict=True):
                if reply.messages and (nsid := rtnl.seen_nsid(reply.messages[0])) >= 0:
                    out[nsid] = path
    return out


def _standing_on(session: Session, ns: str, dev: rtnl.SeenLink) -> tuple[str | None, str | None]:
    """Return (owner, via) of what needs a link: by its own mark, or that of the host's end."""
    if ns == HOST:
        return (dev.alias if dev.alias.startswith(MARK) else None), None
    if dev.nsid is not None and dev.link:
        # A container can give its links any ifalias, and any of them an IFLA_LINK that is some link
        # of the host's; it cannot make that one point back.
        near = session.link(HOST, dev.link)
        if near and near.link == dev.index and near.alias.startswith(MARK):
            return near.alias, near.name
    return None, None


def _addresses(session: Session, ns: str, keys: list[Key]) -> dict[Key, Resource]:
    wanted = set(keys)
    out: dict[Key, Resource] = {}
    for name in sorted({k[2] for k in keys}):
        dev = session.link(ns, name)
        if dev is None:
            continue
        owner, via = _standing_on(session, ns, dev)
        for a in map(rtnl.seen_addr, session.netlink(ns).dump(rtnl.addresses(dev.index))):
            ours = a.proto == rtnl.RTPROT_NETKIT or not ADDRESSES_ARE_MARKED
            addr = Addr(dev=name, address=a.address, ns=ns, via=via, owner=owner if ours else None)
            if addr.key in wanted:
                out[addr.key] = addr
    return out


def _routes(session: Session, ns: str, wanted: set[str]) -> dict[Key, Resource]:
    best: dict[str, rtnl.SeenRoute] = {}
    for version in sorted({6 if ":" in dst else 4 for dst in wanted}):
        for r in map(rtnl.seen_route, session.netlink(ns).dump(rtnl.routes(version))):
            dst = str(r.dst)
            if dst in wanted and (dst not in best or _rank(r) < _rank(best[dst])):
                best[dst] = r
    session.look(ns, {r.oif for r in best.values() if r.oif})
    _look_around(session, {ns: [("link", ns, d.name) for r in best.values()
                                if r.oif and (d := session.link(ns, r.oif))]})  # fmt: skip
    out: dict[Key, Resource] = {}
    for r in best.values():
        dev = session.link(ns, r.oif) if r.oif else None
        owner, via = _standing_on(session, ns, dev) if dev else (None, None)
        route = Route(
            dst=r.dst,
            dev=dev.name if dev else "",
            ns=ns,
            gateway=r.gateway,
            via=via,
            owner=owner if r.proto == rtnl.RTPROT_NETKIT else None,
        )
        out[route.key] = route
    return out


def _connected(session: Session, ns: str, keys: list[Key]) -> dict[Key, Resource]:
    """Observe a route to the subnet through the device, whichever tool added it."""
    if not keys:
        return {}
    seen = map(rtnl.seen_route, session.netlink(ns).dump(rtnl.routes(4)))
    there = {(r.dst, r.oif) for r in seen}
    out: dict[Key, Resource] = {}
    for key in keys:
        address, dev = ip_interface(key[3]), session.link(ns, key[2])
        if dev is not None and (address.network, dev.index) in there:
            out[key] = ConnectedRoute(dev=key[2], address=address, ns=ns)
    return out


def _rank(r: rtnl.SeenRoute) -> tuple[bool, int]:
    """Sort several routes to one destination: ours first, then the one that is used."""
    return r.proto != rtnl.RTPROT_NETKIT, r.metric


def _neighbours(session: Session, ns: str, keys: list[Key]) -> dict[Key, Resource]:
    asked = [(k, dev) for k in keys if (dev := session.link(ns, k[2]))]
    requests = [rtnl.get_neigh(dev.index, ip_address(k[3])) for k, dev in asked]
    out: dict[Key, Resource] = {}
    for (key, dev), reply in zip(asked, session.netlink(ns).run(requests), strict=True):
        mac = rtnl.seen_neigh(reply.messages[0]) if reply.messages else None
        if mac is None:
            continue
        owner, via = _standing_on(session, ns, dev)
        out[key] = Neigh(
            dev=key[2], address=ip_address(key[3]), mac=mac, ns=ns, via=via, owner=owner
        )
    return out


def _forwarding(session: Session, ns: str, keys: list[Key]) -> dict[Key, Resource]:
    asked = [(k, dev) for k in keys if (dev := session.link(ns, k[2]))]
    requests = [rtnl.get_fdb(dev.index, k[3]) for k, dev in asked]
    out: dict[Key, Resource] = {}
    for (key, dev), reply in zip(asked, session.netlink(ns).run(requests), strict=True):
        if reply.messages and rtnl.seen_fdb(reply.messages[0]) == dev.index:
            owner, _ = _standing_on(session, ns, dev)
            out[key] = Fdb(dev=key[2], mac=key[3], ns=ns, owner=owner)
    return out
