"""Published ports as rules: translation in nat, admission in filter.  Pure.

Ports that follow one another on both sides and keep their numbers are one rule.  Where they are
shifted each is a rule of its own: `--to-destination IP:first-last/base` would be a pool.  A client
that uses one source port for the same port at two addresses of the host would be led to a
neighbouring port of the range, for the kernel resolves that clash within it (nf_nat_core.c,
`get_unique_tuple`, as of 6.18).  With one port to go to, it changes the client's instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from netkit.driver import PortMapping, TrafficPolicy
from netkit.model import Resource
from plugins.firewall.iptables.layout import LOOPBACK, TRANSLATED
from plugins.firewall.iptables.tree import PortRule, Span, Trunk, grown

ANY = "0.0.0.0"
Run = Sequence[PortMapping]  # ports that follow one another on both sides


def runs(ports: Iterable[PortMapping]) -> list[Run]:
    """Group mappings, each once and with "" for any address, in maximal runs; sorted."""
    each = {replace(m, host_ip="") if m.host_ip == ANY else m for m in ports}
    out: list[list[PortMapping]] = []
    for m in sorted(each, key=lambda m: (m.proto, m.host_ip, m.host_port, m.container_port)):
        if out and _follows(m, out[-1][-1]):
            out[-1].append(m)
        else:
            out.append([m])
    return [*out]


def _follows(m: PortMapping, last: PortMapping) -> bool:
    steps = (m.host_port - last.host_port, m.container_port - last.container_port)
    return (m.proto, m.host_ip, steps) == (last.proto, last.host_ip, (1, 1))


def _on_loopback(run: Run) -> bool:
    return bool(run[0].host_ip) and ip_address(run[0].host_ip) in LOOPBACK


def published(
    owner: str,
    name: str,
    policy: TrafficPolicy,
    inside: str,
    ports: Sequence[PortMapping],
    *,
    multiport: bool = True,
) -> Iterator[Resource]:
    """`name` begins the names of the container's own chains, should it need any.

    Without `multiport` no rule matches a list of ports: the kernel has no xt_multiport.
    """
    if not policy.translates:  # what counts is the container's side
        ports = [
            PortMapping(proto=p.proto, container_port=p.container_port, host_ip="",
                        host_port=p.container_port)
            for p in ports
        ]  # fmt: skip
    wanted = runs(ports)
    if policy.translates:
        for chain, loopback in (("DOCKER", False), ("DOCKER-LOCAL", True)):
            mine = [r for r in wanted if _on_loopback(r) == loopback]
            trunk = Trunk(
                owner=owner,
                table="nat",
                chain=chain,
                name=f"{name}-lo" if loopback else f"{name}-",
                match=_common_address(mine),
                multiport=multiport,
            )
            yield from grown(trunk, [d for r in mine for d in _destinations(inside, r)])
    to = f"-d {inside}/32 -o {policy.link}"
    trunk = Trunk(
        owner=owner, table="filter", chain="DOCKER", name=f"{name}-", match=to, multiport=multiport
    )
    yield from grown(trunk, [*_admissions(policy, inside, wanted)])


def _admissions(policy: TrafficPolicy, inside: str, wanted: Iterable[Run]) -> Iterator[PortRule]:
    """Let packets for published ports into the container."""
    if policy.mode == "nat-unprotected":
        return  # admitted anyway
    br = policy.link
    state = f" {TRANSLATED}" if policy.translates else ""
    # By container port, once for all host ports and addresses that lead there: the filter sees
    # packets after their translation.
    opened: dict[str, list[Span]] = {}
    for r in wanted:
        if not (policy.translates and _on_loopback(r)):  # that is never forwarded
            span = (r[0].container_port, r[-1].container_port)
            opened.setdefault(r[0].proto, []).append(span)
    for proto, each in opened.items():
        for ports in _union(each):
            head, tail = f"-d {inside}/32 ! -i {br} -o {br} ", f"{state} -j ACCEPT"
            yield PortRule(proto, (ports,), head, tail)
            for link in policy.trusted if policy.translates else ():
                # Trusted interfaces may use the container's address untranslated: not only DNAT.
                head = f"-d {inside}/32 -i {link} -o {br} "
                yield PortRule(proto, (ports,), head, " -j ACCEPT")


def _union(each: Iterable[Span]) -> list[Span]:
    """Merge ranges into as few as possible; sorted."""
    out: list[Span] = []
    for first, last in sorted(each):
        if out and first <= out[-1][1] + 1:
            out[-1] = out[-1][0], max(last, out[-1][1])
        else:
            out.append((first, last))
    return out


def _destinations(inside: str, run: Run) -> Iterator[PortRule]:
    first, last = run[0], run[-1]
    where = f"-d {first.host_ip}/32 " if first.host_ip else ""
    lead = f" -j DNAT --to-destination {inside}"
    # Without a port in its target DNAT keeps the port: one rule translates the whole range.  A
    # range as the target would not shift it, but let the kernel choose any port of it.
    if len(run) > 1 and first.host_port == first.container_port:
        yield PortRule(first.proto, ((first.host_port, last.host_port),), where, lead)
        return
    for m in run:
        ports = ((m.host_port, m.host_port),)
        yield PortRule(m.proto, ports, where, f"{lead}:{m.container_port}")


def _common_address(wanted: Sequence[Run]) -> str:
    addresses = {r[0].host_ip for r in wanted}
    only = addresses.pop() if len(addresses) == 1 else ""
    return f"-d {only}/32" if only else ""
