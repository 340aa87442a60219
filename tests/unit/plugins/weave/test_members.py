"""What a host receives of endpoints elsewhere and of names: whose, how much, and when."""

from __future__ import annotations

import msgspec
import pytest

from netkit.overlay import verbs
from netkit.overlay.packets import LONGEST
from plugins.weave import members
from plugins.weave.local import Endpoint, Name, Network
from plugins.weave.members import membership
from plugins.weave.planes import MembersChanged
from plugins.weave.record import Kind
from tests.unit.plugins.weave.overlay_world import LANE, Machine, Wire

HERE = {LANE.id: "id of lane"}
NO_ADDRESSES = (
    "00", "0a20000102", "0a2000010203", "00" * 4, "7f000001", "e0000001", "ffffffff", "ff" * 16,
    "00" * 15 + "01", "00" * 10 + "ffff0a200001",
)  # fmt: skip


@pytest.fixture
def two() -> tuple[Machine, Machine]:
    wire = Wire()
    a, b = wire.machine(1), wire.machine(2)
    a.launch()
    b.launch(a)
    a.container("web", "10.32.0.1")
    b.container("db", "10.32.128.1")
    wire.run(5)
    return a, b


def seen(machine: Machine) -> list[str]:
    found = membership(machine.overlay, HERE)
    return [*(m.names[0] for m in found.members), *(n.name for n in found.names)]


def test_endpoints_elsewhere_and_names_of_all_are_there_and_go_with_their_host(
    two: tuple[Machine, Machine],
) -> None:
    a, b = two
    b.name("extern", "192.0.2.99")
    a.name("mine", "192.0.2.98")
    a.wire.run(3)
    found = membership(a.overlay, HERE)
    (db,) = found.members
    assert (db.network, db.host, db.addresses) == ("id of lane", b.me.hex(), ("10.32.128.1",))
    assert (db.names, db.container, db.id) == (("db",), "db", b"db".hex())
    assert {(n.name, n.host) for n in found.names} == {
        ("extern", b.me.hex()), ("mine", a.me.hex())
    }
    assert {(h.id, h.name, h.address) for h in found.hosts} == {
        (b.me.hex(), "h2", "192.0.2.2"), (a.me.hex(), "h1", "192.0.2.1")
    }
    assert membership(a.overlay, {}).members == membership(a.overlay, {}).names == ()
    b.stop()
    a.events.clear()
    a.wire.run(20)
    assert seen(a) == ["mine"]
    assert a.events_of(MembersChanged)
    b.start()
    a.events.clear()
    a.wire.run(20)
    assert sorted(seen(a)) == ["db", "extern", "mine"]
    assert a.events_of(MembersChanged)


def test_a_host_that_only_added_names_is_noticed_when_it_dies(two: tuple[Machine, Machine]) -> None:
    a, b = two
    c = a.wire.machine(3)
    c.launch(a)
    c.do(c.overlay.put(LANE, a.wire.now))
    c.name("extern", "192.0.2.99")
    a.wire.run(5)
    assert "extern" in seen(a)
    c.stop()
    a.events.clear()
    a.wire.run(20)
    assert "extern" not in seen(a)
    assert a.events_of(MembersChanged)
    assert seen(b) == ["web"]


def test_what_changes_on_this_host_alone_is_no_news(two: tuple[Machine, Machine]) -> None:
    a, _ = two
    a.events.clear()
    a.container("more", "10.32.0.7")
    a.wire.run(2)
    assert not a.events_of(MembersChanged)


