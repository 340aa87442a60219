"""What follows from records: who talks to whom, where frames go, what names mean, who is there."""

from __future__ import annotations

import random
from itertools import pairwise
from math import inf, log2

import pytest

from plugins.weave.connector import RELAY, Connector, Dial, outside
from plugins.weave.forwarding import Forwarding
from plugins.weave.identity import PeerId
from plugins.weave.membership import FORGET, KEEPERS, Status
from plugins.weave.mesh import Mesh
from plugins.weave.names import Names
from plugins.weave.neighbourhood import Neighbourhood
from plugins.weave.ourselves import Settings
from plugins.weave.record import Body, Kind, Record, assemble
from plugins.weave.record import encode as encode_body
from plugins.weave.routes import Routes, pack
from plugins.weave.statements import Endpoint, Links, Name, Network, Statement, Suspect, encode
from plugins.weave.step import Address, Relayed
from plugins.weave.taken import RecordChange
from plugins.weave.view import neighbours
from tests.simulation.crypto import FakeCrypto
from tests.unit.plugins.weave.test_records import Peer

NETWORK = b"net"
A, B, C, D = (PeerId(bytes((n,)) * 16) for n in (1, 2, 3, 4))


def change(origin: PeerId, kind: Kind, key: bytes, value: Statement | None) -> RecordChange:
    return RecordChange(origin, kind, key, None, value and record(origin, kind, key, value))


def record(origin: PeerId, kind: Kind, key: bytes, value: Statement) -> Record:
    body = Body(origin, 1, kind, key, encode(value), bytes(16))
    return assemble(body, encode_body(body) + bytes(64))


# Neighbours


@pytest.mark.parametrize("count", [2, 5, 6, 20, 300])
def test_neighbours_agree_and_are_few_and_all_are_connected(count: int) -> None:
    draw = random.Random(count).randbytes
    live = sorted(PeerId(draw(16)) for _ in range(count))
    of = {peer: neighbours(peer, live) for peer in live}
    assert all(peer in of[other] for peer in live for other in of[peer])
    assert sum(map(len, of.values())) <= count * (2 * log2(count) + 4)
    seen, edge = {live[0]}, [live[0]]
    for steps in range(2 * count.bit_length()):
        edge = [other for peer in edge for other in of[peer] if other not in seen]
        seen |= set(edge)
        if len(seen) == count:
            assert steps <= log2(count) + 1
            return
    pytest.fail("not connected")


def test_who_is_needed_for_two_reasons_is_so_until_both_are_gone() -> None:
    near = Neighbourhood(PeerId(bytes(16)), discovery=False)
    peer = PeerId(bytes(15) + b"\1")
    for wanted, what, there in (
        (True, "data", True), (True, "addresses", True), (False, "addresses", True),
        (False, "data", False),
    ):  # fmt: skip
        near.exchange(peer, wanted, what)
        near.look([], 0)
        assert (peer in near.wanted) is there


def test_who_comes_changes_the_neighbours_of_few() -> None:
    draw = random.Random(1).randbytes
    live = sorted(PeerId(draw(16)) for _ in range(400))
    without = [peer for peer in live if peer != live[7]]
    moved = [
        peer for peer in without
        if [p for p in neighbours(peer, live) if p != live[7]] != neighbours(peer, without)
    ]  # fmt: skip
    assert len(moved) < 60


# Forwarding


def endpoint(number: int, address: int, *, hidden: bool = False) -> Endpoint:
    mac, ip = b"\2\0\0\0\0" + bytes((number,)), bytes((10, 2, 0, address))
    return Endpoint(NETWORK, mac, (ip,), (f"c{number}",), "", hidden)


