"""Resolve a question in names to the first packet and its sender."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from netkit.diagnose.choosing import Attached, Place, choose, on_network
from netkit.diagnose.explain.facts import LO, Container, Facts, Interface, Path, best
from netkit.diagnose.explain.grammar import Spot, service, spot, without_port
from netkit.diagnose.explain.journey import Party
from netkit.diagnose.explain.packet import EPHEMERAL, Ends, Packet, first
from netkit.errors import InvalidSpec, NotFound, NotSupported

UPLINK = "uplink"  # an interface that a host without one is taken to have
EVERYWHERE = IPv4Network("0.0.0.0/0")
STRANGERS = ("192.0.2", "198.51.100", "203.0.113")  # RFC 5737: documentation only


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May `source` reach `port` of `target`?

    Both ends as netkit.diagnose.explain.grammar has them, without a port; `world` is a host outside
    that no rule names.  With `one_way` only the request is followed, not its answer.
    Of a container that spoofs: `pose` and `mac` are addresses that it writes into its packets
    instead of its own, and with `forced` it hands them to the host, whatever its own routes are.
    """

    source: str
    target: str
    port: int = 0
    proto: str = "tcp"
    one_way: bool = False
    pose: str = ""
    mac: str = ""
    forced: bool = False


def question(source: str, target: str, port: str) -> Question:
    """Parse as netkit.diagnose.explain.grammar has it.  Raises InvalidSpec."""
    proto, number = service(port, spot(target), spot(source))
    return Question(source=source, target=without_port(target), port=number, proto=proto)


def with_uplink(q: Question, facts: Facts) -> Facts:
    """The same host; if nothing from the world could come to it, with an interface for that.

    InvalidSpec where it could come by several, and no route determines which.
    """
    if spot(q.source).kind != "world" or best(facts.routes, stranger(facts)):
        return facts
    ways = ways_out(facts)
    if len(ways) > 1:
        raise InvalidSpec(
            f"by which interface does the world come?  The host has no route to it, and "
            f"{', '.join(ways)}: write lan:ADDRESS@INTERFACE"
        )
    if ways:
        return facts
    forwarding = any(i.forwarding for i in facts.interfaces.values())
    uplink = Interface(name=UPLINK, forwarding=forwarding)
    return replace(
        facts,
        interfaces={**facts.interfaces, UPLINK: uplink},
        routes=(*facts.routes, Path(dst=EVERYWHERE, dev=UPLINK)),
    )


class Sent(NamedTuple):
    """The first packet, and who sends it."""

    party: Party
    packet: Packet


class Arrival(NamedTuple):
    """The interface of the host that packets from outside come by; of a bridge, also the port."""

    iface: str
    port: str = ""


class _Sender(NamedTuple):
    party: Party
    own: IPv4Address | None = None  # its address, where the question says which


def begin(q: Question, facts: Facts) -> Sent:
    """Return the sender and the packet.  NotFound, InvalidSpec, NotSupported."""
    party, own = _sender(q, facts)
    party = replace(party, forced=q.forced)
    dst = _target(q.target, party, facts)
    _must_be_bridged(party, dst, facts)
    src = IPv4Address(q.pose) if q.pose else own or _own(party, dst, facts)
    port = (q.port, q.port)
    ends = Ends(src=src, dst=dst, sport=EPHEMERAL if q.proto != "icmp" else (0, 0), dport=port)
    return Sent(party, replace(first(ends, q.proto), mac=q.mac))


def _must_be_bridged(party: Party, dst: IPv4Address, facts: Facts) -> None:
    """What goes by a switch with flows is not looked at here."""
    for c in facts.containers.values():
        path = best(c.routes, dst) if c.name == party.name and not c.has(dst) else None
        for ifname, e in c.elsewhere.items():
            if dst == e.address or (path is not None and path.dev == ifname):
                raise NotSupported(
                    f"container {c.name} is on network {e.network} of Open vSwitch, whose flows fw "
                    "explain does not know: ask netkit net trace"
                )


def _sender(q: Question, facts: Facts) -> _Sender:
    s = spot(q.source)
    match s.kind:
        case "host":
            return _Sender(Party(kind="host"))
        case "world":
            return _outside(stranger(facts), "", facts)
        case "container":
            container = _container(s, facts)
            if container.on_host:
                return _Sender(Party(kind="host"))
            own = _on(container, s.network) if s.network else None
            return _Sender(Party(kind="container", name=container.name), own)
    assert s.address is not None
    if s.outside:
        return _outside(s.address, s.iface, facts)
    if facts.is_local(s.address):
        return _Sender(Party(kind="host"), s.address)
    if found := facts.owner_of(s.address):
        return _Sender(Party(kind="container", name=found.container.name), s.address)
    return _outside(s.address, "", facts)


