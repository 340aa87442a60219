"""Cut a frame with several segments into frames with fewer: the kernel's GSO in software.

Needed where a frame is longer than what one call can send, and where segments of a frame were lost
on the way.  Checksums stay as they are with an offload: of the pseudo header only, which has the
length, so it is made anew for each frame.

Sources: RFC 9293 (TCP), RFC 768, RFC 791; Documentation/networking/segmentation-offloads.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from netkit.overlay.sleeve import vnet

FIN, PSH, CWR = 0x01, 0x08, 0x80
CUT = frozenset({vnet.GSO_TCPV4, vnet.GSO_TCPV6, vnet.GSO_UDP_L4})
SHORTEST = vnet.NETWORK + 20 + 8  # bytes of headers


class Malformed(Exception):
    """The frame is not what its virtio header says; it is dropped."""


@dataclass(frozen=True, slots=True)
class Headers:
    """Those of a frame with several segments, its virtio header included, as bytes."""

    template: bytes
    head: vnet.Vnet
    kind: int  # of GSO, without its flag
    transport: int  # where that header begins
    data: int  # bytes of all segments

    @property
    def step(self) -> int:
        """Bytes of each segment but the last."""
        return self.head.gso_size

    def of(self, number: int, length: int) -> bytearray:
        """For a frame with `length` bytes of data that begin with segment `number`.

        Malformed: there is no such data.
        """
        begin = number * self.step
        if length < 1 or begin + length > self.data:
            raise Malformed("a segment that is beyond the frame")
        made, first, last = bytearray(self.template), not begin, begin + length == self.data
        size = len(made) - self.transport + length
        _write_vnet(made, self.head, length, first=first)
        _write_network(made, self.transport, size, number)
        if self.kind == vnet.GSO_UDP_L4:
            struct.pack_into("!H", made, self.transport + 4, size)
        else:
            _write_tcp(made, self.transport, begin, first=first, last=last)
        at = self.transport + self.head.csum_offset
        struct.pack_into("!H", made, at, _pseudo(made, size, self.kind))
        return made


def headers(frame: memoryview) -> Headers:
    """The headers of a frame that begins with its virtio header, or of one's first bytes.

    How much data follows, the network header says.  Malformed.
    """
    if len(frame) < SHORTEST:
        raise Malformed("shorter than its headers")
    head = vnet.read(frame)
    kind = head.gso_type & ~vnet.GSO_ECN
    if kind not in CUT or not head.gso_size:
        raise Malformed(f"no segments in a frame of type {head.gso_type}")
    if not head.flags & vnet.NEEDS_CSUM:
        raise Malformed("segments without a checksum that is to be completed")
    transport = vnet.SIZE + head.csum_start
    end = transport + _transport_length(frame, transport, kind)
    if end > len(frame) or transport + head.csum_offset + 2 > end:
        raise Malformed("the headers are longer than the frame")
    data = vnet.NETWORK + _network_length(frame, transport, kind) - end
    if data < 1:
        raise Malformed("headers and no data")
    return Headers(bytes(frame[:end]), head, kind, transport, data)


def split(frame: memoryview, segments: int) -> Iterator[bytes]:
    """Frames, each with at most this many of the frame's segments.  Malformed.

    `frame` begins with its virtio header; so does each frame that comes out.
    """
    of = headers(frame)
    end = len(of.template)
    if end + of.data != len(frame):
        raise Malformed("another length than its network header says")
    for number in range(0, -(-of.data // of.step), segments):
        begin = end + number * of.step
        data = frame[begin : begin + segments * of.step]
        yield bytes(of.of(number, len(data))) + bytes(data)


def _transport_length(frame: memoryview, at: int, kind: int) -> int:
    """Bytes of the transport header."""
    if kind == vnet.GSO_UDP_L4:
        return 8
    if at + 20 > len(frame) or (length := (frame[at + 12] >> 4) * 4) < 20:
        raise Malformed("no TCP header where there should be one")
    return length


def _network_length(frame: memoryview, transport: int, kind: int) -> int:
    """Bytes from the network header on, as it says; it is what the virtio header says it is."""
    at, ethertype = vnet.NETWORK, bytes(frame[vnet.ETHERTYPE : vnet.NETWORK])
    if ethertype == vnet.IPV4 and kind != vnet.GSO_TCPV6:
        if (size := (frame[at] & 15) * 4) < 20 or at + size > transport:
            raise Malformed("the IPv4 header is longer than it may be")
        return int.from_bytes(frame[at + 2 : at + 4], "big")
    if ethertype == vnet.IPV6 and kind != vnet.GSO_TCPV4:
        if at + 40 > transport:
            raise Malformed("no IPv6 header where there should be one")
        return 40 + int.from_bytes(frame[at + 4 : at + 6], "big")
    raise Malformed("neither IPv4 nor IPv6")


def _write_vnet(made: bytearray, head: vnet.Vnet, length: int, *, first: bool) -> None:
    gso_type, size = (head.gso_type, head.gso_size) if length > head.gso_size else (0, 0)
    if not first:
        gso_type &= ~vnet.GSO_ECN
    end = len(made) - vnet.SIZE
    vnet.VNET.pack_into(
        made, 0, head.flags, gso_type, end if gso_type else 0, size,
        head.csum_start, head.csum_offset,
    )  # fmt: skip


def _write_network(made: bytearray, transport: int, size: int, number: int) -> None:
    """The network header's length; of IPv4, its id (counted by segments) and checksum too."""
    at = vnet.NETWORK
    if bytes(made[vnet.ETHERTYPE : at]) == vnet.IPV6:
        struct.pack_into("!H", made, at + 4, transport - at - 40 + size)
        return
    length = (made[at] & 15) * 4
    identity = int.from_bytes(made[at + 4 : at + 6], "big") + number
    struct.pack_into("!HH", made, at + 2, transport - at + size, identity & 0xFFFF)
    struct.pack_into("!H", made, at + 10, 0)
    struct.pack_into("!H", made, at + 10, folded(made[at : at + length]) ^ 0xFFFF)


def _write_tcp(made: bytearray, at: int, offset: int, *, first: bool, last: bool) -> None:
    sequence = struct.unpack_from("!I", made, at + 4)[0] + offset
    struct.pack_into("!I", made, at + 4, sequence & 0xFFFFFFFF)
    if not last:
        made[at + 13] &= ~(FIN | PSH)
    if not first:
        made[at + 13] &= ~CWR


def _pseudo(made: bytearray, size: int, kind: int) -> int:
    """The sum of the pseudo header, not inverted: RFC 9293, 3.1; RFC 8200, 8.1."""
    protocol = vnet.UDP if kind == vnet.GSO_UDP_L4 else vnet.TCP
    if bytes(made[vnet.ETHERTYPE : vnet.NETWORK]) == vnet.IPV4:
        addresses = made[vnet.NETWORK + 12 : vnet.NETWORK + 20]
    else:
        addresses = made[vnet.NETWORK + 8 : vnet.NETWORK + 40]
    return folded(addresses + struct.pack("!II", size, protocol))


def folded(data: bytes | bytearray) -> int:
    """The sum of 16-bit words in one's complement arithmetic, RFC 1071; `data` has even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
