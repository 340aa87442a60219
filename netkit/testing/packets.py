"""Frames in and out of a namespace, with scapy for their contents.

scapy knows one namespace, the one it was imported in, and keeps its links and routes.  So it is
used here to build and to read packets only: sockets are ours, opened in the right namespace, and
whatever scapy would look up (source addresses, hardware addresses) is asked from the kernel there.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from typing import Self

from scapy.config import conf
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import NoPayload, Packet

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.packet_socket import BUFFER, ETHERNET, PacketSocket, hardware_address
from netkit.testing.waiting import readable

Sendable = Packet | Iterable[Packet] | bytes
Match = Packet | Callable[[Packet], bool]


class Tap:
    """Frames of one interface, both ways, from the moment `with` is entered.

    The kernel keeps them in the socket's buffer, so nothing has to run for none to be lost.
    Should the buffer of so many bytes overflow all the same, reading raises KernelError, not an
    empty result.

        with lab.web.tap("eth0") as tap:
            lab.guest.send(IP(dst=lab.web.ip) / UDP(dport=53) / b"x")
            assert tap.saw(UDP(dport=53))
            assert tap.never_saw(ARP(), within=0.3)
    """

    def __init__(self, ns: str, iface: str, buffer: int = BUFFER) -> None:
        self._ns, self._iface, self._buffer = ns, iface, buffer
        self._socket: PacketSocket | None = None
        self.frames: list[Packet] = []

    def __enter__(self) -> Self:
        self._socket = PacketSocket(self._ns, self._iface, buffer=self._buffer)
        self._socket.start()
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
        while (got := self._socket.receive()) is not None:
            frame = decoded(got.data, self._socket.link_type == ETHERNET)
            frame.time = got.stamp / 1e9
            self.frames.append(frame)
        if lost := self._socket.count():
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


def decoded(data: bytes, ethernet: bool) -> Packet:
    """A frame, or of links that have none an IP packet of either version."""
    if ethernet:
        return Ether(data)
    return IPv6(data) if data[:1] and data[0] >> 4 == 6 else IP(data)


def summary(data: bytes, ethernet: bool) -> str:
    """A line of scapy's: layers, addresses, ports as numbers; and inside VXLAN and Geneve."""
    from scapy.contrib import geneve  # noqa: F401  these make scapy know the ports
    from scapy.layers import vxlan  # noqa: F401

    conf.noenum.add(TCP.sport, TCP.dport, UDP.sport, UDP.dport)
    return str(decoded(data, ethernet).summary()).removeprefix("Ether / ")
