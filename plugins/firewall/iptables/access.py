"""Access rules and links as rules of iptables.  Pure.

Access rules apply where packets are forwarded: processes of the host itself are not blocked.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

from netkit.driver import Access, TrafficPolicy
from netkit.model import Resource, Rule
from netkit.model.ipset import IpSet
from plugins.firewall.iptables.layout import PORT, REPLIES, TRANSLATED, ports_match, rule, span

FEW = 8  # networks that are a rule each; more are a set
TIES = 10**6  # rules of one rank and container, at most
WORLD = "0.0.0.0/0"


def allowed(
    owner: str, policy: TrafficPolicy, inside: str, mac: str, access: Sequence[Access]
) -> Iterator[Resource]:
    """Yield the rules in the order of (rank, id), folded into the one number of a rule's rank.

    `inside` and `mac` are the container's own addresses.
    """
    ties: Counter[int] = Counter()
    for a in sorted(access, key=lambda a: (a.priority, a.id)):
        if not a.link:
            yield from _access(owner, policy, inside, a, a.priority * TIES + ties[a.priority])
            ties[a.priority] += 1
        elif not policy.icc:
            yield from _link(owner, policy, inside, mac, a)
    if not policy.icc and any(a.verdict == "accept" for a in access):
        # Of a flow that was let in, whatever rule it was; errors (ICMP), too.
        br = policy.link
        own = f"-s {inside}/32 -i {br} -o {br} {_sent_by(mac)}{REPLIES} -j ACCEPT"
        yield rule(owner, "filter", _between(policy), own, PORT)


def _access(
    owner: str, policy: TrafficPolicy, inside: str, a: Access, rank: int
) -> Iterator[Resource]:
    """To the container, by what arrives at its bridge.

    An internal network stays closed to the rest of the world, whatever is allowed: there an
    accept is for neighbours.
    """
    only = f"-i {policy.link} " if a.verdict == "accept" and not policy.forwards else ""
    match = f"-d {inside}/32 {only}-o {policy.link} {_sent_by(a.mac)}{_ports(policy, a)}"
    if len(a.networks) > FEW:
        name = f"nks-{hashlib.sha256(f'{owner} {a.id}'.encode()).hexdigest()[:12]}"
        many = IpSet(name=name, members=a.networks, owner=owner)
        yield many
        args = f"{match} -m set --match-set {name} src -j {a.verdict.upper()}"
        yield Rule(
            table="filter",
            chain="DOCKER-ACCESS",
            args=tuple(args.split()),
            rank=rank,
            owner=owner,
            depends_on=(many.key,),
            origin=a.id,
        )
        return
    for source in a.networks:
        whose = "" if str(source) == WORLD else f"-s {source} "
        args = f"{whose}{match} -j {a.verdict.upper()}"
        yield rule(owner, "filter", "DOCKER-ACCESS", args, rank, origin=a.id)


def _ports(policy: TrafficPolicy, a: Access) -> str:
    """Return the port match; where nothing is translated, of the container's own port."""
    if not a.proto:
        return ""
    if not a.first:
        return f"-p {a.proto}"
    if not a.published or not policy.translates:
        return ports_match(a.proto, a.first, a.last or a.first)
    # Not the answers to a connection that the container itself made to such a port elsewhere.
    original = f"--ctorigdstport {span(a.first, a.last or a.first)} --ctdir ORIGINAL"
    return f"-p {a.proto} {TRANSLATED} {original}"


def _sent_by(mac: str) -> str:
    return f"-m mac --mac-source {mac} " if mac else ""


def _between(policy: TrafficPolicy) -> str:
    """Return the chain for rules between containers; packets of internal networks skip DOCKER."""
    return "DOCKER" if policy.forwards else "DOCKER-INTERNAL"


def _link(owner: str, policy: TrafficPolicy, inside: str, mac: str, a: Access) -> Iterator[Rule]:
    """Render a link as Docker does: the child's port for the parent, and the replies.

    Both by MAC address as well: an IP address can be spoofed.
    """
    br = policy.link
    there, back = "", ""
    if a.proto:
        there = back = f"-p {a.proto} "
    if a.proto and a.first:
        there = f"{ports_match(a.proto, a.first, a.last or a.first)} "
        back = f"{ports_match(a.proto, a.first, a.last or a.first, side='sport')} "
    for source in a.networks:
        ways = (
            f"-s {source} -d {inside}/32 -i {br} -o {br} {_sent_by(a.mac)}{there}",
            f"-s {inside}/32 -d {source} -i {br} -o {br} {_sent_by(mac)}{back}",
        )
        for way in ways:
            yield rule(owner, "filter", _between(policy), f"{way}-j ACCEPT", PORT)
