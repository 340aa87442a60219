"""Encode and decode keys and data of nf_tables sets.  Pure.

    ipv4_addr    4 bytes          172.18.0.2
    inet_proto   1 byte,  to 4    tcp                a key of several fields is their
    inet_service 2 bytes, to 4    80                 concatenation, each padded to 4 bytes;
    ifname       16 bytes         br0                one alone is not
    ether_addr   6 bytes, to 8    02:42:ac:11:00:02

A range is two such values, the lowest and the highest.  The numbers of the types are nft's, the
kernel only keeps them.  Source: nftables, include/datatype.h.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, summarize_address_range

from netkit.errors import KernelError

TYPES = {"ipv4_addr": 7, "ether_addr": 9, "inet_proto": 12, "inet_service": 13, "ifname": 41}
NAMES = {number: name for name, number in TYPES.items()}
SIZES = {  # bytes
    "ipv4_addr": 4,
    "ether_addr": 6,
    "inet_proto": 1,
    "inet_service": 2,
    "ifname": 16,
}
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
PADS = {kind: bytes(-size & 3) for kind, size in SIZES.items()}
TYPE_BITS = 6  # of each field, in the number that names a concatenation
PROTOCOLS = {
    "icmp": socket.IPPROTO_ICMP,
    "tcp": socket.IPPROTO_TCP,
    "udp": socket.IPPROTO_UDP,
    "sctp": 132,  # not on every libc
}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


@dataclass(frozen=True, slots=True)
class Span:
    """The lowest and the highest value of a key, which are the same unless it is a range."""

    low: bytes
    high: bytes


def types_of(number: int) -> tuple[str, ...]:
    """Field types of a set, from the number that the kernel keeps for nft."""
    out: list[str] = []
    while number:
        out.append(NAMES.get(number & ((1 << TYPE_BITS) - 1), "unknown"))
        number >>= TYPE_BITS
    return tuple(reversed(out))


def pack(types: Sequence[str], texts: Sequence[str]) -> Span:
    """KernelError for a text that is no value of its type."""
    if len(types) != len(texts):
        raise KernelError(f"{' . '.join(texts)} is no {' . '.join(types)}")
    low = high = b""
    for kind, text in zip(types, texts, strict=True):
        if kind not in SIZES:
            raise KernelError(f"sets of {kind} are not known")
        one, other = _limits(kind, text)
        pad = PADS[kind] if len(types) > 1 else b""
        low, high = low + one + pad, high + other + pad
    return Span(low, high)


def unpack(types: Sequence[str], span: Span) -> tuple[str, ...]:
    """The texts that `pack` would take; of a type we do not know, the number in hexadecimal."""
    out: list[str] = []
    at = 0
    for kind in types:
        size = SIZES.get(kind, len(span.low) - at)
        out.append(_text(kind, span.low[at : at + size], span.high[at : at + size]))
        at += (size + 3) & ~3
    return tuple(out)


def _limits(kind: str, text: str) -> tuple[bytes, bytes]:
    try:
        if kind == "ifname":
            name = text.encode().ljust(SIZES[kind], b"\0")
            if len(name) > SIZES[kind]:
                raise ValueError("too long")
            return name, name
        if kind == "ipv4_addr" and "/" in text:
            net = IPv4Network(text)
            return net[0].packed, net[-1].packed
        first, dash, last = text.partition("-")
        low = _value(kind, first)
        return low, _value(kind, last) if dash else low
    except (OSError, ValueError, KeyError, OverflowError) as e:
        raise KernelError(f"{text!r} is no {kind}") from e


def _value(kind: str, text: str) -> bytes:
    if kind == "ipv4_addr":
        return socket.inet_pton(socket.AF_INET, text)  # ten times as fast as IPv4Address
    if kind == "ether_addr":
        if not MAC.fullmatch(text):
            raise ValueError("not six bytes")
        return bytes.fromhex(text.replace(":", ""))
    if kind == "inet_proto" and text in PROTOCOLS:
        return bytes((PROTOCOLS[text],))
    if not text.isdecimal():  # int() would take blanks, too
        raise ValueError("not a number")
    return int(text).to_bytes(SIZES[kind], "big")


def _text(kind: str, low: bytes, high: bytes) -> str:
    if kind == "ifname":
        return low.rstrip(b"\0").decode(errors="replace")
    if kind == "ipv4_addr":
        return socket.inet_ntop(socket.AF_INET, low) if low == high else _addresses(low, high)
    if kind == "ether_addr":
        return low.hex(":") if low == high else f"{low.hex(':')}-{high.hex(':')}"
    if kind not in SIZES:
        return low.hex()
    one = int.from_bytes(low, "big")
    if low != high:
        return f"{one}-{int.from_bytes(high, 'big')}"
    return PROTOCOL_NAMES.get(one, str(one)) if kind == "inet_proto" else str(one)


def _addresses(low: bytes, high: bytes) -> str:
    first, last = IPv4Address(low), IPv4Address(high)
    nets = list(summarize_address_range(first, last)) if first < last else []
    return str(nets[0]) if len(nets) == 1 else f"{first}-{last}"
