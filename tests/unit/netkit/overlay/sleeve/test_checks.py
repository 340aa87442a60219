"""Which inner source addresses a peer may use."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from netkit.overlay.sleeve import vnet
from netkit.overlay.sleeve.checks import Sources
from tests.unit.netkit.overlay.sleeve.sleeve_frames import HERE, THERE, V4, V6, arp, tcp, udp

PEER, STRANGER = 1, 2


def advertisement(target: str) -> bytes:
    """Of a neighbour: ICMPv6."""
    body = b"\x88" + bytes(7) + ip_address(target).packed
    frame = bytearray(udp(body, 0, V6))
    frame[vnet.NETWORK + 6] = 58
    del frame[vnet.NETWORK + 40 : vnet.NETWORK + 48]
    return bytes(frame)


@pytest.fixture
def sources() -> Sources:
    made = Sources()
    made.put(HERE, PEER, [ip_address(V4[0]).packed, ip_address(V6[0]).packed])
    made.put(THERE, STRANGER, [ip_address(V4[1]).packed])
    return made


@pytest.mark.parametrize(
    "frame",
    [
        tcp(b"x", 1000), tcp(b"x", 1000, V6), udp(b"x"), arp(), arp("0.0.0.0"),
        udp(b"x", 0, ("fe80::1", "ff02::1")), udp(b"x", 0, ("::", "ff02::1")),
        udp(b"x", 0, ("0.0.0.0", "255.255.255.255")), bytes(16) + HERE + b"\x88\xcc",
        advertisement(V6[0]), advertisement("fe80::1"),
    ],
)  # fmt: skip
def test_addresses_of_its_own_are_its_own(sources: Sources, frame: bytes) -> None:
    assert sources.allows(PEER, memoryview(frame))
    assert not sources.allows(STRANGER, memoryview(frame))


@pytest.mark.parametrize(
    "frame",
    [
        tcp(b"x", 1000, (V4[1], V4[0])), udp(b"x", 0, (V6[1], V6[0])), arp(V4[1]),
        arp(source=THERE), tcp(b"x", 1000)[:38], arp()[:30],
        advertisement(V6[1]),
    ],
)  # fmt: skip
def test_anothers_addresses_are_not(sources: Sources, frame: bytes) -> None:
    assert not sources.allows(PEER, memoryview(frame))


def test_a_container_that_is_gone_sends_no_more(sources: Sources) -> None:
    sources.drop(HERE)
    sources.drop(HERE)
    assert not sources.allows(PEER, memoryview(tcp(b"x", 1000)))