def test_frames_go_to_the_peer_of_the_endpoint_unless_it_is_dead() -> None:
    dead: set[PeerId] = set()
    table = Forwarding(lambda peer: peer not in dead)
    table.apply(change(A, Kind.ENDPOINT, b"1", endpoint(1, 1)))
    table.apply(change(B, Kind.ENDPOINT, b"2", endpoint(2, 2)))
    table.apply(change(B, Kind.ENDPOINT, b"3", endpoint(3, 3, hidden=True)))
    assert table.members(NETWORK) == [A, B]
    assert table.peer_of(NETWORK, b"\2\0\0\0\0\2") == B
    assert table.mac_of(NETWORK, bytes((10, 2, 0, 2))) == b"\2\0\0\0\0\2"
    assert table.peer_of(b"other", b"\2\0\0\0\0\2") is None
    assert table.mac_of(NETWORK, bytes((10, 2, 0, 3))) is None
    dead.add(B)
    table.refresh(B)
    assert table.members(NETWORK) == [A]
    assert table.peer_of(NETWORK, b"\2\0\0\0\0\2") is None
    assert [row[0] for row in table.table(NETWORK)] == [A]
    dead.clear()
    table.refresh(B)
    assert table.members(NETWORK) == [A, B]
    table.apply(change(B, Kind.ENDPOINT, b"2", None))
    table.apply(change(B, Kind.ENDPOINT, b"3", None))
    assert table.members(NETWORK) == [A]


def test_of_two_with_one_address_the_lower_peer_has_it_in_whatever_order_they_come() -> None:
    for order in ((A, B), (B, A)):
        table = Forwarding(lambda peer: True)
        for peer in order:
            table.apply(change(peer, Kind.ENDPOINT, b"x", endpoint(peer[0], 9)))
        address = bytes((10, 2, 0, 9))
        assert table.mac_of(NETWORK, address) == b"\2\0\0\0\0\1"
        assert [(c.winner[0], c.loser[0]) for c in table.conflicts()] == [(A, B)]
        assert table.may_send(A, NETWORK, b"\2\0\0\0\0\1", address)
        assert not table.may_send(B, NETWORK, b"\2\0\0\0\0\2", address)
        assert not table.may_send(B, NETWORK, b"\2\0\0\0\0\1", None)
        assert table.may_send(B, NETWORK, b"\2\0\0\0\0\2", None)


def test_of_two_with_one_address_its_owner_has_it() -> None:
    owners: dict[bytes, PeerId] = {}
    table = Forwarding(lambda peer: True, lambda network, address: owners.get(address))
    address = bytes((10, 2, 0, 9))
    for peer in (A, B):
        table.apply(change(peer, Kind.ENDPOINT, b"x", endpoint(peer[0], 9)))
    table.touched.clear()
    owners[address] = B
    table.reconsider()
    assert list(table.touched) == [NETWORK]
    assert table.mac_of(NETWORK, address) == b"\2\0\0\0\0\2"
    assert [(c.winner[0], c.loser[0]) for c in table.conflicts()] == [(B, A)]
    assert not table.may_send(A, NETWORK, b"\2\0\0\0\0\1", address)
    assert [row[2] for row in table.table(NETWORK)] == [(), (address,)]
    owners[address] = PeerId(bytes(16))  # somebody who does not use it
    assert table.mac_of(NETWORK, address) == b"\2\0\0\0\0\1"


def test_of_two_with_one_mac_address_the_owner_of_what_it_is_made_of_has_it() -> None:
    owners = {bytes((10, 2, 0, n)): peer for n, peer in ((1, A), (2, B))}
    table = Forwarding(lambda peer: True, lambda network, address: owners.get(address))
    mac = b"\2\x42" + bytes((10, 2, 0, 2))
    table.apply(change(B, Kind.ENDPOINT, b"x", Endpoint(NETWORK, mac, (bytes((10, 2, 0, 2)),))))
    table.apply(change(A, Kind.ENDPOINT, b"y", Endpoint(NETWORK, mac, (bytes((10, 2, 0, 1)),))))
    assert table.peer_of(NETWORK, mac) == B
    assert [(c.winner[0], c.loser[0]) for c in table.conflicts()] == [(B, A)]
    assert not table.may_send(A, NETWORK, mac, None)
    table.touched.clear()
    table.reconsider()
    assert list(table.touched) == [NETWORK]


def test_a_mac_address_of_a_user_s_choice_goes_to_who_owns_an_address_with_it() -> None:
    owners = {bytes((10, 2, 0, 2)): B}
    table = Forwarding(lambda peer: True, lambda network, address: owners.get(address))
    mac = b"\2\0\0\0\0\1"
    for peer in (A, B):
        ip = bytes((10, 2, 0, peer[0]))
        table.apply(change(peer, Kind.ENDPOINT, b"x", Endpoint(NETWORK, mac, (ip,))))
    assert table.peer_of(NETWORK, mac) == B
    owners.clear()
    assert table.peer_of(NETWORK, mac) == A


