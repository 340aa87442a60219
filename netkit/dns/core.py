"""Decide how to answer one DNS query.  Pure: bytes in, a decision out (RFC 1035, RFC 6891).

The usual query, one question and at most an OPT record, is read and answered with a few slices;
whatever looks different is first read by dnslib, which is exact and slower: an answer with one
address takes it 114 us, and 20 us here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from netkit.dns.zones import Addresses, ResolverView

# Docker's is 600 s.  Here an address may be allocated to another container as soon as the last has
# left, so a client that keeps an answer would soon reach the wrong one.
TTL = 5
PLAIN_UDP = 512  # bytes of a UDP answer unless the query has an OPT record
MOST_UDP = 4096  # and with one
MOST_TCP = 65535

A, PTR, AAAA, OPT, IXFR, AXFR = 1, 12, 28, 41, 251, 252
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
BADVERS = 16
_QR, _TC, _RD, _RA = 0x8000, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHHIH")  # a pointer to the question's name, type, class, TTL, length
_POINTER = 0xC00C  # the question's name is at byte 12 of every message
_HEX = frozenset("0123456789abcdef")
_REVERSE, _REVERSE6 = ".in-addr.arpa", ".ip6.arpa"


@dataclass(frozen=True, slots=True)
class Reply:
    message: bytes


@dataclass(frozen=True, slots=True)
class Forward:
    """Not a name of these networks: ask the view's upstream servers."""

    question: bytes  # name, type and class, as the answer must repeat them


@dataclass(frozen=True, slots=True)
class Drop:
    """No answer at all: not even enough for an error, or itself an answer."""


Decision = Reply | Forward | Drop


@dataclass(frozen=True, slots=True)
class _Query:
    id: int
    flags: int
    question: bytes
    name: str  # in lower case; \0 for a dot in a label, as in no name of a container
    kind: int
    class_: int
    payload: int = 0  # largest UDP answer the client takes, 0 without an OPT record
    version: int = 0  # of EDNS


class _Malformed(Exception):
    pass


def answer(view: ResolverView, query: bytes, tcp: bool, turn: int = 0) -> Decision:
    """Decide on one query.  `turn` selects which of a name's addresses comes first."""
    if len(query) < 12:
        return Drop()
    id, flags = struct.unpack_from("!HH", query)
    if flags & _QR:
        return Drop()  # an answer to an answer may go on for ever
    if flags & _OPCODE:
        return Reply(_bare(id, flags, NOTIMP))
    try:
        q = _read(query)
    except _Malformed:
        return Reply(_bare(id, flags, FORMERR))
    if q.version:
        return Reply(_message(q, BADVERS))
    if q.class_ != IN or q.kind in {IXFR, AXFR}:
        return Reply(_message(q, REFUSED))
    return _decide(view, q, tcp, turn)


def _decide(view: ResolverView, q: _Query, tcp: bool, turn: int) -> Decision:
    found = view.addresses(q.name) if q.name else None
    if found is not None:
        # of a container's name everything else is known, too: there is nothing of that type
        kind = {A: 4, AAAA: 6}.get(q.kind)
        of_kind = tuple(a for a in found if (6 if ":" in a else 4) == kind)
        return Reply(_addresses(q, of_kind, tcp, turn) if of_kind else _message(q, NOERROR))
    if view.closed(q.name):
        return Reply(_message(q, NXDOMAIN))
    address = _reversed(q.name)
    name = view.name_of(address) if address else None
    if name is not None:
        return Reply(_message(q, NOERROR, [_wire_name(name)] if q.kind == PTR else []))
    if view.forward and view.upstreams:
        return Forward(q.question)
    return Reply(_message(q, SERVFAIL))


def failure(query: bytes, rcode: int) -> bytes:
    """An answer without content to a query for which `answer` returned Forward."""
    return _message(_read(query), rcode)


def matches(reply: bytes, id: int, question: bytes) -> bool:
    """Whether this is a server's answer to our query."""
    if len(reply) < 12 + len(question):
        return False
    got, flags, questions = struct.unpack_from("!HHH", reply)
    same = reply[12 : 12 + len(question)].lower() == question.lower()
    return got == id and bool(flags & _QR) and questions == 1 and same


def rcode(message: bytes) -> int:
    return message[3] & 0x0F


# reading


