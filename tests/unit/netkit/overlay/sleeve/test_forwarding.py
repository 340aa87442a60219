"""Frames through a transmitter and a receiver, and what becomes of datagrams of others."""

from __future__ import annotations

import ctypes
import errno
import random
import socket
import time
from itertools import pairwise
from math import inf

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netkit.overlay.sleeve import framing, vectors, vnet
from netkit.overlay.sleeve.framing import FLAG_ALONE, FLAG_BUNDLE, HEAD, TAG
from netkit.overlay.sleeve.receive import PAUSE
from netkit.overlay.sleeve.segmentation import split
from netkit.overlay.sleeve.vectors import packed_address, unpacked_address
from tests.unit.netkit.overlay.sleeve.sleeve_frames import HERE, THERE, V4, V6, arp, tcp, udp
from tests.unit.netkit.overlay.sleeve.sleeve_pair import HOST, INDEX, KEY, Ends, ends, port_of

pytestmark = pytest.mark.slow  # sockets, and waits for what does not come
DATA = bytes(n % 253 for n in range(30_000))
LARGE = tcp(DATA, 1348, options=bytes(12))
SMALL = [udp(bytes([n]) * 20) for n in range(30)]
WAYS = [(b"", True), (KEY, True), (b"", False), (KEY, False)]


def carried(made: Ends, *frames: bytes) -> list[bytes]:
    return made.arrive(*made.datagrams(*frames))


def segments(frames: list[bytes]) -> list[bytes]:
    """Each by itself."""
    found: list[bytes] = []
    for frame in frames:
        found += split(memoryview(frame), 1) if frame[1] else [frame]
    return found


@pytest.mark.parametrize(("key", "whole"), WAYS)
@pytest.mark.parametrize("size", [1252, 1472, 8972])
def test_frames_come_out_as_they_went_in(key: bytes, whole: bool, size: int) -> None:
    frames = [LARGE, *SMALL, arp(), tcp(b"x" * 900, 1348), tcp(DATA, 1000, V6)]
    with ends(key, size, whole=whole) as made:
        sent = made.datagrams(*frames)
        assert {len(d) <= size for d in sent} == {True}
        assert sorted(segments(made.arrive(*sent))) == sorted(segments(frames))
        assert made.dropped == {}
        assert made.session.counts.missing == 0
        assert made.session.counts.datagrams == len(sent)


@pytest.mark.parametrize(("key", "whole"), WAYS)
def test_what_arrives_at_once_is_one_frame(key: bytes, whole: bool) -> None:
    with ends(key, whole=whole) as made:
        sent = made.datagrams(LARGE)
        assert len(sent) > 20
        assert made.arrive(*sent, segment=len(sent[0])) == [LARGE]


@pytest.mark.parametrize("key", [b"", KEY])
def test_a_frame_that_is_too_long_for_one_call_goes_in_parts(key: bytes) -> None:
    frame = tcp(bytes(n % 253 for n in range(65_000)), 1348, options=bytes(12), flags=0x18)
    with ends(key) as made:
        sent = made.datagrams(frame, frame)
        assert [framing.read(d).pieces for d in sent if framing.read(d).piece == 0] == [44, 2] * 2
        arrived = made.arrive(*sent)
        assert segments(arrived) == segments([frame, frame])
        assert len(arrived) == 4


def test_what_is_sealed_cannot_be_read() -> None:
    with ends() as made:
        for each in made.datagrams(LARGE, *SMALL):
            assert DATA[500:516] not in each
            assert THERE not in each
            assert bytes([3]) * 20 not in each


def test_no_counter_comes_twice() -> None:
    """Sealed under one key, each is a nonce."""
    counters: dict[int, bytes] = {}
    for whole in (True, False):
        with ends(whole=whole) as made:
            for each in made.datagrams(LARGE, *SMALL, LARGE):
                head = framing.read(each)
                if head.piece == 0:
                    assert head.counter not in counters
                    counters[head.counter] = each
        counters.clear()


@pytest.mark.parametrize("key", [b"", KEY])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_payload_may_come_in_several_calls(key: bytes, order: tuple[int, ...]) -> None:
    """A NIC's driver joins what it has at one look."""
    with ends(key) as made:
        sent = made.datagrams(LARGE)
        runs = [sent[:9], sent[9:15], sent[15:]]
        found = [f for n in order for f in made.arrive(*runs[n], segment=len(sent[0]))]
        assert found == [LARGE]
        assert made.dropped == {}


