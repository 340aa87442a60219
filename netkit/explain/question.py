"""From what was asked, in names, to a first packet and who sends it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Literal

from netkit.errors import InvalidSpec, NotFound, NotSupported
from netkit.explain.facts import LO, Container, Facts, best
from netkit.explain.journey import Party
from netkit.explain.packet import EPHEMERAL, Ends, Packet, first
from netkit.explain.ruleset import PROTOCOLS

HOST, WORLD, LAN = "host", "world", "lan:"
STRANGERS = ("192.0.2", "198.51.100", "203.0.113")  # RFC 5737: nobody's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May `source` reach `port` of `target`?

    source: a container's name or id, `host`, an address, `lan:ADDRESS[@INTERFACE]` for a
    neighbour, or `world` for somebody out there whom no rule names.  target: NAME[:NETWORK], an
    address, `host`, `lan:ADDRESS`.  With `one_way` only the request is followed, not its answer.
    Of a container that lies: `pose` and `mac` are addresses that it writes into its packets
    instead of its own, and with `forced` it hands them to the host, whatever its own routes say.
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
    """PORT[/PROTO], or icmp.  InvalidSpec says what is wrong with it."""
    number, _, proto = port.partition("/")
    if number == "icmp":
        number, proto = "0", "icmp"
    proto = proto or "tcp"
    known = proto in PROTOCOLS and number.isdecimal()
    if not known or (proto != "icmp" and not 0 < int(number) < 65536):
        raise InvalidSpec(f"invalid port {port!r}: write 80, 53/udp or icmp")
    return Question(source=source, target=target, port=int(number), proto=proto)


def begin(q: Question, facts: Facts) -> tuple[Party, Packet]:
    """Who sends, and what.  NotFound, InvalidSpec, NotSupported."""
    party, own = _sender(q, facts)
    party = replace(party, forced=q.forced)
    dst = _target(q.target, party, facts)
    _must_be_bridged(party, dst, facts)
    src = IPv4Address(q.pose) if q.pose else own or _own(party, dst, facts)
    port = (q.port, q.port)
    ends = Ends(src=src, dst=dst, sport=EPHEMERAL if q.proto != "icmp" else (0, 0), dport=port)
    return party, replace(first(ends, q.proto), mac=q.mac)


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


def _sender(q: Question, facts: Facts) -> tuple[Party, IPv4Address | None]:
    text = q.source
    if text == HOST:
        return Party(kind="host"), None
    if text == WORLD:
        return _outside(_stranger(facts), "", facts)
    if text.startswith(LAN):
        where, _, iface = text.removeprefix(LAN).partition("@")
        return _outside(_address(where), iface, facts)
    if container := facts.container(text):
        kind: Literal["host", "container"] = "host" if container.on_host else "container"
        return Party(kind=kind, name=container.name if kind == "container" else ""), None
    address = _address(text)
    if facts.is_local(address):
        return Party(kind="host"), address
    if found := facts.owner_of(address):
        return Party(kind="container", name=found[0].name), address
    return _outside(address, "", facts)


def _outside(address: IPv4Address, iface: str, facts: Facts) -> tuple[Party, IPv4Address]:
    path = best(facts.routes, address)
    name = iface or (path.dev if path else _only_way_out(facts))
    if name not in facts.interfaces or name == LO:
        raise InvalidSpec(f"by which interface does {address} come?  Write lan:{address}@INTERFACE")
    return Party(kind="outside", iface=name), address


def _only_way_out(facts: Facts) -> str:
    """The interface that is no bridge, no port and not lo, if there is but one."""
    found = [
        i.name
        for i in facts.interfaces.values()
        if not (i.bridge or i.master or i.name == LO) and i.addresses
    ]
    return found[0] if len(found) == 1 else ""


def _stranger(facts: Facts) -> IPv4Address:
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
    name, _, network = text.partition(":")
    if text.startswith(LAN):
        return _address(text.removeprefix(LAN).partition("@")[0])
    if text == WORLD:
        return _stranger(facts)
    container = facts.container(name)
    if text == HOST or (container and container.on_host):
        return _host(party, facts)
    if container:
        return _place(container, network, party, facts)
    return _address(text)


def _place(container: Container, network: str, party: Party, facts: Facts) -> IPv4Address:
    """The container's address on that network; else on one it shares with who asks; else any."""
    sender = facts.containers.get(party.name)
    shared = {p.network for p in sender.places} if sender else set()
    places = [p for p in container.places if not network or p.network == network]
    if not places:
        for e in container.elsewhere.values():
            if network in {"", e.network}:
                return e.address
        where = f"is not on network {network}" if network else "has no address"
        raise NotFound(f"container {container.name} {where}")
    return next((p for p in places if p.network in shared), places[0]).address.ip


def _host(party: Party, facts: Facts) -> IPv4Address:
    """The host's address that is next to who asks."""
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
    if not own:
        raise NotFound(f"the host has no address next to {party}")
    return own[0].ip


def _own(party: Party, dst: IPv4Address, facts: Facts) -> IPv4Address:
    """The address with which the sender would speak to `dst`; 0.0.0.0 if it could not at all."""
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


def _address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise NotFound(
            f"no container, and no IPv4 address: {text!r}; other words are host, world, lan:ADDRESS"
        ) from None
