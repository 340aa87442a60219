"""Probe whether a packet of one kind gets from one namespace to an address.

Sockets are born in the source's namespace and asked from here, so nothing is needed in an image
and many probes run side by side.  What came back decides:

    TCP    handshake done           open        RST                        closed
    UDP    an answer                open        ICMP port unreachable      closed
    ICMP   echo reply               open
    any    nothing, or ICMP prohibited          filtered
           ICMP net or host unreachable, no route, no neighbour            unrouted

An ICMP error other than "port unreachable" is reported with its code.  Sources: tcp(7), udp(7),
ip(7) on IP_RECVERR, RFC 792, RFC 1812 5.2.7.1.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.testing.waiting import readable, writable

Verdict = Literal["open", "closed", "filtered", "unrouted"]
PATIENCE = 1.0  # seconds; labs have no delay, and a SYN is repeated after 1 s
IP_RECVERR, SO_EE_ORIGIN_LOCAL, SO_EE_ORIGIN_ICMP = 11, 1, 2
ERROR = struct.Struct("=IBBBBII")  # sock_extended_err: errno, origin, type, code, pad, info, data
ECHO, ECHO_REPLY, UNREACHABLE = 8, 0, 3  # ICMP types
PORT, PROTOCOL, PROHIBITED = 3, 2, frozenset({9, 10, 13})  # codes of "unreachable"
CODES = {0: "net unreachable", 1: "host unreachable", 2: "protocol unreachable",
         3: "port unreachable", 4: "fragmentation needed", 9: "net prohibited",
         10: "host prohibited", 13: "administratively prohibited"}  # fmt: skip
UDP_REPEAT = 0.2  # seconds; the first datagram may be lost to a neighbour lookup


@dataclass(frozen=True, slots=True)
class Seen:
    """The outcome of a probe, and by what it was seen."""

    verdict: Verdict
    why: str

    @property
    def reached(self) -> bool:
        """A packet got there and an answer came back, be it a refusal."""
        return self.verdict in {"open", "closed"}


def probe(ns: str, proto: str, address: str, port: int = 0, patience: float = PATIENCE) -> Seen:
    """Ask once, from the namespace at `ns`.

    KernelError if that is removed, or the machine has no room for a neighbour (ENOBUFS).
    """
    match proto:
        case "tcp":
            return _tcp(ns, address, port, patience)
        case "udp":
            return _udp(ns, address, port, patience)
        case "icmp":
            return _icmp(ns, address, patience)
    raise ValueError(f"no probe for {proto!r}")


def _tcp(ns: str, address: str, port: int, patience: float) -> Seen:
    with netns.open_socket(ns, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sock.setblocking(False)
        code = sock.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            if not writable(sock, patience):
                return _said(sock) or Seen("filtered", f"no answer in {patience:g} s")
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            return Seen("open", "handshake completed")
        return _said(sock) or _failed(code, "RST received")


def _udp(ns: str, address: str, port: int, patience: float) -> Seen:
    token = os.urandom(8).hex().encode()
    with netns.open_socket(ns, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        deadline = time.monotonic() + patience
        try:
            sock.connect((address, port))
            while (left := deadline - time.monotonic()) > 0:
                sock.send(token)
                if readable(sock, min(UDP_REPEAT, left)):
                    sock.recv(2048, socket.MSG_DONTWAIT)
                    return Seen("open", "answer received")
        except BlockingIOError:
            return Seen("filtered", "an answer with a bad checksum")
        except OSError as error:
            return _said(sock) or _failed(error.errno or 0, "ICMP port unreachable")
        return _said(sock) or Seen("filtered", f"no answer in {patience:g} s")


def _icmp(ns: str, address: str, patience: float) -> Seen:
    ident = int.from_bytes(os.urandom(2), "big")
    request = echo(ident, os.urandom(8))
    with netns.open_socket(ns, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        deadline = time.monotonic() + patience
        try:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            sock.connect((address, 0))
            sock.send(request)
            while (left := deadline - time.monotonic()) > 0:
                if not readable(sock, left):
                    break
                data = sock.recv(2048)
                head = (data[0] & 15) * 4
                kind, _, _, back = struct.unpack_from("!BBHH", data, head)
                if kind == ECHO_REPLY and back == ident:
                    return Seen("open", "echo reply received")
        except OSError as error:
            return _said(sock) or _failed(error.errno or 0, "refused")
        return _said(sock) or Seen("filtered", f"no answer in {patience:g} s")


def echo(ident: int, payload: bytes) -> bytes:
    """An ICMP echo request; `payload` has an even number of bytes."""
    head = struct.pack("!BBHHH", ECHO, 0, 0, ident, 1)
    total = sum(struct.unpack(f"!{len(head + payload) // 2}H", head + payload))
    total = (total & 0xFFFF) + (total >> 16)
    check = ~(total + (total >> 16)) & 0xFFFF
    return struct.pack("!BBHHH", ECHO, 0, check, ident, 1) + payload


def _said(sock: socket.socket) -> Seen | None:
    """Read the socket's error queue, which distinguishes ICMP errors from local ones."""
    try:
        _, ancillary, _, _ = sock.recvmsg(512, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        return None
    for level, kind, data in ancillary:
        if level != socket.IPPROTO_IP or kind != IP_RECVERR:
            continue
        number, origin, type_, code, _, _, _ = ERROR.unpack_from(data)
        if origin != SO_EE_ORIGIN_ICMP:
            return _failed(number, "refused")
        by = socket.inet_ntoa(data[20:24]) if len(data) >= 24 else "an unknown host"
        text = f"ICMP {CODES.get(code, f'code {code}')} from {by}"
        if type_ == UNREACHABLE and code == PORT:
            # Also sent by iptables -j REJECT: a closed TCP port answers with RST.
            verdict: Verdict = "closed" if sock.type == socket.SOCK_DGRAM else "filtered"
            return Seen(verdict, text)
        if type_ == UNREACHABLE and code in PROHIBITED:
            return Seen("filtered", text)
        if type_ == UNREACHABLE:
            return Seen("unrouted", text)
        return Seen("filtered", f"ICMP type {type_}, code {code} from {by}")
    return None


def _failed(number: int, refused: str) -> Seen:
    match number:
        case errno.ENOBUFS:
            full = "the kernel's table of neighbours is full"
            raise KernelError(f"{full}: raise net.ipv4.neigh.default.gc_thresh3", errno=number)
        case errno.ECONNREFUSED:
            return Seen("closed", refused)
        case errno.ENETUNREACH:
            return Seen("unrouted", "no route here")
        case errno.EHOSTUNREACH:
            return Seen("unrouted", "no answer to ARP, or no route")
        case errno.EPERM | errno.EACCES:
            return Seen("filtered", "refused by the source's own firewall")
        case errno.ETIMEDOUT:
            return Seen("filtered", "no answer")
    return Seen("filtered", os.strerror(number) if number else "no answer")


class Responder:
    """Answers UDP datagrams on a port in a namespace, for the time of a `with`.

    Where something is bound to the port already it does nothing: that is to answer.
    """

    def __init__(self, ns: str, address: str, port: int) -> None:
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket = netns.open_socket(ns, socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((address, port))
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise KernelError(f"cannot answer at {address}:{port}: {error}") from error
            return
        self._thread = threading.Thread(target=self._answer, name="responder", daemon=True)

    def __enter__(self) -> Self:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join()
        self._socket.close()

    def _answer(self) -> None:
        while not self._ended.is_set():
            if not readable(self._socket, 0.05):
                continue
            with suppress(OSError):  # an ICMP error for an earlier answer, or a bad checksum
                data, peer = self._socket.recvfrom(2048, socket.MSG_DONTWAIT)
                self._socket.sendto(data, peer)


def listeners(ns: str) -> list[int]:
    """TCP ports that something listens on in a namespace, for others than itself; sorted."""
    rows: list[list[str]] = []
    with netns.inside(ns):
        for table in ("tcp", "tcp6"):  # a socket of ::, too, takes IPv4
            with suppress(FileNotFoundError), open(f"/proc/thread-self/net/{table}") as file:
                rows += [line.split() for line in file.read().splitlines()[1:]]
    found = set()
    for row in rows:
        address, port = row[1].split(":")
        # Words of 32 bits, little endian: the last two digits of IPv4 are its first byte.
        local = address.endswith("7F") if len(address) == 8 else address.endswith("01000000")
        if row[3] == "0A" and not local:  # TCP_LISTEN
            found.add(int(port, 16))
    return sorted(found)
