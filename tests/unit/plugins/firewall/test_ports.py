"""Published ports by the thousand: ranges, trees of chains, and what a packet meets in them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netkit.driver import PortMapping, TrafficPolicy
from netkit.model import Chain, Resource, Rule, state
from netkit.reconcile.plan import diff
from netkit.testing.kernel import FakeKernel
from plugins.firewall.iptables import Iptables
from tests.unit.plugins.firewall.firewall_values import EP, NET, port

NAT = TrafficPolicy(link="br0")
INSIDE = "172.18.0.2"
MOST = 16 + 64 + 16 + 128  # rules that a packet meets in a tree, and the jumps to it


def rendered(ports: Sequence[PortMapping], policy: TrafficPolicy = NAT) -> list[Resource]:
    return [*Iptables().endpoint(NET, policy, EP, ports)]


def args(resources: Iterable[Resource], table: str) -> list[str]:
    return [" ".join(r.args) for r in resources if isinstance(r, Rule) and r.table == table]


# -- ranges ------------------------------------------------------------------


@pytest.mark.slow
def test_a_range_is_one_rule_in_each_table() -> None:
    made = rendered([port(p, p) for p in range(8000, 18000)])
    assert args(made, "nat") == [
        "-p tcp -m tcp --dport 8000:17999 -j DNAT --to-destination 172.18.0.2"
    ]
    assert args(made, "filter") == [
        "-d 172.18.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 8000:17999"
        " -m conntrack --ctstate DNAT -j ACCEPT"
    ]


def test_of_a_shifted_range_each_port_has_one_to_lead_to_and_admission_is_one_rule() -> None:
    made = rendered([port(p, p - 7000, "192.0.2.1", "udp") for p in range(8000, 8003)])
    assert args(made, "nat") == [
        f"-d 192.0.2.1/32 -p udp -m udp --dport {8000 + n}"
        f" -j DNAT --to-destination 172.18.0.2:{1000 + n}"
        for n in range(3)
    ]
    (admitted,) = args(made, "filter")
    assert "--dport 1000:1002 " in admitted


@pytest.mark.parametrize(
    "pair",
    [
        (port(8000, 80), port(8002, 82)),  # a gap outside
        (port(8000, 80), port(8001, 82)),  # a gap inside
        (port(8000, 81), port(8001, 80)),  # the other way round
        (port(8000, 80), port(8001, 80)),  # the same port twice
        (port(8000, 80), port(8001, 81, proto="udp")),
        (port(8000, 80), port(8001, 81, "192.0.2.1")),
    ],
)
def test_what_does_not_follow_on_both_sides_is_no_range(
    pair: tuple[PortMapping, PortMapping],
) -> None:
    assert len(args(rendered(pair), "nat")) == 2


def test_the_order_in_which_ports_are_given_makes_no_difference() -> None:
    ports = [port(p, p + 1) for p in range(9000, 9100, 3)] + [port(p, p) for p in range(20, 90)]
    mixed = random.Random(1).sample(ports, len(ports))
    assert state(rendered(mixed)) == state(rendered(ports))


def test_where_nothing_is_translated_the_containers_ports_make_the_range() -> None:
    ports = [port(0, p, "") for p in range(80, 90)]
    assert args(rendered(ports, TrafficPolicy(link="br0", mode="routed")), "filter") == [
        "-d 172.18.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80:89 -j ACCEPT"
    ]


# -- trees -------------------------------------------------------------------


def scattered(n: int, seed: int = 1, proto: str = "tcp") -> list[PortMapping]:
    some = random.Random(seed)
    hosts, insides = some.sample(range(1, 65536), n), some.sample(range(1, 65536), n)
    return [port(h, i, proto=proto) for h, i in zip(hosts, insides, strict=True)]


def test_few_rules_stand_in_docker_and_more_have_chains_of_their_own() -> None:
    few = rendered([port(8000 + 2 * n, 80 + 2 * n) for n in range(16)])
    assert {r.chain for r in few if isinstance(r, Rule)} == {"DOCKER"}
    assert not [r for r in few if isinstance(r, Chain)]
    many = rendered([port(8000 + 2 * n, 80 + 2 * n) for n in range(17)])
    chains = {(r.table, r.name) for r in many if isinstance(r, Chain)}
    assert {("nat", "DOCKER-c3d4c3d4-tcp"), ("filter", "DOCKER-c3d4c3d4-tcp")} <= chains
    assert [a for a in args(many, "nat") if "-j DOCKER-" in a] == [
        "-p tcp -m tcp --dport 8000:8032 -j DOCKER-c3d4c3d4-tcp"
    ]
    assert [a for a in args(many, "filter") if "-j DOCKER-" in a] == [
        "-d 172.18.0.2/32 -o br0 -p tcp -m tcp --dport 80:112 -j DOCKER-c3d4c3d4-tcp"
    ]


def test_many_ports_to_one_of_the_container_are_admitted_by_one_rule() -> None:
    made = rendered([port(8000 + 2 * n, 80) for n in range(40)])
    assert {r.chain for r in made if isinstance(r, Rule) and r.table == "filter"} == {"DOCKER"}
    assert len(args(made, "filter")) == 1


@pytest.mark.slow
def test_a_tree_has_one_jump_a_protocol_and_else_only_gotos() -> None:
    """A packet without a match returns to DOCKER, where foreign rules come next."""
    ports = scattered(400) + scattered(400, 2, "udp") + scattered(400, 3, "sctp")
    jumps = [r for r in rendered(ports) if isinstance(r, Rule) and r.args[-1].startswith("DOCKER-")]
    inside_docker = [r for r in jumps if r.chain == "DOCKER"]
    assert sorted((r.table, r.args[-2], r.args[-1][16:]) for r in inside_docker) == sorted(
        (table, "-j", proto) for table in ("nat", "filter") for proto in ("tcp", "udp", "sctp")
    )
    assert {r.args[-2] for r in jumps if r.chain != "DOCKER"} == {"-g"}


@pytest.mark.slow
def test_names_of_chains_fit_and_are_the_endpoints_own() -> None:
    ports = [
        port(m.host_port, m.container_port, ip, proto)
        for seed, (ip, proto) in enumerate(
            (ip, proto) for ip in ("0.0.0.0", "127.0.0.1") for proto in ("tcp", "udp", "sctp")
        )
        for m in scattered(2000, seed)
    ]
    made = rendered(ports)
    names = [(r.table, r.name) for r in made if isinstance(r, Chain)]
    assert len(names) == len(set(names)) > 1500
    assert max(len(name) for _, name in names) <= 28  # XT_EXTENSION_MAXNAMELEN - 1
    assert {r.owner for r in made} == {EP.owner(NET)}


@dataclass(frozen=True)
class Packet:
    proto: str
    dport: int
    dst: str


Ruleset = dict[str, list[Rule]]


def ruleset(resources: Iterable[Resource], table: str) -> Ruleset:
    """The chains of a table, each in the order in which packets meet its rules."""
    chains: Ruleset = {}
    for r in resources:
        if isinstance(r, Rule) and r.table == table:
            chains.setdefault(r.chain, []).append(r)
    return {name: sorted(rules, key=lambda r: r.rank) for name, rules in chains.items()}


def walk(chains: Ruleset, chain: str, p: Packet) -> tuple[str, int]:
    """Evaluate a packet that arrives at `chain`, as the kernel would.

    The target with its arguments, or "" for a packet that comes back; and the rules it met.
    """
    met = 0
    stack = [iter(chains.get(chain, []))]
    while stack:
        r = next(stack[-1], None)
        if r is None:
            stack.pop()
            continue
        met += 1
        if not _matches(r.args, p):
            continue
        flag = "-j" if "-j" in r.args else "-g"
        target = r.args[r.args.index(flag) + 1]
        if target not in chains:
            return " ".join(r.args[r.args.index(flag) + 1 :]), met
        if flag == "-g":
            stack.pop()
        stack.append(iter(chains[target]))
    return "", met


@cache
def _meant(words: tuple[str, ...]) -> tuple[str, str, tuple[tuple[int, int], ...]]:
    """Protocol, address ("" any) and spans of destination ports of a rule."""
    flag = "--dports" if "--dports" in words else "--dport"
    spans = [s.partition(":") for s in words[words.index(flag) + 1].split(",")]
    assert sum(2 if high else 1 for _, _, high in spans) <= 15
    there = words[words.index("-d") + 1] if "-d" in words else ""
    proto = words[words.index("-p") + 1]
    return proto, there, tuple((int(low), int(high or low)) for low, _, high in spans)


def _matches(words: tuple[str, ...], p: Packet) -> bool:
    proto, there, spans = _meant(words)
    if proto != p.proto or there not in {"", f"{p.dst}/32"}:
        return False
    return any(low <= p.dport <= high for low, high in spans)


@pytest.mark.slow
def test_a_packet_meets_few_rules_and_the_right_one() -> None:
    ports = scattered(10_000)
    made = rendered(ports)
    nat, admitted = ruleset(made, "nat"), ruleset(made, "filter")
    costs = []
    for m in ports[::37]:
        got, met = walk(nat, "DOCKER", Packet("tcp", m.host_port, "198.51.100.1"))
        assert got == f"DNAT --to-destination {INSIDE}:{m.container_port}"
        costs.append(met)
        got, met = walk(admitted, "DOCKER", Packet("tcp", m.container_port, INSIDE))
        assert got == "ACCEPT"
        costs.append(met)
    assert max(costs) <= MOST
    assert sum(costs) / len(costs) < 64
    taken = {m.host_port for m in ports}
    for free in (n for n in range(1, 65536, 97) if n not in taken):
        assert walk(nat, "DOCKER", Packet("tcp", free, "198.51.100.1"))[0] == ""


@pytest.mark.slow
def test_ports_that_are_let_in_share_rules_and_where_that_cannot_be_have_one_each() -> None:
    ports = scattered(1000)
    let_in = [a for a in args(rendered(ports), "filter") if "ACCEPT" in a]
    assert len(let_in) <= 100
    made = Iptables(multiport=False).endpoint(NET, NAT, EP, ports)
    alone = [a for a in args(made, "filter") if "ACCEPT" in a]
    assert len(alone) > 900
    assert not [a for a in alone if "multiport" in a]


def test_a_range_that_children_would_share_is_met_before_the_way_down_to_them() -> None:
    """1085 at the other address draws the whole of 1024 to 1085 into the child, 1070 included."""
    one, two = "192.0.2.1", "192.0.2.2"
    ports = [
        *(port(p, p, one) for p in (*range(1024, 1060, 2), *range(1060, 1101))),
        port(1085, 9, two),
    ]
    nat = ruleset(rendered(ports), "nat")
    assert "DOCKER-c3d4c3d4-tcp-1024" in nat
    for p in (1024, 1060, 1070, 1087, 1088, 1100):
        assert _aim(walk(nat, "DOCKER", Packet("tcp", p, one))[0], p) == p
    assert _aim(walk(nat, "DOCKER", Packet("tcp", 1085, two))[0], 1085) == 9
    assert walk(nat, "DOCKER", Packet("tcp", 1070, two))[0] == ""


blocks = st.tuples(
    st.sampled_from(["tcp", "udp"]),
    st.sampled_from(["192.0.2.1", "192.0.2.2", "127.0.0.1"]),
    st.integers(900, 2300),
    st.integers(-300, 300),
    st.sampled_from([1, 1, 1, 2, 30, 70, 500]),
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(blocks, min_size=1, max_size=90), st.randoms(use_true_random=False))
def test_whatever_is_published_every_port_leads_where_it_should(
    some: list[tuple[str, str, int, int, int]], chance: random.Random
) -> None:
    want: dict[tuple[str, str, int], PortMapping] = {}
    for proto, ip, first, shift, count in some:
        for p in range(first, first + count):
            want.setdefault((proto, ip, p), port(p, p + shift, ip, proto))
    made = rendered([*want.values()])
    nat, admitted = ruleset(made, "nat"), ruleset(made, "filter")
    places = [(proto, ip) for proto in ("tcp", "udp") for ip in ("192.0.2.1", "127.0.0.1")]
    probes = [*chance.sample([*want], min(60, len(want)))]
    probes += [(*place, n) for place in places for n in (899, 1024, 1087, 1088, 2047, 2048, 2900)]
    for proto, ip, n in probes:
        m = want.get((proto, ip, n))
        for chain in ("DOCKER", "DOCKER-LOCAL"):
            got, met = walk(nat, chain, Packet(proto, n, ip))
            due = m is not None and (ip == "127.0.0.1") == (chain == "DOCKER-LOCAL")
            assert (got != "") == due
            assert met <= 3 * MOST  # one round for each host address
            if due and m is not None:
                assert _aim(got, n) == m.container_port
    inside = {(m.proto, m.container_port) for m in want.values() if m.host_ip != "127.0.0.1"}
    for proto, n in ((p, n) for p in ("tcp", "udp") for n in range(600, 3100, 7)):
        got, _ = walk(admitted, "DOCKER", Packet(proto, n, INSIDE))
        assert got == ("ACCEPT" if (proto, n) in inside else "")


def _aim(target: str, dport: int) -> int:
    """Which port a DNAT of this destination port leads to."""
    address, _, inside = target.removeprefix("DNAT --to-destination ").partition(":")
    assert address == INSIDE
    return int(inside) if inside else dport


@pytest.mark.slow
def test_a_tree_comes_and_goes_as_a_whole() -> None:
    base = [*Iptables().setup("netkit:0:global")]
    kernel = FakeKernel.holding(op.after for op in diff(state(base), {}, bool) if op.after)
    before = dict(kernel.things)
    tree = state([*base, *rendered(scattered(300) + scattered(40, 2, "udp"))])
    kernel.apply(diff(tree, kernel.things, bool))
    assert len(kernel.things) == len(tree) > 450
    kernel.apply(diff(state(base), kernel.things, bool))
    assert kernel.things == before
