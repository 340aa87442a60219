"""Whole overlays: what users do with two, three and seven hosts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netkit.errors import Conflict, InvalidSpec, NoRoom, NotFound
from plugins.weave import limits, overlay
from plugins.weave.events import KeysUsed, RelayedData
from plugins.weave.holder import Fenced
from plugins.weave.local import Endpoint, Network
from plugins.weave.locating import locate
from plugins.weave.parts import packed_of
from plugins.weave.planes import Way
from plugins.weave.removal import Removed
from plugins.weave.requests import UNFOUNDED, UNREACHED
from plugins.weave.settings import Settings
from plugins.weave.status import ipam_state
from plugins.weave.step import Address, Step
from tests.unit.plugins.weave.overlay_world import LANE, Machine, Wire, keys_fit


@pytest.fixture
def wire() -> Wire:
    return Wire()


def pair(wire: Wire, **settings: str) -> tuple[Machine, Machine]:
    """`launch` on one, `launch HOST1` on the other, and a container on either."""
    a, b = wire.machine(1, **settings), wire.machine(2, **settings)
    a.launch()
    b.launch(a)
    a.container("web", "10.32.0.1")
    b.container("db", "10.32.128.1")
    return a, b


def test_two_hosts_have_addresses_and_each_others_containers(wire: Wire) -> None:
    a, b = wire.machine(1), wire.machine(2)
    a.launch()
    first = a.allocate("web")
    assert a.answer(first) == "10.32.0.1"
    b.launch(a)
    second = b.allocate("db")
    wire.run(5)
    assert b.answer(second) not in ("", "10.32.0.1")
    a.container("web", a.answer(first))
    b.container("db", b.answer(second))
    wire.run(2)
    for one, other, name in ((a, b, "db"), (b, a, "web")):
        table = one.overlay.table(LANE.id)
        assert table is not None
        assert [remote.peer for remote in table.remotes] == [other.me]
        assert one.overlay.lookup(f"{name}.lane.weave.local") == list(table.remotes[0].addresses)
        assert table.members == (other.me,)
        assert keys_fit(one, other)


def test_one_name_with_two_subnets_is_reported_on_both_hosts(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(3)
    assert a.overlay.status(wire.now).warnings == ()
    mine = Network(id=b"mm", name="mm", vni=8, subnets=("10.61.0.0/16",))
    theirs = replace(mine, subnets=("10.62.0.0/16",))
    a.do(a.overlay.put(mine, wire.now))
    assert list(b.overlay.networks.called("mm")) == []
    b.do(b.overlay.put(theirs, wire.now))
    wire.run(3)
    assert b.overlay.status(wire.now).warnings == (
        "network mm has 10.61.0.0/16 at h1 and 10.62.0.0/16 here: containers do not reach each "
        "other: make it with the same --subnet on both",
    )
    assert "10.62.0.0/16 at h2 and 10.61.0.0/16 here" in a.overlay.status(wire.now).warnings[0]
    assert list(b.overlay.networks.called("mm")) == [("10.61.0.0/16",)]
    b.do(b.overlay.delete(Network, b"mm", wire.now))
    wire.run(3)
    assert a.overlay.status(wire.now).warnings == b.overlay.status(wire.now).warnings == ()


def test_a_chosen_address_is_claimed_from_its_owner_and_given_once(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(3)
    ticket = b.claim("c", "10.32.5.7", subnet="10.32.5.0/24")
    wire.run(5)
    assert b.answer(ticket) == "10.32.5.7"
    ticket = a.claim("d", "10.32.5.7", subnet="10.32.5.0/24")
    wire.run(5)
    assert a.answer(ticket) == "refused: 10.32.5.7 is in use at h2"


def test_addresses_that_nobody_gives_out_are_refused_if_they_are_in_use(wire: Wire) -> None:
    a, b = pair(wire)
    course = Network(id=b"weave", name="weave", vni=9)
    a.container("x", "192.168.1.2", network=course)
    wire.run(3)
    taken, free = b.claim("y", "192.168.1.2", network=b"weave"), b.claim("z", "192.168.1.3")
    assert b.answer(taken) == "refused: 192.168.1.2 is in use at h1"
    assert b.answer(free) == "192.168.1.3"
    with pytest.raises(Conflict, match="in use at h1"):
        b.container("y", "192.168.1.2", network=course)


@pytest.mark.slow
def test_an_endpoint_with_an_address_of_another_host_gets_nothing(wire: Wire) -> None:
    a, b = pair(wire)
    c = wire.machine(3)
    c.launch(a)
    wire.run(5)
    stolen = a.allocate("mine")
    c.container("thief", a.answer(stolen))
    wire.run(3)
    a.container("mine", a.answer(stolen))
    wire.run(3)
    table = b.overlay.table(LANE.id)
    assert table is not None
    assert [r.peer for r in table.remotes if a.answer(stolen) in r.addresses] == [a.me]
    why = (f"{a.answer(stolen)} is in use at h1 (container mine): h3 (container thief) has it, too,"
           " and gets nothing that is sent to it")  # fmt: skip
    for each in (a, b, c):
        table = each.overlay.table(LANE.id)
        assert table is not None
        assert why in table.conflicts, "all hosts say so"


def test_of_two_hosts_that_take_an_address_at_the_same_instant_one_has_it(wire: Wire) -> None:
    """Outside of every range, where it is not claimed of an owner first."""
    a, b = pair(wire)
    c = wire.machine(3)
    c.launch(a)
    course = Network(id=b"weave", name="weave", vni=9)
    c.container("look", "192.168.1.9", network=course)
    wire.run(5)
    mac = "02:42:c0:a8:01:02"
    for host in (a, b):
        ticket = host.claim("x", "192.168.1.2", network=course.id)
        assert host.answer(ticket) == "192.168.1.2"
        host.container("x", "192.168.1.2", network=course, mac=mac)
    wire.run(3)
    winner, loser = sorted((a, b), key=lambda host: host.me)
    name = {host.me: f"h{host.number} (container x)" for host in (a, b)}
    why = (f"192.168.1.2 is in use at {name[winner.me]}: {name[loser.me]} has it, too, and gets "
           "nothing that is sent to it")  # fmt: skip
    packed, address = bytes.fromhex(mac.replace(":", "")), packed_of("192.168.1.2")
    for each in (a, b, c):
        table, forwarding = each.overlay.table(course.id), each.overlay.node.forwarding
        assert table is not None
        assert why in table.conflicts, "all hosts say so"
        having = [r.peer for r in table.remotes if r.mac == mac or "192.168.1.2" in r.addresses]
        assert having == [winner.me] * (each is not winner)
        assert forwarding.may_send(winner.me, course.id, packed, address)
        assert not forwarding.may_send(loser.me, course.id, packed, address)
        assert not forwarding.may_send(loser.me, course.id, packed, None)


@pytest.mark.slow
def test_why_an_address_is_not_reached_is_known(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(5)
    address = packed_of("10.32.128.1")
    found = locate(a.overlay, LANE.id, None, address)
    assert (found.name, found.host, found.port, found.container) == ("h2", "192.0.2.2", 6783, "db")
    assert found.reason == a.reason(b)
    b.stop()
    wire.run(60)
    found = locate(a.overlay, LANE.id, None, address)
    assert found.peer == ""
    assert found.why.startswith("h2 has it, but is dead")
    found = locate(a.overlay, LANE.id, None, packed_of("10.32.9.9"))
    assert found.why == "no host of the overlay has it on this network"


@pytest.mark.slow
def test_names_go_with_their_host_and_come_back(wire: Wire) -> None:
    a, b = pair(wire)
    b.name("extern", "192.0.2.99")
    wire.run(5)
    assert a.overlay.lookup("extern", LANE.id) == ["192.0.2.99"]
    assert a.overlay.reverse("10.32.128.1") == ["db.lane.weave.local"]
    b.stop()
    wire.run(20)
    assert a.overlay.lookup("extern", LANE.id) == a.overlay.lookup("db", LANE.id) == []
    b.start()
    wire.run(20)
    assert a.overlay.lookup("db.lane.weave.local.") == ["10.32.128.1"]


def test_fastdp_is_taken_after_three_answers_without_a_password(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(4)
    assert (a.way(b), b.way(a)) == (Way.FASTDP, Way.FASTDP)
    assert a.reason(b) == "fastdp: probed 1422 bytes"
    assert a.paths[b.me].sources == ("192.0.2.2",)
    assert a.paths[b.me].key == b""
    assert keys_fit(a, b)
    lines = [c.line() for c in a.overlay.status(wire.now).connections]
    assert lines == [
        f"<- 192.0.2.2:6783        established unencrypted fastdp {b.me.hex()[:12]}(h2) mtu=1450"
        " probed 1422 bytes"
    ]


@pytest.mark.slow
def test_no_answer_means_sleeve_and_three_lost_lead_there(wire: Wire) -> None:
    a, b = pair(wire)
    link = frozenset((a.address, b.address))
    wire.no_vxlan.add(link)
    wire.run(8)
    assert a.way(b) is Way.SLEEVE
    assert a.reason(b) == "sleeve: no answer to VXLAN probes"
    wire.no_vxlan.clear()
    wire.run(40)
    assert a.way(b) is Way.FASTDP
    wire.no_vxlan.add(link)
    began = wire.now
    while a.way(b) is Way.FASTDP:
        wire.run(0.5)
    assert wire.now - began <= 10
    wire.no_vxlan.clear()
    wire.run(20)
    assert a.way(b) is Way.SLEEVE  # not within 30 s
    wire.run(45)
    assert a.way(b) is Way.FASTDP


@pytest.mark.slow
@pytest.mark.parametrize("who", ["both", "network"])
def test_what_is_encrypted_never_goes_by_the_kernel(wire: Wire, who: str) -> None:
    a, b = pair(wire, **({"password": "secret"} if who == "both" else {}))
    if who == "network":
        b.do(b.overlay.put(Network(
            id=LANE.id, name="lane", vni=7, subnets=LANE.subnets, encrypted=True
        ), wire.now))  # fmt: skip
    wire.run(60)
    assert {a.way(b), b.way(a)} == {Way.SLEEVE}
    assert a.paths[b.me].key
    assert keys_fit(a, b)
    assert keys_fit(b, a)
    table = a.overlay.table(LANE.id)
    assert who == "both" or (table is not None and table.encrypted)
    why = "encrypted, which the kernel's VXLAN is not"
    assert a.reason(b) == f"sleeve: {why}" or who == "network"
    assert wire.vxlans == 0 or who == "network"


def test_an_encrypted_network_ends_fastdp_at_once_and_seals(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(5)
    assert a.way(b) is Way.FASTDP
    assert not a.paths[b.me].key
    sealed = Network(id=LANE.id, name="lane", vni=7, subnets=LANE.subnets, encrypted=True)
    a.do(a.overlay.put(sealed, wire.now))
    assert a.way(b) is Way.SLEEVE
    assert a.paths[b.me].key
    wire.run(2)
    assert b.way(a) is Way.SLEEVE
    assert b.paths[a.me].key
    assert keys_fit(a, b)
    assert keys_fit(b, a)


def test_a_network_that_is_encrypted_no_more_gets_new_keys_first(wire: Wire) -> None:
    a, b = pair(wire)
    sealed = Network(id=LANE.id, name="lane", vni=7, subnets=LANE.subnets, encrypted=True)
    for network in (sealed, LANE, sealed, LANE):
        a.do(a.overlay.put(network, wire.now))
        wire.run(3)
        assert bool(a.paths[b.me].key) is network.encrypted
        assert bool(b.paths[a.me].key) is network.encrypted
        assert keys_fit(a, b)
        assert keys_fit(b, a)


@pytest.mark.slow
@pytest.mark.parametrize("password", ["", "x"])
def test_what_is_sent_is_taken_at_every_moment_of_new_keys(wire: Wire, password: str) -> None:
    a, b = pair(wire, password=password)
    wire.run(3)
    wire.strict = True
    indexes = set()
    for _ in range(400):
        wire.run(1)
        indexes.add(a.paths[b.me].index)
        assert keys_fit(a, b)
        assert keys_fit(b, a)
    assert len(indexes) >= 3


def test_what_is_to_be_sealed_from_now_on_is_off_fastdp_at_once(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(5)
    assert a.way(b) is Way.FASTDP
    index = next(accept.index for accept in a.accepts.values() if not accept.key)
    a.do(a.overlay.reactions.settle(Step(events=(KeysUsed(b.me, index, True),)), wire.now))
    assert a.reason(b) == "sleeve: encrypted, which the kernel's VXLAN is not"
    assert a.paths[b.me].key
    assert a.paths[b.me].sources == ()
    assert all(accept.key for accept in a.accepts.values())


@pytest.mark.parametrize(("right", "other"), [("right", "wrong"), ("right", ""), ("", "wrong")])
def test_a_wrong_password_is_not_answered(wire: Wire, right: str, other: str) -> None:
    a, b = wire.machine(1, password=right), wire.machine(2, password=other)
    a.launch()
    b.launch(a)
    wire.run(120)
    assert b.overlay.node.sessions.peers() == ()
    assert not [to for source, to, _ in wire.seen if source == a.address]
    line = b.overlay.status(wire.now).connections[0].line()
    assert line.startswith("-> 192.0.2.1:6783        retrying    no answer")


def test_a_trusted_subnet_on_one_side_only_is_sealed(wire: Wire) -> None:
    a = wire.machine(1, password="x", trusted_subnets=("192.0.2.0/24",))
    b = wire.machine(2, password="x")
    a.launch()
    b.launch(a)
    a.container("web", "10.32.0.1")
    b.container("db", "10.32.128.1")
    wire.run(30)
    assert {a.way(b), b.way(a)} == {Way.SLEEVE}
    assert a.paths[b.me].key
    assert a.paths[b.me].sources == ()
    assert a.reason(b) == (
        "sleeve: encrypted, for the other side does not trust this address (--trusted-subnets)"
    )
    assert b.reason(a) == "sleeve: encrypted, which the kernel's VXLAN is not"
    assert lines(a)[0].count("sleeve") == 1


@pytest.mark.parametrize("mtu", [1280, 1500, 9000])
def test_the_path_is_found_in_seconds(wire: Wire, mtu: int) -> None:
    wire.default_mtu = mtu
    a, b = pair(wire)
    wire.run(5 if mtu > 1280 else 10)
    assert mtu - 28 - 8 < a.paths[b.me].size <= mtu - 28
    if mtu == 1280:
        assert a.way(b) is Way.SLEEVE
        assert "the path carries datagrams of 1248 bytes, VXLAN would need 1422" in a.reason(b)
    else:
        assert a.way(b) is Way.FASTDP


@pytest.mark.slow
def test_a_path_that_narrows_without_a_word_is_noticed(wire: Wire) -> None:
    a, b = pair(wire, password="x")
    wire.run(5)
    assert a.paths[b.me].size == 1472
    wire.mtu[frozenset((a.address, b.address))] = 1400
    wire.run(20)
    assert 1364 <= a.paths[b.me].size <= 1372
    wire.mtu.clear()
    wire.run(660)
    assert a.paths[b.me].size == 1472


@pytest.mark.slow
@pytest.mark.parametrize("password", ["", "x"])
def test_two_that_cannot_meet_go_by_a_third(wire: Wire, password: str) -> None:
    a, b = pair(wire, password=password)
    wire.cut.add(frozenset((a.address, b.address)))
    c = wire.machine(3, password=password)
    c.launch(a, b)
    wire.run(60)
    assert {a.way(b), b.way(a)} == {Way.RELAY}
    assert a.reason(b) == "relay by h3: no direct session"
    found = locate(a.overlay, LANE.id, None, packed_of("10.32.128.1"))
    assert (found.peer, found.name, found.addresses) == (b.me.hex(), "h2", ("10.32.128.1",))
    assert (found.way, found.hop, found.host, found.sealed) == ("relay", "h3", "", True)
    assert keys_fit(a, b)
    assert keys_fit(b, a)
    assert a.paths[b.me].key  # the third would read along
    data = b"\6\0\0\1" + bytes(40)  # piece 0 of 1, as the sleeve has it
    a.carries(b, data)
    wire.run(1)
    assert [(e.peer, e.datagram) for e in b.events_of(RelayedData)] == [(a.me, data)]
    wire.cut.clear()
    wire.run(400)
    assert {a.way(b), b.way(a)} == {Way.SLEEVE if password else Way.FASTDP}
    assert bool(a.paths[b.me].key) is bool(password)


@pytest.mark.slow
def test_a_host_behind_nat_is_reached_when_it_has_called(wire: Wire) -> None:
    a, b = wire.machine(1), wire.machine(2)
    wire.nat[b.address] = Address("198.51.100.1", 40000)
    a.launch()
    b.launch(a)
    a.container("web", "10.32.0.1")
    b.container("db", "10.32.128.1")
    wire.run(10)
    assert a.way(b) is Way.SLEEVE
    assert a.paths[b.me].where == Address("198.51.100.1", 40000)
    assert keys_fit(a, b)
    wire.nat[b.address] = Address("198.51.100.1", 50000)
    wire.run(30)
    assert a.paths[b.me].where == Address("198.51.100.1", 50000)


@pytest.mark.slow
def test_a_partition_goes_on_and_heals(wire: Wire) -> None:
    machines = [wire.machine(n) for n in range(1, 8)]
    machines[0].launch()
    for machine in machines[1:]:
        machine.launch(machines[0])
    wire.run(10)
    tickets = [(m, m.allocate("first")) for m in machines]
    wire.run(20)
    assert all(m.answer(t).startswith("10.") for m, t in tickets)
    left, right = machines[:3], machines[3:]
    wire.cut = {frozenset((x.address, y.address)) for x in left for y in right}
    wire.run(40)
    tickets += [(m, m.allocate("second")) for m in machines]
    left[1].container("l", "10.32.200.1")
    right[1].name("r", "192.0.2.50")
    wire.run(20)
    assert left[2].overlay.lookup("l", LANE.id) == ["10.32.200.1"]
    assert left[2].overlay.lookup("r", LANE.id) == []
    addresses = [m.answer(t) for m, t in tickets]
    assert all(address.startswith("10.") for address in addresses)
    assert len(set(addresses)) == 14
    wire.cut.clear()
    wire.run(60)
    for machine in machines:
        assert len(machine.overlay.node.mesh.membership.live) == 7
    for machine in left:
        machine.do(machine.overlay.put(LANE, wire.now))
    wire.run(1)
    assert left[0].overlay.lookup("r", LANE.id) == ["192.0.2.50"]


@pytest.mark.slow
def test_after_a_torn_transaction_a_host_goes_on(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(10)
    ticket = b.allocate("late")
    wire.run(5)
    given = b.answer(ticket)
    b.stop()
    b.torn()
    b.start()
    wire.run(30)
    assert a.overlay.lookup("db", LANE.id) == ["10.32.128.1"]
    assert b.overlay.targets() == {a.address: "host1"}
    ticket = b.allocate("other")
    wire.run(5)
    assert b.answer(ticket).startswith("10.")
    assert given.startswith("10.")
    assert a.way(b) is not Way.NONE
    assert keys_fit(a, b)
    assert keys_fit(b, a)


@pytest.mark.slow
def test_who_leaves_gives_its_addresses_back(wire: Wire) -> None:
    a, b = pair(wire)
    b.allocate("x")
    wire.run(20)
    b.do(b.overlay.leave(wire.now, wire.now + 10))
    wire.run(10)
    assert [(e.peer, e.done) for e in b.events_of(Removed)] == [(b.me, True)]
    assert a.overlay.node.sessions.peers() == ()
    alone = wire.machine(9)
    alone.launch()
    alone.do(alone.overlay.leave(wire.now, wire.now + 10))
    assert [e.peer for e in alone.events_of(Removed)] == [alone.me]


@pytest.mark.slow
def test_a_peer_is_removed_by_its_name(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(10)
    with pytest.raises(NotFound, match="no peer is called 'h7'"):
        a.overlay.remove_peer("h7", wire.now, wire.now + 10)
    with pytest.raises(Conflict, match="is this host"):
        a.overlay.remove_peer("h1", wire.now, wire.now + 10)
    b.stop()
    wire.run(20)
    a.do(a.overlay.remove_peer("h2", wire.now, wire.now + 10))
    wire.run(5)
    assert [(e.peer, e.done) for e in a.events_of(Removed)] == [(b.me, True)]
    assert [p.name for p in a.overlay.status(wire.now).peers] == ["h1"]


def cut_off_and_removed(wire: Wire, **settings: str) -> tuple[Machine, Machine]:
    """h2 has addresses, was cut off, and `rmpeer h2` was run on h1."""
    a, b = pair(wire, **settings)
    b.allocate("db")
    wire.run(10)
    wire.cut.add(frozenset((a.address, b.address)))
    wire.run(90)
    a.do(a.overlay.remove_peer("h2", wire.now, wire.now + 10))
    wire.run(5)
    assert [(e.peer, e.done) for e in a.events_of(Removed)] == [(b.me, True)]
    return a, b


@pytest.mark.parametrize("password", ["", "secret"])
def test_a_peer_that_was_removed_while_it_was_cut_off_learns_that(
    wire: Wire, password: str
) -> None:
    a, b = cut_off_and_removed(wire, password=password)
    early = b.allocate("early")
    wire.run(1)
    assert b.answer(early).startswith("10."), "it knows of nothing"
    wire.cut.clear()
    wire.run(120)
    removed = (
        "this host was removed from the overlay by h1: run `netkit weave reset` here, and launch"
        " again"
    )
    for _ in range(2):
        status = b.overlay.status(wire.now)
        assert status.warnings == (removed,)
        assert status.ipam.fenced == removed
        late = b.allocate("late")
        assert b.answer(late) == f"refused: {removed}", "at once"
        b.stop()
        b.start()
        wire.run(1)
    assert (a.paths, a.accepts) == ({}, {}), "no data goes to it, or is taken from it"
    assert [p.name for p in a.overlay.status(wire.now).peers] == ["h1"]
    assert a.overlay.status(wire.now).connections == ()
    assert a.answer(a.allocate("web2")).startswith("10.")


def test_who_does_not_know_the_password_gets_no_word_of_a_removal(wire: Wire) -> None:
    a, b = cut_off_and_removed(wire, password="secret")
    wire.cut.clear()
    stranger = wire.machine(3, password="other")
    stranger.launch(a)
    wire.run(0.001)
    wire.seen.clear()
    wire.run(60)
    assert (a.address, stranger.address) not in {(source, to) for source, to, _ in wire.seen}
    assert sum(len(d) for s, to, d in wire.seen if to == b.address) <= 1.5 * sum(
        len(d) for s, to, d in wire.seen if s == b.address
    ), "it amplifies nothing"


def test_endpoints_of_a_fenced_host_are_hidden(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(5)
    assert a.events_of(Fenced)[-1].fenced is False
    a.do(a.overlay.reactions.settle(_fenced(True), wire.now))
    wire.run(1)
    assert b.overlay.lookup("web", LANE.id) == []
    a.do(a.overlay.reactions.settle(_fenced(False), wire.now))
    wire.run(1)
    assert b.overlay.lookup("web", LANE.id) == ["10.32.0.1"]


def _fenced(fenced: bool) -> Step:
    return Step(events=(Fenced(fenced, "why"),))


def test_what_cannot_be_is_refused_and_changes_nothing(wire: Wire) -> None:
    a = wire.machine(1)
    for value in (
        Endpoint(id=b"e", network=b"n", mac="02:00"),
        Endpoint(id=b"e", network=b"n", mac="02:00:00:00:00:01", addresses=("10.1.1.256",)),
        Endpoint(id=b"", network=b"n", mac="02:00:00:00:00:01"),
        Network(id=b"n", name="n", vni=0),
        Network(id=b"n", name="n" * 300, vni=1),
        Endpoint(
            id=b"e",
            network=b"n",
            mac="02:00:00:00:00:01",
            names=tuple("n" * 200 + str(n) for n in range(8)),
        ),
    ):
        with pytest.raises(InvalidSpec):
            a.overlay.put(value, wire.now)
    with pytest.raises(InvalidSpec):
        a.overlay.connect(Address("host", 6783), wire.now)
    with pytest.raises(NotFound):
        a.overlay.forget(Address("192.0.2.7", 6783), wire.now)
    with pytest.raises(InvalidSpec):
        a.overlay.allocate(b"x", wire.now, wire.now, subnet="nonsense")
    with pytest.raises(InvalidSpec, match="trusted subnet"):
        Settings(trusted_subnets=("10.0.0.1/8",)).trust()
    assert a.overlay.status(wire.now).targets == ()


def test_a_host_tells_of_so_many_things_and_may_exchange_all_of_them(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "MOST_LOCAL", 20)
    monkeypatch.setattr(limits, "RECORDS", 30)
    a = wire.machine(1)

    def endpoints(first: int) -> list[Endpoint]:
        ids = [b"%d" % n for n in range(first, first + 19)]
        mac = "02:00:00:00:00:{:02x}"
        return [
            Endpoint(id=each, network=LANE.id, mac=mac.format(n)) for n, each in enumerate(ids)
        ]

    for first in (0, 100):
        a.do(a.overlay.resync(wire.now, networks=[LANE], endpoints=endpoints(first), names=[]))
    more = [*endpoints(0), *endpoints(200)]
    with pytest.raises(NoRoom, match="at most"):
        a.name("more", "192.0.2.1")
    with pytest.raises(NoRoom, match="at most"):
        a.overlay.resync(wire.now, networks=[LANE], endpoints=more, names=[])
    assert a.overlay.status(wire.now).networks[0].here == 19
    a.do(a.overlay.put(LANE, wire.now))


def test_status_says_how_it_is_with_addresses(wire: Wire) -> None:
    a, b = wire.machine(1), wire.machine(2)

    def state(machine: Machine) -> str:
        return ipam_state(machine.overlay.status(wire.now).ipam)

    assert state(b) == UNREACHED
    b.allocate("x")
    assert state(b) == UNREACHED
    a.launch()
    a.allocate("y")
    assert state(a) == "ready"
    b.launch(a)
    wire.run(10)
    assert state(b) == "ready"
    a.stop()
    wire.run(20)
    b.claim("z", "10.32.0.77")
    assert state(b) == "waiting for IP(s): 99.6% are owned by unreachable peers"


def test_hosts_that_all_have_peers_say_that_none_has_founded_the_range(wire: Wire) -> None:
    hosts = [wire.machine(number) for number in (1, 2)]
    early = hosts[0].allocate("early")
    for host in hosts:
        host.launch(*hosts)
    wire.run(3.5)
    assert hosts[0].answer(early) == f"refused: {UNFOUNDED}", "not only after 20 s"
    for host in hosts:
        status = host.overlay.status(wire.now)
        assert (ipam_state(status.ipam), status.warnings) == (UNFOUNDED, (UNFOUNDED,))
        assert host.answer(host.allocate("late")) == f"refused: {UNFOUNDED}"
    hosts[1].do(hosts[1].overlay.prime(wire.now))
    wire.run(3)
    for host in hosts:
        assert host.overlay.status(wire.now).warnings == ()
        assert host.answer(host.allocate("then")).startswith("10.")


@pytest.mark.parametrize("reached", [True, False])
def test_who_reached_no_peer_is_not_told_to_found_the_range(wire: Wire, reached: bool) -> None:
    a, b = wire.machine(1, password="secret"), wire.machine(2, password="other")
    a.launch()
    if not reached:
        a.stop()
    b.launch(a)
    ticket = b.allocate("x")
    wire.run(25)
    assert b.answer(ticket) == f"refused: {UNREACHED}"
    assert ipam_state(b.overlay.status(wire.now).ipam) == UNREACHED
    assert "prime" not in UNREACHED


def lines(machine: Machine) -> list[str]:
    return [each.line() for each in machine.overlay.status(machine.wire.now).connections]


def test_a_target_that_is_a_connected_peer_is_one_connection(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(10)
    other = Address("192.0.2.99", 6783)  # of the same host
    wire.machines[other] = b
    for address in (b.address, other):
        a.do(a.overlay.connect(address, wire.now, "h2"))
        shown = []
        for _ in range(40):
            wire.run(2)
            shown.append(lines(a))
        assert all(len(each) == 1 and each[0].startswith("<- ") for each in shown[5:]), shown
        assert a.overlay.node.mesh.connector.targets[address] == b.me
    assert [t.peer for t in a.overlay.status(wire.now).targets] == [b.me.hex()] * 2
    assert all(len(lines(each)) == 1 for each in (a, b))


def test_who_does_not_answer_is_shown_once_and_as_it_was_launched(wire: Wire) -> None:
    a, b = pair(wire)
    a.do(a.overlay.connect(b.address, wire.now, "h2"))
    wire.run(10)
    b.stop()
    for _ in range(30):
        wire.run(5)
        shown = a.overlay.status(wire.now).connections
        assert len(shown) == 1, lines(a)
    assert (shown[0].state, shown[0].encrypted) == ("retrying", False)
    dead = next(each for each in a.overlay.status(wire.now).peers if each.id == b.me.hex())
    assert (dead.state, dead.links) == ("dead", ())
    a.do(a.overlay.forget(b.address, wire.now))
    a.do(a.overlay.remove_peer("h2", wire.now, wire.now + 10))
    wire.run(10)
    assert lines(a) == []


def test_ourselves_as_target_is_said(wire: Wire) -> None:
    a = wire.machine(1)
    a.launch(a)
    lines = [c.line() for c in a.overlay.status(wire.now).connections]
    assert lines == ["-> 192.0.2.1:6783        failed      cannot connect to ourself"]


def test_who_is_addressed_by_nonsense_does_not_mind(wire: Wire) -> None:
    a, _ = pair(wire)
    wire.run(3)
    for data in (b"", bytes(20), bytes(16) + b"\xff" * 4, bytes(300)):
        a.do(a.overlay.saw_vxlan(data, 1422, wire.now))
        a.do(a.overlay.receive(data, Address("203.0.113.9", 9), wire.now))
    a.do(a.overlay.relay(99, b"\6", wire.now))
    a.do(a.overlay.renew(99, wire.now))
    a.do(a.overlay.observed(99, Address("203.0.113.9", 9), wire.now))


@pytest.mark.slow
def test_new_keys_are_had_when_a_worker_died(wire: Wire) -> None:
    a, b = pair(wire, password="x")
    wire.run(3)
    before = a.paths[b.me]
    a.do(a.overlay.renew(before.number, wire.now))
    wire.run(1)
    after = a.paths[b.me]
    assert after.key != before.key
    assert after.number == before.number
    assert keys_fit(a, b)
    assert keys_fit(b, a)


def test_a_lossy_way_is_told_to_who_sends(wire: Wire) -> None:
    a, b = pair(wire, password="x")
    wire.run(3)
    assert a.paths[b.me].whole
    for lossy in (True, False):
        b.do(b.overlay.lossy(b.paths[a.me].number, lossy, wire.now))
        wire.run(0.1)
        assert a.paths[b.me].whole is not lossy
        assert b.paths[a.me].whole
    b.do(b.overlay.lossy(99, True, wire.now))


def test_a_resync_is_all_there_is(wire: Wire) -> None:
    a, b = pair(wire)
    wire.run(3)
    endpoint = Endpoint(
        id=b"n", network=LANE.id, mac="02:00:00:00:00:09", addresses=("10.32.0.9",), names=("n",)
    )
    a.do(a.overlay.resync(wire.now, networks=[LANE], endpoints=[endpoint], names=[]))
    wire.run(1)
    assert b.overlay.lookup("web", LANE.id) == []
    assert b.overlay.lookup("n", LANE.id) == ["10.32.0.9"]
    a.do(a.overlay.resync(wire.now, networks=[], endpoints=[], names=[]))
    wire.run(1)
    table = b.overlay.table(LANE.id)
    assert table is not None
    assert table.remotes == ()
    assert table.members == ()


@pytest.mark.slow
def test_paths_cost_little_when_idle(wire: Wire) -> None:
    pair(wire)
    wire.run(30)
    before = len(wire.seen), wire.vxlans
    wire.run(60)
    datagrams, probes = len(wire.seen) - before[0], wire.vxlans - before[1]
    assert probes <= 2 * 13
    assert datagrams <= 60 * 8
