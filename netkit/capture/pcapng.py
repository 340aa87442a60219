"""Blocks of pcapng files (draft-ietf-opsawg-pcapng).  Pure.

Not by scapy's PcapNgWriter (2.8): it writes no description of an interface, no statistics, and is
no dependency of netkit's.  Numbers are in this machine's order, as the format allows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
MAGIC, UNKNOWN_LENGTH = 0x1A2B3C4D, -1
COMMENT, USERAPPL = 1, 4
IF_NAME, IF_DESCRIPTION, IF_TSRESOL = 2, 3, 9
EPB_FLAGS = 2
ISB_STARTTIME, ISB_ENDTIME, ISB_IFRECV, ISB_IFDROP = 2, 3, 4, 5
NANOSECONDS = b"\x09"  # 10^-9 s
INBOUND, OUTBOUND = 1, 2  # of epb_flags
UNICAST, MULTICAST, BROADCAST, PROMISCUOUS = 1 << 2, 2 << 2, 3 << 2, 4 << 2
LONGEST_TEXT = 4096  # bytes of an option; the format has 65,535


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the kernel counted at an interface; times in nanoseconds since 1970."""

    start: int
    end: int
    received: int  # that passed the filter, with the dropped ones
    dropped: int


def section(program: str) -> bytes:
    """The header that a file begins with."""
    fixed = struct.pack("=IHHq", MAGIC, 1, 0, UNKNOWN_LENGTH)
    return _block(SECTION, fixed, [_text(USERAPPL, program)])


def interface(name: str, description: str, link_type: int, snaplen: int) -> bytes:
    """One interface.  They are numbered from 0 in the order they are written."""
    options = [
        _text(IF_NAME, name), _text(IF_DESCRIPTION, description), _option(IF_TSRESOL, NANOSECONDS),
    ]  # fmt: skip
    return _block(INTERFACE, struct.pack("=HHI", link_type, 0, snaplen), options)


def packet(
    number: int, stamp: int, data: bytes, length: int, flags: int = 0, comments: Iterable[str] = ()
) -> bytes:
    """A packet of interface `number`; `length` is what it had on the link."""
    fixed = struct.pack("=IIIII", number, *_halves(stamp), len(data), length)
    options = [_option(EPB_FLAGS, struct.pack("=I", flags))] if flags else []
    options += [_text(COMMENT, each) for each in comments]
    return _block(PACKET, fixed + data + bytes(-len(data) % 4), options)


def statistics(number: int, counts: Counts) -> bytes:
    options = [
        _option(ISB_STARTTIME, struct.pack("=II", *_halves(counts.start))),
        _option(ISB_ENDTIME, struct.pack("=II", *_halves(counts.end))),
        _option(ISB_IFRECV, struct.pack("=Q", counts.received)),
        _option(ISB_IFDROP, struct.pack("=Q", counts.dropped)),
    ]
    return _block(STATISTICS, struct.pack("=III", number, *_halves(counts.end)), options)


def _block(kind: int, fixed: bytes, options: list[bytes]) -> bytes:
    body = fixed + (b"".join(options) + bytes(4) if options else b"")
    size = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + size + body + size


def _text(code: int, text: str) -> bytes:
    cut = text.encode(errors="replace")[:LONGEST_TEXT]
    return _option(code, cut.decode(errors="ignore").encode())


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


def _halves(stamp: int) -> tuple[int, int]:
    return stamp >> 32, stamp & 0xFFFFFFFF
