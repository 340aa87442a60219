"""What the overlay's port lets through, by a filter in the kernel."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from netkit.overlay.sleeve.sockets import Pair

LENGTHS = {1: 320, 4: 56}


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair("127.0.0.1", 0)
    made.control.settimeout(0.5)
    yield made
    made.close()


def header(kind: int, index: int, size: int = 40) -> bytes:
    return struct.pack("!BBHIQ", kind, 0, 0, index, 0) + bytes(size - 16)


def sent(pair: Pair, *datagrams: bytes) -> list[bytes]:
    """What of these comes through to the control socket; the last one always does."""
    end = header(5, 7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for each in (*datagrams, end):
            s.sendto(each, ("127.0.0.1", pair.port))
    found = []
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (got := pair.control.recv(2000)) != end:
        found.append(got)
    return found


def test_control_gets_what_has_its_length_or_a_known_index(pair: Pair) -> None:
    pair.admit(LENGTHS, {7, 9})
    good = [bytes([1]) + bytes(319), bytes([4]) + bytes(55), header(7, 9), header(5, 9, 1200)]
    bad = [
        b"", b"\1", bytes([1]) + bytes(318), bytes([1]) + bytes(320), bytes([4]) + bytes(319),
        header(5, 8), header(7, 0), bytes([5]), bytes(40), header(2, 5), b"\xff" * 400,
    ]  # fmt: skip
    assert sent(pair, *bad[:5], *good, *bad[5:]) == good


def test_without_sessions_only_first_contacts_come_through(pair: Pair) -> None:
    pair.admit(LENGTHS, ())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(header(5, 7), ("127.0.0.1", pair.port))
        s.sendto(bytes([1]) + bytes(319), ("127.0.0.1", pair.port))
    assert pair.control.recv(2000) == bytes([1]) + bytes(319)
