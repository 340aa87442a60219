"""Resolve source and target to the first packet and its sender.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import NamedTuple

from netkit.diagnose.explain.grammar import spot
from netkit.diagnose.explain.packet import EPHEMERAL, Ends
from netkit.diagnose.explain.question import arrival, only_way_out, stranger
from netkit.diagnose.trace.facts import HOST, Endpoint, Observer
from netkit.diagnose.trace.leg import Ask, Stop
from netkit.errors import InvalidSpec, NotFound

UNSPECIFIED = IPv4Address(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """`space` "": from outside, by the host's interface `dev`, of a bridge by its `port`."""

    ends: Ends
    space: str = ""
    dev: str = ""
    port: str = ""


class _Source(NamedTuple):
    """`space`, `dev` and `port` as in Start; the address, where it is known without a route."""

    space: str
    own: IPv4Address | None
    dev: str = ""
    port: str = ""


def begin(ask: Ask, observer: Observer) -> Start:
    """`source` is a namespace's key, or as netkit.diagnose.explain.grammar has it.

    Stop if the source has no way to begin; NotFound, InvalidSpec for words without sense.
    """
    space, own, dev, port = _source(ask, observer)
    dst = _target(ask, space, dev, observer)
    if own is None:
        way = observer.route(space, dst)
        own = way.source or (dst if way.local else UNSPECIFIED)
        if ask.own and str(own) not in ask.own:
            own = IPv4Address(ask.own[0])
    dport = (ask.port, ask.port)
    sport = EPHEMERAL if ask.proto != "icmp" else (0, 0)
    return Start(
        ends=Ends(src=own, dst=dst, sport=sport, dport=dport), space=space, dev=dev, port=port
    )


def _source(ask: Ask, observer: Observer) -> _Source:
    s, host = spot(ask.source), observer.space(HOST)
    if s.kind == "world":
        return _world(stranger(host.facts), observer)
    if s.address is None:
        return _Source(ask.source, None)
    address = s.address
    if s.iface:
        return _Source("", address, *arrival(host.facts, address, s.iface))
    if not s.outside:
        if host.facts.is_local(address):
            return _Source(HOST, address)
        for e in observer.endpoints():
            if e.address == address:
                return _Source(e.space, address)
    way = observer.route(HOST, address)
    if not way.dev or way.local:
        raise InvalidSpec(f"by which interface does {address} come?  Write lan:{address}@INTERFACE")
    return _Source("", address, *arrival(host.facts, address, way.dev))


def _world(address: IPv4Address, observer: Observer) -> _Source:
    dev = observer.route(HOST, address).dev or only_way_out(observer.space(HOST).facts)
    if not dev:
        raise Stop(
            "no-route",
            "nothing comes from the world: the host has no route to it",
            "ip route add default via GATEWAY",
        )
    return _Source("", address, dev)


def _target(ask: Ask, space: str, dev: str, observer: Observer) -> IPv4Address:
    if ask.address:
        return IPv4Address(ask.address)
    s = spot(ask.target)
    if s.address is not None:
        return s.address
    if s.kind == "host":
        return _host(space, dev, observer)
    if s.kind == "world":
        return stranger(observer.space(HOST).facts)
    places = [e for e in observer.endpoints() if e.space == ask.target]
    if not places:
        raise NotFound(f"{ask.target} has no IPv4 address")
    mine = {e.network for e in observer.endpoints() if e.space == space}
    return _shared(places, mine).address


def _shared(places: Sequence[Endpoint], mine: set[str]) -> Endpoint:
    return next((e for e in places if e.network in mine), places[0])


def _host(space: str, dev: str, observer: Observer) -> IPv4Address:
    """The host's address that is next to the sender."""
    if space == HOST:
        return IPv4Address("127.0.0.1")
    if space:
        way = observer.route(space, IPv4Address("192.0.2.1"))
        if way.gateway is None:
            raise Stop("no-route", "the source has no gateway, so the host has no address near it")
        return way.gateway
    own = observer.space(HOST).facts.interfaces[dev].addresses
    if not own:
        raise NotFound(f"the host has no IPv4 address on {dev}: write an address")
    return own[0].ip
