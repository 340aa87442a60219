"""sendmsg(2) and recvmsg(2) on memory that is laid out once, so that nothing is copied or cut here.

The kernel itself gathers `header | part | header | part ...` from two areas when it sends, and
scatters them when it receives: the payload lies in one piece.  With UDP_SEGMENT and UDP_GRO a call
is for up to 64 datagrams.

Sources: sendmsg(2), udp(7), Documentation/networking/segmentation-offloads.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from ctypes import addressof

from netkit.overlay.sleeve.framing import COUNTER, DATA, HEAD, HEADER, MOST_PIECES, Cut

UDP_SEGMENT, UDP_GRO = 103, 104  # options of SOL_UDP, and types of control messages: linux/udp.h
_CONTROL = 64  # bytes for control messages
SOCKADDR = 28  # bytes of a socket address at most: struct sockaddr_in6
_SEGMENT = struct.Struct("@NiiH")  # struct cmsghdr, and a segment's size
_SEGMENT_AT = 16  # bytes before that: CMSG_LEN(0)
_SEGMENT_SPACE = 24  # bytes: CMSG_SPACE of it
_WORD, _INT = struct.Struct("@H"), struct.Struct("@i")
ALIGNED = 64  # bytes: copies of the kernel are faster
LAYOUTS = 16  # sizes of datagrams that are kept in mind; each has some 3 KB
_libc = ctypes.CDLL(None, use_errno=True)
for _call in (_libc.sendmsg, _libc.recvmsg):
    _call.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    _call.restype = ctypes.c_ssize_t
_libc.read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_libc.preadv2.argtypes = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int,
)  # fmt: skip
_libc.read.restype = _libc.preadv2.restype = ctypes.c_ssize_t


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


class Area:
    """Memory with an address; `view` is its bytes, of which the one at `aligned` is so."""

    def __init__(self, size: int, aligned: int = 0) -> None:
        self._memory = (ctypes.c_char * (size + ALIGNED))()
        begin = -(addressof(self._memory) + aligned) % ALIGNED
        self.view = memoryview(self._memory).cast("B")[begin : begin + size]
        self.address = addressof(self._memory) + begin


def _layout(headers: Area, payload: Area, part: int, most: int) -> ctypes.Array[_Iovec]:
    vectors = (_Iovec * (2 * most))()
    for n in range(most):
        vectors[2 * n] = _Iovec(headers.address + HEAD * n, HEAD)
        vectors[2 * n + 1] = _Iovec(payload.address + part * n, part)
    return vectors


def packed_address(host: str, port: int) -> bytes:
    """`struct sockaddr_in`, or of IPv6 `sockaddr_in6`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.inet_pton(family, host)
    begin = struct.pack("=H", family) + struct.pack("!H", port)
    if family == socket.AF_INET6:
        return begin + bytes(4) + address + bytes(4)
    return begin + address + bytes(8)


def unpacked_address(packed: bytes) -> tuple[str, int]:
    """The opposite: (numeric host without a zone, port).  ValueError."""
    family, port = struct.unpack_from("=H", packed)[0], int.from_bytes(packed[2:4], "big")
    if family == socket.AF_INET and len(packed) >= 8:
        return socket.inet_ntop(family, packed[4:8]), port
    if family != socket.AF_INET6 or len(packed) < 28:
        raise ValueError(f"no address of IP: {packed.hex()}")
    return socket.inet_ntop(family, packed[8:24]), port


class Reader:
    """Reads a file into `area`, from byte `at` on.

    Not by os.read(), which makes an exception of nothing to read, and begins anew after a signal.
    """

    def __init__(self, fd: int, area: Area, at: int) -> None:
        self._fd, self._address, self._size = fd, area.address + at, len(area.view) - at
        self._vector = _Iovec(self._address, self._size)
        self._at = addressof(self._vector)
        self._nowait = os.RWF_NOWAIT
        self._read, self._preadv2 = _libc.read, _libc.preadv2

    def wait(self) -> int:
        """Bytes, or the negative errno; EINTR after a signal."""
        size: int = self._read(self._fd, self._address, self._size)
        return size if size >= 0 else -ctypes.get_errno()

    def now(self) -> int:
        """Likewise; EAGAIN if there is nothing to read."""
        size: int = self._preadv2(self._fd, self._at, 1, -1, self._nowait)
        return size if size >= 0 else -ctypes.get_errno()


