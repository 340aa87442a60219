"""The header before each frame of a TAP device with IFF_VNET_HDR, and addresses in frames.

`struct virtio_net_hdr` (virtio 1.2, 5.1.6), little-endian: flags 1 | gso_type 1 | hdr_len 2 |
gso_size 2 | csum_start 2 | csum_offset 2.  `csum_start` counts from the Ethernet header.  The
kernel's `hdr_len` is no more than a hint (Documentation/networking/tuntap.rst), and is not used.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

VNET = struct.Struct("<BBHHHH")
SIZE = VNET.size  # bytes
NEEDS_CSUM = 1  # flag: the checksum is of the pseudo header only, so far
GSO_NONE, GSO_TCPV4, GSO_UDP_L4, GSO_TCPV6 = 0, 1, 5, 4
GSO_ECN = 0x80  # with one of TCP's: the first segment has CWR
TCP, UDP = 6, 17

DESTINATION = slice(SIZE, SIZE + 6)  # of a frame with its virtio header
SOURCE = slice(SIZE + 6, SIZE + 12)
ETHERTYPE = SIZE + 12
NETWORK = SIZE + 14  # where the network header begins; frames with VLAN tags are not special
LOOKED_AT = NETWORK + 64  # bytes of a frame, at most, that addresses are in
SHORTEST = SIZE + 14  # bytes of a frame that has an Ethernet header
ICMPV6, ADVERTISEMENT = b"\x3a", b"\x88"  # a protocol, and a type of it
IPV4, ARP, IPV6 = b"\x08\x00", b"\x08\x06", b"\x86\xdd"


class Vnet(NamedTuple):
    flags: int
    gso_type: int
    hdr_len: int
    gso_size: int
    csum_start: int
    csum_offset: int


def read(frame: bytes | memoryview) -> Vnet:
    """Of a frame that has at least SIZE bytes."""
    return Vnet._make(VNET.unpack_from(frame))


def source_address(frame: bytes) -> bytes | None:
    """The IPv4 or IPv6 source of a frame, of ARP its sender; None if it is none of these.

    A frame that is too short for what it says it is has a short address, which belongs to no one.
    """
    kind = frame[ETHERTYPE:NETWORK]
    if kind == IPV4:
        return frame[NETWORK + 12 : NETWORK + 16]
    if kind == IPV6:
        return frame[NETWORK + 8 : NETWORK + 24]
    if kind == ARP:
        return frame[NETWORK + 14 : NETWORK + 18]
    return None


def advertised(frame: bytes) -> bytes | None:
    """Of a neighbour advertisement (RFC 4861, 4.4) whose address it is; else None."""
    at = NETWORK + 40
    if frame[ETHERTYPE:NETWORK] != IPV6 or frame[NETWORK + 6 : NETWORK + 7] != ICMPV6:
        return None
    return frame[at + 8 : at + 24] if frame[at : at + 1] == ADVERTISEMENT else None
