"""Who reaches whom, derived from networks, ports, links and access rules.  Pure.

Nothing here knows a chain, a rule or a hook: it is the yardstick that the rules, the evaluator
of rules and real packets are held against.

                    to a container's address    to a published port    to the host's loopback
    host            any port                    yes                    yes
    LAN neighbour   no; routed: opened ports;   yes                    no
                    nat-unprotected: any
    same network    icc, a link, or accept      yes                    no
    other network   as a LAN neighbour          yes                    no
    internal        its own network only        no                     no
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

LOOPBACK = IPv4Network("127.0.0.0/8")
ANY = IPv4Address(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    name: str
    cidr: IPv4Network
    mode: str = "nat"  # nat, nat-unprotected, routed, internal, isolated
    icc: bool = True
    filtered: bool = True  # rules see what neighbours say to each other

    @property
    def closed(self) -> bool:
        return self.mode in {"internal", "isolated"}

    @property
    def gateway(self) -> IPv4Address:
        return self.cidr[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A container: its address on each network, and the network of its default route."""

    name: str
    homes: Mapping[str, IPv4Address]
    default: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """`-p`.  On a routed network `ip` and `outside` mean nothing: it is opened where it is."""

    box: str
    net: str
    inside: int
    outside: int = 0
    ip: IPv4Address = ANY
    proto: str = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    parent: str
    child: str
    net: str
    port: int
    proto: str = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An access rule; the first that fits decides."""

    box: str
    verdict: str
    source: IPv4Network
    more: tuple[IPv4Network, ...] = ()  # further sources
    proto: str = ""
    first: int = 0
    last: int = 0
    published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    host: tuple[IPv4Address, ...]  # without loopback
    nets: Mapping[str, Net]
    boxes: Mapping[str, Box]
    ports: tuple[Port, ...] = ()
    links: tuple[Link, ...] = ()
    rules: tuple[Rule, ...] = ()
    outside: Mapping[IPv4Address, str] = field(default_factory=dict)  # neighbours by address


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """`who` is host, a container, or the address of a neighbour."""

    who: str
    dst: IPv4Address
    port: int
    proto: str = "tcp"

    def __str__(self) -> str:
        return f"{self.who} -> {self.dst} {self.proto}/{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forged:
    """A packet to a neighbour on `net`, with the IP and MAC address of the given containers."""

    who: str
    ip: str
    mac: str
    target: str
    net: str
    port: int
    proto: str = "tcp"


@dataclass(frozen=True, slots=True)
class Fate:
    """`server` gets the packet and its answer arrives; "" without an answer, and `why`."""

    server: str
    why: str = ""
    port: int = 0


def predict(w: World, p: Probe) -> Fate:
    sender = w.boxes.get(p.who)
    if sender and p.dst in sender.homes.values():
        return Fate(sender.name, "itself", p.port)
    came = _leaves_by(w, sender, p.dst) if sender else ""
    if sender and not came:
        return Fate("", "the sender has no route")
    if p.dst in LOOPBACK and p.who != "host":
        return Fate("", "loopback is the host's own")
    if p.dst in LOOPBACK or p.dst in w.host:
        port = _published(w, p)
        if port is None:
            return Fate("host", "a service of the host", p.port)
        return _to_box(w, p, came, port.box, port.net, port.inside, translated=True)
    for box in w.boxes.values():
        for net, address in box.homes.items():
            if address == p.dst:
                return _to_box(w, p, came, box.name, net, p.port, translated=False)
    return _to_outside(w, p, came)


def taken(w: World, f: Forged) -> Fate:
    """Neighbours with icc=false cannot pose as each other, whatever addresses they forge."""
    assert not w.nets[f.net].icc
    if (f.ip, f.mac) != (f.who, f.who):
        return Fate("", "not with its own addresses")
    dst = w.boxes[f.target].homes[f.net]
    return predict(w, Probe(who=f.who, dst=dst, port=f.port, proto=f.proto))


def _leaves_by(w: World, box: Box, dst: IPv4Address) -> str:
    near = next((n for n in box.homes if dst in w.nets[n].cidr), "")
    if near and w.nets[near].mode == "isolated" and dst == w.nets[near].gateway:
        return ""
    return near or box.default


def _published(w: World, p: Probe) -> Port | None:
    for port in w.ports:
        if not w.nets[port.net].mode.startswith("nat"):
            continue
        here = p.who == "host" if port.ip in LOOPBACK else True
        if (port.proto, port.outside) == (p.proto, p.port) and here and port.ip in {ANY, p.dst}:
            return port
    return None


def _to_outside(w: World, p: Probe, came: str) -> Fate:
    if p.dst not in w.outside:
        return Fate("", "no host has this address")
    server = Fate(w.outside[p.dst], "out into the world", p.port)
    if p.who not in w.boxes:
        return server
    if w.nets[came].closed:
        return Fate("", "an internal network")
    if _silenced(w, p.who, p.dst, p.proto):
        return Fate("", "an access rule drops the answers")
    return server


def _to_box(
    w: World, p: Probe, came: str, target: str, home: str, port: int, *, translated: bool
) -> Fate:
    """To a container on network `home`, by a sender that came by network `came`."""
    net, arrives = w.nets[home], Fate(target, "", port)
    if p.who == "host":
        isolated = net.mode == "isolated"
        return Fate("", "the host has no address there") if isolated else arrives
    neighbours = came == home
    if neighbours and (closed := _kept_apart(w, net, translated=translated)):
        return Fate("", closed)
    source = _address(w, p.who, came)
    seen = not neighbours or translated or net.filtered or not net.icc
    verdict = _access(w, target, source, p, port, translated=translated) if seen else ""
    if verdict == "drop":
        return Fate("", "an access rule")
    if seen and p.who in w.boxes and _silenced(w, p.who, w.boxes[target].homes[home], p.proto):
        return Fate("", "an access rule drops the answers")
    if not neighbours and (net.closed or (came and w.nets[came].closed)):
        return Fate("", "an internal network")
    if verdict == "accept" or translated:
        return arrives
    open_ = _open(w, p, net, target, port, neighbours=neighbours)
    return arrives if open_ else Fate("", "closed by default")


def _kept_apart(w: World, net: Net, *, translated: bool) -> str:
    """Without icc, neighbours meet only where the host routes between them."""
    if net.icc or translated:
        return ""
    accepted = (r.box for r in w.rules if r.verdict == "accept")
    known = {link.child for link in w.links if link.net == net.name} | set(accepted)
    met = any(net.name in w.boxes[name].homes for name in known)
    return "" if met else "isolated"


def _open(w: World, p: Probe, net: Net, target: str, port: int, *, neighbours: bool) -> bool:
    if neighbours:
        return net.icc or any(
            (k.parent, k.child, k.net, k.proto, k.port) == (p.who, target, net.name, p.proto, port)
            for k in w.links
        )
    if net.mode == "routed":
        opened = {(o.box, o.proto, o.inside) for o in w.ports if o.net == net.name}
        return (target, p.proto, port) in opened
    return net.mode == "nat-unprotected"


def _address(w: World, who: str, came: str) -> IPv4Address:
    return w.boxes[who].homes[came] if who in w.boxes else IPv4Address(who)


def _rules_of(w: World, box: str, source: IPv4Address, proto: str) -> Iterator[Rule]:
    for r in w.rules:
        named = any(source in n for n in (r.source, *r.more))
        if r.box == box and named and r.proto in {"", proto}:
            yield r


def _access(
    w: World, box: str, source: IPv4Address, p: Probe, port: int, *, translated: bool
) -> str:
    for r in _rules_of(w, box, source, p.proto):
        number = p.port if r.published else port
        if r.published and not translated:
            continue
        if not r.first or r.first <= number <= r.last:
            return r.verdict
    return ""


def _silenced(w: World, box: str, peer: IPv4Address, proto: str) -> bool:
    """Return whether answers from `peer` are dropped; they come to a port that no rule names."""
    first = next((r for r in _rules_of(w, box, peer, proto) if not r.first), None)
    return first is not None and first.verdict == "drop"
