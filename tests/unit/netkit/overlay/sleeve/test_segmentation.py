"""Frames cut in software; tests/netns/test_sleeve.py has them beside the kernel's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.overlay.sleeve import segmentation, vnet
from netkit.overlay.sleeve.segmentation import CWR, FIN, PSH, Malformed, split
from tests.unit.netkit.overlay.sleeve.sleeve_frames import V4, V6, ones_sum, tcp, udp

DATA = bytes(n % 251 for n in range(5000))
OPTIONS = b"\x01\x01\x08\x0a" + bytes(range(8))  # time stamps


def cut(frame: bytes, segments: int = 1) -> list[bytes]:
    return list(split(memoryview(frame), segments))


def sums(frame: bytes) -> bool:
    """Is the IPv4 header's sum right, and the transport's that of the pseudo header?"""
    head, at = vnet.read(frame), vnet.NETWORK
    transport = vnet.SIZE + head.csum_start
    v4 = frame[vnet.ETHERTYPE : at] == vnet.IPV4
    addresses = frame[at + 12 : at + 20] if v4 else frame[at + 8 : at + 40]
    protocol = frame[at + 9] if v4 else frame[at + 6]
    size = len(frame) - transport
    pseudo = ones_sum(addresses + size.to_bytes(4, "big") + protocol.to_bytes(4, "big"))
    stored = int.from_bytes(frame[transport + head.csum_offset :][:2], "big")
    return stored == pseudo and (not v4 or ones_sum(frame[at : at + 20]) == 0xFFFF)


@pytest.mark.parametrize("addresses", [V4, V6])
@pytest.mark.parametrize("segments", [1, 2, 3, 10])
def test_tcp_is_cut_where_the_kernel_would(addresses: tuple[str, str], segments: int) -> None:
    flags = 0x10 | FIN | PSH | CWR
    frame = tcp(DATA, 1000, addresses, flags=flags, options=OPTIONS, ecn=True)
    parts = cut(frame, segments)
    end = len(frame) - len(DATA)
    transport = end - 20 - len(OPTIONS)
    assert b"".join(part[end:] for part in parts) == DATA
    assert all(sums(part) for part in parts)
    for number, part in enumerate(parts):
        head = vnet.read(part)
        several = len(part) - end > 1000
        assert (head.gso_size, head.gso_type & 0x7F) == (
            (1000, 4 if ":" in addresses[0] else 1) if several else (0, 0)
        )
        first, last = number == 0, number == len(parts) - 1
        assert bool(part[transport + 13] & CWR) == first
        assert bool(part[transport + 13] & (FIN | PSH)) == last
        assert bool(head.gso_type & vnet.GSO_ECN) == (first and several)
        sequence = int.from_bytes(part[transport + 4 : transport + 8], "big")
        assert sequence == (0xFFFFFF00 + number * segments * 1000) % 2**32
        assert part[transport + 20 : end] == OPTIONS
        if ":" not in addresses[0]:
            identity = int.from_bytes(part[vnet.NETWORK + 4 : vnet.NETWORK + 6], "big")
            assert identity == (0xFFF0 + number * segments) % 2**16


@pytest.mark.parametrize("addresses", [V4, V6])
def test_udp_is_cut_into_datagrams(addresses: tuple[str, str]) -> None:
    frame = udp(DATA, 1200, addresses)
    parts = cut(frame)
    end = len(frame) - len(DATA)
    assert [len(part) - end for part in parts] == [1200] * 4 + [200]
    assert all(sums(part) for part in parts)
    assert [int.from_bytes(p[end - 4 : end - 2], "big") for p in parts] == [1208] * 4 + [208]


def broken() -> list[bytes]:
    good = tcp(DATA, 1000)
    end = len(good) - len(DATA)
    no_sum, no_size = bytearray(good), bytearray(good)
    no_sum[0] = 0
    no_size[4:6] = bytes(2)
    wrong_family, long_offset = bytearray(good), bytearray(good)
    wrong_family[1] = vnet.GSO_TCPV6
    long_offset[vnet.SIZE + 34 + 12] = 0xF0
    return [
        tcp(b"x" * 100, 1000), bytes(no_sum), bytes(no_size), bytes(wrong_family), good[:end],
        good[:40], good[:-1], good + b"x", bytes(long_offset)[: end + 4], b"",
    ]  # fmt: skip


@pytest.mark.parametrize("frame", broken())
def test_what_is_not_what_it_says_is_malformed(frame: bytes) -> None:
    with pytest.raises(Malformed):
        cut(frame)


@given(st.binary(max_size=300))
def test_any_bytes_are_headers_or_malformed(data: bytes) -> None:
    try:
        of = segmentation.headers(memoryview(data))
        of.of(0, of.data)
    except Malformed:
        return


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6))
def test_changed_frames_are_cut_or_malformed(changes: list[tuple[int, int]]) -> None:
    frame = bytearray(tcp(DATA, 1000, options=OPTIONS))
    for at, value in changes:
        frame[at] = value
    try:
        cut(bytes(frame))
    except Malformed:
        return


def test_there_is_no_segment_beyond_the_frame() -> None:
    of = segmentation.headers(memoryview(tcp(DATA, 1000)))
    for number, length in ((5, 1), (4, 1001), (0, 0), (0, 5001)):
        with pytest.raises(Malformed):
            of.of(number, length)
