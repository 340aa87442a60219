"""Render access rules as ACLs: packets of neighbours on a switch meet no rule of the host.

As in `plugins.ovs.access`: the first that matches decides, for packets of established connections
and for answers as well, and what comes through the host meets the firewall instead.  ACLs are
stateless, so no packet goes through connection tracking of Open vSwitch's.

Limit: of a datagram in fragments, only the first has ports; others pass, and are of no use alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, cast

from netkit.driver import Access, Endpoint
from netkit.model import Resource
from netkit.model.ovn import LogicalAcl, Match, acl_of_rule

HOST = 30_001  # priority of what comes from the gateway
FIRST = HOST - 1
MOST = 20_000  # rules


def enforced(
    ep: Endpoint, *, port: str, switch: str, host_mac: str, owner: str, translates: bool
) -> Iterator[Resource]:
    """Yield the ACLs of a container; where the host `translates`, published ports are its own."""
    rules = sorted((a for a in ep.access if not a.link), key=lambda a: (a.priority, a.id))
    rules = [a for a in rules if a.networks and not (a.published and translates)]
    if not rules or not ep.ipv4:
        return
    names: Counter[str] = Counter()
    yield LogicalAcl(
        name=f"{ep.id[:12]}-host", switch=switch, priority=HOST, allow=True,
        match=Match(outport=port, from_mac=host_mac), owner=owner,
    )  # fmt: skip
    for n, a in enumerate(rules):
        for match in _matches(a, ep, port):
            names[a.id] += 1
            yield LogicalAcl(
                name=acl_of_rule(ep.id, a.id, names[a.id]),
                switch=switch,
                priority=FIRST - min(n, MOST),
                allow=a.verdict == "accept",
                match=match,
                owner=owner,
            )


def _matches(a: Access, ep: Endpoint, port: str) -> Iterator[Match]:
    for address in ep.ipv4:
        yield Match(
            outport=port,
            sources=a.networks,
            destination=address,
            proto=cast(Literal["", "tcp", "udp", "sctp"], a.proto),
            first=a.first,
            last=a.last or a.first,
        )
