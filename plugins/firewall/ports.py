"""Published ports as rules: translation in nat, admission in filter.  Pure.

Ports that follow one another on both sides and keep their numbers are one rule.  Where they are
shifted each is a rule of its own: `--to-destination IP:first-last/base` would be a pool.  A client
that uses one source port for the same port at two addresses of the host would be led to a
neighbouring port of the range, for the kernel resolves that clash within it (nf_nat_core.c,
`get_unique_tuple`, as of 6.18).  With one port to go to, it changes the client's instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from netkit.driver import Policy, PortMapping
from netkit.model import Resource
from plugins.firewall.layout import LOOPBACK, TRANSLATED
from plugins.firewall.tree import PortRule, Span, Trunk, grown

ANY = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Run:
    """Published ports that follow one another: `count` of them, from these two on."""

    proto: str
    host_ip: str  # "" for any
    host: int
    inside: int
    count: int = 1

    @property
    def on_loopback(self) -> bool:
        return bool(self.host_ip) and ip_address(self.host_ip) in LOOPBACK

    def follows(self, other: Run) -> bool:
        place, before = (self.proto, self.host_ip), (other.proto, other.host_ip)
        steps = (self.host - other.host, self.inside - other.inside)
        return place == before and steps == (other.count, other.count)


def runs(ports: Iterable[PortMapping]) -> list[Run]:
    """The mappings as runs, as long as can be; sorted."""
    each = {
        Run(p.proto, "" if p.host_ip == ANY else p.host_ip, p.host_port, p.container_port)
        for p in ports
    }
    out: list[Run] = []
    for r in sorted(each, key=lambda r: (r.proto, r.host_ip, r.host, r.inside)):
        if out and r.follows(out[-1]):
            last = out.pop()
            r = Run(last.proto, last.host_ip, last.host, last.inside, last.count + 1)  # noqa: PLW2901
        out.append(r)
    return out


def published(
    owner: str,
    name: str,
    policy: Policy,
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
            mine = [r for r in wanted if r.on_loopback == loopback]
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


def _admissions(policy: Policy, inside: str, wanted: Iterable[Run]) -> Iterator[PortRule]:
    """Let packets for published ports into the container."""
    if policy.mode == "nat-unprotected":
        return  # admitted anyway
    br = policy.link
    state = f" {TRANSLATED}" if policy.translates else ""
    opened: dict[str, list[Span]] = {}
    for r in wanted:
        if not (policy.translates and r.on_loopback):  # that is never forwarded
            opened.setdefault(r.proto, []).append((r.inside, r.inside + r.count - 1))
    for proto, each in opened.items():
        for ports in _union(each):
            head, tail = f"-d {inside}/32 ! -i {br} -o {br} ", f"{state} -j ACCEPT"
            yield PortRule(proto, (ports,), head, tail)
            for link in policy.trusted if policy.translates else ():
                head = f"-d {inside}/32 -i {link} -o {br} "
                yield PortRule(proto, (ports,), head, " -j ACCEPT")


def _union(each: Iterable[Span]) -> list[Span]:
    """The same ports in as few ranges as can be; sorted."""
    out: list[Span] = []
    for first, last in sorted(each):
        if out and first <= out[-1][1] + 1:
            out[-1] = out[-1][0], max(last, out[-1][1])
        else:
            out.append((first, last))
    return out


def _destinations(inside: str, r: Run) -> Iterator[PortRule]:
    where = f"-d {r.host_ip}/32 " if r.host_ip else ""
    lead = f" -j DNAT --to-destination {inside}"
    if r.count > 1 and r.host == r.inside:
        yield PortRule(r.proto, ((r.host, r.host + r.count - 1),), where, lead)
        return
    for n in range(r.count):
        port = r.host + n
        yield PortRule(r.proto, ((port, port),), where, f"{lead}:{r.inside + n}")


def _common_address(wanted: Sequence[Run]) -> str:
    addresses = {r.host_ip for r in wanted}
    only = addresses.pop() if len(addresses) == 1 else ""
    return f"-d {only}/32" if only else ""
