"""What a user typed: where to listen, and which packets.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# With these an expression of pcap-filter(7) begins; a point of such a name is written NAME@eth0.
BEGINNINGS = frozenset(
    "arp broadcast dst ether greater host icmp icmp6 igmp inbound ip ip6 less mpls multicast net"
    " not outbound port portrange pppoes proto rarp sctp src tcp udp vlan".split()
)
MARKS = frozenset(" ()!<>=&[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """OWNER@INTERFACE, OWNER:NETWORK, or a name alone: a container, a link, an interface."""

    owner: str
    network: str = ""
    interface: str = ""


def parted(words: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Points, and the filter: from the first word on that can only begin one; "" for none."""
    for at, word in enumerate(words):
        if at and (word in BEGINNINGS or MARKS & set(word)):
            return tuple(words[:at]), " ".join(words[at:])
    return tuple(words), ""


def spot(text: str) -> Spot:
    """HOST/IF is HOST@IF.  ValueError for what is none."""
    for mark in "@/":
        owner, found, interface = text.partition(mark)
        if found:
            if not interface or not owner:
                raise ValueError(f"{text!r} lacks a name: NAME@INTERFACE")
            return Spot(owner=owner, interface=interface)
    owner, colon, network = text.partition(":")
    if colon and not (owner and network):
        raise ValueError(f"{text!r} lacks a name: CONTAINER:NETWORK")
    return Spot(owner=owner, network=network)
