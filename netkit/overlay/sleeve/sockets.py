"""The overlay's UDP port as two sockets: what is for the control plane, and data.

Both are bound to one port with SO_REUSEPORT, and the kernel chooses by the first byte of the
datagram.  Where it joins datagrams that come in (UDP_GRO), it asks one of the two, by a hash of the
addresses, whether it may: so both say yes, and a joined one goes where its first part belongs.

A filter on the data socket drops, before anything is queued, what does not bear an index that is in
use: floods of strangers cost established peers next to nothing.

Sources: socket(7), SO_ATTACH_REUSEPORT_CBPF and SO_ATTACH_FILTER;
Documentation/networking/filter.rst.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Collection, Iterable, Mapping
from ctypes import addressof

from netkit.overlay.sleeve.framing import DATA, HEAD
from netkit.overlay.sleeve.vectors import UDP_GRO

SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF = 26, 51
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3  # ip(7): DF, whatever the kernel believes of the path
IPV6_MTU_DISCOVER = 23
CONTROL_BUFFER, DATA_BUFFER = 1 << 20, 8 << 20  # bytes
LONGEST, CONTROL_SPACE = 65_536, 64  # bytes of joined datagrams, and of messages along with them
MOST_INDEXES = 1000  # that the filter compares; beyond them all are let through
# cBPF: load a byte, half a word, a word or the length, compare, return
LD_B, LD_H, LD_W, LD_LEN, JEQ, RET = 0x30, 0x28, 0x20, 0x80, 0x15, 0x06
UDP_HEADER = 8  # bytes: to a socket filter, data begins with it
ACCEPT = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]


class Pair:
    """`control` and `data`, one port.  OSError: EADDRINUSE.  Only in this order is the kernel's
    numbering of the group known."""

    def __init__(self, host: str, port: int) -> None:
        self.control = _bound(host, port, CONTROL_BUFFER)
        self._buffers = [memoryview(bytearray(LONGEST))]
        try:
            self.data = _bound(host, self.control.getsockname()[1], DATA_BUFFER)
            for each in (self.control, self.data):
                each.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
            attach(self.control, SO_ATTACH_REUSEPORT_CBPF, steering())
            self.only({})
        except BaseException:
            self.close()
            raise

    def read(self) -> list[tuple[bytes, tuple[str, int]]]:
        """What one call has for the control plane, with the sender; [] if it is not blocking.

        Data that was joined to it is left out, and lost.  OSError.
        """
        try:
            size, ancillary, _, sender = self.control.recvmsg_into(self._buffers, CONTROL_SPACE)
        except BlockingIOError:
            return []
        data = bytes(self._buffers[0][:size])
        each = size
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_UDP, UDP_GRO):
                each = int.from_bytes(content[:4], sys.byteorder)
        where = sender[0], sender[1]
        if each >= len(data):
            return [(data, where)]
        parts = (data[at : at + each] for at in range(0, len(data), each))
        return [(part, where) for part in parts if part[:1] != bytes([DATA])]

    def only(self, indexes: Collection[int]) -> None:
        """Data is let through if it bears one of these indexes."""
        attach(self.data, SO_ATTACH_FILTER, indexed(indexes))

    @property
    def port(self) -> int:
        number: int = self.control.getsockname()[1]
        return number

    def written(self, host: str) -> str:
        """A numeric address as these sockets have it: those of IPv6 take IPv4's mapped ones only
        (RFC 4291, 2.5.5.2)."""
        mapped = self.data.family == socket.AF_INET6 and ":" not in host
        return f"::ffff:{host}" if mapped else host

    def admit(self, lengths: Mapping[int, int], indexes: Collection[int]) -> None:
        """Let through to `control` what has one of these types and its length, and, of any other
        type, what bears one of these indexes."""
        attach(self.control, SO_ATTACH_FILTER, admitted(lengths, indexes))

    def close(self) -> None:
        self.control.close()
        if hasattr(self, "data"):
            self.data.close()


def _bound(host: str, port: int, size: int) -> socket.socket:
    v6 = ":" in host
    made = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
        made.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, size)
        if v6:  # and IPv4's, where it is bound to all addresses
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made


def steering() -> list[Instruction]:
    """Data to the second socket of the group, all else to the first."""
    return [(LD_B, 0, 0, 0), (JEQ, 0, 1, DATA), (RET, 0, 0, 1), (RET, 0, 0, 0)]


def indexed(indexes: Collection[int]) -> list[Instruction]:
    """Let datagrams through whose receiver index is one of these."""
    if len(indexes) > MOST_INDEXES:
        return [(RET, 0, 0, ACCEPT)]
    made: list[Instruction] = [(LD_W, 0, 0, UDP_HEADER + 4)]
    for index in sorted(indexes):
        made += [(JEQ, 0, 1, index), (RET, 0, 0, ACCEPT)]
    return [*made, (RET, 0, 0, 0)]


def admitted(lengths: Mapping[int, int], indexes: Collection[int]) -> list[Instruction]:
    """As `Pair.admit`; lengths are of UDP's payload."""
    made: list[Instruction] = [(LD_B, 0, 0, UDP_HEADER)]
    for kind, length in lengths.items():
        made += [
            (JEQ, 0, 4, kind), (LD_LEN, 0, 0, 0), (JEQ, 0, 1, UDP_HEADER + length),
            (RET, 0, 0, ACCEPT), (RET, 0, 0, 0),
        ]  # fmt: skip
    return made + indexed(indexes)


def attach(sock: socket.socket, option: int, program: Iterable[Instruction]) -> None:
    """A filter of socket(7); cBPF."""
    code = b"".join(struct.pack("HBBI", *each) for each in program)
    memory = ctypes.create_string_buffer(code)
    count = len(code) // 8
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("HxxxxxxP", count, addressof(memory)))


assert HEAD >= 16
