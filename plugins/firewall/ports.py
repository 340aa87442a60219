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
from plugins.firewall.layout import LOOPBACK, TRANSLATED, ports_match
from plugins.firewall.tree import PortRule, Trunk, grown

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
    owner: str, name: str, policy: Policy, inside: str, ports: Sequence[PortMapping]
) -> Iterator[Resource]:
    """`name` begins the names of the container's own chains, should it need any."""
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
            )
            yield from grown(trunk, [d for r in mine for d in _destinations(inside, r)])
    to = f"-d {inside}/32 -o {policy.link}"
    trunk = Trunk(owner=owner, table="filter", chain="DOCKER", name=f"{name}-", match=to)
    yield from grown(trunk, [a for r in wanted for a in _admissions(policy, inside, r)])


def _admissions(policy: Policy, inside: str, r: Run) -> Iterator[PortRule]:
    """Let packets for published ports into the container."""
    if policy.mode == "nat-unprotected" or (policy.translates and r.on_loopback):
        return  # admitted anyway; never forwarded
    br, first, last = policy.link, r.inside, r.inside + r.count - 1
    match = ports_match(r.proto, first, last)
    state = f" {TRANSLATED}" if policy.translates else ""
    admit = f"-d {inside}/32 ! -i {br} -o {br} {match}{state} -j ACCEPT"
    yield PortRule(r.proto, first, last, admit)
    for link in policy.trusted if policy.translates else ():
        direct = f"-d {inside}/32 -i {link} -o {br} {match} -j ACCEPT"
        yield PortRule(r.proto, first, last, direct)


def _destinations(inside: str, r: Run) -> Iterator[PortRule]:
    where = f"-d {r.host_ip}/32 " if r.host_ip else ""
    if r.count > 1 and r.host == r.inside:
        last = r.host + r.count - 1
        match = f"{where}{ports_match(r.proto, r.host, last)}"
        yield PortRule(r.proto, r.host, last, f"{match} -j DNAT --to-destination {inside}")
        return
    for n in range(r.count):
        match = f"{where}{ports_match(r.proto, r.host + n, r.host + n)}"
        target = f"{inside}:{r.inside + n}"
        yield PortRule(
            r.proto, r.host + n, r.host + n, f"{match} -j DNAT --to-destination {target}"
        )


def _common_address(wanted: Sequence[Run]) -> str:
    addresses = {r.host_ip for r in wanted}
    only = addresses.pop() if len(addresses) == 1 else ""
    return f"-d {only}/32" if only else ""
