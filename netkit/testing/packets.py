"""Frames in and out of a namespace, with scapy for their contents.

scapy knows one namespace, the one it was imported in, and keeps its links and routes.  So it is
used here to build and to read packets only: sockets are ours, opened in the right namespace, and
whatever scapy would look up (source addresses, hardware addresses) is asked from the kernel there.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Self

from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import NoPayload, Packet

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.testing.waiting import readable

ETH_P_ALL = 3
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, PACKET_MR_PROMISC = 263, 1, 6, 1
SO_RCVBUFFORCE = 33
BUFFER = 8 << 20  # bytes: some 10,000 frames wait until they are asked for
SIOCGIFHWADDR, SIOCGIFINDEX, IFNAMSIZ = 0x8927, 0x8933, 16
SNAP = 1 << 16  # bytes; a veth hands over what the sender's stack would have segmented
Sendable = Packet | Iterable[Packet] | bytes
Match = Packet | Callable[[Packet], bool]


class Tap:
    """Frames of one interface, both ways, from the moment `with` is entered.

    The kernel keeps them in the socket's buffer, so nothing has to run for none to be lost.
    Should the buffer overflow all the same, reading raises KernelError, not an empty result.

        with lab.web.tap("eth0") as tap:
            lab.guest.send(IP(dst=lab.web.ip) / UDP(dport=53) / b"x")
            assert tap.saw(UDP(dport=53))
            assert tap.never_saw(ARP(), within=0.3)
    """

    def __init__(self, ns: str, iface: str) -> None:
        self._ns, self._iface = ns, iface
        self._socket: socket.socket | None = None
        self.frames: list[Packet] = []

    def __enter__(self) -> Self:
        sock = netns.open_socket(self._ns, socket.AF_PACKET, socket.SOCK_RAW)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        try:
            index = _index(sock, self._iface)
            promiscuous = struct.pack("IHH8s", index, PACKET_MR_PROMISC, 0, b"")
            sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, promiscuous)
            sock.bind((self._iface, ETH_P_ALL))
        except OSError as error:
            sock.close()
            raise KernelError(f"cannot tap {self._iface}: {error.strerror}") from error
        self._socket = sock
        return self

    def __exit__(self, *_: object) -> None:
        """What came is kept, and can still be asked for."""
        self._drain()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def all(self) -> list[Packet]:
        """Every frame so far."""
        self._drain()
        return list(self.frames)

    def matching(self, match: Match) -> list[Packet]:
        return [frame for frame in self.all() if matches(frame, match)]

    def saw(self, match: Match, within: float = 1.0) -> bool:
        """A frame that matches is there, or comes within so many seconds."""
        return self.count(match, 1, within) > 0

    def count(self, match: Match, least: int, within: float = 1.0) -> int:
        """How many match, once there are `least` or the time is up."""
        deadline = time.monotonic() + within
        while (found := len(self.matching(match))) < least and self._wait(deadline):
            pass
        return found

    def never_saw(self, match: Match, within: float = 0.5) -> bool:
        """Nothing that matches has come, nor comes within so many seconds more."""
        return not self.saw(match, within)

    def _wait(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or self._socket is None:
            return False
        readable(self._socket, left)
        return True

    def _drain(self) -> None:
        if self._socket is None:
            return
        while True:
            try:
                data = self._socket.recv(SNAP, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            self.frames.append(Ether(data))
        _, lost = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if lost:
            raise KernelError(f"{lost} frames were lost at {self._iface}: nothing is proved")


def matches(frame: Packet, match: Match) -> bool:
    """Whether a frame matches: by a function, or by a packet whose set fields are the frame's.

    Layers may stand anywhere in the frame, in order; `b"..."` as the last is its payload.
    """
    if not isinstance(match, Packet):
        return match(frame)
    layer, rest = match, frame
    while not isinstance(layer, NoPayload):
        found = rest.getlayer(type(layer))
        if found is None:
            return False
        if any(found.getfieldval(name) != value for name, value in layer.fields.items()):
            return False
        layer, rest = layer.payload, found.payload
    return True


def send(ns: str, packet: Sendable, iface: str) -> None:
    """Frames and bytes by `iface` as they are, IP packets by the kernel's routing there.

    A frame needs its destination; an address of the source that was not set is filled in.
    """
    if not isinstance(packet, (Packet, bytes)):
        for each in packet:
            send(ns, each, iface)
    elif isinstance(packet, IP):
        _routed(ns, packet)
    else:
        _framed(ns, packet, iface)


def _framed(ns: str, packet: Packet | bytes, iface: str) -> None:
    if isinstance(packet, Ether):
        packet = packet.copy()
        if "dst" not in packet.fields:
            raise ValueError("the frame lacks its destination: Ether(dst=lab.web.mac())")
        if "src" not in packet.fields:
            packet.src = hardware_address(ns, iface)
        if (inner := packet.getlayer(IP)) is not None and "src" not in inner.fields:
            inner.src = _source(ns, inner.dst)
    with netns.open_socket(ns, socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((iface, 0))
        sock.send(bytes(packet))


def _routed(ns: str, packet: IP) -> None:
    packet = packet.copy()
    if "src" not in packet.fields:
        packet.src = _source(ns, packet.dst)
    with netns.open_socket(ns, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(bytes(packet), (packet.dst, 0))


def _source(ns: str, target: str) -> str:
    """The address that the kernel would use there to reach `target`."""
    with netns.open_socket(ns, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((target, 9))
        return str(sock.getsockname()[0])


def hardware_address(ns: str, iface: str) -> str:
    with netns.open_socket(ns, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack(f"{IFNAMSIZ}s24x", iface.encode())
        try:
            answer = fcntl.ioctl(sock, SIOCGIFHWADDR, request)
        except OSError as error:
            raise KernelError(f"no interface {iface} there: {error.strerror}") from error
    return answer[IFNAMSIZ + 2 : IFNAMSIZ + 8].hex(":")


def _index(sock: socket.socket, iface: str) -> int:
    answer = fcntl.ioctl(sock, SIOCGIFINDEX, struct.pack(f"{IFNAMSIZ}s24x", iface.encode()))
    return int(struct.unpack_from("i", answer, IFNAMSIZ)[0])