# Names


def test_names_are_found_by_network_and_in_turn_and_go_with_their_peer() -> None:
    dead: set[PeerId] = set()
    names = Names(lambda peer: peer not in dead)
    names.apply(change(A, Kind.NETWORK, NETWORK, Network("lane", 7)))
    names.apply(change(A, Kind.NETWORK, b"default", Network("weave", 8)))
    names.apply(change(A, Kind.ENDPOINT, b"1", endpoint(1, 1)))
    names.apply(change(B, Kind.NAME, b"2", Name(NETWORK, "C1", (bytes((10, 2, 0, 2)),))))
    six = bytes.fromhex("fd00" + "00" * 13 + "05")
    names.apply(change(B, Kind.NAME, b"3", Name(b"default", "db", (six,))))
    both = {"10.2.0.1", "10.2.0.2"}
    assert {names.lookup("c1.LANE.weave.local.")[0] for _ in range(4)} == both
    assert set(names.lookup("c1", NETWORK)) == both
    assert names.lookup("c1.weave.local") == names.lookup("c1.other.weave.local") == []
    assert names.lookup("db.weave.local") == names.lookup("db.weave.weave.local") == ["fd00::5"]
    assert names.reverse("10.2.0.2") == ["c1.lane.weave.local"]
    web = Endpoint(NETWORK, b"\2\0\0\0\0\4", (bytes((10, 2, 0, 4)),), ("Web", "0123456789ab"))
    names.apply(change(A, Kind.ENDPOINT, b"4", web))
    assert names.reverse("10.2.0.4") == ["web.lane.weave.local", "0123456789ab.lane.weave.local"]
    dead.add(B)
    assert names.lookup("c1", NETWORK) == ["10.2.0.1"]
    assert names.reverse("10.2.0.2") == []


# Routes


def test_the_shortest_way_by_links_that_both_ends_name() -> None:
    routes = Routes(A)
    for peer, links in ((B, [A, C]), (C, [B, D]), (D, [C, A])):
        routes.apply(change(peer, Kind.LINKS, b"", Links(pack(links))))
    routes.reset((B,), frozenset())
    assert (routes.next_hop(C), routes.next_hop(D)) == (B, B)
    routes.reset((B,), frozenset({C}))
    assert routes.next_hop(D) is None
    routes.reset((B, D), frozenset())
    assert routes.next_hop(D) == D
    routes.apply(change(C, Kind.LINKS, b"", Links(pack([D]))))
    assert routes.next_hop(C) == D


# Connecting


def test_addresses_of_the_overlay_are_no_place_for_a_peer() -> None:
    hosts = ("192.0.2.1", "10.32.0.7", "0.0.0.0", "224.0.0.1", "name", "fe80::1", "2001:db8::1")
    found = outside([Address(host, 1) for host in hosts], ("10.32.0.0/12",))
    assert [address.host for address in found] == ["192.0.2.1", "2001:db8::1"]


def test_our_own_networks_are_no_place_for_a_peer_and_those_of_others_say_nothing() -> None:
    one = mesh(1)
    for name, subnet in ((b"lane", "10.40.0.0/16"), (b"bad", "no subnet")):
        network = encode(Network(name.decode(), 7, (subnet,)))
        one.ourselves.put(Kind.NETWORK, name, network)
    places = [Address("10.40.0.9", 1), Address("192.0.2.1", 1)]
    assert outside(places, one.ourselves.overlays()) == places[1:]
    one.ourselves.resync(Kind.NETWORK, {})
    assert outside(places, one.ourselves.overlays()) == places


