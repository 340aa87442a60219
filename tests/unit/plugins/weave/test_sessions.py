"""Sessions between peers that behave, on good and bad networks: opening, using, ending them."""

from __future__ import annotations

import ipaddress

import pytest

from plugins.weave import links, sessions
from plugins.weave.attempts import GIVE_UP
from plugins.weave.control import Control, What
from plugins.weave.crypto import TAG
from plugins.weave.events import (
    Cloned,
    Established,
    Failed,
    HeardDirectly,
    KeysAdded,
    KeysGone,
    KeysUsed,
    Lost,
    Moved,
    Probed,
)
from plugins.weave.handshake import Hello, Party
from plugins.weave.primitives import Primitives
from plugins.weave.session import REJECT_AFTER, REKEY_AFTER, Session, Spent
from plugins.weave.step import Address, Relayed, Step
from plugins.weave.wire import HEADER, MAX_MESSAGE, Kind
from tests.unit.plugins.weave.network import Network, Peer, established, joined, lossy

TRUSTED = (ipaddress.ip_network("192.0.2.0/24"),)


@pytest.fixture
def network() -> Network:
    return Network()


def met(network: Network, *, known: bool = False) -> tuple[Peer, Peer]:
    one, two = network.peer(1), network.peer(2)
    network.connect(one, two, known=known)
    network.run(1)
    assert joined(network, one, two)
    return one, two


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
@pytest.mark.parametrize("password", ["", "secret"])
@pytest.mark.slow
def test_peers_meet_and_talk(known: bool, password: str) -> None:
    network = Network(Primitives())
    one, two = network.peer(1, password=password, features=5), network.peer(2, password=password)
    network.connect(one, two, known=known)
    network.run(1)
    assert joined(network, one, two)
    assert one.events_of(Established)[0].keys == two.identity.public
    assert two.events_of(Established)[0].keys == one.identity.public
    assert two.events_of(Established)[0].features == 5
    network.say(one, two, b"there")
    network.say(two, one, bytes(MAX_MESSAGE))
    network.run(1)
    assert (two.received, one.received) == ([b"there"], [bytes(MAX_MESSAGE)])
    assert len(network.wire) == 4 + 2


def test_messages_to_nobody_are_dropped(network: Network) -> None:
    one, two = network.peer(1), network.peer(2)
    network.say(one, two, b"there")
    assert (network.wire, one.sessions.peers()) == ([], ())


def test_who_has_another_password_gets_no_byte(network: Network) -> None:
    one, two = network.peer(1), network.peer(2, password="other")
    for known in (False, True):
        network.connect(one, two, known=known)
    network.run(GIVE_UP + 10)
    assert all(source == one.address for source, _, _ in network.wire)
    assert [f.peer for f in one.events_of(Failed)] == [None, two.id]
    assert "another password" in one.events_of(Failed)[0].why
    assert two.events == []
    assert two.sessions.dropped.strangers == len(network.wire)


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
def test_both_open_at_once_and_end_up_with_one_session(network: Network, known: bool) -> None:
    one, two = network.peer(1), network.peer(2)
    network.connect(one, two, known=known)
    network.connect(two, one, known=known)
    network.run(2)
    assert joined(network, one, two)
    assert (established(one), established(two)) == ({two.id: 1}, {one.id: 1})
    network.say(one, two, b"there")
    network.say(two, one, b"back")
    network.run(1)
    assert (two.received, one.received) == ([b"there"], [b"back"])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.slow
def test_both_open_at_once_on_a_bad_network(seed: int) -> None:
    network = Network(seed=seed)
    one, two = network.peer(1), network.peer(2)
    network.spoil = lossy(network, 0.3, duplicate=0.2, late=0.3)
    network.connect(one, two, known=seed % 2 == 0)
    network.run(network.random.random() / 10)
    network.connect(two, one, known=seed % 3 == 0)
    network.run(25)
    network.spoil = None
    network.run(REKEY_AFTER * 2)
    assert joined(network, one, two)
    assert established(one) == {two.id: 1}


