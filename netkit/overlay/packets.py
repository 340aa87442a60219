"""Messages of the control socket: any number of bytes, in packets of a SEQPACKET socket.

    packet = 0 (the last of a message) or 1 (more follow) | a part of the message

What is read is bounded: LONGEST bytes a message, so a client that sends without end is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

LAST, MORE = b"\0", b"\1"
PART = 64 << 10  # bytes of a message in one packet; a socket's buffer takes three of them
PACKET = PART + 1
LONGEST = 8 << 20  # bytes of a message: 4,096 endpoints with all that each may have


class Broken(Exception):
    """The other side does not speak this protocol; what is wrong."""


def packets(message: bytes) -> Iterator[bytes]:
    """ValueError: it is too long."""
    if len(message) > LONGEST:
        raise ValueError(f"a message of {len(message)} bytes, of {LONGEST} at most")
    for at in range(0, max(len(message), 1), PART):
        last = at + PART >= len(message)
        yield (LAST if last else MORE) + message[at : at + PART]


class Assembly:
    """Of one connection: packets in, messages out."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, packet: bytes) -> bytes | None:
        """The message that ends with this packet, if one does.  Broken."""
        mark, part = packet[:1], packet[1:]
        if mark not in {LAST, MORE} or (mark == MORE and not part):
            raise Broken("a packet begins with 0 or 1, and has something in it")
        self._size += len(part)
        if self._size > LONGEST:
            raise Broken(f"a message has {LONGEST} bytes at most")
        self._parts.append(part)
        if mark == MORE:
            return None
        message = b"".join(self._parts)
        self._parts, self._size = [], 0
        return message
