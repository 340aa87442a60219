"""The kernel's entries for a table of peers and their containers."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netkit.errors import InvalidSpec
from netkit.kernel.nftables.senders import definition, sender
from netkit.model.vxlan import ALL
from netkit.overlay.fabric import Member, NetworkTable, Reach, Table
from netkit.overlay.fabric.rows import Rows, rows

ONE, TWO = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
MAC, OTHER = "02:42:0a:20:01:01", "02:42:0a:20:02:01"
INSIDE = IPv4Address("10.32.1.1")


def member(mac: str = MAC, peer: str = "one", *addresses: str) -> Member:
    given = tuple(map(IPv4Address, addresses)) or (INSIDE,)
    return Member(mac=mac, addresses=given, peer=peer)


def table(*members: Member, way: str = "fastdp", vxlan: str | None = "wx0") -> Table:
    net = NetworkTable(vni=7, bridge="wv0", tap="wt0", vxlan=vxlan, members=members)
    peers = {
        "one": Reach(path=way, address=ONE, sources=frozenset({ONE})),  # type: ignore[arg-type]
        "two": Reach(path="sleeve", address=TWO, sources=frozenset({TWO})),
    }
    return Table(networks=(net,), peers=peers)


def test_a_container_by_the_kernel_has_a_tunnel_and_so_have_frames_for_all() -> None:
    got, wrong = rows(table(member()), fastdp=True)
    assert got.places == {("wv0", MAC): "wx0"}
    assert got.tunnels == {("wx0", MAC, int(ONE)), ("wx0", ALL, int(ONE))}
    assert got.neighbours == {("wv0", int(INSIDE)): MAC}
    assert not wrong


@pytest.mark.parametrize("fastdp", [False, True])
def test_a_container_by_user_space_is_behind_the_tap(fastdp: bool) -> None:
    for t in (
        table(member(), way="sleeve" if fastdp else "fastdp"),
        table(member(), vxlan=None),
    ):
        got, _ = rows(t, fastdp=fastdp)
        assert got.places == {("wv0", MAC): "wt0"}
        assert got.tunnels == set()
        assert got.neighbours == {("wv0", int(INSIDE)): MAC}


def test_senders_are_let_in_whatever_way_this_side_has_chosen() -> None:
    """The other side may have chosen the other one."""
    first = sender(TWO.packed, 7, OTHER)
    got, _ = rows(table(member(OTHER, "two")), fastdp=True)
    assert got.senders == {first, first + INSIDE.packed}
    assert first.hex() == "c00002020000070002420a2002010000"


def test_no_frame_in_clear_is_let_in_on_a_sealed_network_or_where_it_cannot_be_checked() -> None:
    assert rows(table(member(), vxlan=None), fastdp=True)[0].senders == set()
    assert rows(table(member()), fastdp=False)[0].senders == set()


def test_members_of_unknown_peers_are_passed_over() -> None:
    got, wrong = rows(table(member(peer="nobody")), fastdp=True)
    assert got == Rows()
    assert not wrong


def test_of_two_that_claim_one_address_the_first_has_it() -> None:
    got, wrong = rows(table(member(), member(peer="two"), member(OTHER, "two")), fastdp=True)
    assert got.places == {("wv0", MAC): "wx0", ("wv0", OTHER): "wt0"}
    assert got.neighbours == {("wv0", int(INSIDE)): MAC}
    assert wrong == [
        f"{MAC} of two on wv0 is another member's already",
        f"{INSIDE} of two on wv0 is another member's already",
    ]
    assert sender(TWO.packed, 7, OTHER, INSIDE.packed) not in got.senders
    assert sender(TWO.packed, 7, MAC) not in got.senders


def test_networks_have_their_own_entries() -> None:
    (net,) = table(member()).networks
    other = replace(net, vni=8, bridge="wv1", tap="wt1", vxlan="wx1")
    got, wrong = rows(replace(table(), networks=(net, other)), fastdp=True)
    assert set(got.places) == {("wv0", MAC), ("wv1", MAC)}
    assert {key[4:8] for key in got.senders} == {b"\0\0\7\0", b"\0\0\x08\0"}
    assert not wrong


@pytest.mark.parametrize("mac", [ALL, "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "02:42", "", "X"])
def test_what_is_no_interface_s_mac_is_refused(mac: str) -> None:
    with pytest.raises(InvalidSpec, match="is not the MAC address of an interface"):
        member(mac)


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1"])
def test_what_is_no_interface_s_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidSpec, match="is not the address of an interface"):
        member(MAC, "one", address)


def test_fastdp_needs_an_address() -> None:
    with pytest.raises(InvalidSpec, match="needs an address"):
        Reach(path="fastdp")


def test_every_rule_of_the_table_bears_a_digest_of_all_of_it() -> None:
    one, two = definition(6784), definition(7784)
    digests = [{line.split('"')[1].split()[2] for line in text.splitlines() if '"' in line}
               for text in (one, two)]  # fmt: skip
    assert [len(d) for d in digests] == [1, 1]
    assert digests[0] != digests[1]
