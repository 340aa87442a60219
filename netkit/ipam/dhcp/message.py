"""DHCP messages, and the frames they travel in.  Pure.

    ethernet 14 | ipv4 20 | udp 8 | op htype hlen hops | xid 4 | secs 2 flags 2 | ciaddr yiaddr
    siaddr giaddr 16 | chaddr 16 | sname 64 | file 128 | magic 4 | options: code length value ...

Sources: RFC 2131, RFC 2132.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s192x4s")
ETHERNET, IP, UDP = struct.Struct("!6s6sH"), struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!HHHH")
MAGIC = bytes((99, 130, 83, 99))
ETH_P_IP, IPPROTO_UDP, MORE_OR_OFFSET = 0x0800, 17, 0x3FFF
SERVER, CLIENT = 67, 68  # ports
ASK, ANSWER = 1, 2  # op
BROADCAST = 0x8000  # flag: answer by broadcast
EVERYBODY, EVERYWHERE, NOWHERE = "ff:ff:ff:ff:ff:ff", IPv4Address("255.255.255.255"), IPv4Address(0)
PAD, MASK, ROUTER, HOSTNAME, ADDRESS, SECONDS, KIND, SERVER_ID = 0, 1, 3, 12, 50, 51, 53, 54
PARAMETERS, T1, T2, CLIENT_ID, END = 55, 58, 59, 61, 255
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = range(1, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    op: int
    xid: int
    mac: str  # of the client, chaddr
    secs: int = 0
    flags: int = 0
    ciaddr: IPv4Address = NOWHERE  # the client's, where it has one
    yiaddr: IPv4Address = NOWHERE  # what the server gives
    options: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def kind(self) -> int:
        raw = self.options.get(KIND, b"")
        return raw[0] if len(raw) == 1 else 0

    def address(self, option: int) -> IPv4Address | None:
        """The first address in an option."""
        raw = self.options.get(option, b"")
        return IPv4Address(raw[:4]) if len(raw) >= 4 else None

    def number(self, option: int) -> int | None:
        raw = self.options.get(option, b"")
        return int.from_bytes(raw, "big") if len(raw) == 4 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """A message between two ends, by MAC and IP address."""

    message: Message
    source: str
    source_ip: IPv4Address = NOWHERE
    to: str = EVERYBODY
    to_ip: IPv4Address = EVERYWHERE


def encode(m: Message) -> bytes:
    head = HEAD.pack(
        m.op, 1, 6, 0, m.xid, m.secs, m.flags,
        m.ciaddr.packed, m.yiaddr.packed, bytes(4), bytes(4), _raw(m.mac), MAGIC,
    )  # fmt: skip
    options = b"".join(bytes((code, len(value))) + value for code, value in m.options.items())
    return (head + options + bytes((END,))).ljust(300, b"\0")  # BOOTP's least, RFC 1542, 2.1


def decode(data: bytes) -> Message | None:
    """None for what is no DHCP message on Ethernet.  An option in pieces is joined (RFC 3396)."""
    if len(data) < HEAD.size:
        return None
    op, htype, hlen, _, xid, secs, flags, ciaddr, yiaddr, _, _, mac, magic = HEAD.unpack_from(data)
    if (htype, hlen, magic) != (1, 6, MAGIC):
        return None
    options: dict[int, bytes] = {}
    at = HEAD.size
    while at < len(data) and data[at] != END:
        if data[at] == PAD:
            at += 1
            continue
        if at + 1 >= len(data) or at + 2 + data[at + 1] > len(data):
            return None
        value = data[at + 2 : at + 2 + data[at + 1]]
        options[data[at]] = options.get(data[at], b"") + value
        at += 2 + len(value)
    return Message(
        op=op,
        xid=xid,
        mac=mac[:6].hex(":"),
        secs=secs,
        flags=flags,
        ciaddr=IPv4Address(ciaddr),
        yiaddr=IPv4Address(yiaddr),
        options=options,
    )


def frame(d: Datagram) -> bytes:
    """From a client to a server; without a UDP checksum, which is optional in IPv4 (RFC 768)."""
    body = encode(d.message)
    udp = UDP.pack(CLIENT, SERVER, UDP.size + len(body), 0)
    size = IP.size + len(udp) + len(body)

    def header(checksum: int) -> bytes:
        ends = d.source_ip.packed, d.to_ip.packed
        return IP.pack(0x45, 0x10, size, 0, 0, 64, IPPROTO_UDP, checksum, *ends)

    ether = ETHERNET.pack(_raw(d.to), _raw(d.source), ETH_P_IP)
    return ether + header(_checksum(header(0))) + udp + body


def parse(data: bytes) -> Datagram | None:
    """A frame from a server to a client; None for anything else."""
    if len(data) < ETHERNET.size + IP.size + UDP.size:
        return None
    to, source, kind = ETHERNET.unpack_from(data)
    first, _, size, _, fragment, _, proto, _, source_ip, to_ip = IP.unpack_from(data, ETHERNET.size)
    at = ETHERNET.size + (first & 0xF) * 4
    if (kind, first >> 4, proto) != (ETH_P_IP, 4, IPPROTO_UDP) or fragment & MORE_OR_OFFSET:
        return None
    if len(data) < at + UDP.size or UDP.unpack_from(data, at)[:2] != (SERVER, CLIENT):
        return None
    message = decode(data[at + UDP.size : ETHERNET.size + size])
    if message is None:
        return None
    return Datagram(
        message=message,
        source=source.hex(":"),
        source_ip=IPv4Address(source_ip),
        to=to.hex(":"),
        to_ip=IPv4Address(to_ip),
    )


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