def _read(query: bytes) -> _Query:
    id, flags, questions, answers, authorities, extra = _HEADER.unpack_from(query)
    if questions != 1 or answers:
        raise _Malformed
    labels, end = _labels(query)
    if len(query) < end + 4:
        raise _Malformed
    kind, class_ = struct.unpack_from("!HH", query, end)
    end += 4
    payload, version = _edns(query, end, authorities, extra)
    name = b".".join(label.replace(b".", b"\0") for label in labels).lower().decode("latin-1")
    return _Query(id, flags, query[12:end], name, kind, class_, payload, version)


def _labels(query: bytes) -> tuple[list[bytes], int]:
    """The labels of the question's name, and where it ends."""
    labels: list[bytes] = []
    at = 12
    while at < len(query) and (size := query[at]):
        if size > 63 or at + 1 + size > 12 + 254:  # RFC 1035 2.3.4; no pointers in a question
            raise _Malformed
        labels.append(query[at + 1 : at + 1 + size])
        at += 1 + size
    if at >= len(query):
        raise _Malformed
    return labels, at + 1


def _edns(query: bytes, end: int, authorities: int, extra: int) -> tuple[int, int]:
    """(UDP payload size, EDNS version), (0, 0) without EDNS."""
    if not authorities and not extra:
        return (0, 0)  # trailing bytes, if any, are ignored
    head = query[end : end + 11]
    if not authorities and extra == 1 and head[:3] == b"\0\0\x29" and len(head) == 11:
        size, _, version, _, length = struct.unpack("!HBBHH", head[3:])
        if end + 11 + length == len(query):
            return (max(size, PLAIN_UDP), version)
    return _odd_edns(query)


def _odd_edns(query: bytes) -> tuple[int, int]:
    from dnslib import DNSError, DNSRecord  # seldom needed, 31 ms and 5 MB

    try:
        record = DNSRecord.parse(query)
    except (DNSError, ValueError, IndexError, KeyError, struct.error) as e:
        raise _Malformed from e
    found = [r for r in record.ar if r.rtype == OPT]
    if len(found) > 1:  # RFC 6891 6.1.1
        raise _Malformed
    if not found:
        return (0, 0)
    return (max(int(found[0].rclass), PLAIN_UDP), int(found[0].ttl) >> 16 & 0xFF)


def _reversed(name: str) -> str | None:
    """ "4.3.2.10.in-addr.arpa" asks about 10.2.3.4; IPv6: RFC 3596, 2.5."""
    if name.endswith(_REVERSE6):
        digits = name.removesuffix(_REVERSE6).split(".")
        if len(digits) != 32 or any(d not in _HEX for d in digits):
            return None
        return str(IPv6Address(int("".join(reversed(digits)), 16)))
    if not name.endswith(_REVERSE):
        return None
    parts = name.removesuffix(_REVERSE).split(".")
    return ".".join(reversed(parts)) if len(parts) == 4 else None


# writing


def _bare(id: int, flags: int, rcode: int) -> bytes:
    """To what could not be read there is no question to repeat."""
    return _HEADER.pack(id, _QR | _RA | flags & (_OPCODE | _RD) | rcode, 0, 0, 0, 0)


def _message(q: _Query, rcode: int, data: list[bytes] | None = None, cut: bool = False) -> bytes:
    """An answer with records of the type that was asked for."""
    data = data or []
    flags = _QR | _RA | q.flags & _RD | rcode & 0x0F | (_TC if cut else 0)
    edns = q.payload > 0
    parts = [_HEADER.pack(q.id, flags, 1, len(data), 0, int(edns)), q.question]
    for d in data:
        parts += (_RECORD.pack(_POINTER, q.kind, IN, TTL, len(d)), d)
    if edns:
        parts.append(struct.pack("!BHHBBHH", 0, OPT, MOST_UDP, rcode >> 4, 0, 0, 0))
    return b"".join(parts)


def _addresses(q: _Query, found: Addresses, tcp: bool, turn: int) -> bytes:
    first = turn % len(found)
    data = [ip_address(a).packed for a in (*found[first:], *found[:first])]
    size = MOST_TCP if tcp else min(q.payload, MOST_UDP) or PLAIN_UDP
    each = _RECORD.size + len(data[0])
    room = (size - 12 - len(q.question) - (11 if q.payload else 0)) // each
    return _message(q, NOERROR, data[:room], cut=not tcp and len(data) > room)


def _wire_name(name: str) -> bytes:
    labels = [label.encode()[:63] for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
