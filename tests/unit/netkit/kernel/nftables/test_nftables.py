"""Keys of nf_tables sets, as bytes and as people write them; and the input of nft."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.errors import KernelError
from netkit.kernel.iptables.chains import Entry
from netkit.kernel.nftables.elements import DELSETELEM, NEWSETELEM, element_requests
from netkit.kernel.nftables.script import write
from netkit.kernel.nftables.values import TYPES, Span, pack, types_of, unpack
from netkit.model import Resource
from netkit.model.nftables import NftChain, NftElement, NftRule, NftSet, NftTable
from netkit.reconcile.plan import Op

NET = "netkit:0:aaaaaaaaaaaa"

addresses = st.ip_addresses(v=4).map(str)
networks = st.tuples(st.ip_addresses(v=4), st.integers(0, 31)).map(
    lambda n: str(IPv4Network((int(n[0]) & ~((1 << (32 - n[1])) - 1), n[1])))
)
names = st.text("abcxyz0189.-_@*", min_size=1, max_size=15)
values = {
    "ipv4_addr": st.one_of(addresses, networks),
    "inet_proto": st.sampled_from(["tcp", "udp", "sctp", "icmp", "47", "0-255"]),
    "inet_service": st.one_of(
        st.integers(0, 65535).map(str),
        st.tuples(st.integers(0, 30000), st.integers(30001, 65535)).map(lambda p: f"{p[0]}-{p[1]}"),
    ),
    "ifname": names,
    "ether_addr": st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":")),
}
keys = st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=4).flatmap(
    lambda kinds: st.tuples(*(values[k] for k in kinds)).map(lambda texts: (tuple(kinds), texts))
)


@pytest.mark.slow
@given(keys)
def test_what_is_packed_is_unpacked_as_it_was(key: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    kinds, texts = key
    span = pack(kinds, texts)
    assert unpack(kinds, span) == texts
    assert len(span.low) == len(span.high)
    assert len(span.low) % 4 == 0 or len(kinds) == 1


@pytest.mark.slow
@given(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=4))
def test_the_types_of_a_set_are_read_from_the_number_nft_leaves(kinds: list[str]) -> None:
    number = 0
    for kind in kinds:
        number = number << 6 | TYPES[kind]
    assert types_of(number) == tuple(kinds)


def test_a_range_of_addresses_that_is_no_prefix_is_written_by_its_ends() -> None:
    low, high = IPv4Address("10.0.0.1").packed, IPv4Address("10.0.0.9").packed
    assert unpack(("ipv4_addr",), Span(low, high)) == ("10.0.0.1-10.0.0.9",)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("ipv4_addr", "10.0.0"), ("ipv4_addr", "10.0.0.1/24"), ("ipv4_addr", "10.0.0.256"),
        ("ipv4_addr", "::1"), ("inet_service", "65536"), ("inet_service", "-1"),
        ("inet_service", "http"), ("inet_service", " 80"), ("inet_service", "80-"),
        ("inet_proto", "256"), ("inet_proto", "nosuch"), ("ifname", "x" * 17), ("mark", "1"),
        ("ether_addr", "02:42"), ("ether_addr", "02:42:AC:11:00:02"),
    ],
)  # fmt: skip
def test_what_is_no_value_of_its_type_is_refused(kind: str, text: str) -> None:
    with pytest.raises(KernelError):
        pack((kind,), (text,))


def commands(*ops: Op, there: dict[tuple[str, str], list[Entry]] | None = None) -> list[str]:
    one = NftSet(table="netkit", name="s", fields=("ifname", "inet_service"), owner=NET)
    text = write(ops, {("netkit", "s"): one}, there or {}, lambda r: r.expression)
    return text.splitlines()


def element(port: int) -> NftElement:
    return NftElement(table="netkit", set="s", key_fields=("br0", str(port)), owner=NET)


def test_elements_of_one_set_are_one_command() -> None:
    assert commands(*(Op(None, element(n)) for n in (1, 2)), Op(element(3), None)) == [
        "delete element ip netkit s {",
        '"br0" . 3,',
        "}",
        "create element ip netkit s {",
        f'"br0" . 1 comment "{NET}",',
        f'"br0" . 2 comment "{NET}",',
        "}",
    ]


def test_what_is_in_a_table_that_goes_is_not_mentioned() -> None:
    table: list[Resource] = [
        NftTable(name="netkit", owner=NET),
        NftChain(table="netkit", name="c", owner=NET),
        NftRule(table="netkit", chain="c", expression="drop", owner=NET),
        element(1),
    ]
    assert commands(*(Op(r, None) for r in reversed(table))) == ["delete table ip netkit"]
    again = commands(*(Op(r, None) for r in reversed(table)), *(Op(None, r) for r in table))
    assert [line.split(" ip ")[0] for line in again] == [
        "delete table", "create table", "create chain", "create element",
        f'"br0" . 1 comment "{NET}",', "}", "add rule",
    ]  # fmt: skip


def test_a_new_rule_goes_before_the_first_of_higher_rank_that_stays() -> None:
    def rule(rank: int, text: str) -> NftRule:
        return NftRule(table="netkit", chain="c", expression=text, rank=rank, owner=NET)

    old = {n: rule(n, str(n)) for n in (1, 3, 5)}
    there = [Entry(NET, r.digest, r.rank, handle=100 + n) for n, r in old.items()]
    new = [rule(n, f"new {n}") for n in (4, 2, 6)]
    got = commands(Op(old[3], None), *(Op(None, r) for r in new), there={("netkit", "c"): there})
    assert [line.split(" comment ")[0] for line in got] == [
        "delete rule ip netkit c handle 103",
        "insert rule ip netkit c handle 105 new 2",
        "insert rule ip netkit c handle 105 new 4",
        "add rule ip netkit c new 6",
    ]


PORTS = NftSet(table="netkit", name="ports", fields=("ipv4_addr", "inet_service"), owner=NET)


def test_elements_alone_are_requests_and_deletions_come_first() -> None:
    one, other = (
        NftElement(table="netkit", set="ports", key_fields=("10.0.0.1", str(n)), owner=f"{NET}:a")
        for n in (80, 81)
    )
    found = element_requests([Op(None, one), Op(other, None)], {("netkit", "ports"): PORTS})
    assert found is not None
    assert [r.kind for r in found] == [DELSETELEM, NEWSETELEM]
    assert f"{NET}:a".encode() in found[1].body
    assert f"{NET}:a".encode() not in found[0].body


@pytest.mark.parametrize(
    "op",
    [
        Op(None, PORTS),
        Op(None, NftElement(table="netkit", set="nosuch", key_fields=("10.0.0.1",), owner=NET)),
        Op(None, NftElement(table="netkit", set="ports", key_fields=("*",), owner=NET)),
        Op(None, NftElement(table="netkit", set="ports", key_fields=("10.0.0.1", "80"),
                            value=("accept",), owner=NET)),
    ],
)  # fmt: skip
def test_all_else_is_left_to_nft(op: Op) -> None:
    assert element_requests([op], {("netkit", "ports"): PORTS}) is None