def test_a_peer_is_tried_everywhere_and_soon_by_relay_then_less_and_less_often() -> None:
    places = (Address("192.0.2.1", 1), Address("192.0.2.2", 1), Relayed(B))
    rounds: list[int] = []
    connector = Connector(
        lambda peer: places, lambda peer, count, now: rounds.append(count),
        random.Random(1).randbytes,
    )  # fmt: skip
    connector.want([B], [], 0.0)
    now, dials, times = 0.0, list[Dial](), list[float]()
    while now < 2000:
        now = connector.deadline()
        dials += connector.tick(now)
        times.append(now)
    order = [places[0], places[2], places[1]]
    assert [dial.where for dial in dials[:6]] == [*order, *order]
    assert times[1] - times[0] == RELAY
    assert rounds[0] == 2
    assert max(b - a for a, b in pairwise(times)) < 40  # lonely
    connector.established(B, places[0], now)
    assert connector.deadline() == inf
    connector.lost(B, now, wanted=False)
    assert connector.deadline() == inf


def test_by_relay_a_peer_is_tried_at_its_other_addresses() -> None:
    places = (Address("192.0.2.1", 1), Address("192.0.2.2", 1), Relayed(B))
    connector = Connector(lambda peer: places, lambda *_: None, random.Random(1).randbytes)
    connector.want([B], [], 0.0)
    dials = connector.tick(connector.deadline())
    dials += connector.tick(now := connector.deadline())
    connector.established(B, Relayed(B), now)
    dials += connector.tick(connector.deadline())
    dials += connector.tick(connector.deadline())
    order = [places[0], places[2], places[1], places[0]]
    assert [dial.where for dial in dials] == order


# Membership


def mesh(number: int, now: float = 0.0) -> Mesh:
    peer = Peer(number)
    made = Mesh(peer.identity, FakeCrypto(), random.Random(number).randbytes, Settings())
    made.start(now)
    made.take()
    return made


def know(*meshes: Mesh) -> None:
    """Everybody hears everything."""
    said = [r for each in meshes for o in each.records.origins for r in each.records.of(o)]
    for each in meshes:
        each.records.merge(said)
        each.take()


def test_an_accusation_is_contradicted_by_the_accused_and_by_nobody_else() -> None:
    one, two, three = mesh(1), mesh(2), mesh(3)
    know(one, two, three)
    one.membership.accuse(three.me, 1.0)
    one.take()
    know(one, two)
    assert two.membership.status(three.me) is Status.SUSPECT
    know(one, two, three)
    know(one, two, three)
    assert {m.membership.status(three.me) for m in (one, two, three)} == {Status.ALIVE}
    one.membership.accuse(three.me, 20.0)
    one.take()
    one.tick(20 + one.membership.suspicion() + 0.1)
    one.take()
    assert one.membership.status(three.me) is Status.DEAD
    assert three.me not in one.membership.live


def test_an_accuser_who_never_ends_costs_a_record_a_second() -> None:
    one, two = mesh(1), mesh(2)
    know(one, two)
    before = two.records.replica(two.me).version  # type: ignore[union-attr]
    for step in range(300):
        now = 10 + step / 100
        one.records.put(Kind.SUSPECT, two.me, encode(Suspect(1000 + step)))
        one.take()
        two.records.merge(list(one.records.of(one.me)))
        two.take()
        two.tick(now)
        two.take()
    assert two.records.replica(two.me).version - before <= 6  # type: ignore[union-attr]


def test_who_is_dead_for_days_is_forgotten_and_comes_back_when_he_speaks_again() -> None:
    one, two = mesh(1), mesh(2)
    know(one, two)
    one.membership.accuse(two.me, 1.0)
    one.take()
    for now in (30.0, FORGET + 60):
        one.tick(now)
        one.take()
    assert one.records.replica(two.me) is None
    assert one.membership.status(two.me) is None
    two.records.merge(list(one.records.of(one.me)))
    two.take()
    one.records.merge(list(two.records.of(two.me)))
    one.take()
    assert one.membership.status(two.me) is Status.ALIVE


def test_a_removal_is_kept_by_several_who_are_there() -> None:
    meshes = [mesh(number) for number in range(1, 8)]
    gone, rest = meshes[0], meshes[1:]
    know(*meshes)
    rest[0].remove(gone.me)
    rest[0].take()
    for now in (0.0, 100.0, 200.0):
        for each in rest:
            each.tick(now)
            each.take()
        know(*rest)
    keepers = [m for m in rest if m.records.get(m.me, Kind.REMOVED, gone.me) is not None]
    assert len(keepers) >= KEEPERS
    assert all(each.records.refused(gone.me) for each in rest)
    assert all(each.membership.status(gone.me) is None for each in rest)
