"""Render policies, published ports and access rules as chains and rules, see `layout`.  Pure.

Differences from Docker, each on purpose:

* A packet from outside that is addressed to the container itself is refused by the state it has
  (it was not translated), not by a rule per container in the raw table.
* 127.0.0.1 works through route_localnet on our bridges instead of a proxy process per port, and
  a port on 127.0.0.1 is not translated in PREROUTING: no neighbour on the LAN can aim at it.
* Containers reach published ports of neighbours, icc=false or not, by translation alone.
* The policy of FORWARD is the administrator's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from typing import ClassVar

from netkit.driver import Access, Endpoint, Network, PortMapping, TrafficPolicy
from netkit.model import Resource, Sysctl
from netkit.model.layout import FirewallLayout
from plugins.firewall.iptables.access import allowed
from plugins.firewall.iptables.layout import (
    ACROSS,
    BETWEEN,
    LAST,
    LOOPBACK,
    PING,
    REPLIES,
    TRANSLATED,
    frame,
    rule,
)
from plugins.firewall.iptables.ports import published
from plugins.firewall.iptables.territory import LAYOUT, endpoint_of


class Iptables:
    """Of a kernel that lacks a match.

    Without `multiport`, each port is a rule of its own; without `mac`, neighbours are known by
    their IP address alone.
    """

    layout: ClassVar[FirewallLayout] = LAYOUT

    def __init__(self, *, multiport: bool = True, mac: bool = True) -> None:
        self._multiport = multiport
        self._mac = mac

    def owns_chain(self, name: str) -> str | None:
        return endpoint_of(name)

    def setup(self, owner: str) -> Iterator[Resource]:
        yield from frame(owner)

    def network(self, net: Network, policy: TrafficPolicy) -> Iterator[Resource]:
        if policy.forwards:
            yield from _forwarding(net.owner, policy)
        elif policy.mode == "bridged":
            yield from _bridged(net.owner, policy)
        else:
            yield from _internal(net.owner, policy)
        if policy.translates:
            yield from _translation(net, policy)

    def endpoint(
        self,
        net: Network,
        policy: TrafficPolicy,
        ep: Endpoint,
        ports: Sequence[PortMapping],
        access: Sequence[Access] = (),
    ) -> Iterator[Resource]:
        if ep.inside is None:
            return
        owner, inside = ep.owner(net), str(ep.inside)
        if policy.forwards:
            name = f"DOCKER-{ep.id[:8]}"
            yield from published(owner, name, policy, inside, ports, multiport=self._multiport)
        mac = (ep.mac or "") if self._mac else ""
        access = access if self._mac else [replace(a, mac="") for a in access]
        for address in ep.ipv4:
            yield from allowed(owner, policy, str(address), mac, access)


def _forwarding(owner: str, policy: TrafficPolicy) -> Iterator[Resource]:
    br = policy.link
    # To belong to a flow proves nothing between neighbours that are kept apart: it can be forged.
    elsewhere = "" if policy.icc else f"! -i {br} "
    yield rule(owner, "filter", "DOCKER-CT", f"{elsewhere}-o {br} {REPLIES} -j ACCEPT")
    yield rule(owner, "filter", "DOCKER-BRIDGE", f"-o {br} -j DOCKER")
    if policy.mode == "routed":
        yield rule(owner, "filter", "DOCKER", f"-o {br} -p icmp -j ACCEPT", PING)
    verdict = "ACCEPT" if policy.mode == "nat-unprotected" else "DROP"
    yield rule(owner, "filter", "DOCKER", f"! -i {br} -o {br} -j {verdict}", LAST)
    if not policy.icc:
        yield from _apart(owner, policy)
    yield rule(owner, "filter", "DOCKER-FORWARD", f"-i {br} -j ACCEPT", LAST)


def _apart(owner: str, policy: TrafficPolicy) -> Iterator[Resource]:
    """Without icc, ports are isolated at the bridge; here the detour by routing is closed.

    What was translated (a published port) stays open.
    """
    br = policy.link
    if policy.translates:
        across = f"-i {br} -o {br} {TRANSLATED} -j ACCEPT"
        yield rule(owner, "filter", "DOCKER-FORWARD", across, ACROSS)
    yield rule(owner, "filter", "DOCKER-FORWARD", f"-i {br} -o {br} -j DROP", BETWEEN)


def _bridged(owner: str, policy: TrafficPolicy) -> Iterator[Resource]:
    """The host routes to and from the segment as before; what is bridged passes it by."""
    br = policy.link
    yield rule(owner, "filter", "DOCKER-FORWARD", f"-i {br} -o {br} -j ACCEPT", BETWEEN)


def _internal(owner: str, policy: TrafficPolicy) -> Iterator[Resource]:
    """By interface and not, as Docker, by address: a source address can be forged."""
    br = policy.link
    yield rule(owner, "filter", "DOCKER-INTERNAL", f"! -i {br} -o {br} -j DROP")
    yield rule(owner, "filter", "DOCKER-INTERNAL", f"-i {br} ! -o {br} -j DROP")
    # Bridged frames pass here where br_netfilter shows them to iptables.
    verdict = "ACCEPT" if policy.icc else "DROP"
    yield rule(owner, "filter", "DOCKER-FORWARD", f"-i {br} -o {br} -j {verdict}", BETWEEN)


def _translation(net: Network, policy: TrafficPolicy) -> Iterator[Resource]:
    br, owner = policy.link, net.owner
    # Frames that another bridge forwards pass here, too, where br_netfilter shows them to iptables.
    own = f"{policy.siblings}+" if policy.siblings else br
    for cidr in (s.cidr for s in net.subnets if isinstance(s.cidr, IPv4Network)):
        out = f"SNAT --to-source {policy.source}" if policy.source else "MASQUERADE"
        if policy.masquerade:
            yield rule(owner, "nat", "POSTROUTING", f"-s {cidr} ! -o {own} -j {out}")
        # A container at a published port of a neighbour: answers must come back through the host.
        same = f"-s {cidr} -d {cidr} -o {br} {TRANSLATED} -j MASQUERADE"
        yield rule(owner, "nat", "POSTROUTING", same)
    # From the host, e.g. with source 127.0.0.1, to which the container would answer itself.
    local = f"-o {br} -m addrtype --src-type LOCAL -j MASQUERADE"
    yield rule(owner, "nat", "POSTROUTING", local)
    # With route_localnet a container could reach, or pose as, the host's loopback.
    guards = [
        rule(owner, "raw", "PREROUTING", f"-i {br} {way} {LOOPBACK} -j DROP")
        for way in ("-d", "-s")
    ]
    yield from guards
    yield Sysctl(
        name=f"net/ipv4/conf/{br}/route_localnet",
        value="1",
        owner=owner,
        depends_on=(*(g.key for g in guards), ("link", "", br)),
    )