def test_who_says_it_has_the_address_of_another_s_container_is_left_out_of_it(
    two: tuple[Machine, Machine],
) -> None:
    a, b = two
    c = a.wire.machine(3)
    c.launch(a)
    ticket = b.allocate("real", subnet="10.32.0.0/16", network=LANE.id)
    a.wire.run(5)
    address = b.answer(ticket)
    b.container("real", address, mac="02:00:00:00:02:09")
    a.wire.run(3)
    c.do(c.overlay.put(LANE, a.wire.now))
    stolen = Endpoint(
        id=b"thief", network=LANE.id, mac="02:00:00:00:00:01", addresses=(address, "192.0.2.7"),
        names=("real",),
    )  # fmt: skip
    c.do(c.overlay.node.put(*c.overlay._record(stolen), a.wire.now))
    a.wire.run(3)
    found = membership(a.overlay, HERE).members
    assert [m.host for m in found if address in m.addresses] == [b.me.hex()]
    assert [m.addresses for m in found if m.host == c.me.hex()] == [("192.0.2.7",)]


def test_an_endpoint_with_an_address_that_no_interface_has_is_nothing(
    two: tuple[Machine, Machine],
) -> None:
    a, b = two
    for number, address in enumerate(NO_ADDRESSES):
        mac, key = bytes((2, 0, 0, 0, 1, number)), b"evil%d" % number
        value = msgspec.msgpack.encode([LANE.id, mac, [bytes.fromhex(address)], ["evil"]])
        b.do(b.overlay.node.put(Kind.ENDPOINT, key, value, a.wire.now))
    b.do(b.overlay.node.put(Kind.NAME, b"evil", msgspec.msgpack.encode(
        [LANE.id, "evil", [bytes(6)]]
    ), a.wire.now))  # fmt: skip
    a.wire.run(3)
    assert seen(a) == ["db"]
    table = a.overlay.table(LANE.id)
    assert table is not None
    assert [each.addresses for each in table.remotes] == [("10.32.128.1",)]
    assert a.overlay.lookup("evil", LANE.id) == []


def test_parts_have_all_once_and_each_peer_its_share(
    two: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    for n in range(9):
        b.container(f"c{n}", f"10.32.128.{n + 2}", mac=f"02:00:00:00:09:{n:02x}")
    b.name("extern", "192.0.2.99")
    a.name("mine", "192.0.2.98")
    a.wire.run(3)
    complete = membership(a.overlay, HERE)
    monkeypatch.setattr(members, "PART", 4)
    found, after = [], ""
    while True:
        part = membership(a.overlay, HERE, after)
        assert len(part.members) + len(part.names) <= 4
        found += [*part.members, *part.names]
        after = part.after
        if not after:
            break
    assert found == [*complete.members, *complete.names]
    assert len(found) == 12
    monkeypatch.setattr(members, "PART", 100)
    monkeypatch.setattr(members, "MOST", 5)
    few = membership(a.overlay, HERE)
    assert [n.name for n in few.names] == ["mine"]  # b's many do not displace it
    assert len(few.members) == 4


def test_the_longest_part_is_a_message() -> None:
    member = verbs.Member(
        id="f" * 300, network="n" * 64, host="p" * 32, mac="02:00:00:00:00:01",
        addresses=("ffff:" * 7 + "ffff",) * 8, names=("n" * 253,) * 3, container="",
    )  # fmt: skip
    host = verbs.Host(id="p" * 32, name="n" * 253, address="ffff:" * 7 + "ffff")
    part = members.PART
    most = verbs.Membership(hosts=(host,) * part, members=(member,) * part, names=())
    assert len(verbs.encode(verbs.Done(1, most))) < LONGEST
    assert msgspec.msgpack.decode(verbs.encode(most), type=verbs.Membership) == most


def test_names_added_for_no_network_are_those_of_the_default_one(
    two: tuple[Machine, Machine],
) -> None:
    a, b = two
    default = Network(id=b"w", name="weave", vni=9)
    name = Name(id=b"x", network=b"", name="x", addresses=("192.0.2.99",))
    b.do(b.overlay.put(name, a.wire.now))
    a.wire.run(3)
    assert membership(a.overlay, {**HERE, b"w": "id of weave"}).names == ()
    a.do(a.overlay.put(default, a.wire.now))
    (found,) = membership(a.overlay, {**HERE, b"w": "id of weave"}).names
    assert (found.network, found.name) == ("id of weave", "x")