def test_a_peer_that_only_one_side_can_open_to_is_met(network: Network) -> None:
    """A firewall that lets answers pass: nothing reaches `two` that it did not ask for."""
    one, two = network.peer(1), network.peer(2)
    network.spoil = lambda source, to, datagram: (
        [] if to == two.address and datagram[0] == Kind.FIRST else [(0.01, datagram)]
    )
    network.connect(one, two, known=True)
    network.run(5)
    assert one.sessions.peers() == ()
    network.connect(two, one, known=True)
    network.run(5)
    assert joined(network, one, two)


def test_an_attempt_that_nobody_answers_is_given_up_after_a_while(network: Network) -> None:
    one, two = network.peer(1), network.peer(2)
    network.leave(two)
    network.connect(one, two)
    network.connect(one, two)  # under way
    network.run(GIVE_UP - 1)
    assert one.events_of(Failed) == []
    network.run(2)
    assert [failed.where for failed in one.events_of(Failed)] == [two.address]
    assert 18 <= len(network.wire) <= 30
    network.run(100)
    assert len(network.wire) <= 30


def test_tries_are_not_sent_in_step(network: Network) -> None:
    one, two = network.peer(1), network.peer(2)
    times = []
    network.spoil = lambda *_: times.append(network.now) or []  # type: ignore[func-returns-value]
    network.connect(one, two)
    network.connect(one, network.peer(3))
    network.run(60)
    assert len(set(times[2:])) == len(times) - 2


