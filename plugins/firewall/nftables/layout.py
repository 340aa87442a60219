"""The table of the native nftables back end: its chains, sets and rules, which never change.  Pure.

    guard        raw: no 127.x from or to containers but by our own translation
    prerouting   -> published         published ports, from outside and from containers;
    output       -> published         a port published on 127.x only ever from here
    forward         @access  -> access-ENDPOINT   access rules on a container
                    @between -> apart-...         between containers of one network
                    replies into each bridge
                    @closed                       internal networks stay apart
                    @into    -> into-...          into containers: published ports
                    out of each bridge
    postrouting     masquerade

The rules are the same however many networks and containers there are: those are elements of
sets, maps and verdict maps, so a new connection costs a fixed number of look-ups.  Adding a
container adds elements, and nothing that is there is read or written for it.

The table is netkit's.  To drop more, use a table of your own: a drop is final
wherever it is, and a base chain of a lower priority is asked before these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from netkit.model import Resource
from netkit.model.layout import (
    ACCESS_RULE,
    ICC_OFF,
    INTERNAL,
    LOOPBACK_GUARD,
    NOT_OPENED,
    NOT_PUBLISHED,
    FirewallLayout,
    purposes,
)
from netkit.model.nftables import Hook, NftChain, NftElement, NftRule, NftSet, NftTable

TABLE = "netkit"
LOOPBACK = IPv4Network("127.0.0.0/8")

RAW, DSTNAT, FILTER, SRCNAT = -300, -100, 0, 100  # priorities; linux/netfilter_ipv4.h

ADDRESS, MAC, PROTOCOL, PORT, LINK, VERDICT = (
    "ipv4_addr", "ether_addr", "inet_proto", "inet_service", "ifname", "verdict",
)  # fmt: skip
SOCKET = (ADDRESS, PROTOCOL, PORT)

CHAINS = {
    "guard": Hook(kind="filter", point="prerouting", priority=RAW),
    "forward": Hook(kind="filter", point="forward", priority=FILTER),
    "prerouting": Hook(kind="nat", point="prerouting", priority=DSTNAT),
    "output": Hook(kind="nat", point="output", priority=DSTNAT),
    "postrouting": Hook(kind="nat", point="postrouting", priority=SRCNAT),
    "published": None,
    "into-nat": None,
    "into-routed": None,
    "apart-nat": None,
    "apart-routed": None,
    "apart-closed": None,
}

# name -> fields, data, ranges
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]] = {
    # of bridges
    "bridges": ((LINK,), (), False),  # the host routes for them
    "translated": ((LINK,), (), False),  # and translates
    "closed": ((LINK,), (), False),  # neither: internal networks
    "between": ((LINK, LINK), (VERDICT,), False),  # of one bridge, twice
    "neighbours": ((LINK, LINK), (), False),  # of a closed one, twice
    "into": ((LINK,), (VERDICT,), False),
    "trusted": ((LINK, LINK), (), False),  # interfaces that reach a bridge without translation
    # of subnets
    "home": ((ADDRESS, LINK), (), True),  # and their bridges
    "hairpin": ((ADDRESS, ADDRESS), (), True),  # within a subnet
    "masqueraded": ((ADDRESS, ADDRESS), (), True),  # from, to
    "sources": ((ADDRESS, ADDRESS), (ADDRESS,), True),  # from, to: by which address instead
    # the same of subnets with others inside: elements of one set must not overlap
    "hairpin-around": ((ADDRESS, ADDRESS), (), True),
    "masqueraded-around": ((ADDRESS, ADDRESS), (), True),
    "sources-around": ((ADDRESS, ADDRESS), (ADDRESS,), True),
    # of containers
    "access": ((LINK, ADDRESS), (VERDICT,), False),
    # parent, child, port of the child; and the same with the child first
    "linked": ((ADDRESS, MAC, ADDRESS, PROTOCOL, PORT), (), True),
    "answers": ((ADDRESS, MAC, ADDRESS, PROTOCOL, PORT), (), True),
    "known": ((ADDRESS, MAC), (), True),  # endpoints that may reply to isolated neighbours
    "open": (SOCKET, (), False),
    "open-ranges": (SOCKET, (), True),
    "ports": (SOCKET, (ADDRESS, PORT), False),
    "ports-any": ((PROTOCOL, PORT), (ADDRESS, PORT), False),  # on every address of the host
    "port-ranges": (SOCKET, (ADDRESS,), True),  # the port stays
}

PURPOSES = {  # by chain and verdict
    ("guard", "drop"): LOOPBACK_GUARD,
    ("access(-.*)?", "drop"): ACCESS_RULE,
    ("access(-.*)?", "accept"): ACCESS_RULE,
    ("forward", "accept"): "answers pass, and containers reach each other and the world",
    ("forward", "drop"): INTERNAL,
    ("into-nat", "accept"): "a published port",
    ("into-nat", "drop"): NOT_PUBLISHED,
    ("into-routed", "accept"): "an opened port",
    ("into-routed", "drop"): NOT_OPENED,
    ("apart-nat", "accept"): "a link or a published port",
    ("apart-nat", "drop"): ICC_OFF,
    ("apart-routed", "accept"): "a link",
    ("apart-routed", "drop"): ICC_OFF,
    ("apart-closed", "accept"): "a link",
    ("apart-closed", "drop"): ICC_OFF,
}
LAYOUT = FirewallLayout(
    port_maps=frozenset({"ports", "ports-any", "port-ranges"}), purposes=purposes(PURPOSES)
)

AT = "ip daddr . meta l4proto . th dport"
# By MAC address as well: an IP address can be spoofed, and so can a reply in a flow.
LINKED = (
    "ip saddr . ether saddr . ip daddr . meta l4proto . th dport @linked accept",
    "ip saddr . ether saddr . ip daddr . meta l4proto . th sport @answers accept",
    "ct state established,related ip saddr . ether saddr @known accept",
)
RULES = {
    "guard": (
        f"iifname @translated ip daddr {LOOPBACK} counter drop",
        f"iifname @translated ip saddr {LOOPBACK} counter drop",
    ),
    "forward": (
        "oifname . ip daddr vmap @access",
        "iifname . oifname vmap @between",
        # A forged packet of an internal network may match the conntrack entry of another flow.
        "iifname != @closed oifname @bridges ct state established,related accept",
        "oifname @closed counter drop",
        "iifname @closed counter drop",
        "oifname vmap @into",
        "iifname @bridges accept",
    ),
    "prerouting": (f"ip daddr != {LOOPBACK} fib daddr type local jump published",),
    "output": ("fib daddr type local jump published",),
    "published": (
        f"dnat to {AT} map @ports",
        "dnat to meta l4proto . th dport map @ports-any",
        f"dnat to {AT} map @port-ranges",
    ),
    "into-nat": (
        f"ct status dnat {AT} @open accept",
        f"ct status dnat {AT} @open-ranges accept",
        f"iifname . oifname @trusted {AT} @open accept",
        f"iifname . oifname @trusted {AT} @open-ranges accept",
        "counter drop",
    ),
    "into-routed": (
        "meta l4proto icmp accept",
        f"{AT} @open accept",
        f"{AT} @open-ranges accept",
        "counter drop",
    ),
    # A published port of a neighbour stays open.
    "apart-nat": (
        *LINKED,
        "ct status dnat accept",
        "counter drop",
    ),
    "apart-routed": (
        "meta l4proto icmp accept",
        *LINKED,
        "counter drop",
    ),
    "apart-closed": (*LINKED, "counter drop"),
    "postrouting": (
        # A container at a published port of a neighbour: answers must come back through the host.
        "ct status dnat oifname @translated ip saddr . ip daddr @hairpin masquerade",
        "ct status dnat oifname @translated ip saddr . ip daddr @hairpin-around masquerade",
        # From the host, e.g. with source 127.0.0.1, to which the container would answer itself.
        "oifname @translated fib saddr type local masquerade",
        "ip saddr . oifname @home return",
        "ip saddr . ip daddr @masqueraded masquerade",
        "snat to ip saddr . ip daddr map @sources",
        "ip saddr . ip daddr @masqueraded-around masquerade",
        "snat to ip saddr . ip daddr map @sources-around",
    ),
}


def frame(owner: str) -> Iterator[Resource]:
    """Everything but elements, and the chains of containers about which there are rules."""
    yield NftTable(name=TABLE, owner=owner)
    for name, hook in CHAINS.items():
        yield NftChain(table=TABLE, name=name, hook=hook, owner=owner)
    for name, (fields, data, ranges) in SETS.items():
        yield NftSet(table=TABLE, name=name, fields=fields, data=data, ranges=ranges, owner=owner)
    for chain, texts in RULES.items():
        yield from rules(owner, chain, texts)


def rules(owner: str, chain: str, texts: Iterable[str]) -> Iterator[NftRule]:
    """In this order, before what others put into a chain of ours."""
    texts = tuple(texts)
    for rank, text in enumerate(texts, -len(texts)):
        yield NftRule(table=TABLE, chain=chain, expression=text, rank=rank, owner=owner)


def element(owner: str, name: str, *at: str, value: tuple[str, ...] = ()) -> NftElement:
    return NftElement(table=TABLE, set=name, key_fields=at, value=value, owner=owner)
