"""Packets of one interface, both ways, with the kernel's stamps (packet(7)).

A socket stays in the namespace it was opened in, and is read from anywhere.  The interface hands
over frames of others as well as long as the socket is open (PACKET_MR_PROMISC); no packet is sent.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import Final, Self

from netkit.errors import KernelError
from netkit.kernel import netns

ETH_P_ALL = 3
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
PACKET_STATISTICS, PACKET_AUXDATA = 6, 8
SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 26, 33, 35  # asm-generic/socket.h
SIOCGIFHWADDR, SIOCGIFINDEX, IFNAMSIZ = 0x8927, 0x8933, 16
BUFFER = 8 << 20  # bytes: some 10,000 frames wait until they are asked for
LARGEST = 1 << 18  # bytes; a veth hands over what the sender's stack would have segmented
ETHERNET, RAW = 1, 101  # LINKTYPE_ of pcap: frames, or IP packets
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772
AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
VLAN_VALID, VLAN_TPID_VALID, DOT1Q = 0x10, 0x40, 0x8100
STAMP = struct.Struct("@ll")
ANCILLARY = socket.CMSG_SPACE(AUXDATA.size) + socket.CMSG_SPACE(STAMP.size)
OUTGOING = socket.PACKET_OUTGOING


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """`stamp` in nanoseconds since 1970; `length` is that on the link; `kind` PACKET_... ."""

    stamp: int
    data: bytes
    length: int
    kind: int


class PacketSocket:
    """KernelError where the interface is not there, or root is needed."""

    def __init__(
        self, ns: str, iface: str, *, snaplen: int = LARGEST, promiscuous: bool = True,
        buffer: int = BUFFER,
    ) -> None:  # fmt: skip
        self.iface: Final = iface
        self.received = self.dropped = 0  # as of the last call of `count`
        self._snaplen = snaplen
        self._room = memoryview(bytearray(snaplen))
        try:
            self.link_type = _link_type(ns, iface)
        except OSError as error:
            raise KernelError(f"cannot tap {iface}: {error.strerror}", errno=error.errno) from error
        kind = socket.SOCK_RAW if self.link_type == ETHERNET else socket.SOCK_DGRAM
        self._socket = netns.open_socket(ns, socket.AF_PACKET, kind)
        try:
            self._prepare(buffer, promiscuous)
        except OSError as error:
            self._socket.close()
            raise KernelError(f"cannot tap {iface}: {error.strerror}", errno=error.errno) from error

    def _prepare(self, buffer: int, promiscuous: bool) -> None:
        sock = self._socket
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._request = struct.pack(f"{IFNAMSIZ}s24x", self.iface.encode())
        answer = fcntl.ioctl(sock, SIOCGIFINDEX, self._request)
        self._index = int(struct.unpack_from("i", answer, IFNAMSIZ)[0])
        if promiscuous:
            asked = struct.pack("IHH8s", self._index, PACKET_MR_PROMISC, 0, b"")
            sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, asked)

    def start(self, program: bytes = b"") -> None:
        """Receive from now on what a classic BPF program (struct sock_filter[]) lets pass."""
        program = program or struct.pack("=HBBI", 0x06, 0, 0, self._snaplen)  # ret SNAPLEN
        code = ctypes.create_string_buffer(program, len(program))
        asked = struct.pack("HP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, asked)
            self._socket.bind((self.iface, ETH_P_ALL))
        except OSError as error:
            self.close()
            raise KernelError(f"cannot tap {self.iface}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> Received | None:
        """The next packet, None if none waits.  OSError (ENETDOWN) when the interface goes down."""
        try:
            size, found, _, address = self._socket.recvmsg_into(
                [self._room], ANCILLARY, socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return None
        data = bytes(self._room[:size])
        stamp, length, tag = 0, size, b""
        for level, kind, value in found:
            if level == SOL_PACKET and kind == PACKET_AUXDATA:
                status, length, _, _, _, tci, tpid = AUXDATA.unpack_from(value)
                if status & VLAN_VALID and self.link_type == ETHERNET:
                    # The kernel keeps a tag beside the frame: it goes back to its place.
                    protocol = tpid if status & VLAN_TPID_VALID else DOT1Q
                    tag, length = struct.pack("!HH", protocol, tci), length + 4
            elif level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, rest = STAMP.unpack_from(value)
                stamp = seconds * 10**9 + rest
        if tag:
            data = (data[:12] + tag + data[12:])[: self._snaplen]
        return Received(stamp=stamp, data=data, length=length, kind=address[2])

    def count(self) -> int:
        """How many were dropped since it was last asked; keeps the sums."""
        answer = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        received, dropped = struct.unpack("II", answer)
        self.received += received
        self.dropped += dropped
        return int(dropped)

    def exists(self) -> bool:
        """Whether the interface does, in the namespace it was found in, up or down."""
        try:
            answer = fcntl.ioctl(self._socket, SIOCGIFINDEX, self._request)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return int(struct.unpack_from("i", answer, IFNAMSIZ)[0]) == self._index


def _link_type(ns: str, iface: str) -> int:
    """Frames of Ethernet, or IP packets alone: of tunnels, WireGuard, TUN devices."""
    return ETHERNET if _hardware(ns, iface)[0] in (ARPHRD_ETHER, ARPHRD_LOOPBACK) else RAW


def hardware_address(ns: str, iface: str) -> str:
    """KernelError if there is no such interface."""
    try:
        return _hardware(ns, iface)[1]
    except OSError as error:
        raise KernelError(f"no interface {iface} there: {error.strerror}") from error


def _hardware(ns: str, iface: str) -> tuple[int, str]:
    with netns.open_socket(ns, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack(f"{IFNAMSIZ}s24x", iface.encode())
        answer = fcntl.ioctl(sock, SIOCGIFHWADDR, request)
    kind = int(struct.unpack_from("H", answer, IFNAMSIZ)[0])
    return kind, answer[IFNAMSIZ + 2 : IFNAMSIZ + 8].hex(":")


def interfaces(ns: str) -> list[str]:
    """Names of the interfaces of a namespace, the loopback last."""
    with netns.inside(ns):
        found = [name for _, name in socket.if_nameindex()]
    return sorted(found, key=lambda name: (name == "lo", name))
