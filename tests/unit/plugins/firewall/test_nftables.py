"""Native nftables: the table, and which elements each option puts into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Network, ip_interface, ip_network
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netkit.driver import Access, PortMapping, TrafficPolicy
from netkit.kernel.nftables.values import pack
from netkit.model import Resource, Sysctl, state
from netkit.model.nftables import NftChain, NftElement, NftRule, NftSet, NftTable
from netkit.reconcile.plan import diff
from netkit.testing.kernel import FakeKernel
from plugins.firewall.nftables import Nftables
from tests.unit.plugins.firewall.firewall_values import EP, NET, port

FW = Nftables()
FIELDS = {r.name: r.fields for r in FW.setup("netkit:0:global") if isinstance(r, NftSet)}
MODES = ("nat", "nat-unprotected", "routed", "internal", "isolated")


def written(resources: Iterable[Resource]) -> list[str]:
    """Elements and rules, as nft lists them."""
    return sorted(_lines(resources))


def _lines(resources: Iterable[Resource]) -> Iterator[str]:
    for r in resources:
        match r:
            case NftElement():
                value = f" : {' . '.join(r.value)}" if r.value else ""
                yield f"{r.set} {{ {' . '.join(r.key_fields)}{value} }}"
            case NftRule():
                yield f"{r.chain} {r.rank}: {r.expression}"
            case Sysctl():
                yield f"{r.name} = {r.value}"


def lines(text: str) -> list[str]:
    return sorted(line.strip() for line in text.strip().splitlines())


def policy(mode: str = "nat", **more: object) -> TrafficPolicy:
    return TrafficPolicy(link="br0", mode=mode, **more)  # type: ignore[arg-type]


def access(verdict: str, *sources: str, **more: object) -> Access:
    return Access(
        id=str(more.pop("id", "00112233aabb")),
        verdict=verdict,  # type: ignore[arg-type]
        sources=tuple(ip_network(s) for s in sources),
        **more,  # type: ignore[arg-type]
    )


# -- the table -----------------------------------------------------------------


def test_the_table_is_the_same_whatever_is_in_it() -> None:
    made = [*FW.setup("netkit:e:global")]
    bases = {
        r.name: (r.hook.kind, r.hook.point, r.hook.priority)
        for r in made
        if isinstance(r, NftChain) and r.hook
    }
    assert bases == {
        "guard": ("filter", "prerouting", -300),
        "prerouting": ("nat", "prerouting", -100),
        "output": ("nat", "output", -100),
        "forward": ("filter", "forward", 0),
        "postrouting": ("nat", "postrouting", 100),
    }
    chains = {r.chain: "" for r in made if isinstance(r, NftRule)}
    for r in sorted((r for r in made if isinstance(r, NftRule)), key=lambda r: r.rank):
        chains[r.chain] += f"\n{r.expression}"
    assert chains["forward"].split("\n")[1:] == [
        "oifname . ip daddr vmap @access",
        "iifname . oifname vmap @between",
        "iifname != @closed oifname @bridges ct state established,related accept",
        "oifname @closed counter drop",
        "iifname @closed counter drop",
        "oifname vmap @into",
        "iifname @bridges accept",
    ]
    assert chains["guard"].split("\n")[1:] == [
        "iifname @translated ip daddr 127.0.0.0/8 counter drop",
        "iifname @translated ip saddr 127.0.0.0/8 counter drop",
    ]
    assert chains["prerouting"].strip() == (
        "ip daddr != 127.0.0.0/8 fib daddr type local jump published"
    )
    closed = [name for name, text in chains.items() if text.endswith("counter drop")]
    assert sorted(closed) == [
        "apart-closed", "apart-nat", "apart-routed", "guard", "into-nat", "into-routed",
    ]  # fmt: skip


def test_everything_is_tagged_with_its_owner_and_needs_only_what_is_made_with_it() -> None:
    made = state(everything())
    for r in made.values():
        assert (r.owner or "").startswith("netkit:")
        assert all(n in made or n[0] == "link" for n in r.needs), r.key
    ours = [r for r in made.values() if not isinstance(r, Sysctl)]
    assert all(r.carries_owner and r.is_firewall for r in ours)


def test_ranges_are_only_in_sets_of_two_fields_or_more_and_elements_fit_their_sets() -> None:
    made = everything()
    sets = {r.name: r for r in made if isinstance(r, NftSet)}
    assert all(len(s.fields) > 1 for s in sets.values() if s.ranges)
    for e in (r for r in made if isinstance(r, NftElement)):
        s = sets[e.set]
        span = pack(s.fields, e.key_fields)
        assert span.low == span.high or s.ranges, e.key
        assert bool(e.value) == bool(s.data)
        if s.data and s.data != ("verdict",):
            pack(s.data, e.value)


def everything() -> list[Resource]:
    """Return resources of a network and a container with all options that can be combined."""
    p = policy(icc=False, trusted=("eth1",), source=None)
    rules = [
        access("drop", "203.0.113.0/24"),
        access("accept", "172.18.0.9/32", proto="tcp", first=80, last=80, link=True,
               mac="02:42:ac:12:00:09"),
    ]  # fmt: skip
    ports = [port(8080, 80), *(port(n, n) for n in range(9000, 9005)), port(81, 81, "127.0.0.1")]
    return [
        *FW.setup("netkit:0:global"),
        *FW.network(NET, p),
        *FW.endpoint(NET, p, EP, ports, rules),
    ]


def test_all_of_it_can_be_made_and_removed() -> None:
    base = [*FW.setup("netkit:0:global")]
    more = [r for r in everything() if not isinstance(r, Sysctl)]
    kernel = FakeKernel.holding(op.after for op in diff(state(base), {}, bool) if op.after)
    before = dict(kernel.things)
    kernel.apply(diff(state(more), kernel.things, bool))
    assert len(kernel.things) == len(state(more))
    kernel.apply(diff(state(base), kernel.things, bool))
    assert kernel.things == before
    kernel.apply(diff({}, kernel.things, bool))
    assert kernel.things == {}


# -- networks ------------------------------------------------------------------

GUARDED = """
    translated { br0 }
    home { 172.18.0.0/16 . br0 }
    hairpin { 172.18.0.0/16 . 172.18.0.0/16 }
    net/ipv4/conf/br0/route_localnet = 1