def test_small_frames_that_wait_share_datagrams() -> None:
    with ends() as made:
        sent = made.datagrams(*SMALL)
        assert [framing.read(d).flags for d in sent] == [FLAG_BUNDLE] + [0] * (len(sent) - 1)
        assert len(sent) == -(-sum(len(f) + 2 for f in SMALL) // 1456)
        assert made.arrive(*sent) == SMALL


# loss


def test_a_lost_segment_costs_no_other() -> None:
    with ends(whole=False) as made:
        sent = made.datagrams(LARGE)
        assert all(framing.read(d).flags == FLAG_ALONE for d in sent)
        kept = [d for n, d in enumerate(sent) if n not in {3, 4, 15}]
        arrived = made.arrive(*kept, segment=len(sent[0]))
        wanted = [s for n, s in enumerate(segments([LARGE])) if n not in {3, 4, 15}]
        assert segments(arrived) == wanted
        assert len(arrived) == 3  # joined, between the losses
        assert made.session.opening.missing == 3


def test_two_frames_in_one_call_stay_two() -> None:
    other = tcp(DATA[: 1348 * 20], 1348, options=bytes(12), flags=0x18)
    with ends(whole=False) as made:
        sent = made.datagrams(tcp(DATA[: 1348 * 10], 1348, options=bytes(12)), other)
        assert made.arrive(*sent, segment=len(sent[0])) == [
            tcp(DATA[: 1348 * 10], 1348, options=bytes(12)), other,
        ]  # fmt: skip


@pytest.mark.parametrize("taken", [1, 3, -1], ids=["one before", "the next", "another frame's"])
@pytest.mark.parametrize("key", [KEY, b""], ids=["sealed", "clear"])
def test_as_many_pieces_as_there_should_be_are_no_frame_if_one_is_another(
    key: bytes, taken: int
) -> None:
    one, two = (tcp(DATA[at : at + 1348 * 12], 1348, options=bytes(12)) for at in (0, 1348))
    with ends(key) as made:
        sent = made.datagrams(one, two)
        first, second = sent[: len(sent) // 2], sent[len(sent) // 2 :]
        mixed = [*first[:2], second[2] if taken < 0 else first[taken], *first[3:]]
        assert made.arrive(*mixed, segment=len(first[0])) == []
        assert made.arrive(first[2]) == [one]
        assert made.arrive(*second) == [two]


def test_an_incomplete_payload_is_counted() -> None:
    with ends() as made:
        sent = made.datagrams(LARGE, LARGE)
        assert made.arrive(*sent[1:]) == [LARGE]
        assert made.session.opening.missing == 1
        assert made.arrive(sent[0]) == [LARGE]  # late
        assert made.session.opening.missing == 0


@pytest.mark.parametrize(("key", "whole"), WAYS)
def test_datagrams_in_any_order(key: bytes, whole: bool) -> None:
    with ends(key, whole=whole) as made:
        sent = made.datagrams(LARGE, *SMALL)
        random.Random(3).shuffle(sent)
        assert sorted(segments(made.arrive(*sent))) == sorted(segments([LARGE, *SMALL]))


# what is not ours


def changed(data: bytes, at: int, bits: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


@pytest.mark.parametrize("whole", [True, False])
def test_forgeries_are_dropped_and_counted(whole: bool) -> None:
    with ends(whole=whole) as made:
        (sent,) = made.datagrams(arp())
        places = [n for n in range(len(sent)) if not 4 <= n < 8 and n not in {0, 2, 3}]
        assert made.arrive(*(changed(sent, n) for n in places)) == []
        assert made.dropped == {"forged or replayed": len(places)}
        assert made.arrive(sent) == [arp()]


@pytest.mark.parametrize("whole", [True, False])
def test_replays_are_dropped(whole: bool) -> None:
    with ends(whole=whole) as made:
        sent = made.datagrams(LARGE, *SMALL)
        made.arrive(*sent)
        assert made.arrive(*sent) == []
        assert made.arrive(*made.datagrams(LARGE)) != []


def test_truncated_ones_are_dropped() -> None:
    with ends() as made:
        (sent,) = made.datagrams(arp())
        assert made.arrive(*(sent[:n] for n in range(len(sent)))) == []
        assert made.dropped == {"short": HEAD, "forged or replayed": len(sent) - HEAD}


def test_another_index_or_type_is_nobodys() -> None:
    with ends() as made:
        (sent,) = made.datagrams(arp())
        assert made.arrive(changed(sent, 7), changed(sent, 0)) == []
        assert made.dropped == {"no session": 2}


def test_in_clear_another_sender_is_refused() -> None:
    with ends(b"") as made:
        made.session.address = b"\x02\x00\x00\x00\x7f\x00\x00\x09"
        assert carried(made, arp()) == []
        assert made.dropped == {"other sender": 1}


def test_an_inner_source_that_is_not_the_peers_is_dropped() -> None:
    lies = [arp(V4[1]), arp(source=THERE), udp(b"x", 0, (V4[1], V4[0])), udp(b"x", 0, V6[::-1])]
    for key, whole in WAYS:
        with ends(key, whole=whole) as made:
            assert carried(made, *lies, arp(), tcp(DATA, 1348, V4[::-1])) == [arp()]
            assert made.dropped["source"] >= len(lies) + 1


def test_a_network_that_is_not_here_is_dropped() -> None:
    with ends() as made:
        made.receiver._ports.clear()
        assert carried(made, arp()) == []
        assert made.dropped == {"no such network": 1}


def test_frames_to_nobody_are_not_sent() -> None:
    stranger = bytearray(SMALL[0])
    stranger[vnet.DESTINATION] = bytes.fromhex("0242000000ff")
    with ends() as made:
        assert made.datagrams(bytes(stranger), b"short") == []
        assert made.transmitter.dropped == {"unknown destination": 1, "short": 1}
        del made.peers[7]
        made.transmitter.changed()
        assert made.datagrams(SMALL[0]) == []
        assert made.transmitter.dropped["no path"] == 1


# any bytes


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_the_receiver_takes_any_bytes(fuzzed: dict[bytes, Ends], data: st.DataObject) -> None:
    """And what is right is received after them."""
    made = fuzzed[data.draw(st.sampled_from([b"", KEY]))]
    header = st.builds(
        framing.header, st.integers(0, 3), st.integers(0, 70), st.integers(0, 70),
        st.just(INDEX), st.integers(0, 2**64 - 1),
    )  # fmt: skip
    inner = st.one_of(st.binary(max_size=80), st.sampled_from([LARGE[:90], arp(), SMALL[0]]))
    body = st.builds(
        lambda front, number, frame: front + number.to_bytes(2, "big") + frame,
        st.just(framing.front(5)), st.integers(0, 65_535), inner,
    )  # fmt: skip
    some = st.one_of(st.binary(max_size=100), st.builds(lambda h, b: h + b, header, body))
    for each in data.draw(st.lists(some, max_size=4)):
        made.relay.sendto(each, made.end.getsockname())
        made.receiver.step()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4))
def test_a_peer_may_seal_anything(changes: list[tuple[int, int]]) -> None:
    """It holds the key: what it says of segments is checked."""
    with ends(b"", whole=False) as made:
        made.transmitter.flush()
        frame = bytearray(LARGE)
        body = framing.front(5) + bytes(2) + bytes(frame[: 76 + 1348])
        datagram = bytearray(framing.header(FLAG_ALONE, 0, 1, INDEX, 1) + body)
        for at, value in changes:
            datagram[HEAD + at] = value
        for each in (bytes(datagram), bytes(datagram)):
            made.relay.sendto(each, made.end.getsockname())
            made.receiver.step()


@pytest.fixture(scope="module")
def fuzzed() -> object:
    with ends(b"") as clear, ends(KEY) as sealed:
        yield {b"": clear, KEY: sealed}
        for made in (clear, sealed):
            found: list[bytes] = []  # a forged piece may have taken a payload's place, no more
            while not found:
                found = carried(made, LARGE)


assert TAG == 16
assert all(a != b for a, b in pairwise(SMALL))
assert HERE != THERE


@pytest.mark.parametrize("key", [b"", KEY])
def test_sealed_data_says_where_it_comes_from_now_unless_it_is_old(key: bytes) -> None:
    """Data in clear proves nothing."""
    with ends(key) as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, 0))
        first, late, replayed, last = (made.datagrams(f)[0] for f in SMALL[:4])
        forged = last[:-1] + bytes([last[-1] ^ 1])
        made.arrive(first)
        made.arrive(replayed)
        for each in (late, replayed, forged):
            made.arrive(each, by=other)
        usual = INDEX, (HOST, port_of(made.relay))
        assert made.found == ([usual] if key else [])
        made.session.found = -inf
        made.arrive(last, by=other)
        assert made.found == ([usual, (INDEX, (HOST, port_of(other)))] if key else [])