def _container(s: Spot, facts: Facts) -> Container:
    found = facts.container(s.name)
    if found is None:
        raise NotFound(
            f"no running container {s.name}, and no IPv4 address; other words are host, world, "
            "lan:ADDRESS"
        )
    return found


def _outside(address: IPv4Address, iface: str, facts: Facts) -> _Sender:
    path = best(facts.routes, address)
    name, port = arrival(facts, address, iface or (path.dev if path else only_way_out(facts)))
    return _Sender(Party(kind="outside", iface=name, port=port), address)


def arrival(facts: Facts, address: IPv4Address, iface: str) -> Arrival:
    """Where packets from outside come by `iface`.

    InvalidSpec: there is none of that name, or a container is behind it.
    """
    found = facts.interfaces.get(iface)
    if found is None or iface == LO:
        known = f"the host has no interface {iface}" if iface else "no route determines it"
        raise InvalidSpec(
            f"by which interface does {address} come?  Write lan:{address}@INTERFACE: {known}"
        )
    if not found.master:
        return Arrival(iface)
    for container, place in facts.places:
        if place.port == iface:
            raise InvalidSpec(
                f"{iface} is the wire of container {container.name}: write its name, not "
                f"{address}@{iface}"
            )
    return Arrival(found.master, iface)


def ways_out(facts: Facts) -> list[str]:
    """The interfaces that are no bridge, no port and not lo, and have an address."""
    return [
        i.name
        for i in facts.interfaces.values()
        if not (i.bridge or i.master or i.name == LO) and i.addresses
    ]


def only_way_out(facts: Facts) -> str:
    """The one of `ways_out`, if there is but one."""
    found = ways_out(facts)
    return found[0] if len(found) == 1 else ""


def stranger(facts: Facts) -> IPv4Address:
    """An address that no rule, route or interface of this host singles out."""
    taken = [a.network for i in facts.interfaces.values() for a in i.addresses]
    taken += [p.dst for p in facts.routes if p.dst.prefixlen]
    for net in STRANGERS:
        for n in range(1, 255):
            address = IPv4Address(f"{net}.{n}")
            if not facts.rules.mentions(address) and not any(address in t for t in taken):
                return address
    raise InvalidSpec("every documentation address is in use here: name one with lan:ADDRESS")


def _target(text: str, party: Party, facts: Facts) -> IPv4Address:
    s = spot(text)
    if s.address is not None:
        return s.address
    if s.kind == "world":
        return stranger(facts)
    if s.kind == "host":
        return _host(party, facts)
    container = _container(s, facts)
    return _host(party, facts) if container.on_host else _place(container, s, party, facts)


def _on(container: Container, network: str) -> IPv4Address:
    """Its address on that network."""
    for p in container.places:
        if p.network == network:
            return p.address.ip
    for e in container.elsewhere.values():
        if e.network == network:
            return e.address
    raise NotFound(f"container {container.name} is not on network {network}")


def _place(container: Container, s: Spot, party: Party, facts: Facts) -> IPv4Address:
    """The address that the sender takes for the container's name, on this network if one is given;
    the note on it is of no use where both ends are on one host."""
    sender = facts.containers.get(party.name)
    target = _known(container)
    if s.network:
        target = on_network(target, s.network)
    source = _known(sender) if sender else None
    chosen = choose(source, target, apart=False, explicit=bool(s.network))
    return IPv4Address(chosen.address)


def _known(c: Container) -> Place:
    bridged = [Attached(p.network, str(p.address.ip), p.address.network.prefixlen)
               for p in c.places]  # fmt: skip
    switched = [Attached(e.network, str(e.address)) for e in c.elsewhere.values()]
    return Place(name=c.name, space=c.id, addresses=(*bridged, *switched))


def _host(party: Party, facts: Facts) -> IPv4Address:
    """The host's address that is next to the sender."""
    if party.kind == "host":
        return IPv4Address("127.0.0.1")
    iface = party.iface
    if party.kind == "container":
        container = facts.containers[party.name]
        path = best(container.routes, IPv4Address(0))
        if path and path.gateway:
            return path.gateway
        iface = container.places[0].bridge if container.places else ""
    own = facts.interfaces[iface].addresses if iface in facts.interfaces else ()
    if iface == UPLINK:  # of which there is no address yet
        own = next((i.addresses for i in facts.interfaces.values() if i.bridge and i.addresses), ())
    if not own:
        raise NotFound(f"the host has no address next to {party}")
    return own[0].ip


def _own(party: Party, dst: IPv4Address, facts: Facts) -> IPv4Address:
    """The sender's source address towards `dst`; 0.0.0.0 if it has no route."""
    none = IPv4Address(0)
    if party.kind == "host":
        path = facts.route(dst)
        return (facts.source(path, dst) if path else None) or none
    container = facts.containers[party.name]
    if container.has(dst):
        return dst
    path = best(container.routes, dst)
    place = container.place(path.dev) if path else None
    return place.address.ip if place else none
