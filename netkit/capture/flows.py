"""Which flow a packet begins.  Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from netkit.kernel.packet_socket import ETHERNET

IPV4, DOT1Q = 0x0800, 0x8100
ICMP, TCP, UDP = 1, 6, 17
ECHO_REQUEST = 8
SYN, ACK = 0x02, 0x10
FRAGMENT = 0x1FFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """`port` is the target's; 0 for icmp.  The source's port is not part of it."""

    source: str
    target: str
    proto: str
    port: int = 0

    @property
    def service(self) -> str:
        return f"{self.port}/{self.proto}" if self.port else self.proto


def request(data: bytes, link_type: int) -> Flow | None:
    """The flow of a packet that asks: the first of TCP, an echo request, any of UDP; else None."""
    if link_type == ETHERNET:
        kind = int.from_bytes(data[12:14], "big")
        data = data[14:]
        if kind == DOT1Q:
            kind, data = int.from_bytes(data[2:4], "big"), data[4:]
        if kind != IPV4:
            return None
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    (offset,) = struct.unpack_from("!H", data, 6)
    if offset & FRAGMENT:
        return None
    source, target = str(IPv4Address(data[12:16])), str(IPv4Address(data[16:20]))
    rest = data[(data[0] & 15) * 4 :]
    if data[9] == ICMP and rest[:1] == bytes([ECHO_REQUEST]):
        return Flow(source=source, target=target, proto="icmp")
    if data[9] == TCP and len(rest) >= 14 and rest[13] & (SYN | ACK) == SYN:
        port = int.from_bytes(rest[2:4], "big")
        return Flow(source=source, target=target, proto="tcp", port=port)
    if data[9] == UDP and len(rest) >= 8:
        port = int.from_bytes(rest[2:4], "big")
        return Flow(source=source, target=target, proto="udp", port=port)
    return None