@pytest.mark.slow
def test_keys_are_renewed_and_nothing_is_lost_meanwhile(network: Network) -> None:
    one, two = met(network)
    network.spoil = lossy(network, 0, late=0.5)  # half of it is overtaken
    sent: list[bytes] = []
    while len(sent) < 12_000:
        message = len(sent).to_bytes(4, "big")
        sent.append(message)
        network.say(one, two, message)
        network.say(two, one, message)
        network.run(0.05)
    network.run(1)
    assert sorted(two.received) == sent
    assert sorted(one.received) == sent
    assert joined(network, one, two)
    rekeyed = [event.index for event in one.events_of(KeysUsed)]
    assert len(rekeyed) - 1 in (600 // 120, 600 // 108)
    assert established(one) == {two.id: 1}
    for peer in (one, two):  # and old ones are gone
        assert len(peer.events_of(KeysAdded)) - len(peer.events_of(KeysGone)) <= 2


def test_keys_that_cannot_be_renewed_are_not_used_any_longer(network: Network) -> None:
    one, two = met(network)
    network.spoil = lambda source, to, datagram: (
        [(0.01, datagram)] if datagram[0] > Kind.COOKIE else []
    )
    network.run(REJECT_AFTER - 5)
    assert joined(network, one, two)
    network.run(10)
    for peer, other in ((one, two), (two, one)):
        assert [(lost.peer, lost.why) for lost in peer.events_of(Lost)] == [
            (other.id, "its keys ran out")
        ]
        assert peer.sessions.peers() == ()
    index = one.events_of(KeysAdded)[0].keys.index
    assert one.sessions.observed(index, two.address, network.now).events == ()


def test_counters_run_out_before_they_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins.weave import session

    monkeypatch.setattr(session, "REKEY_MESSAGES", 100)
    monkeypatch.setattr(session, "REJECT_MESSAGES", 200)
    network = Network()
    one, two = met(network)
    for number in range(500):
        network.say(one, two, number.to_bytes(4, "big"))
        network.run(0.01)
    network.run(1)
    assert len(two.received) == 500
    network.spoil = lambda *_: []
    for _ in range(500):
        network.say(one, two, b"into the void")
    assert len(network.wire) < 2000


def test_a_session_refuses_what_would_repeat_a_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins.weave import session

    monkeypatch.setattr(session, "REJECT_MESSAGES", 3)
    network = Network()
    one, _ = met(network)
    used = one.sessions._links.session(one.events_of(KeysUsed)[0].index)
    assert isinstance(used, Session)
    while used.sent < 3:
        used.seal(Kind.CONTROL, b"\x00")
    with pytest.raises(Spent):
        used.seal(Kind.CONTROL, b"\x00")


def test_an_idle_session_stays(network: Network) -> None:
    one, two = met(network)
    before = len(network.wire)
    network.run(3600)
    assert joined(network, one, two)
    assert (one.events_of(Lost), two.events_of(Lost)) == ([], [])
    assert len(network.wire) - before <= 2 * 3600 / sessions.KEEPALIVE + 3600 / 108 * 4


def test_who_is_silent_is_lost(network: Network) -> None:
    one, two = met(network)
    network.leave(two)
    network.run(sessions.DEAD + 1)
    assert [lost.why for lost in one.events_of(Lost)] == ["nothing was received for 60 s"]
    assert one.events_of(KeysGone)
    assert one.sessions.deadline() == float("inf")


def test_a_break_shorter_than_that_is_survived(network: Network) -> None:
    one, two = met(network)
    network.spoil = lambda *_: []
    network.run(sessions.DEAD - 15)
    network.spoil = None
    network.run(12)
    assert joined(network, one, two)
    assert (one.events_of(Lost), two.events_of(Lost)) == ([], [])


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
def test_a_peer_that_started_anew_takes_its_own_place(network: Network, known: bool) -> None:
    one, two = met(network)
    again = network.peer(1, who=one.identity)
    network.connect(again, two, known=known)
    network.run(1)
    assert joined(network, again, two)
    assert established(two) == {one.id: 2}
    assert len(two.events_of(KeysGone)) == len(two.events_of(KeysAdded)) - 1
    first, second = two.events_of(Established)
    assert first.instance != second.instance


def test_a_peer_that_started_anew_is_found_by_who_still_sends(network: Network) -> None:
    one, two = met(network)
    again = network.peer(1, who=one.identity)
    network.run(sessions.SILENT + 2)
    assert joined(network, again, two)


def test_goodbye_ends_a_session_on_both_sides(network: Network) -> None:
    one, two = met(network)
    network.do(one, one.sessions.close(two.id, network.now))
    network.run(1)
    assert (one.sessions.peers(), two.sessions.peers()) == ((), ())
    assert two.events_of(Lost)[0].why == "it said goodbye"
    assert len(two.events_of(KeysGone)) == len(two.events_of(KeysAdded))
    network.run(200)
    assert one.sessions.peers() == ()
    network.connect(two, one)
    network.run(1)
    assert joined(network, one, two)


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
def test_a_removed_peer_is_not_asked_but_may_ask_why(network: Network, known: bool) -> None:
    one, two = met(network)
    network.do(one, one.sessions.refuse(frozenset({two.id}), network.now))
    network.run(1)
    network.connect(one, two, known=True)
    network.run(GIVE_UP + 10)
    assert (one.sessions.peers(), two.sessions.peers()) == ((), ())
    network.connect(one, two)
    network.run(1)
    assert one.sessions.dropped.refused
    network.connect(two, one, known=known)
    network.run(1)
    assert joined(network, one, two), "whoever knows why says so, and ends it"
    network.do(one, one.sessions.refuse(frozenset({two.id}), network.now))
    network.run(1)
    assert (one.sessions.peers(), two.sessions.peers()) == ((), ())
    assert one.events_of(Failed)[-1].why == "that peer was removed"
    network.do(one, one.sessions.refuse(frozenset(), network.now))
    network.connect(two, one, known=known)
    network.run(5)
    assert joined(network, one, two)


def test_a_peer_behind_an_address_translation_that_changes_is_followed(network: Network) -> None:
    one, two = network.peer(1), network.peer(2)
    network.translate(one.address, Address("198.51.100.1", 40_000))
    network.connect(one, two)
    network.run(1)
    network.translate(one.address, Address("198.51.100.1", 40_001))
    network.say(one, two, b"there")
    network.run(1)
    assert two.events_of(Moved) == [Moved(one.id, Address("198.51.100.1", 40_001))]
    network.say(two, one, b"back")
    network.run(1)
    assert (two.received, one.received) == ([b"there"], [b"back"])
    network.run(2 * REKEY_AFTER)
    assert joined(network, one, two)


def test_a_late_datagram_from_an_old_address_moves_nobody(network: Network) -> None:
    one, two = met(network)
    network.spoil = lambda source, to, datagram: [(5.0, datagram)]
    network.say(one, two, b"late")
    network.spoil = None
    network.translate(one.address, Address("198.51.100.1", 40_000))
    network.say(one, two, b"early")
    network.run(6)
    assert two.received == [b"early", b"late"]
    assert [moved.where.port for moved in two.events_of(Moved)] == [40_000]  # type: ignore[union-attr]


def test_who_is_sent_to_by_relay_is_not_moved_by_what_comes_directly(network: Network) -> None:
    one, two = met(network)
    network.do(two, two.sessions.move(one.id, Relayed(one.id), network.now))
    network.say(one, two, b"there")
    network.say(one, two, b"again")
    network.run(1)
    assert two.events_of(Moved) == []
    assert two.events_of(HeardDirectly) == [HeardDirectly(one.id, one.address)]
    assert two.sessions.status(network.now)[0].where == Relayed(one.id)


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
@pytest.mark.parametrize("lost", [2, 3], ids=["last-word", "first-sign-of-life"])
def test_an_end_of_a_handshake_that_is_lost_is_said_again(
    network: Network, known: bool, lost: int
) -> None:
    one, two = network.peer(1), network.peer(2)
    network.spoil = lambda *datagram: [] if len(network.wire) == lost + 1 else [(0.01, datagram[2])]
    network.connect(one, two, known=known)
    network.run(1.5)
    assert joined(network, one, two)
    assert [d[0] for _, _, d in network.wire].count(Kind.FIRST) == 1


def test_a_handshake_whose_end_never_arrives_begins_anew(network: Network) -> None:
    one, two = network.peer(1), network.peer(2)
    network.spoil = lambda source, to, datagram: (
        [] if datagram[0] == Kind.CONTROL and network.now < 1006 else [(0.01, datagram)]
    )
    network.connect(one, two, known=True)
    network.run(10)
    assert joined(network, one, two)
    assert [d[0] for _, _, d in network.wire].count(Kind.FIRST) == 2


def test_a_peer_that_moves_while_keys_are_renewed_is_asked_where_it_is(network: Network) -> None:
    one, two = met(network)
    network.spoil = lambda source, to, datagram: (
        [(0.01, datagram)] if datagram[0] == Kind.CONTROL else []
    )
    network.do(one, one.sessions.renew(two.id, network.now))
    network.translate(two.address, Address("198.51.100.1", 40_000))
    network.say(two, one, b"there")
    before = len(network.wire)
    network.run(8)
    firsts = {to for _, to, d in network.wire[before:] if d[0] == Kind.FIRST}
    assert firsts == {Address("198.51.100.1", 40_000)}


def test_a_probe_in_a_control_datagram_is_none(network: Network) -> None:
    one, two = met(network)
    session = one.sessions._links.session(one.events_of(KeysUsed)[0].index)
    assert isinstance(session, Session)
    for kind, what in ((Kind.CONTROL, What.PROBE), (Kind.PROBE, What.MESSAGE)):
        datagram = session.seal(kind, Control(what, size=100).encode())
        step = two.sessions.receive(datagram, one.address, network.now)
        assert (step.send, step.events) == ((), ())
    assert two.sessions.dropped.malformed == 2


def apart(source: Address, to: Address, datagram: bytes) -> list[tuple[float, bytes]]:
    """A network on which nothing arrives."""
    return []


def test_peers_that_reach_each_other_by_relay_alone_have_a_session_of_their_own(
    network: Network,
) -> None:
    one, two = network.peer(1, trusted=TRUSTED), network.peer(2, trusted=TRUSTED)
    network.spoil = apart
    network.do(one, one.sessions.connect(Relayed(two.id), network.now, two.identity.public))
    network.run(2 * REKEY_AFTER)
    assert joined(network, one, two)
    network.say(one, two, b"there")
    assert two.received == [b"there"]
    for peer, other in ((one, two), (two, one)):
        (status,) = peer.sessions.status(network.now)
        assert (status.where, status.sealed) == (Relayed(other.id), True)  # who relays reads not


def test_a_relayed_session_becomes_a_direct_one_where_that_works(network: Network) -> None:
    one, two = network.peer(1, trusted=TRUSTED), network.peer(2, trusted=TRUSTED)
    network.do(one, one.sessions.connect(Relayed(two.id), network.now, two.identity.public))
    network.run(10)
    network.connect(one, two, known=True)
    network.run(1)
    assert joined(network, one, two)
    for peer, other in ((one, two), (two, one)):
        (status,) = peer.sessions.status(network.now)
        assert (status.where, status.sealed) == (other.address, False)
        assert established(peer) == {other.id: 1}


def test_a_peer_is_tried_at_all_places_that_are_known(network: Network) -> None:
    one, two = network.peer(1), network.peer(2)
    keys = two.identity.public
    for where in (Address("192.0.2.99", 6783), Address("192.0.2.98", 6783), two.address):
        network.do(one, one.sessions.connect(where, network.now, keys))
    network.run(5)
    assert joined(network, one, two)
    assert one.sessions.status(network.now)[0].where == two.address


def test_data_that_workers_observed_confirms_and_keeps_a_session(network: Network) -> None:
    one, two = network.peer(1), network.peer(2)
    network.spoil = lambda source, to, datagram: (
        [(0.01, datagram)] if datagram[0] in (Kind.FIRST, Kind.SECOND) else []
    )
    network.connect(one, two, known=True)
    network.run(0.5)
    keys = two.events_of(KeysAdded)[0].keys
    assert two.sessions.peers() == ()
    network.do(two, two.sessions.observed(keys.index, one.address, network.now))
    assert two.sessions.peers() == (one.id,)
    for _ in range(10):
        network.run(10)
        network.do(two, two.sessions.observed(keys.index, one.address, network.now))
    assert two.events_of(Lost) == []


def test_data_datagrams_are_the_workers_matter(network: Network) -> None:
    one, two = met(network)
    datagram = bytes([Kind.DATA]) + bytes(HEADER - 1 + TAG)
    assert two.sessions.receive(datagram, one.address, network.now).events == ()


def test_keys_for_data_belong_together_and_differ_by_direction(network: Network) -> None:
    one, two = met(network)
    mine, theirs = one.events_of(KeysAdded)[0].keys, two.events_of(KeysAdded)[0].keys
    assert (mine.sending, mine.receiving) == (theirs.receiving, theirs.sending)
    assert (mine.index, mine.remote) == (theirs.remote, theirs.index)
    assert mine.sending != mine.receiving
    assert mine.sending.hex() not in repr(mine)
    network.do(one, one.sessions.renew(two.id, network.now))
    network.run(1)
    assert joined(network, one, two)
    assert one.events_of(KeysAdded)[1].keys.sending != mine.sending


@pytest.mark.parametrize(
    ("password", "one", "two", "sealed"),
    [
        ("", (), (), False),
        ("secret", (), (), True),
        ("secret", TRUSTED, (), True),
        ("secret", (), TRUSTED, True),
        ("secret", TRUSTED, TRUSTED, False),
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
def test_data_goes_in_clear_where_both_sides_say_so(
    network: Network, password: str, one: tuple, two: tuple, sealed: bool, known: bool
) -> None:
    first = network.peer(1, password=password, trusted=one)
    second = network.peer(2, password=password, trusted=two)
    network.connect(first, second, known=known)
    network.run(1)
    for peer in (first, second):
        assert [used.sealed for used in peer.events_of(KeysUsed)] == [sealed]
        assert [status.sealed for status in peer.sessions.status(network.now)] == [sealed]


def test_who_leaves_the_trusted_subnet_is_sealed_to_at_once_and_hears_of_it(
    network: Network,
) -> None:
    one, two = network.peer(1, trusted=TRUSTED), network.peer(2, trusted=TRUSTED)
    network.connect(one, two)
    network.run(1)
    network.translate(one.address, Address("198.51.100.1", 40_000))
    network.say(one, two, b"there")
    network.run(0.015)
    assert [used.sealed for used in two.events_of(KeysUsed)] == [False, True]
    network.run(1)
    assert one.events_of(KeysUsed)[-1].sealed
    assert joined(network, one, two)


def test_who_moves_while_keys_are_renewed_is_told_what_is_demanded_now(network: Network) -> None:
    one, two = network.peer(1, trusted=TRUSTED), network.peer(2, trusted=TRUSTED)
    network.connect(one, two)
    network.run(1)
    network.do(two, two.sessions.renew(one.id, network.now))  # says: in clear
    network.translate(one.address, Address("198.51.100.1", 40_000))
    for _ in range(2):
        network.say(one, two, b"there")
        network.run(1)
    assert joined(network, one, two)
    for peer in (one, two):
        assert peer.events_of(KeysUsed)[-1].sealed


def test_who_comes_back_into_a_trusted_subnet_is_sealed_to_until_it_knows(network: Network) -> None:
    one, two = network.peer(1, trusted=TRUSTED), network.peer(2, trusted=TRUSTED)
    network.translate(one.address, Address("198.51.100.1", 40_000))
    network.connect(one, two)
    network.run(1)
    network.translate(one.address, one.address)
    network.say(one, two, b"there")
    network.run(0.015)
    assert [used.sealed for used in two.events_of(KeysUsed)] == [True]
    network.run(1)
    for peer in (one, two):
        assert [used.sealed for used in peer.events_of(KeysUsed)] == [True, False]


def test_nothing_is_sent_under_keys_whose_time_is_over(network: Network) -> None:
    one, two = met(network)
    assert one.sessions.send(two.id, b"late", network.now + REJECT_AFTER + 1).send == ()


@pytest.mark.parametrize("how", ["close", "refuse"])
def test_a_session_that_waits_ends_with_the_others(network: Network, how: str) -> None:
    one, two = network.peer(1), network.peer(2)
    network.spoil = lambda source, to, datagram: (
        [(0.01, datagram)] if datagram[0] != Kind.CONTROL else []
    )
    network.connect(one, two, known=True)
    network.run(0.1)
    greeting = network.wire[-1][2]
    assert greeting[0] == Kind.CONTROL
    if how == "close":
        network.do(two, two.sessions.close(one.id, network.now))
    else:
        network.do(two, two.sessions.refuse(frozenset({one.id}), network.now))
    network.inject(one.address, two.address, greeting)
    assert two.sessions.peers() == ()
    assert len(two.events_of(KeysGone)) == len(two.events_of(KeysAdded)) == 1


def test_a_peer_notices_that_it_is_told_to_connect_to_itself(network: Network) -> None:
    one = network.peer(1)
    network.connect(one, one)
    network.run(10)
    assert [(failed.itself, failed.why) for failed in one.events_of(Failed)] == [
        (True, "it is this peer itself")
    ]
    assert len(network.wire) == 3
    network.connect(one, one, known=True)
    assert len(network.wire) == 3


def test_who_sends_first_messages_back_does_not_pass_for_the_peer_itself(network: Network) -> None:
    one, two = network.peer(1), network.peer(2)
    network.connect(one, two)
    network.inject(two.address, one.address, network.wire[0][2])
    network.run(1)
    assert joined(network, one, two)
    assert one.events_of(Failed) == []


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
def test_a_copy_of_a_peer_is_noticed(network: Network, known: bool) -> None:
    one = network.peer(1)
    copy = network.peer(2, who=one.identity)
    if known:  # a third peer's address book sends it there
        attempts = one.sessions._attempts
        started = attempts.start((copy.address,), copy.identity.public, network.now)
        network.do(one, Step(send=started))
    else:
        network.connect(one, copy)
    network.run(1)
    assert one.events_of(Cloned) or copy.events_of(Cloned)
    assert (one.sessions.peers(), copy.sessions.peers()) == ((), ())


class Newer(Party):
    def hello(self, index: int, *, sealed: bool) -> Hello:
        from msgspec.structs import replace

        return replace(super().hello(index, sealed=sealed), oldest=2, newest=3)


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
def test_peers_without_a_common_version_say_so(network: Network, known: bool) -> None:
    one, two = network.peer(1), network.peer(2)
    party = two.sessions._party
    fields = {name: getattr(party, name) for name in Party.__slots__}
    two.sessions = sessions.Sessions(Newer(**fields), two.sessions._trust, network.now)
    network.connect(one, two, known=known)
    network.run(2)
    assert "versions 2 to 3 of the protocol, this peer 1 to 1" in one.events_of(Failed)[0].why
    assert (one.sessions.peers(), two.sessions.peers()) == ((), ())


def test_probes_tell_which_size_arrives(network: Network) -> None:
    one, two = met(network)
    network.spoil = lambda source, to, datagram: [(0.01, datagram)] if len(datagram) <= 1400 else []
    for number, size in enumerate((39, 1232, 1400, 1401)):
        step = one.sessions.probe(two.id, number, size, network.now)
        assert [(len(send.datagram), send.whole) for send in step.send] == [(size, True)]
        network.do(one, step)
    network.run(1)
    assert one.events_of(Probed) == [
        Probed(two.id, 0, 39),
        Probed(two.id, 1, 1232),
        Probed(two.id, 2, 1400),
    ]


def test_three_peers_keep_apart(network: Network) -> None:
    peers = [network.peer(number) for number in (1, 2, 3)]
    for one in peers:
        for two in peers:
            if one is not two:
                network.connect(one, two)
    network.run(2)
    for one in peers:
        for two in peers:
            if one is not two:
                assert joined(network, one, two)
                network.say(one, two, one.id + two.id)
    network.run(1)
    for two in peers:
        assert sorted(two.received) == sorted(o.id + two.id for o in peers if o is not two)


def test_there_are_never_more_peers_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PEERS", 3)
    network = Network()
    one = network.peer(1)
    for number in range(2, 8):
        network.connect(network.peer(number), one)
    network.run(2)
    assert len(one.sessions.peers()) == 3
    network.connect(one, network.peer(9), known=True)
    network.run(2)
    assert "too many peers" in one.events_of(Failed)[0].why
    assert len(one.events_of(KeysAdded)) - len(one.events_of(KeysGone)) == 3


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.slow
def test_what_is_sent_on_a_bad_network_arrives_once_or_not_at_all(seed: int, known: bool) -> None:
    network = Network(seed=seed)
    one, two = network.peer(1), network.peer(2)
    network.spoil = lossy(network, 0.2, duplicate=0.2, late=0.3)
    network.connect(one, two, known=known)
    network.run(20)
    assert joined(network, one, two)
    sent = [number.to_bytes(4, "big") for number in range(2000)]
    for message in sent:
        network.say(one, two, message)
        network.run(0.2)
    network.run(2)
    assert len(set(two.received)) == len(two.received)
    assert set(two.received) <= set(sent)
    assert len(two.received) > 0.75 * len(sent)
    assert (one.events_of(Lost), two.events_of(Lost)) == ([], [])


def test_sessions_that_began_together_are_not_renewed_together(network: Network) -> None:
    hub = network.peer(1)
    for number in range(2, 42):
        network.connect(hub, network.peer(number), known=True)
    network.run(5)
    assert len(hub.sessions.peers()) == 40
    renewed: list[float] = []

    def noted(source: Address, to: Address, datagram: bytes) -> list[tuple[float, bytes]]:
        if datagram[0] == Kind.FIRST:
            renewed.append(network.now)
        return [(0.01, datagram)]

    network.spoil = noted
    network.run(REKEY_AFTER)
    assert len(renewed) == 40
    assert max(renewed) - min(renewed) > 8


def test_a_deadline_is_never_late(network: Network) -> None:
    """It is not computed anew after every datagram, so it is compared with what would come out."""
    network.spoil = lossy(network, 0.3, late=0.3)
    peers = [network.peer(number) for number in range(1, 6)]
    for one in peers:
        network.connect(one, peers[0])
    for _ in range(300):
        network.run(network.random.random() * 2)
        one, two = network.random.sample(peers, 2)
        network.say(one, two, b"there")
        for peer in peers:
            own = peer.sessions
            due = min((own._due(link) for link in own._links), default=float("inf"))
            exact = min(due, own._links.deadline(), own._handshakes.deadline())
            assert own.deadline() <= max(exact, own._ticked + sessions.GRAIN)