"""
GOLDEN = {
    "nat": (
        policy(),
        f"""
        bridges {{ br0 }}
        into {{ br0 : goto . into-nat }}
        between {{ br0 . br0 : accept }}
        masqueraded {{ 172.18.0.0/16 . 0.0.0.0/0 }}
        {GUARDED}""",
    ),
    "no icc, own source address": (
        policy(icc=False, source=IPv4Address("192.0.2.7")),
        f"""
        bridges {{ br0 }}
        into {{ br0 : goto . into-nat }}
        between {{ br0 . br0 : goto . apart-nat }}
        sources {{ 172.18.0.0/16 . 0.0.0.0/0 : 192.0.2.7 }}
        {GUARDED}""",
    ),
    "unprotected, no masquerade, two trusted": (
        policy("nat-unprotected", masquerade=False, trusted=("eth1", "eth2")),
        f"""
        bridges {{ br0 }}
        into {{ br0 : accept }}
        between {{ br0 . br0 : accept }}
        trusted {{ eth1 . br0 }}
        trusted {{ eth2 . br0 }}
        {GUARDED}""",
    ),
    "routed, no icc": (
        policy("routed", icc=False),
        """
        bridges { br0 }
        into { br0 : goto . into-routed }
        between { br0 . br0 : goto . apart-routed }
        """,
    ),
    "internal": (
        policy("internal"),
        """
        closed { br0 }
        neighbours { br0 . br0 }
        between { br0 . br0 : accept }
        """,
    ),
    "around others": (
        policy(around=True),
        f"""
        bridges {{ br0 }}
        into {{ br0 : goto . into-nat }}
        between {{ br0 . br0 : accept }}
        masqueraded-around {{ 172.18.0.0/16 . 0.0.0.0/0 }}
        {GUARDED.replace("hairpin", "hairpin-around")}""",
    ),
    "around others, own source address": (
        policy(around=True, source=IPv4Address("192.0.2.7")),
        f"""
        bridges {{ br0 }}
        into {{ br0 : goto . into-nat }}
        between {{ br0 . br0 : accept }}
        sources-around {{ 172.18.0.0/16 . 0.0.0.0/0 : 192.0.2.7 }}
        {GUARDED.replace("hairpin", "hairpin-around")}""",
    ),
    "isolated, no icc": (
        policy("isolated", icc=False),
        """
        closed { br0 }
        neighbours { br0 . br0 }
        between { br0 . br0 : goto . apart-closed }
        """,
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_elements_of_a_network(case: str) -> None:
    chosen, golden = GOLDEN[case]
    assert written(FW.network(NET, chosen)) == [line for line in lines(golden) if line]


def matrix() -> Iterator[TrafficPolicy]:
    sources = (None, IPv4Address("192.0.2.7"))
    for mode, icc, masq, source, trusted in product(
        MODES, (True, False), (True, False), sources, ((), ("eth1",))
    ):
        yield policy(mode, icc=icc, masquerade=masq, source=source, trusted=trusted)


@pytest.mark.parametrize("chosen", [*matrix()], ids=lambda p: f"{p.mode} {p.icc} {p.masquerade}")
def test_each_option_changes_what_it_is_about_and_nothing_else(chosen: TrafficPolicy) -> None:
    def of(**change: object) -> set[str]:
        return set(written(FW.network(NET, replace(chosen, **change))))  # type: ignore[arg-type]

    def names(found: set[str]) -> set[str]:
        return {line.split()[0] for line in found}

    own = of()
    assert names(own ^ of(icc=not chosen.icc)) == {"between"}
    out = names(own ^ of(masquerade=not chosen.masquerade))
    kind = {"sources"} if chosen.source else {"masqueraded"}
    assert out == (kind if chosen.translates else set())
    other = names(own ^ of(source=IPv4Address("192.0.2.8")))
    moved = {"sources"} if chosen.source else {"sources", "masqueraded"}
    assert other == (moved if chosen.translates and chosen.masquerade else set())
    assert names(own ^ of(trusted=("eth9",))) == ({"trusted"} if chosen.translates else set())
    assert own == of(binding="192.0.2.1")  # that is for ports, and was applied to them
    assert len(names(own) & {"bridges", "closed"}) == 1


def test_loopback_is_let_out_of_the_host_only_once_the_guard_stands() -> None:
    made = [*FW.setup("netkit:0:global"), *FW.network(NET, policy())]
    (setting,) = [r for r in made if isinstance(r, Sysctl)]
    guards = {r.key for r in made if isinstance(r, NftRule) and r.chain == "guard"}
    guards |= {("nft-element", "netkit", "translated", "br0"), ("link", "", "br0")}
    assert len(guards) == 4
    assert guards == set(setting.needs)


# -- containers ----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_container_without_ports_or_rules_costs_nothing(mode: str) -> None:
    assert [*FW.endpoint(NET, policy(mode), EP, [])] == []


def test_published_ports() -> None:
    ports = [
        port(8080, 80),
        port(53, 5353, "192.0.2.1", "udp"),
        port(9000, 90, "127.0.0.1"),
        port(443, 443, ""),
    ]
    assert written(FW.endpoint(NET, policy(), EP, ports)) == lines("""
        open { 172.18.0.2 . tcp . 80 }
        open { 172.18.0.2 . tcp . 443 }
        open { 172.18.0.2 . udp . 5353 }
        ports { 127.0.0.1 . tcp . 9000 : 172.18.0.2 . 90 }
        ports { 192.0.2.1 . udp . 53 : 172.18.0.2 . 5353 }
        ports-any { tcp . 443 : 172.18.0.2 . 443 }
        ports-any { tcp . 8080 : 172.18.0.2 . 80 }
    """)


@pytest.mark.slow
def test_a_published_range_is_one_element() -> None:
    ports = [port(n, n) for n in range(1000, 11000)]
    ports += [port(n, n, "192.0.2.1", "udp") for n in range(500, 510)]
    assert written(FW.endpoint(NET, policy(), EP, ports)) == lines("""
        open-ranges { 172.18.0.2 . tcp . 1000-10999 }
        open-ranges { 172.18.0.2 . udp . 500-509 }
        port-ranges { 0.0.0.0/0 . tcp . 1000-10999 : 172.18.0.2 }
        port-ranges { 192.0.2.1 . udp . 500-509 : 172.18.0.2 }
    """)


def test_of_a_range_whose_ports_change_each_is_an_element_and_admission_is_one() -> None:
    got = written(FW.endpoint(NET, policy(), EP, [port(8000 + n, 70 + n) for n in range(3)]))
    assert got == lines("""
        open-ranges { 172.18.0.2 . tcp . 70-72 }
        ports-any { tcp . 8000 : 172.18.0.2 . 70 }
        ports-any { tcp . 8001 : 172.18.0.2 . 71 }
        ports-any { tcp . 8002 : 172.18.0.2 . 72 }
    """)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [(63, {"open-ranges": 64, "port-ranges": 64}),
     (64, {"open": 128, "open-ranges": 1, "ports-any": 128, "port-ranges": 1})],
)  # fmt: skip
def test_of_many_ranges_the_short_ones_are_written_port_by_port(
    pairs: int, expected: dict[str, int]
) -> None:
    """The kernel takes ranges out of a set in a time that grows with the square of their number."""
    numbers = [*(n for k in range(pairs) for n in (3 * k + 1, 3 * k + 2)), *range(1000, 1017)]
    made = FW.endpoint(NET, policy(), EP, [port(n, n) for n in numbers])
    assert Counter(r.set for r in made if isinstance(r, NftElement)) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("nat", "open { 172.18.0.2 . tcp . 80 }\nports-any { tcp . 8080 : 172.18.0.2 . 80 }"),
        ("nat-unprotected", "ports-any { tcp . 8080 : 172.18.0.2 . 80 }"),
        ("routed", "open { 172.18.0.2 . tcp . 80 }"),
        ("internal", ""),
        ("isolated", ""),
    ],
)
def test_what_a_mode_makes_of_a_published_port(mode: str, expected: str) -> None:
    got = written(FW.endpoint(NET, policy(mode), EP, [port(8080, 80)]))
    assert got == [line for line in lines(expected) if line]


def test_access_rules_are_a_chain_of_the_container_in_their_order() -> None:
    rules = [
        access("drop", "0.0.0.0/0", priority=9),
        access("accept", "203.0.113.0/25", "203.0.113.128/25", "192.0.2.1/32", priority=1,
               proto="tcp", first=80, last=80, id="b" * 12),
        access("drop", "192.0.2.0/24", priority=1, proto="udp", first=8000, last=8010,
               published=True, id="a" * 12),
        access("accept", "10.0.0.0/8", priority=-1, proto="sctp"),
    ]  # fmt: skip
    made = [*FW.endpoint(NET, policy(), EP, [], rules)]
    assert written(made) == lines("""
        access { br0 . 172.18.0.2 : jump . access-c3d4c3d4c3d4 }
        access-c3d4c3d4c3d4 -4: ip saddr { 10.0.0.0/8 } meta l4proto sctp counter accept
        access-c3d4c3d4c3d4 -3: ip saddr { 192.0.2.0/24 } meta l4proto udp ct status dnat ct direction original ct original proto-dst 8000-8010 counter drop
        access-c3d4c3d4c3d4 -2: ip saddr { 192.0.2.1/32, 203.0.113.0/24 } meta l4proto tcp th dport 80 counter accept
        access-c3d4c3d4c3d4 -1: counter drop
    """)  # noqa: E501
    assert [r.owner for r in made] == [EP.owner(NET)] * len(made)


def test_on_an_internal_network_who_is_accepted_is_a_neighbour() -> None:
    rules = [access("accept", "0.0.0.0/0"), access("drop", "0.0.0.0/0", priority=1)]
    got = written(FW.endpoint(NET, policy("internal"), EP, [], rules))
    assert "access-c3d4c3d4c3d4 -2: iifname . oifname @neighbours counter accept" in got
    assert "access-c3d4c3d4c3d4 -1: counter drop" in got


def test_a_rule_about_ipv6_alone_is_no_rule_about_everybody() -> None:
    rules = [Access(id="a" * 12, verdict="drop", sources=(IPv6Network("2001:db8::/32"),))]
    assert [*FW.endpoint(NET, policy(), EP, [], rules)] == []


@pytest.mark.parametrize("mode", MODES)
def test_links_open_what_icc_would_close_and_do_not_overlap(mode: str) -> None:
    def link(parent: int, proto: str = "", first: int = 0, last: int = 0) -> Access:
        return access("accept", f"172.18.0.{parent}/32", mac=f"02:42:ac:12:00:0{parent}",
                      proto=proto, first=first, last=last, link=True)  # fmt: skip

    rules = [
        link(9, "tcp", 80, 90), link(9, "tcp", 85, 95), link(9, "udp", 53, 53),
        link(8, "udp", 53, 53), link(8),
    ]  # fmt: skip
    assert written(FW.endpoint(NET, policy(mode, icc=False), EP, [], rules)) == lines("""
        linked { 172.18.0.8 . 02:42:ac:12:00:08 . 172.18.0.2 . 0-255 . 0-65535 }
        linked { 172.18.0.9 . 02:42:ac:12:00:09 . 172.18.0.2 . tcp . 80-95 }
        linked { 172.18.0.9 . 02:42:ac:12:00:09 . 172.18.0.2 . udp . 53 }
        answers { 172.18.0.2 . 02:42:ac:12:00:02 . 172.18.0.8 . 0-255 . 0-65535 }
        answers { 172.18.0.2 . 02:42:ac:12:00:02 . 172.18.0.9 . tcp . 80-95 }
        answers { 172.18.0.2 . 02:42:ac:12:00:02 . 172.18.0.9 . udp . 53 }
        known { 172.18.0.2 . 02:42:ac:12:00:02 }
    """)
    assert [*FW.endpoint(NET, policy(mode), EP, [], rules)] == []  # open anyway


def test_without_mac_addresses_links_go_by_ip_addresses_alone() -> None:
    link = access("accept", "172.18.0.9/32", proto="tcp", first=80, last=80, link=True)
    every = "00:00:00:00:00:00-ff:ff:ff:ff:ff:ff"
    made = FW.endpoint(NET, policy(icc=False), replace(EP, mac=None), [], [link])
    assert written(made) == lines(f"""
        linked {{ 172.18.0.9 . {every} . 172.18.0.2 . tcp . 80 }}
        answers {{ 172.18.0.2 . {every} . 172.18.0.9 . tcp . 80 }}
        known {{ 172.18.0.2 . {every} }}
    """)


def test_a_neighbour_that_is_accepted_is_known_by_its_mac_address_and_answered() -> None:
    rule = access("accept", "172.18.0.9/32", mac="02:42:ac:12:00:09")
    got = written(FW.endpoint(NET, policy(icc=False), EP, [], [rule]))
    assert got == lines("""
        access { br0 . 172.18.0.2 : jump . access-c3d4c3d4c3d4 }
        access-c3d4c3d4c3d4 -1: ip saddr { 172.18.0.9/32 } ether saddr 02:42:ac:12:00:09 counter accept
        known { 172.18.0.2 . 02:42:ac:12:00:02 }
    """)  # noqa: E501
    assert "known" not in {line.split()[0] for line in written(
        FW.endpoint(NET, policy(), EP, [], [rule]))}  # fmt: skip


# -- laws ----------------------------------------------------------------------

HOST_IPS = ("0.0.0.0", "192.0.2.1", "192.0.2.2", "127.0.0.1")
mappings = st.lists(
    st.builds(
        PortMapping,
        proto=st.sampled_from(["tcp", "udp"]),
        container_port=st.integers(1, 12),
        host_ip=st.sampled_from(HOST_IPS),
        host_port=st.integers(1, 12),
    ),
    unique_by=lambda p: (p.proto, p.host_port),
    max_size=20,
)


def found(made: Iterable[Resource], name: str, *packet: str) -> set[tuple[str, ...]]:
    """What the kernel finds for a packet in one of our maps."""
    packed = pack(FIELDS[name], packet).low
    return {
        e.value
        for e in made
        if isinstance(e, NftElement)
        and e.set == name
        and _covers(FIELDS[name], e.key_fields, packed)
    }


def _covers(fields: tuple[str, ...], at: tuple[str, ...], packed: bytes) -> bool:
    """Field by field: a range of a concatenation is no range of its bytes."""
    offset = 0
    for kind, text in zip(fields, at, strict=True):
        span = pack((kind,), (text,))
        if not span.low <= packed[offset : offset + len(span.low)] <= span.high:
            return False
        offset += (len(span.low) + 3) & ~3  # a field alone is not padded
    return True


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(mappings)
def test_every_published_port_leads_to_its_target_and_no_other_does(
    ports: list[PortMapping],
) -> None:
    made = [*FW.endpoint(NET, policy(), EP, ports)]
    state(made)  # no contradiction
    for proto, n, ip in product(("tcp", "udp"), range(14), (*HOST_IPS[1:], "192.0.2.9")):
        here = [p for p in ports if (p.proto, p.host_port) == (proto, n)]
        targets = {
            ("172.18.0.2", str(p.container_port)) for p in here if p.host_ip in {ip, "0.0.0.0"}
        }
        got = found(made, "ports", ip, proto, str(n))
        got |= found(made, "ports-any", proto, str(n))
        got |= {(*there, str(n)) for there in found(made, "port-ranges", ip, proto, str(n))}
        assert got == targets
        admitted = any((p.proto, p.container_port) == (proto, n) for p in ports
                       if not p.host_ip.startswith("127."))  # fmt: skip
        inside = ("172.18.0.2", proto, str(n))
        assert bool(found(made, "open", *inside) | found(made, "open-ranges", *inside)) == admitted


@pytest.mark.slow
@given(mappings)
def test_the_order_of_ports_is_no_matter(ports: list[PortMapping]) -> None:
    assert state(FW.endpoint(NET, policy(), EP, ports)) == state(
        FW.endpoint(NET, policy(), EP, ports[::-1])
    )


def test_the_table_is_one_and_bears_its_mark() -> None:
    (table,) = [r for r in FW.setup("netkit:e:global") if isinstance(r, NftTable)]
    assert (table.name, table.owner) == ("netkit", "netkit:e:global")


@pytest.mark.parametrize("icc", [True, False])
def test_rules_are_about_all_addresses_of_an_endpoint(icc: bool) -> None:
    other = ip_interface("192.168.1.2/24")
    rules = [
        access("drop", "10.9.0.0/16"),
        access("accept", "10.9.0.7/32", id="22", mac="02:42:00:00:00:07"),
        access("accept", "10.9.0.8/32", id="33", link=True, proto="tcp", first=80),
    ]

    def named(address: str, several: bool) -> int:
        ep = replace(EP, addresses=(*EP.addresses, other)) if several else EP
        made = [*FW.endpoint(NET, policy(icc=icc), ep, [port(80, 8080)], rules)]
        keys = [r.key_fields for r in made if isinstance(r, NftElement)]
        return sum(address in key for key in keys)

    first = str(EP.inside)
    assert named(first, several=True) == named(first, several=False)
    # Ports are published at the first one alone.
    assert named("192.168.1.2", several=True) == named(first, several=False) - 1
