"""From words to the first packet and who sends it.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from netkit.errors import InvalidSpec, NotFound
from netkit.explain.packet import EPHEMERAL, Ends
from netkit.trace.facts import HOST, Endpoint, Eyes
from netkit.trace.leg import Ask, Stop

NOBODY = IPv4Address(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """`space` "": somebody outside, who comes by the host's interface `dev`."""

    ends: Ends
    space: str = ""
    dev: str = ""


def begin(ask: Ask, eyes: Eyes) -> Start:
    """`source` is a namespace's key, an address, or ADDRESS@INTERFACE.

    Stop if the source has no way to begin; NotFound, InvalidSpec for words without sense.
    """
    space, own, dev = _source(ask.source, eyes)
    dst = _target(ask, space, dev, eyes)
    if own is None:
        way = eyes.route(space, dst)
        own = way.source or (dst if way.local else NOBODY)
    dport = (ask.port, ask.port)
    sport = EPHEMERAL if ask.proto != "icmp" else (0, 0)
    return Start(ends=Ends(src=own, dst=dst, sport=sport, dport=dport), space=space, dev=dev)


def _source(text: str, eyes: Eyes) -> tuple[str, IPv4Address | None, str]:
    word, _, dev = text.partition("@")
    address = address_of(word)
    if address is None:
        return text, None, ""
    host = eyes.space(HOST)
    if dev:
        if dev not in host.nics or host.facts.interfaces[dev].master:
            raise InvalidSpec(f"{text}: the host has no interface {dev} by which packets come")
        return "", address, dev
    if host.facts.is_local(address):
        return HOST, address, ""
    for e in eyes.endpoints():
        if e.address == address:
            return e.space, address, ""
    way = eyes.route(HOST, address)
    if not way.dev:
        raise InvalidSpec(f"by which interface does {address} come?  Write {address}@INTERFACE")
    return "", address, way.dev


def _target(ask: Ask, space: str, dev: str, eyes: Eyes) -> IPv4Address:
    if given := address_of(ask.address or ask.target):
        return given
    if ask.target == HOST:
        return _host(space, dev, eyes)
    places = [e for e in eyes.endpoints() if e.space == ask.target]
    if not places:
        raise NotFound(f"{ask.target} has no IPv4 address")
    mine = {e.network for e in eyes.endpoints() if e.space == space}
    return _shared(places, mine).address


def _shared(places: Sequence[Endpoint], mine: set[str]) -> Endpoint:
    return next((e for e in places if e.network in mine), places[0])


def _host(space: str, dev: str, eyes: Eyes) -> IPv4Address:
    """The host's address that is next to who asks."""
    if space == HOST:
        return IPv4Address("127.0.0.1")
    if space:
        way = eyes.route(space, IPv4Address("192.0.2.1"))
        if way.gateway is None:
            raise Stop("no-route", "the source has no gateway, so the host has no address near it")
        return way.gateway
    own = eyes.space(HOST).facts.interfaces[dev].addresses
    if not own:
        raise NotFound(f"the host has no IPv4 address on {dev}: write an address")
    return own[0].ip


def address_of(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None
