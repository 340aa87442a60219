"""Frames as a TAP device gives them, and what a segment's checksums have to be."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from netkit.overlay.sleeve import vnet

HERE, THERE = bytes.fromhex("024200000001"), bytes.fromhex("024200000002")
V4, V6 = ("10.32.0.1", "10.32.0.2"), ("fd00::1", "fd00::2")


def ones_sum(data: bytes) -> int:
    total = sum(data[0::2]) * 256 + sum(data[1::2])
    while total > 0xFFFF:
        total = total % 0x10000 + total // 0x10000
    return total


def _network(transport: int, size: int, addresses: tuple[str, str]) -> bytes:
    source, target = (ip_address(a).packed for a in addresses)
    if len(source) == 4:
        made = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0xFFF0, 0x4000, 64, transport, 0)
        made += source + target
        return made[:10] + struct.pack("!H", ones_sum(made) ^ 0xFFFF) + made[12:]
    return struct.pack("!IHBB", 6 << 28, size, transport, 64) + source + target


def _pseudo(transport: int, size: int, addresses: tuple[str, str]) -> int:
    source, target = (ip_address(a).packed for a in addresses)
    return ones_sum(source + target + struct.pack("!II", size, transport))


def tcp(
    data: bytes, mss: int, addresses: tuple[str, str] = V4, *, flags: int = 0x10,
    options: bytes = b"", ecn: bool = False,
) -> bytes:  # fmt: skip
    """With its checksum of the pseudo header only; of several segments if longer than `mss`."""
    v6, size = ":" in addresses[0], 20 + len(options) + len(data)
    header = struct.pack(
        "!HHIIBBHHH", 40000, 5001, 0xFFFFFF00, 7, (20 + len(options)) // 4 << 4, flags, 500,
        _pseudo(vnet.TCP, size, addresses), 0,
    )  # fmt: skip
    several = len(data) > mss
    kind = (vnet.GSO_TCPV6 if v6 else vnet.GSO_TCPV4) | (vnet.GSO_ECN if ecn else 0)
    start = 54 if v6 else 34
    head = vnet.VNET.pack(
        vnet.NEEDS_CSUM, kind if several else 0, start + 20 + len(options) if several else 0,
        mss if several else 0, start, 16,
    )  # fmt: skip
    return (
        head + THERE + HERE + (vnet.IPV6 if v6 else vnet.IPV4)
        + _network(vnet.TCP, size, addresses) + header + options + data
    )  # fmt: skip


def udp(data: bytes, each: int = 0, addresses: tuple[str, str] = V4) -> bytes:
    """Of several datagrams with `each`; else one."""
    v6, size = ":" in addresses[0], 8 + len(data)
    header = struct.pack("!HHHH", 40000, 53, size, _pseudo(vnet.UDP, size, addresses))
    start = 54 if v6 else 34
    head = vnet.VNET.pack(
        vnet.NEEDS_CSUM, vnet.GSO_UDP_L4 if each else 0, start + 8 if each else 0, each, start, 6
    )
    return (
        head + THERE + HERE + (vnet.IPV6 if v6 else vnet.IPV4)
        + _network(vnet.UDP, size, addresses) + header + data
    )  # fmt: skip


def arp(sender: str = V4[0], source: bytes = HERE) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + source + ip_address(sender).packed + bytes(10)
    return bytes(vnet.SIZE) + b"\xff" * 6 + source + vnet.ARP + body
