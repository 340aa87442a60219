"""sendmsg(2) and recvmsg(2) on memory that is laid out once, so that nothing is copied or cut here.

The kernel itself gathers `header | part | header | part ...` from two areas when it sends, and
scatters them when it receives: the payload lies in one piece.  With UDP_SEGMENT and UDP_GRO a call
is for up to 64 datagrams.

Sources: sendmsg(2), udp(7), Documentation/networking/segmentation-offloads.rst.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from array import array
from ctypes import addressof

from netkit.overlay.sleeve.framing import COUNTER, DATA, HEAD, HEADER, Cut

UDP_SEGMENT, UDP_GRO = 103, 104  # options of SOL_UDP, and types of control messages: linux/udp.h
_CONTROL = 64  # bytes for control messages
_SEGMENT = struct.Struct("@QiiH")  # struct cmsghdr, and a segment's size
_libc = ctypes.CDLL(None, use_errno=True)
for _call in (_libc.sendmsg, _libc.recvmsg):
    _call.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    _call.restype = ctypes.c_ssize_t


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


class Area:
    """Memory with an address; `view` is its bytes."""

    def __init__(self, size: int) -> None:
        self._memory = (ctypes.c_char * size)()
        self.view = memoryview(self._memory).cast("B")
        self.address = addressof(self._memory)


def _layout(headers: Area, payload: Area, cut: Cut) -> ctypes.Array[_Iovec]:
    vectors = (_Iovec * (2 * cut.most))()
    for n in range(cut.most):
        vectors[2 * n] = _Iovec(headers.address + HEAD * n, HEAD)
        vectors[2 * n + 1] = _Iovec(payload.address + cut.part * n, cut.part)
    return vectors


def packed_address(host: str, port: int) -> bytes:
    """`struct sockaddr_in`, or of IPv6 `sockaddr_in6`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.inet_pton(family, host)
    begin = struct.pack("=H", family) + struct.pack("!H", port)
    if family == socket.AF_INET6:
        return begin + bytes(4) + address + bytes(4)
    return begin + address + bytes(8)


class Gather:
    """Sends payloads that lie in `payload` to one peer, cut into datagrams."""

    def __init__(self, payload: Area, cut: Cut, index: int, host: str, port: int) -> None:
        self._payload, self._cut = payload, cut
        self._headers = Area(HEAD * cut.most)
        for n in range(cut.most):
            HEADER.pack_into(self._headers.view, HEAD * n, DATA, 0, n, 0, index, 0)
        self._counters = self._headers.view.cast("Q")[COUNTER // 8 :: HEAD // 8]
        self._vectors = _layout(self._headers, payload, cut)
        self._parts = [self._vectors[2 * n + 1] for n in range(cut.most)]
        self._short = 0  # which part has another length than `cut.part`
        self._name = Area(28)
        name = packed_address(host, port)
        self._name.view[: len(name)] = name
        self._control = Area(_CONTROL)
        _SEGMENT.pack_into(self._control.view, 0, 18, socket.SOL_UDP, UDP_SEGMENT, cut.size)
        self._message = _Msghdr(
            name=self._name.address, namelen=len(name), iov=addressof(self._vectors),
            control=self._control.address,
        )  # fmt: skip
        self._at = addressof(self._message)
        self.first = self._headers.view[:HEAD]  # of the first datagram: associated data

    def prepare(self, counter: int, flags: int, length: int) -> None:
        """Write the headers for a payload of `length` bytes, tag included: before it is sealed."""
        pieces = self._cut.pieces(length)
        head = self.first
        head[1], head[3] = flags, pieces
        swapped = int.from_bytes(counter.to_bytes(8, "big"), "little")
        self._counters[:pieces] = memoryview(array("Q", (swapped,)) * pieces)
        parts = self._parts
        parts[self._short].len = self._cut.part
        self._short = pieces - 1
        parts[self._short].len = length - self._short * self._cut.part
        self._message.iovlen = 2 * pieces
        self._message.controllen = 24 if pieces > 1 else 0  # CMSG_SPACE of two bytes

    def send(self, fd: int) -> int:
        """0, or the errno."""
        if _libc.sendmsg(fd, self._at, 0) < 0:
            return ctypes.get_errno()
        return 0


class Scatter:
    """Receives up to 64 datagrams of one size from one peer into `payload`.

    Where their size is another than the one it is laid out for, `linear` puts them one after the
    other, and the next time it is laid out for that.
    """

    def __init__(self, size: int) -> None:
        self._payload = Area(2 * 65_536)
        self._name = Area(28)
        self._control = Area(_CONTROL)
        self._message = _Msghdr(name=self._name.address, control=self._control.address)
        self._at = addressof(self._message)
        self.lay_out(size)

    def lay_out(self, size: int) -> None:
        self.cut = Cut(size)
        self._headers = Area(HEAD * self.cut.most)
        self._vectors = _layout(self._headers, self._payload, self.cut)
        last = self._vectors[2 * self.cut.most - 1]
        last.len = 65_536  # what is longer than we expect is not cut off
        self._message.iov, self._message.iovlen = addressof(self._vectors), 2 * self.cut.most
        self.headers, self.payload = self._headers.view, self._payload.view

    def receive(self, fd: int) -> tuple[int, int]:
        """(bytes, bytes of each datagram but the last).  OSError."""
        self._message.controllen, self._message.namelen = _CONTROL, 28
        size = _libc.recvmsg(fd, self._at, 0)
        if size < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        if self._message.controllen < 20:
            return size, size
        return size, int.from_bytes(self._control.view[16:20], "little")

    @property
    def sender(self) -> bytes:
        """The packed address of who sent them, with the port."""
        return bytes(self._name.view[: self._message.namelen])

    def linear(self, size: int) -> bytes:
        """What was received, as it was sent."""
        parts, left = [], size
        for n in range(self.cut.most):
            if left <= 0:
                break
            parts.append(self.headers[HEAD * n : HEAD * n + min(HEAD, left)])
            take = min(left - HEAD, self.cut.part) if n + 1 < self.cut.most else left - HEAD
            parts.append(self.payload[self.cut.part * n : self.cut.part * n + max(take, 0)])
            left -= HEAD + take
        return b"".join(parts)