class _Message:
    """A message to one peer: its address, and the size of segments."""

    def __init__(self, host: str, port: int) -> None:
        name = packed_address(host, port)
        self._name, self._control = Area(len(name)), Area(_CONTROL)
        self._name.view[:] = name
        _SEGMENT.pack_into(self._control.view, 0, 18, socket.SOL_UDP, UDP_SEGMENT, 0)
        self.header = _Msghdr(
            name=self._name.address, namelen=len(name), control=self._control.address
        )
        self.at = addressof(self.header)

    def segments_of(self, size: int) -> None:
        _WORD.pack_into(self._control.view, _SEGMENT_AT, size)


class Gather:
    """Sends payloads that lie in `payload` to one peer, cut into datagrams."""

    def __init__(self, payload: Area, cut: Cut, index: int, host: str, port: int) -> None:
        self._payload, self._part, self._index = payload, cut.part, index
        headers = self._headers = Area(HEAD * cut.most)
        for n in range(cut.most):
            HEADER.pack_into(headers.view, HEAD * n, DATA, 0, n, 0, index, 0)
        self._counters = headers.view.cast("Q")[COUNTER // 8 :: HEAD // 8]
        self._vectors = _layout(headers, payload, cut.part, cut.most)
        self._parts = [self._vectors[2 * n + 1] for n in range(cut.most)]
        self._last = self._parts[0]  # the one that may have another length than `part`
        self._length = 0  # bytes of what was prepared
        self._later = self._counters[1:1]  # all counters of it but the first
        self._send = _libc.sendmsg
        self._message = _Message(host, port)
        self._message.segments_of(cut.size)
        self._header, self._at = self._message.header, self._message.at
        self._header.iov = addressof(self._vectors)
        self.pieces = 1  # of what was prepared
        self.first = headers.view[:HEAD]  # of the first datagram: associated data

    def prepare(self, counter: int, flags: int, length: int) -> None:
        """Write the headers for a payload of `length` bytes, tag included: before it is sealed."""
        if length != self._length:
            self._cut(length)
        pieces = self.pieces
        HEADER.pack_into(self.first, 0, DATA, flags, 0, pieces, self._index, counter)
        if pieces > 1:
            self._later[:] = eights(counter, pieces - 1)

    def _cut(self, length: int) -> None:
        part = self._part
        pieces = self.pieces = -(-length // part)
        self._length = length
        self._later = self._counters[1:pieces]
        self._last.len = part
        last = self._last = self._parts[pieces - 1]
        last.len = length - (pieces - 1) * part
        self._header.iovlen = 2 * pieces
        self._header.controllen = _SEGMENT_SPACE if pieces > 1 else 0

    def send(self, fd: int) -> int:
        """0, or the errno."""
        if self._send(fd, self._at, 0) >= 0:
            return 0
        error = ctypes.get_errno()
        return self._one_by_one(fd) if error == errno.EIO and self.pieces > 1 else error

    def _one_by_one(self, fd: int) -> int:
        """Kernels before 6.11 cut nothing for a device that computes no checksums."""
        header, vectors = self._header, self._header.iov
        whole = header.iovlen, header.controllen
        header.iovlen, header.controllen = 2, 0
        try:
            for n in range(self.pieces):
                header.iov = vectors + 2 * n * ctypes.sizeof(_Iovec)
                if self._send(fd, self._at, 0) < 0:
                    return ctypes.get_errno()
            return 0
        finally:
            header.iov = vectors
            header.iovlen, header.controllen = whole


def eights(number: int, count: int) -> memoryview:
    """A number of 8 bytes, big-endian, `count` times: items of "Q"."""
    return memoryview(number.to_bytes(8, "big") * count).cast("Q")


class Train:
    """Sends datagrams that lie in `data` one after the other, of one size but the last."""

    def __init__(self, data: Area, host: str, port: int) -> None:
        self._data = data
        self._vector = _Iovec(data.address, 0)
        self._message = _Message(host, port)
        self._message.header.iov = addressof(self._vector)
        self._message.header.iovlen = 1

    def send(self, fd: int, size: int, each: int) -> int:
        """0, or the errno."""
        self._vector.len = size
        self._message.segments_of(each)
        self._message.header.controllen = _SEGMENT_SPACE if size > each else 0
        if _libc.sendmsg(fd, self._message.at, 0) >= 0:
            return 0
        error = ctypes.get_errno()
        return self._one_by_one(fd, size, each) if error == errno.EIO and size > each else error

    def _one_by_one(self, fd: int, size: int, each: int) -> int:
        """As `Gather` does."""
        self._message.header.controllen = 0
        try:
            for at in range(0, size, each):
                self._vector.base = self._data.address + at
                self._vector.len = min(each, size - at)
                if _libc.sendmsg(fd, self._message.at, 0) < 0:
                    return ctypes.get_errno()
            return 0
        finally:
            self._vector.base = self._data.address


class _Layout:
    """Where datagrams of one size go: their headers one after the other, and their payloads."""

    def __init__(self, size: int, payload: Area) -> None:
        self.size, self.part = size, size - HEAD
        self.most = min(MOST_PIECES, 0xFFFF // size) + 1
        self.headers = Area(HEAD * self.most)
        self.vectors = _layout(self.headers, payload, self.part, self.most)
        self.vectors[2 * self.most - 1].len = 65_536  # what is longer than that is not cut off


class Scatter:
    """Receives up to 64 datagrams of one size from one peer: `headers` and `payload`.

    It is laid out for datagrams of `size` bytes beforehand; where they are others, they are moved,
    and the next ones are taken to be like them.
    """

    def __init__(self, size: int) -> None:
        self._area = Area(2 * 65_536 + 4096)
        self._name, self._control = Area(SOCKADDR), Area(_CONTROL)
        self._message = _Msghdr(
            name=self._name.address, namelen=SOCKADDR, control=self._control.address,
            controllen=_CONTROL,
        )  # fmt: skip
        self._at = addressof(self._message)
        self._raw = memoryview(self._message).cast("B")
        self._fresh = b""  # it, as it is before a call
        self._layouts: dict[int, _Layout] = {}
        self._recv = _libc.recvmsg
        self.payload = self._area.view
        self._lay_out(size)

    def _lay_out(self, size: int) -> None:
        layout = self._layouts.get(size)
        if layout is None:
            if len(self._layouts) >= LAYOUTS:
                self._layouts.pop(next(iter(self._layouts)))
            layout = self._layouts[size] = _Layout(size, self._area)
        self._layout, self.size, self.part = layout, layout.size, layout.part
        self._message.iov, self._message.iovlen = addressof(layout.vectors), 2 * layout.most
        self._message.namelen, self._message.controllen = SOCKADDR, _CONTROL
        self._fresh = bytes(self._raw)
        self.headers = layout.headers.view

    def receive(self, fd: int) -> tuple[int, int]:
        """(bytes, bytes of each datagram but the last).  OSError.

        Datagrams of HEAD bytes or fewer are not laid out: they have no payload.
        """
        self._raw[:] = self._fresh
        size: int = self._recv(fd, self._at, 0)
        if size < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        each = size
        if self._message.controllen >= _SEGMENT_AT + 4:
            each = _INT.unpack_from(self._control.view, _SEGMENT_AT)[0]
        if each > HEAD and each != self.size and (each > self.size or size > each):
            self._move(size, each)
        return size, each

    @property
    def sender(self) -> bytes:
        """The packed address of who sent them, with the port, and zeros up to SOCKADDR bytes."""
        return self._name.view.tobytes()

    def _move(self, size: int, each: int) -> None:
        data = memoryview(self._linear(size))
        self._lay_out(each)
        headers, payload, part = self.headers, self.payload, self.part
        for n, at in enumerate(range(0, size, each)):
            head = data[at : at + HEAD]
            headers[HEAD * n : HEAD * n + len(head)] = head
            rest = data[at + HEAD : at + each]
            payload[part * n : part * n + len(rest)] = rest

    def _linear(self, size: int) -> bytes:
        """What was received, as it was sent."""
        parts, left = [], size
        for n in range(self._layout.most):
            if left <= 0:
                break
            parts.append(self.headers[HEAD * n : HEAD * n + min(HEAD, left)])
            last = n + 1 == self._layout.most
            take = max(left - HEAD if last else min(left - HEAD, self.part), 0)
            parts.append(self.payload[self.part * n : self.part * n + take])
            left -= HEAD + take
        return b"".join(parts)
