"""Render policies, published ports and access rules as elements of the sets in `layout`.  Pure.

Verdicts are the same as those of plugins.firewall.iptables.rules.  They apply to other packets:

* An `accept` of a table is no verdict for other tables.  What the administrator drops in
  iptables' FORWARD stays dropped, as with DOCKER-USER, which still runs where FORWARD jumps to
  it; this back end writes nothing of iptables and does not make that jump.  For the same reason
  a policy of DROP there, as dockerd sets it, shuts containers in until it is taken back.
* What iptables accepts we may still drop: DOCKER-USER opens nothing.  `netkit fw accept` does.
* An accept rule for a container of an internal network is about its neighbours on that network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from itertools import groupby
from typing import ClassVar

from netkit.driver import Access, Endpoint, Network, PortMapping, TrafficPolicy
from netkit.model import Key, Resource, Sysctl
from netkit.model.layout import FirewallLayout
from netkit.model.nftables import NftChain
from plugins.firewall.nftables.layout import LAYOUT, LOOPBACK, RULES, TABLE, element, frame, rules

ANY, EVERYWHERE = "0.0.0.0", "0.0.0.0/0"
ALL_PROTOCOLS, ALL_PORTS = "0-255", "0-65535"
ALL_MACS = "00:00:00:00:00:00-ff:ff:ff:ff:ff:ff"
MANY = 64  # ranges of one container, from which on short ones are elements port by port
SHORT = 16  # ports
INTO = {
    "nat": ("goto", "into-nat"),
    "nat-unprotected": ("accept",),
    "routed": ("goto", "into-routed"),
}


class Nftables:
    layout: ClassVar[FirewallLayout] = LAYOUT

    def owns_chain(self, name: str) -> str | None:
        return None  # it has none of iptables

    def setup(self, owner: str) -> Iterator[Resource]:
        yield from frame(owner)

    def network(self, net: Network, policy: TrafficPolicy) -> Iterator[Resource]:
        br, owner = policy.link, net.owner
        if policy.forwards:
            yield element(owner, "bridges", br)
            yield element(owner, "into", br, value=INTO[policy.mode])
            apart = "apart-nat" if policy.translates else "apart-routed"
        elif policy.mode == "bridged":
            yield element(owner, "neighbours", br, br)
            apart = "apart-closed"
        else:
            # By interface and not, as Docker, by address: a source address can be forged.
            yield element(owner, "closed", br)
            yield element(owner, "neighbours", br, br)
            apart = "apart-closed"
        # Bridged frames pass here where br_netfilter shows them.
        among = ("accept",) if policy.icc else ("goto", apart)
        yield element(owner, "between", br, br, value=among)
        if policy.translates:
            yield from _translation(net, policy)
        elif policy.siblings:  # else its frames would be translated as those of one around it
            yield from (element(owner, "home", str(s.cidr), br) for s in net.subnets)

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
        owner, address = ep.owner(net), str(ep.inside)
        yield from _access(owner, policy, ep, [a for a in access if not a.link])
        if not policy.icc:
            mac = ep.mac or ALL_MACS
            for own in map(str, ep.ipv4):
                yield from _linked(owner, own, mac, [a for a in access if a.link])
                if any(a.verdict == "accept" for a in access):
                    yield element(owner, "known", own, mac)
        if policy.forwards:
            yield from _admission(owner, policy, address, ports)
        if policy.translates:
            yield from _destinations(owner, address, ports)


def _translation(net: Network, policy: TrafficPolicy) -> Iterator[Resource]:
    br, owner, kind = policy.link, net.owner, "-around" if policy.around else ""
    for cidr in (str(s.cidr) for s in net.subnets if isinstance(s.cidr, IPv4Network)):
        yield element(owner, "home", cidr, br)
        yield element(owner, f"hairpin{kind}", cidr, cidr)
        if policy.masquerade and policy.source:
            yield element(owner, f"sources{kind}", cidr, EVERYWHERE, value=(str(policy.source),))
        elif policy.masquerade:
            yield element(owner, f"masqueraded{kind}", cidr, EVERYWHERE)
    for link in policy.trusted:
        yield element(owner, "trusted", link, br)
    # With route_localnet a container could reach, or pose as, the host's loopback.
    guarded = element(owner, "translated", br)
    yield guarded
    guards: tuple[Key, ...] = tuple(r.key for r in rules(owner, "guard", RULES["guard"]))
    yield Sysctl(
        name=f"net/ipv4/conf/{br}/route_localnet",
        value="1",
        owner=owner,
        depends_on=(*guards, guarded.key, ("link", "", br)),
    )


def _access(
    owner: str, policy: TrafficPolicy, ep: Endpoint, access: Sequence[Access]
) -> Iterator[Resource]:
    """Yield a chain of its own for a container with access rules."""
    ordered = sorted((a for a in access if a.networks), key=lambda a: (a.priority, a.id))
    if not ordered:
        return
    chain = NftChain(table=TABLE, name=f"access-{ep.id[:12]}", owner=owner)
    yield chain
    made = rules(owner, chain.name, [_verdict(policy, a) for a in ordered])
    yield from (replace(r, origin=a.id) for r, a in zip(made, ordered, strict=True))
    for address in map(str, ep.ipv4):
        yield element(owner, "access", policy.link, address, value=("jump", chain.name))


def _verdict(policy: TrafficPolicy, a: Access) -> str:
    words: list[str] = []
    if a.verdict == "accept" and not policy.forwards:
        words.append("iifname . oifname @neighbours")
    sources = [str(n) for n in a.networks]  # nft refuses sets that overlap
    if EVERYWHERE not in sources:
        words.append(f"ip saddr {{ {', '.join(sources)} }}")
    if a.mac:
        words.append(f"ether saddr {a.mac}")
    if a.proto:
        words.append(f"meta l4proto {a.proto}")
    if a.proto and a.first:
        original = "ct status dnat ct direction original ct original proto-dst"
        port = original if a.published else "th dport"
        words.append(f"{port} {_span(a.first, a.last or a.first)}")
    return " ".join((*words, "counter", a.verdict))


def _linked(owner: str, child: str, mac: str, links: Sequence[Access]) -> Iterator[Resource]:
    """Merge links to one parent, for elements of an interval set must not overlap."""
    parents = {
        (_address(net), a.mac or ALL_MACS): [
            b for b in links if net in b.networks and a.mac == b.mac
        ]
        for a in links
        for net in a.networks
    }
    for (parent, own), mine in sorted(parents.items()):
        for proto in [""] if any(not a.proto for a in mine) else sorted({a.proto for a in mine}):
            same = [a for a in mine if a.proto == proto]
            ports = [ALL_PORTS]
            if proto and all(a.first for a in same):
                every = (n for a in same for n in range(a.first, max(a.first, a.last) + 1))
                ports = [_span(*run) for run in _runs(every)]
            for port in ports:
                at = (proto or ALL_PROTOCOLS, port)
                yield element(owner, "linked", parent, own, child, *at)
                yield element(owner, "answers", child, mac, parent, *at)


def _admission(
    owner: str, policy: TrafficPolicy, inside: str, ports: Sequence[PortMapping]
) -> Iterator[Resource]:
    """Let packets for published ports into the container."""
    if policy.mode == "nat-unprotected":
        return  # admitted anyway
    wanted = [p for p in ports if not (policy.translates and _on_loopback(p))]  # never forwarded
    for proto, group in _by(wanted, lambda p: p.proto):
        for first, last in _pieces(p.container_port for p in group):
            name = "open" if first == last else "open-ranges"
            yield element(owner, name, inside, proto, _span(first, last))


def _destinations(owner: str, inside: str, ports: Sequence[PortMapping]) -> Iterator[Resource]:
    """A run of ports that keep their number is one element.

    Of others each is an element of its own, in the same commit: nf_tables has no arithmetic on
    ports, and a range as destination would be a pool to choose from.
    """
    for where, group in _by(ports, lambda p: f"{p.proto} {p.host_ip or ANY}"):
        proto, ip = where.split()
        kept = {p.host_port for p in group if p.host_port == p.container_port}
        runs = [(first, last) for first, last in _pieces(kept) if first < last]
        for first, last in runs:
            at = (EVERYWHERE if ip == ANY else ip, proto, _span(first, last))
            yield element(owner, "port-ranges", *at, value=(inside,))
        for p in group:
            if p.host_port in kept and any(a <= p.host_port <= b for a, b in runs):
                continue
            target = (inside, str(p.container_port))
            if ip == ANY:
                yield element(owner, "ports-any", proto, str(p.host_port), value=target)
            else:
                yield element(owner, "ports", ip, proto, str(p.host_port), value=target)


def _by(
    ports: Iterable[PortMapping], word: Callable[[PortMapping], str]
) -> list[tuple[str, list[PortMapping]]]:
    return [(w, list(group)) for w, group in groupby(sorted(ports, key=word), key=word)]


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Yield first and last of each run of consecutive numbers."""
    out: list[tuple[int, int]] = []
    for n in sorted(set(numbers)):
        follows = out and out[-1][1] == n - 1
        out.append((out.pop()[0], n) if follows else (n, n))
    return out


def _pieces(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Runs and single numbers, so that not many of them are short runs.

    The kernel takes ranges out of a set in a time that grows with the square of their number:
    1,400 of them in 7 s, as many single elements in 10 ms.
    """
    runs = _runs(numbers)
    if sum(first < last for first, last in runs) <= MANY:
        return runs
    return [
        piece
        for first, last in runs
        for piece in (
            [(first, last)] if last - first >= SHORT else [(n, n) for n in range(first, last + 1)]
        )
    ]


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _address(net: IPv4Network) -> str:
    return str(net.network_address) if net.prefixlen == 32 else str(net)


def _on_loopback(port: PortMapping) -> bool:
    return port.host_ip not in {"", ANY} and ip_address(port.host_ip) in LOOPBACK
