"""Sessions on networks of others: nothing is taken that was not sent, and nothing costs much."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plugins.weave import admission, answers, links
from plugins.weave.admission import Admission
from plugins.weave.attempts import WRONG
from plugins.weave.events import Established, KeysAdded, KeysGone, KeysUsed, Lost, Moved
from plugins.weave.handshake import Opening, Party
from plugins.weave.identity import make
from plugins.weave.primitives import Primitives
from plugins.weave.session import REKEY_AFTER
from plugins.weave.sessions import SILENT
from plugins.weave.step import Address
from plugins.weave.wire import HANDSHAKE, HEADER, Cookie, Handshake, Kind, Pattern, parse
from tests.unit.plugins.weave.network import Network, Peer, established, joined, lossy

STRANGER = Address("203.0.113.9", 6783)


def talked(network: Network, count: int = 3, seconds: float = REKEY_AFTER * 1.5) -> list[Peer]:
    """Peers that have spoken with each other for a while, and renewed their keys."""
    peers = [network.peer(number) for number in range(1, count + 1)]
    for number, one in enumerate(peers):
        for two in peers[number + 1 :]:
            network.connect(one, two, known=number == 0)
    network.run(1)
    for step in range(int(seconds / 5)):
        for one in peers:
            for two in peers:
                if one is not two:
                    network.say(one, two, one.id + two.id + step.to_bytes(4, "big"))
                if one is not two and two.id not in one.sessions:  # as membership would
                    network.connect(one, two, known=True)
        network.run(5)
    return peers


def facts(peers: list[Peer]) -> list[object]:
    """What must not change by what others send."""
    return [
        (sorted(p.received), established(p), *map(p.events_of, (Lost, Moved, KeysUsed)))
        for p in peers
    ]


def still_good(network: Network, peers: list[Peer]) -> None:
    for one in peers:
        for two in peers:
            if one is not two:
                before = len(two.received)
                network.say(one, two, b"still")
                network.run(1)
                assert joined(network, one, two)
                assert two.received[before:] == [b"still"]


def everything(network: Network) -> list[tuple[Address, Address, bytes]]:
    return list(network.wire)


@pytest.mark.slow
@pytest.mark.parametrize("reflected", [False, True], ids=["replayed", "sent back to its sender"])
def test_what_was_sent_ever_is_nothing_new_when_it_comes_again(reflected: bool) -> None:
    network = Network(Primitives())
    peers = talked(network)
    before = facts(peers)
    for sender, receiver, datagram in everything(network):
        source, to = (receiver, sender) if reflected else (sender, receiver)
        network.inject(source, to, datagram)
        network.inject(STRANGER, to, datagram)
    network.run(2)
    assert facts(peers) == before
    still_good(network, peers)


@pytest.mark.slow
def test_what_is_sent_to_a_third_is_nothing_to_it() -> None:
    network = Network()
    peers = talked(network)
    before = facts(peers)
    for source, _, datagram in everything(network):
        for peer in peers:
            network.inject(source, peer.address, datagram)
    network.run(2)
    assert facts(peers) == before


def spoilt(network: Network, datagrams: list[bytes], count: int) -> Iterator[bytes]:
    """Bits flipped, cut short, made longer, and put together from two."""
    draw = network.random
    for _ in range(count):
        one, two = draw.choice(datagrams), draw.choice(datagrams)
        kind = draw.randrange(6)
        changed = bytearray(one)
        if kind == 0:
            changed[draw.randrange(len(one))] ^= 1 << draw.randrange(8)
        elif kind == 1:
            changed = changed[: draw.randrange(len(one))]
        elif kind == 2:
            changed += draw.randbytes(draw.randint(1, 20))
        elif kind == 3:
            cut = draw.choice([4, 8, HEADER, draw.randrange(len(one))])
            changed = bytearray(one[:cut] + two[cut:])
        elif kind == 4:
            changed[8:16] = draw.choice([(2**64 - 1), 0, draw.randrange(2**20)]).to_bytes(8, "big")
        else:
            changed = bytearray(draw.randbytes(len(one)))
            changed[0] = one[0]
        if bytes(changed) not in datagrams:
            yield bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["fake", "real"])
def test_what_was_changed_in_any_way_is_nothing(real: bool) -> None:
    network = Network(Primitives() if real else None)
    peers = talked(network)
    before = facts(peers)
    for datagram in spoilt(network, [d for _, _, d in network.wire], 30_000):
        network.inject(STRANGER, network.random.choice(peers).address, datagram)
    network.run(2)
    assert facts(peers) == before
    still_good(network, peers)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_peers_get_on_while_all_of_that_happens(seed: int) -> None:
    """Loss, copies, delays, and after each datagram another that was changed or is an old one.

    Of those the old ones seem to come from somewhere else.  Where one of them arrives before its
    original does, its peer is sent to there until the next datagram tells better; and a first
    contact may be led to another peer.
    """
    network = Network(seed=seed)
    bad = lossy(network, 0.1, duplicate=0.2, late=0.3)
    seen: list[bytes] = []

    def hostile(source: Address, to: Address, datagram: bytes) -> list[tuple[float, bytes]]:
        seen.append(datagram)
        changed = list(spoilt(network, seen, 1))
        old = [network.random.choice(seen)]
        return bad(source, to, datagram) + [(0.02, d) for d in changed + old]

    network.spoil = hostile
    peers = talked(network, seconds=300)
    for peer in peers:
        assert len(set(peer.received)) == len(peer.received)
        assert all(message[16:32] == peer.id for message in peer.received)
        assert len(peer.received) > 100 * 0.8
        assert peer.events_of(Lost) == []
        assert set(established(peer).values()) == {1}
    network.spoil = None
    network.run(REKEY_AFTER * 2)
    still_good(network, peers)
    for peer in peers:
        places = {status.where for status in peer.sessions.status(network.now)}
        assert places == {other.address for other in peers if other is not peer}


def test_an_old_first_message_displaces_nobody() -> None:
    """Also not with a peer that started anew, and has forgotten that it was answered."""
    network = Network()
    one, two = network.peer(1), network.peer(2)
    network.connect(one, two, known=True)
    network.run(1)
    first = next(d for _, _, d in network.wire if d[0] == Kind.FIRST)
    again = network.peer(2, who=two.identity)
    network.connect(one, again, known=True)
    network.run(1)
    before = facts([one, again])
    network.inject(one.address, again.address, first)
    network.inject(STRANGER, again.address, first)
    assert len(again.events_of(KeysAdded)) == 2  # it did work on it, once
    network.run(1)
    assert facts([one, again]) == before
    assert joined(network, one, again)
    network.run(20)
    assert len(again.events_of(KeysGone)) == 1


def test_peers_that_are_both_misled_find_each_other_again() -> None:
    """Somebody held back a datagram of either and delivered it from elsewhere."""
    network = Network()
    one, two = network.peer(1), network.peer(2)
    network.connect(one, two)
    network.run(1)
    network.spoil = lambda *_: []
    for peer, other in ((one, two), (two, one)):
        network.say(peer, other, b"held back")
        network.inject(STRANGER, other.address, network.wire[-1][2])
    network.spoil = None
    for peer in (one, two):
        assert [moved.where for moved in peer.events_of(Moved)] == [STRANGER]
        assert peer.sessions.status(network.now)[0].where == STRANGER
    network.run(SILENT + 3)
    assert (one.events_of(Lost), two.events_of(Lost)) == ([], [])
    still_good(network, [one, two])


def test_who_asked_sends_to_where_it_asked_whatever_brought_the_answer() -> None:
    network = Network()
    one, two = network.peer(1), network.peer(2)
    network.spoil = lambda source, to, datagram: [] if source == two.address else [(0.01, datagram)]
    network.connect(one, two, known=True)
    for _ in range(2):  # the answer, and the first sign of life
        network.inject(STRANGER, one.address, network.wire[-1][2])
        network.run(0.02)
        for _, to, datagram in network.wire[-2:]:
            if to == one.address:
                network.inject(STRANGER, one.address, datagram)
    assert two.id in one.sessions
    assert one.sessions.status(network.now)[0].where == two.address


class Stranger:
    """Knows the protocol, and the password if there is one; may have any address."""

    def __init__(self, network: Network, password: str = "") -> None:
        crypto, random = network.crypto, network.random.randbytes
        self.network = network
        self.party = Party(
            crypto=crypto,
            random=random,
            us=make(crypto, random),
            psk=crypto.stretch(password),
            instance=random(8),
        )
        self.admission = Admission(crypto, random, self.party.psk, network.now)

    def first(self, target: Peer | None = None, cookie: bytes = b"") -> Handshake:
        index = self.network.random.randrange(1, 2**32)
        keys = target.identity.public if target else None
        opening = Opening(self.party, index, keys, sealed=True)
        return self.admission.message(Kind.FIRST, opening.pattern, index, opening.first, cookie)


def answers_to(network: Network, peer: Peer, source: Address, datagram: bytes) -> list[bytes]:
    before = len(network.wire)
    network.inject(source, peer.address, datagram)
    return [d for _, to, d in network.wire[before:] if to == source]


def flood(network: Network, peer: Peer, stranger: Stranger) -> None:
    """More first messages than a peer answers without cookies, each from a port of its own."""
    for number in range(60):
        source = Address("198.51.100.1", number + 1)
        network.inject(source, peer.address, stranger.first().encode())


def cookie_for(network: Network, peer: Peer, stranger: Stranger) -> tuple[Cookie, bytes]:
    """The answer to a first message at STRANGER, and the cookie in it."""
    first = stranger.first()
    (reply,) = answers_to(network, peer, STRANGER, first.encode())
    answer = parse(reply)
    assert isinstance(answer, Cookie)
    cookie = stranger.admission.read_cookie(answer, first.mac1)
    assert cookie
    return answer, cookie


@pytest.mark.parametrize("password", ["", "secret"])
def test_nobody_gets_more_bytes_than_he_sent(password: str) -> None:
    network = Network()
    peers = [network.peer(number, password=password) for number in (1, 2)]
    network.connect(peers[0], peers[1])
    network.run(5)
    stranger = Stranger(network)
    sent = [stranger.first().encode(), stranger.first(peers[0]).encode()]
    if not password:  # or who has seen one of those would be answered, once
        sent += [d for _, _, d in network.wire]
    sent += [bytes([kind]) + bytes(size) for kind in range(9) for size in (0, 15, 55, 319, 1400)]
    sent += list(spoilt(network, sent, 3000))
    replied = 0
    for datagram in sent:
        got = answers_to(network, peers[0], STRANGER, datagram)
        assert sum(map(len, got)) <= len(datagram)
        replied += len(got)
    assert bool(replied) == (password == "")


@pytest.mark.slow
def test_who_floods_costs_a_bounded_number_of_operations_and_states() -> None:
    network = Network()
    one = network.peer(1, password="")
    stranger = Stranger(network)
    firsts = [stranger.first(one if n % 2 else None).encode() for n in range(50)]
    network.crypto.exchanges = 0
    seconds, count = 5, 4000
    for number in range(seconds * count):
        fresh = stranger.first() if number % 40 == 0 else None
        datagram = fresh.encode() if fresh else firsts[number % 50]
        source = Address(f"198.51.{number % 250}.{number % 199}", number % 9999 + 1)
        network.inject(source, one.address, datagram)
        if number % 40 == 0:
            network.run(seconds / (seconds * count / 40))
    worked_on = admission.FREE_BURST + admission.FREE * seconds + 1
    assert network.crypto.exchanges <= 5 * worked_on
    handshakes = one.sessions._handshakes
    assert len(handshakes._answers) <= answers.MOST
    assert len(handshakes._admission._seen) <= admission.REMEMBERED
    assert len(handshakes._admission._sources) <= admission.SOURCES
    assert len(one.events_of(KeysAdded)) - len(one.events_of(KeysGone)) <= links.WAITING
    assert one.events_of(Established) == []


@pytest.mark.slow
def test_a_real_peer_gets_in_while_strangers_flood() -> None:
    network = Network()
    one, two = network.peer(1, password=""), network.peer(2, password="")
    stranger = Stranger(network)
    firsts = [stranger.first().encode() for _ in range(3000)]
    for number, first in enumerate(firsts[:1000]):
        network.inject(Address("198.51.100.1", number + 1), one.address, first)
    network.connect(two, one)
    for number, first in enumerate(firsts[1000:]):
        network.inject(Address("198.51.100.2", number + 1), one.address, first)
        network.run(0.001)
        if joined(network, one, two):
            break
    assert joined(network, one, two)
    assert network.now < 1002
    assert any(d[0] == Kind.COOKIE and to == two.address for _, to, d in network.wire)


def test_a_cookie_is_good_for_the_address_it_was_sent_to_alone() -> None:
    network = Network()
    one = network.peer(1, password="")
    stranger = Stranger(network)
    flood(network, one, stranger)
    reply, cookie = cookie_for(network, one, stranger)
    assert stranger.admission.read_cookie(reply, bytes(16)) is None
    shown = stranger.first(cookie=cookie).encode()
    for other in (Address(STRANGER.host, 1), Address("203.0.113.8", STRANGER.port)):
        assert answers_to(network, one, other, shown)[0][0] == Kind.COOKIE
    assert answers_to(network, one, STRANGER, shown)[0][0] == Kind.SECOND
    network.run(2 * admission.SECRET_FOR + 1)
    flood(network, one, stranger)
    shown = stranger.first(cookie=cookie).encode()
    assert answers_to(network, one, STRANGER, shown)[0][0] == Kind.COOKIE


def test_a_cookie_makes_a_message_be_sent_once_more_and_no_oftener() -> None:
    network = Network()
    one, two = network.peer(1, password=""), network.peer(2, password="")
    stranger = Stranger(network)
    flood(network, one, stranger)
    network.spoil = lambda *_: []
    network.connect(two, one)
    first = network.wire[-1][2]
    (reply,) = answers_to(network, one, two.address, first)
    before = len(network.wire)
    for _ in range(10):
        network.inject(one.address, two.address, reply)
    (again,) = [d for _, _, d in network.wire[before:]]
    assert (again[:-16], len(again)) == (first[:-16], len(first))
    assert answers_to(network, one, two.address, again)[0][0] == Kind.SECOND


def test_first_contacts_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST", 10)
    network = Network()
    one, two = network.peer(1), network.peer(2)
    stranger = Stranger(network, "secret")
    for _ in range(40):
        assert answers_to(network, one, STRANGER, stranger.first().encode())
        assert len(one.sessions._handshakes._answers) <= 10
    network.connect(two, one)
    network.run(1)
    assert joined(network, one, two)
    network.run(answers.WITHIN)
    assert len(one.sessions._handshakes._answers) == 0


def test_forged_third_messages_end_a_first_contact_before_they_cost_much() -> None:
    network = Network()
    one = network.peer(1, password="")
    stranger = Stranger(network)
    opening = Opening(stranger.party, 7, None, sealed=True)
    first = stranger.admission.message(Kind.FIRST, opening.pattern, 7, opening.first)
    (second,) = answers_to(network, one, STRANGER, first.encode())
    answer = parse(second)
    assert isinstance(answer, Handshake)
    agreed, _ = opening.second(answer.noise)
    network.crypto.exchanges = 0
    for number in range(100):
        noise = bytes([number]) * 280
        index = agreed.hello.index
        forged = stranger.admission.message(Kind.THIRD, opening.pattern, index, noise)
        network.inject(STRANGER, one.address, forged.encode())
    assert network.crypto.exchanges <= answers.WRONG
    assert len(one.sessions._handshakes._answers) == 0


def test_who_shows_cookies_still_gets_no_more_than_his_share() -> None:
    network = Network()
    one = network.peer(1, password="")
    stranger = Stranger(network)
    flood(network, one, stranger)
    _, cookie = cookie_for(network, one, stranger)
    network.crypto.exchanges = 0
    got = [
        answers_to(network, one, STRANGER, stranger.first(cookie=cookie).encode())
        for _ in range(100)
    ]
    assert sum(bool(g) for g in got) <= admission.EACH_BURST
    assert network.crypto.exchanges <= 5 * admission.EACH_BURST


def test_forged_answers_cost_a_bounded_number_of_operations() -> None:
    network = Network()
    one, two = network.peer(1, password=""), network.peer(2, password="")
    stranger = Stranger(network)
    network.leave(two)
    network.connect(one, two, known=True)
    index = int.from_bytes(network.wire[0][2][4:8], "big")
    network.crypto.exchanges = 0
    for number in range(500):
        noise = number.to_bytes(32, "big") + bytes(280 - 32)
        for kind in (Kind.SECOND, Kind.THIRD):
            for pattern in (0, 1):
                if (kind, pattern) != (Kind.THIRD, 1):
                    forged = stranger.admission.message(kind, Pattern(pattern), index, noise)
                    assert answers_to(network, one, STRANGER, forged.encode()) == []
    assert network.crypto.exchanges <= 3 * WRONG
    one.events.clear()


def test_a_forged_third_message_does_not_spoil_the_true_one() -> None:
    network = Network()
    one, two = network.peer(1, password=""), network.peer(2, password="")
    stranger = Stranger(network)

    def also_forged(source: Address, to: Address, datagram: bytes) -> list[tuple[float, bytes]]:
        message = parse(datagram)
        if isinstance(message, Handshake) and message.kind != Kind.FIRST:
            noise = message.noise[:-1] + bytes([message.noise[-1] ^ 1])
            forged = stranger.admission.message(message.kind, message.pattern, message.index, noise)
            return [(0.005, forged.encode()), (0.01, datagram)]
        return [(0.01, datagram)]

    network.spoil = also_forged
    network.connect(one, two)
    network.run(0.5)
    assert joined(network, one, two)


def test_garbage_changes_nothing_and_is_counted() -> None:
    network = Network()
    one, two = network.peer(1), network.peer(2)
    network.connect(one, two)
    network.run(1)
    before = facts([one, two])
    for number in range(2000):
        datagram = bytes([number % 10]) + network.random.randbytes(number % HANDSHAKE)
        assert answers_to(network, one, STRANGER, datagram) == []
    dropped = one.sessions.dropped
    assert facts([one, two]) == before
    assert dropped.malformed + dropped.unknown + dropped.strangers > 1500


@pytest.mark.parametrize("one_identity", [True, False])
def test_sessions_that_nobody_uses_are_few_and_soon_forgotten(
    monkeypatch: pytest.MonkeyPatch, one_identity: bool
) -> None:
    monkeypatch.setattr(links, "WAITING", 20)
    network = Network()
    one = network.peer(1)
    insider = Stranger(network, "secret")
    for _ in range(200):
        insider = insider if one_identity else Stranger(network, "secret")
        network.inject(STRANGER, one.address, insider.first(one).encode())
        network.run(0.05)
        waiting = len(one.events_of(KeysAdded)) - len(one.events_of(KeysGone))
        assert waiting <= (links.WAITING_EACH if one_identity else 20)
    assert len(one.events_of(KeysAdded)) == 200
    network.run(16)
    assert len(one.events_of(KeysGone)) == 200
    assert one.sessions.peers() == ()
    assert one.sessions.deadline() == float("inf")


@pytest.mark.slow
def test_hundreds_of_peers_that_start_at_once_are_all_let_in() -> None:
    network = Network()
    hub = network.peer(0)
    for number in range(1, 251):
        network.connect(network.peer(number), hub)
    network.run(8)
    assert len(hub.sessions.peers()) == 250
    assert hub.events_of(Lost) == []
