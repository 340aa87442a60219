"""From policies and published ports to chains and rules.  Pure.

    filter FORWARD      -> DOCKER-USER       the administrator's, never edited
                        -> DOCKER-FORWARD -> DOCKER-CT        replies into each bridge
                                          -> DOCKER-INTERNAL  internal networks stay apart
                                          -> DOCKER-BRIDGE -> DOCKER   into containers
                                             per bridge: between its containers, out of it
    nat    PREROUTING   -> DOCKER            published ports, from outside and from containers
           OUTPUT       -> DOCKER-LOCAL      ports published on 127.x, only ever from here
                        -> DOCKER            published ports, from the host itself
           POSTROUTING     masquerade
    raw    PREROUTING      no 127.x from containers

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
from ipaddress import IPv4Interface, IPv4Network, ip_address

from netkit.driver import Access, Endpoint, Network, Policy, PortMapping
from netkit.model import Chain, Resource, Rule, Sysctl

CHAINS = (
    ("filter", "DOCKER-USER"),
    ("filter", "DOCKER-FORWARD"),
    ("filter", "DOCKER-CT"),
    ("filter", "DOCKER-INTERNAL"),
    ("filter", "DOCKER-BRIDGE"),
    ("filter", "DOCKER"),
    ("nat", "DOCKER"),
    ("nat", "DOCKER-LOCAL"),
)
LOOPBACK = IPv4Network("127.0.0.0/8")
ANY = "0.0.0.0"

# Where rules stand in their chain (Rule.rank): head, jumps, then by how final they are.
USER, FORWARD = -2, -1
FIRST, SECOND, THIRD = 0, 1, 2
PORT, PING, ACROSS, BETWEEN, LAST = 10, 20, 30, 31, 40


class Iptables:
    def setup(self, owner: str) -> Iterator[Resource]:
        for table, name in CHAINS:
            yield Chain(table=table, name=name, owner=owner)
        jumps = (
            ("filter", "FORWARD", "", "DOCKER-USER", USER),
            ("filter", "FORWARD", "", "DOCKER-FORWARD", FORWARD),
            ("filter", "DOCKER-FORWARD", "", "DOCKER-CT", FIRST),
            ("filter", "DOCKER-FORWARD", "", "DOCKER-INTERNAL", SECOND),
            ("filter", "DOCKER-FORWARD", "", "DOCKER-BRIDGE", THIRD),
            ("nat", "PREROUTING", f"! -d {LOOPBACK} {_LOCAL}", "DOCKER", FIRST),
            ("nat", "OUTPUT", f"-d {LOOPBACK} {_LOCAL}", "DOCKER-LOCAL", FIRST),
            ("nat", "OUTPUT", _LOCAL, "DOCKER", SECOND),
        )
        for table, chain, match, target, rank in jumps:
            yield _rule(owner, table, chain, f"{match} -j {target}", rank)

    def network(self, net: Network, policy: Policy) -> Iterator[Resource]:
        if policy.forwards:
            yield from _forwarding(net.owner, policy)
        else:
            yield from _internal(net.owner, policy)
        if policy.translates:
            yield from _translation(net, policy)

    def endpoint(
        self,
        net: Network,
        policy: Policy,
        ep: Endpoint,
        ports: Sequence[PortMapping],
        access: Sequence[Access] = (),
    ) -> Iterator[Resource]:
        inside = next((a.ip for a in ep.addresses if isinstance(a, IPv4Interface)), None)
        if inside is None or not policy.forwards:
            return
        owner = ep.owner(net)
        for port in ports:
            yield from _admission(owner, policy, str(inside), port)
            if policy.translates:
                yield _destination(owner, str(inside), port)


_LOCAL = "-m addrtype --dst-type LOCAL"


def _forwarding(owner: str, policy: Policy) -> Iterator[Resource]:
    br = policy.link
    yield _rule(owner, "filter", "DOCKER-CT", f"-o {br} {_REPLIES} -j ACCEPT")
    yield _rule(owner, "filter", "DOCKER-BRIDGE", f"-o {br} -j DOCKER")
    if policy.mode == "routed":
        yield _rule(owner, "filter", "DOCKER", f"-o {br} -p icmp -j ACCEPT", PING)
    verdict = "ACCEPT" if policy.mode == "nat-unprotected" else "DROP"
    yield _rule(owner, "filter", "DOCKER", f"! -i {br} -o {br} -j {verdict}", LAST)
    if not policy.icc:
        yield from _apart(owner, policy)
    yield _rule(owner, "filter", "DOCKER-FORWARD", f"-i {br} -j ACCEPT", LAST)


_REPLIES = "-m conntrack --ctstate RELATED,ESTABLISHED"
_TRANSLATED = "-m conntrack --ctstate DNAT"


def _apart(owner: str, policy: Policy) -> Iterator[Resource]:
    """Without icc, ports are isolated at the bridge; here the detour by routing is closed.

    What was translated (a published port) stays open.
    """
    br = policy.link
    if policy.translates:
        across = f"-i {br} -o {br} {_TRANSLATED} -j ACCEPT"
        yield _rule(owner, "filter", "DOCKER-FORWARD", across, ACROSS)
    yield _rule(owner, "filter", "DOCKER-FORWARD", f"-i {br} -o {br} -j DROP", BETWEEN)


def _internal(owner: str, policy: Policy) -> Iterator[Resource]:
    """By interface and not, as Docker, by address: a source address can be forged."""
    br = policy.link
    yield _rule(owner, "filter", "DOCKER-INTERNAL", f"! -i {br} -o {br} -j DROP")
    yield _rule(owner, "filter", "DOCKER-INTERNAL", f"-i {br} ! -o {br} -j DROP")
    # Bridged frames pass here where br_netfilter shows them to iptables.
    verdict = "ACCEPT" if policy.icc else "DROP"
    yield _rule(owner, "filter", "DOCKER-FORWARD", f"-i {br} -o {br} -j {verdict}", BETWEEN)


def _translation(net: Network, policy: Policy) -> Iterator[Resource]:
    br, owner = policy.link, net.owner
    for cidr in (s.cidr for s in net.subnets if isinstance(s.cidr, IPv4Network)):
        out = f"SNAT --to-source {policy.source}" if policy.source else "MASQUERADE"
        if policy.masquerade:
            yield _rule(owner, "nat", "POSTROUTING", f"-s {cidr} ! -o {br} -j {out}")
        # A container at a published port of a neighbour: answers must come back through the host.
        same = f"-s {cidr} -d {cidr} -o {br} {_TRANSLATED} -j MASQUERADE"
        yield _rule(owner, "nat", "POSTROUTING", same)
    # From the host, e.g. with source 127.0.0.1, which means somebody else in the container.
    local = f"-o {br} -m addrtype --src-type LOCAL -j MASQUERADE"
    yield _rule(owner, "nat", "POSTROUTING", local)
    # With route_localnet a container could reach, or pose as, the host's loopback.
    guards = [
        _rule(owner, "raw", "PREROUTING", f"-i {br} {way} {LOOPBACK} -j DROP")
        for way in ("-d", "-s")
    ]
    yield from guards
    yield Sysctl(
        name=f"net/ipv4/conf/{br}/route_localnet",
        value="1",
        owner=owner,
        after=(*(g.key for g in guards), ("link", "", br)),
    )


def _admission(owner: str, policy: Policy, inside: str, port: PortMapping) -> Iterator[Resource]:
    """Let packets for one published port into the container."""
    if policy.mode == "nat-unprotected" or (policy.translates and _on_loopback(port)):
        return  # admitted anyway; never forwarded
    br = policy.link
    proto = f"-p {port.proto} -m {port.proto} --dport {port.container_port}"
    state = f" {_TRANSLATED}" if policy.translates else ""
    admit = f"-d {inside}/32 ! -i {br} -o {br} {proto}{state} -j ACCEPT"
    yield _rule(owner, "filter", "DOCKER", admit, PORT)
    for link in policy.trusted if policy.translates else ():
        direct = f"-d {inside}/32 -i {link} -o {br} {proto} -j ACCEPT"
        yield _rule(owner, "filter", "DOCKER", direct, PORT)


def _destination(owner: str, inside: str, port: PortMapping) -> Rule:
    chain = "DOCKER-LOCAL" if _on_loopback(port) else "DOCKER"
    where = "" if port.host_ip in {"", ANY} else f"-d {port.host_ip}/32 "
    match = f"{where}-p {port.proto} -m {port.proto} --dport {port.host_port}"
    target = f"{inside}:{port.container_port}"
    return _rule(owner, "nat", chain, f"{match} -j DNAT --to-destination {target}", PORT)


def _on_loopback(port: PortMapping) -> bool:
    return port.host_ip not in {"", ANY} and ip_address(port.host_ip) in LOOPBACK


def _rule(owner: str, table: str, chain: str, args: str, rank: int = FIRST) -> Rule:
    return Rule(table=table, chain=chain, args=tuple(args.split()), rank=rank, owner=owner)