def test_where_data_comes_from_is_told_ten_times_a_second_at_most() -> None:
    with ends() as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, 0))
        many = [made.datagrams(frame)[0] for frame in SMALL]
        begin = time.monotonic()
        for n, each in enumerate(many):
            made.arrive(each, by=(made.relay, other)[n % 2])
        assert 1 <= len(made.found) <= 2 + (time.monotonic() - begin) / PAUSE


@pytest.mark.parametrize("address", [("192.0.2.7", 6783), ("2001:db8::7", 1)])
def test_addresses_are_unpacked_as_they_were_packed(address: tuple[str, int]) -> None:
    assert unpacked_address(packed_address(*address)) == address
    with pytest.raises(ValueError, match="no address"):
        unpacked_address(packed_address(*address)[:6])


class OldKernel:
    """The C library on one that cuts nothing for the device."""

    def __getattr__(self, name: str) -> object:
        return getattr(LIBC, name)

    def sendmsg(self, fd: int, at: int, flags: int) -> int:
        if vectors._Msghdr.from_address(at).controllen:
            ctypes.set_errno(errno.EIO)
            return -1
        return int(LIBC.sendmsg(fd, at, flags))


LIBC = vectors._libc


@pytest.mark.parametrize(("key", "whole"), WAYS)
def test_where_the_kernel_cuts_nothing_datagrams_are_sent_one_by_one(
    monkeypatch: pytest.MonkeyPatch, key: bytes, whole: bool
) -> None:
    monkeypatch.setattr(vectors, "_libc", OldKernel())
    frames = [LARGE, *SMALL, tcp(b"x" * 900, 1348), LARGE]
    with ends(key, whole=whole) as made:
        assert sorted(segments(carried(made, *frames))) == sorted(segments(frames))
        assert made.dropped == {}
        assert made.session.counts.missing == 0
