"""Cut a frame with several segments into frames with fewer: the kernel's GSO in software.

Needed where a frame is longer than what one call can send, and on lossy paths, on which the loss
of one datagram would cost all of a long frame.  Checksums stay as they are with an offload: of the
pseudo header only, which has the length, so it is made anew for each frame.

Sources: RFC 9293 (TCP), RFC 768, RFC 791; Documentation/networking/segmentation-offloads.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from netkit.overlay.sleeve import vnet

FIN, PSH, CWR = 0x01, 0x08, 0x80


class Malformed(Exception):
    """The frame is not what its virtio header says; it is dropped."""


def split(frame: memoryview, segments: int) -> Iterator[bytes]:
    """Frames, each with at most this many of the frame's segments.  Malformed.

    `frame` begins with its virtio header; so does each frame that comes out.
    """
    head = vnet.read(frame)
    kind = head.gso_type & ~vnet.GSO_ECN
    if kind not in {vnet.GSO_TCPV4, vnet.GSO_TCPV6, vnet.GSO_UDP_L4} or not head.gso_size:
        raise Malformed(f"no segments in a frame of type {head.gso_type}")
    transport = vnet.SIZE + head.csum_start
    end = transport + _transport_length(frame, transport, kind)
    if end >= len(frame) or transport < vnet.NETWORK + 20:
        raise Malformed("the headers are longer than the frame")
    step = head.gso_size * segments
    headers = bytes(frame[:end])
    for number, at in enumerate(range(end, len(frame), step)):
        data = frame[at : at + step]
        last = at + step >= len(frame)
        made = bytearray(headers)
        _write_vnet(made, head, kind, len(data), first=number == 0)
        _write_network(made, end, transport, len(data), number * segments)
        if kind == vnet.GSO_UDP_L4:
            struct.pack_into("!H", made, transport + 4, end - transport + len(data))
        else:
            _write_tcp(made, transport, at - end, first=number == 0, last=last)
        _write_checksum(made, head, transport, end - transport + len(data), kind)
        yield bytes(made) + bytes(data)


def _transport_length(frame: memoryview, at: int, kind: int) -> int:
    """Bytes of the transport header."""
    if kind == vnet.GSO_UDP_L4:
        return 8
    if at + 20 > len(frame) or (length := (frame[at + 12] >> 4) * 4) < 20:
        raise Malformed("no TCP header where there should be one")
    return length


def _write_vnet(made: bytearray, head: vnet.Vnet, kind: int, length: int, *, first: bool) -> None:
    gso_type, size = (head.gso_type, head.gso_size) if length > head.gso_size else (0, 0)
    if not first or not gso_type:
        gso_type &= ~vnet.GSO_ECN
    end = len(made) - vnet.SIZE
    vnet.VNET.pack_into(
        made, 0, head.flags, gso_type, end if gso_type else 0, size,
        head.csum_start, head.csum_offset,
    )  # fmt: skip


def _write_network(made: bytearray, end: int, transport: int, data: int, number: int) -> None:
    """The network header's length; of IPv4, its id (counted by segments) and checksum too."""
    at = vnet.NETWORK
    kind = bytes(made[vnet.ETHERTYPE : vnet.NETWORK])
    if kind == vnet.IPV4:
        size = (made[at] & 15) * 4
        if at + size > transport:
            raise Malformed("the IPv4 header is longer than it may be")
        identity = struct.unpack_from("!H", made, at + 4)[0] + number
        struct.pack_into("!HH", made, at + 2, end - at + data, identity & 0xFFFF)
        struct.pack_into("!H", made, at + 10, 0)
        struct.pack_into("!H", made, at + 10, folded(made[at : at + size]) ^ 0xFFFF)
    elif kind == vnet.IPV6:
        struct.pack_into("!H", made, at + 4, end - at - 40 + data)
    else:
        raise Malformed("neither IPv4 nor IPv6")


def _write_tcp(made: bytearray, at: int, offset: int, *, first: bool, last: bool) -> None:
    sequence = struct.unpack_from("!I", made, at + 4)[0] + offset
    struct.pack_into("!I", made, at + 4, sequence & 0xFFFFFFFF)
    if not last:
        made[at + 13] &= ~(FIN | PSH)
    if not first:
        made[at + 13] &= ~CWR


def _write_checksum(
    made: bytearray, head: vnet.Vnet, transport: int, length: int, kind: int
) -> None:
    """The sum of the pseudo header, not inverted: RFC 9293, 3.1; RFC 8200, 8.1."""
    if not head.flags & vnet.NEEDS_CSUM:
        raise Malformed("segments without a checksum that is to be completed")
    at = transport + head.csum_offset
    if at + 2 > len(made):
        raise Malformed("the checksum is not in the headers")
    protocol = vnet.UDP if kind == vnet.GSO_UDP_L4 else vnet.TCP
    if bytes(made[vnet.ETHERTYPE : vnet.NETWORK]) == vnet.IPV4:
        addresses = made[vnet.NETWORK + 12 : vnet.NETWORK + 20]
    else:
        addresses = made[vnet.NETWORK + 8 : vnet.NETWORK + 40]
    total = folded(addresses + struct.pack("!II", length, protocol))
    struct.pack_into("!H", made, at, total)


def folded(data: bytes | bytearray) -> int:
    """The sum of 16-bit words in one's complement arithmetic, RFC 1071; `data` has even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
