"""Netlink framing: requests out, answers back, matched by sequence number.

    nlmsghdr   | length 4 | type 2 | flags 2 | sequence 4 | port 4 | payload, padded to 4 ...
    attribute  | length 2 | type 2 | payload, padded to 4 ...
    ack        nlmsghdr(NLMSG_ERROR) | -errno 4 | request's nlmsghdr 16 | extended ack attributes

Own, for what is done while containers start and stop: a veth pair that is set up, with an address
and a route, costs 1.3 ms of CPU time, 9 by pyroute2's IPRoute and 7.5 by its IPBatch, which take
0.5 to 1 ms to encode a request (`python -m bench.netlink`; pyroute2 0.9.7).  All else: `messages`.
Sources: linux/netlink.h; kernel Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from netkit.errors import KernelError

HEADER = struct.Struct("=IHHII")
ATTR = struct.Struct("=HH")
IFINFO = struct.Struct("=BxHiII")  # family, ARPHRD type, index, flags, which flags

REQUEST, ACK = 0x1, 0x4
ROOT, MATCH = 0x100, 0x200
DUMP = ROOT | MATCH
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400
DUMP_INTERRUPTED = 0x10
CAPPED, ACK_TLVS = 0x100, 0x200

MSG_ERROR, MSG_DONE = 2, 3
MSGERR_ATTR_MSG = 1
NESTED, TYPE_MASK = 0x8000, 0x3FFF

SOL_NETLINK = 270
EXT_ACK, CAP_ACK, STRICT_CHK = 11, 10, 12
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
BUFFER = 4 << 20  # bytes; 4 MiB hold the acks of some 5000 requests
BATCH = 64  # requests per send: their acks never overflow even the default buffer
CHUNK = 1 << 16  # bytes per receive; a dump comes in pieces of at most 32 KiB
TIMEVAL = struct.Struct("@ll")  # time.h: seconds, microseconds
PATIENCE = 20  # seconds; requests are answered before send() returns, so this never passes
DUMP_TRIES = 10  # a dump is interrupted when others change the table meanwhile

RTM_NEWLINK = 16
IFF_UP = 1


@dataclass(frozen=True, slots=True)
class Request:
    kind: int
    body: bytes
    flags: int = 0

    @classmethod
    def link_up(cls, index: int) -> Request:
        return cls(RTM_NEWLINK, IFINFO.pack(0, 0, index, IFF_UP, IFF_UP))


@dataclass(slots=True)
class Reply:
    """Outcome of one request.  `errno` 0: it was done."""

    errno: int = 0
    text: str = ""
    messages: list[bytes] = field(default_factory=list)  # payloads, headers cut off

    def check(self, what: str) -> None:
        if self.errno:
            raise KernelError(f"cannot {what}: {self.reason}", errno=self.errno)

    @property
    def reason(self) -> str:
        said = f" ({self.text})" if self.text else ""
        return os.strerror(self.errno) + said


@dataclass(slots=True)
class Tally:
    """Counts of requests to the kernel, for tests that bound them."""

    requests: int = 0
    answers: int = 0


class Netlink:
    """One socket in the namespace of the thread that opens it; used by one thread at a time."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE, tally: Tally | None = None) -> None:
        self.tally = tally or Tally()
        self.sound = True  # False after an error: an answer may be outstanding
        self._sequence = 0
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        for option in (EXT_ACK, CAP_ACK, STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        # The kernel carries out a whole batch within send(2): all replies wait in the buffer.
        for option in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
            self._socket.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        # The kernel's time limit, not Python's, which calls poll(2) before each send and receive.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, TIMEVAL.pack(PATIENCE, 0))
        self._socket.bind((0, 0))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests, which the kernel carries out in order, also after one that failed."""
        out: list[Reply] = []
        for start in range(0, len(requests), BATCH):
            out += self._batch(requests[start : start + BATCH])
        return out

    def get(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests that are each answered by one message, or by an error."""
        out: list[Reply] = []
        for start in range(0, len(requests), BATCH):
            out += self._batch(requests[start : start + BATCH], REQUEST)
        return out

    def dump(self, request: Request) -> list[bytes]:
        """Return all messages of a dump; empty where its object does not exist."""
        for _ in range(DUMP_TRIES):
            sequence = self._send((request,), request.flags | REQUEST | DUMP)
            messages, whole = self._listing(sequence)
            if whole:
                return messages
        raise KernelError(f"the kernel's table {request.kind} changed during {DUMP_TRIES} readings")

    def transaction(self, requests: Sequence[Request]) -> Reply:
        """Send an nfnetlink batch: what the first and last request enclose is done whole or not.

        Only the last but one is acknowledged, and whatever fails.
        """
        flags = [REQUEST] * len(requests)
        flags[-2] |= ACK
        first = self._send(requests, *flags)
        last = first + len(requests) - 2
        worst = Reply()
        while True:
            for kind, _, sequence, payload in self._receive():
                if kind != MSG_ERROR or not first <= sequence <= last:
                    continue
                code, text = payload_error(payload)
                if code and not worst.errno:
                    worst = Reply(code, text)
                if sequence == last or (sequence == first and code):
                    return worst

    def _batch(self, requests: Sequence[Request], flags: int = REQUEST | ACK) -> list[Reply]:
        first = self._send(requests, *[flags] * len(requests))
        replies = [Reply() for _ in requests]
        left = len(requests)
        while left:
            for kind, _, sequence, payload in self._receive():
                if not first <= sequence < first + len(requests):
                    continue  # a late answer to something given up
                if kind == MSG_ERROR:
                    reply = replies[sequence - first]
                    reply.errno, reply.text = payload_error(payload)
                else:
                    replies[sequence - first].messages.append(payload)
                left -= kind == MSG_ERROR or not flags & ACK
        return replies

    def _listing(self, sequence: int) -> tuple[list[bytes], bool]:
        messages: list[bytes] = []
        whole = True
        while True:
            for kind, flags, number, payload in self._receive():
                if number != sequence:
                    continue
                # The table changed between two parts of the dump: entries may be missing.
                whole = whole and not flags & DUMP_INTERRUPTED
                if kind in {MSG_DONE, MSG_ERROR}:
                    code, text = payload_error(payload) if len(payload) >= 4 else (0, "")
                    if code in {errno.ENOENT, errno.ENODEV}:
                        return [], True
                    Reply(code, text).check("list what the kernel has")
                    return messages, whole
                messages.append(payload)

    def _send(self, requests: Sequence[Request], *flags: int) -> int:
        first = self._sequence + 1
        parts: list[bytes] = []
        for r, also in zip(requests, flags, strict=True):
            self._sequence += 1
            head = HEADER.pack(16 + len(r.body), r.kind, r.flags | also, self._sequence, 0)
            parts += (head, r.body)
        self.tally.requests += len(requests)
        try:
            self._socket.send(b"".join(parts))
        except OSError as e:
            self.sound = False
            raise KernelError(f"netlink: {e.strerror}", errno=e.errno, unsure=True) from e
        return first

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError as e:
            self.sound = False
            late = f"netlink: no answer in {PATIENCE} s"
            raise KernelError(late, errno=errno.ETIMEDOUT, unsure=True) from e
        except OSError as e:
            self.sound = False
            raise KernelError(f"netlink: {e.strerror}", errno=e.errno, unsure=True) from e
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
            self.tally.answers += 1
            yield kind, flags, sequence, _understood(data, offset, length, kind, flags)
            offset += (length + 3) & ~3


def _understood(data: bytes, offset: int, length: int, kind: int, flags: int) -> bytes:
    """The payload; of an error without extended attributes, only the part that is understood."""
    end = offset + length
    if kind == MSG_ERROR and not flags & ACK_TLVS:
        end = min(end, offset + 36)
    return data[offset + 16 : end]


def payload_error(payload: bytes) -> tuple[int, str]:
    """(errno, the kernel's own message) of an NLMSG_ERROR payload."""
    (code,) = struct.unpack_from("=i", payload)
    text = attributes(payload, 20).get(MSGERR_ATTR_MSG, b"") if code else b""
    return -code, text_of(text)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes by type, from `offset` to the end."""
    out: dict[int, bytes] = {}
    end, unpack = len(data), ATTR.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        out[kind & TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return out


def attr(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return ATTR.pack(length, kind) + payload + bytes(-length & 3)


def number(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


def string(kind: int, value: str) -> bytes:
    return attr(kind, value.encode() + b"\0")


def text_of(payload: bytes) -> str:
    """The string that an attribute holds."""
    return payload.rstrip(b"\0").decode(errors="replace")


def nest(kind: int, *inner: bytes) -> bytes:
    return attr(kind | NESTED, b"".join(inner))
