"""Chains, the ranks of rules in them, and how a rule is written down.  Pure.

    filter FORWARD      -> DOCKER-USER       the administrator's, never edited
                        -> DOCKER-FORWARD -> DOCKER-ACCESS    access rules
                                          -> DOCKER-INTERNAL  internal networks stay apart
                                          -> DOCKER-CT        replies into each bridge
                                          -> DOCKER-BRIDGE -> DOCKER   into containers
                                             per bridge: between its containers, out of it
    nat    PREROUTING   -> DOCKER            published ports, from outside and from containers
           OUTPUT       -> DOCKER-LOCAL      ports published on 127.x, only ever from here
                        -> DOCKER            published ports, from the host itself
           POSTROUTING     masquerade
    raw    PREROUTING      no 127.x from containers

DOCKER-ACCESS comes before replies are let through: what is dropped there goes silent at once.
A container with many ports has a tree of chains of its own below DOCKER: see `tree`.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from sys import intern

from netkit.model import Chain, Resource, Rule

CHAINS = (
    ("filter", "DOCKER-USER"),
    ("filter", "DOCKER-FORWARD"),
    ("filter", "DOCKER-ACCESS"),
    ("filter", "DOCKER-CT"),
    ("filter", "DOCKER-INTERNAL"),
    ("filter", "DOCKER-BRIDGE"),
    ("filter", "DOCKER"),
    ("nat", "DOCKER"),
    ("nat", "DOCKER-LOCAL"),
)
LOOPBACK = IPv4Network("127.0.0.0/8")
LOCAL = "-m addrtype --dst-type LOCAL"
TRANSLATED = "-m conntrack --ctstate DNAT"
REPLIES = "-m conntrack --ctstate RELATED,ESTABLISHED"

# Where rules stand in their chain (Rule.rank): head, jumps, then by how final they are.
USER, FORWARD = -3, -1  # and between them what is no container's, see plugins.ovs.underlay
FIRST, SECOND, THIRD, FOURTH = 0, 1, 2, 3
PORT, PING, ACROSS, BETWEEN, LAST = 10, 20, 30, 31, 40

JUMPS = (
    ("filter", "FORWARD", "", "DOCKER-USER", USER),
    ("filter", "FORWARD", "", "DOCKER-FORWARD", FORWARD),
    ("filter", "DOCKER-FORWARD", "", "DOCKER-ACCESS", FIRST),
    # Before replies are let through: a forged packet may match the conntrack entry of another flow.
    ("filter", "DOCKER-FORWARD", "", "DOCKER-INTERNAL", SECOND),
    ("filter", "DOCKER-FORWARD", "", "DOCKER-CT", THIRD),
    ("filter", "DOCKER-FORWARD", "", "DOCKER-BRIDGE", FOURTH),
    ("nat", "PREROUTING", f"! -d {LOOPBACK} {LOCAL}", "DOCKER", FIRST),
    ("nat", "OUTPUT", f"-d {LOOPBACK} {LOCAL}", "DOCKER-LOCAL", FIRST),
    ("nat", "OUTPUT", LOCAL, "DOCKER", SECOND),
)


def frame(owner: str) -> Iterator[Resource]:
    """Yield the chains, and the jumps to them."""
    for table, name in CHAINS:
        yield Chain(table=table, name=name, owner=owner)
    for table, chain, match, target, rank in JUMPS:
        yield rule(owner, table, chain, f"{match} -j {target}", rank)


def rule(
    owner: str, table: str, chain: str, args: str, rank: int = FIRST, *, origin: str = ""
) -> Rule:
    # Interned: thousands of rules are made of the same few words.
    words = tuple(map(intern, args.split()))
    return Rule(table=table, chain=chain, args=words, rank=rank, owner=owner, origin=origin)


def ports_match(proto: str, first: int, last: int, *, side: str = "dport") -> str:
    """`-p tcp -m tcp --dport 80`, or `--dport 80:89`."""
    return f"-p {proto} -m {proto} --{side} {span(first, last)}"


def span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}:{last}"
