"""Probes of the kernel's way: frames in VXLAN that go to no container, and are seen at the device.

They are IPv4 packets from an endpoint of the sender's, as others are dropped before the kernel
unpacks them, with protocol 253 (RFC 3692) and a destination MAC that no interface has: the bridge
floods nothing to addresses it does not know.  The data is at the end, behind zeros.

Sources: RFC 7348, section 5 (VXLAN's header); RFC 791 (IPv4's); packet(7).
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Final

from netkit.overlay.core import Probe
from netkit.overlay.sleeve.sockets import JEQ, LD_B, LD_H, RET, SO_ATTACH_FILTER, attach

VXLAN: Final = struct.Struct("!B3xI")
ETHERNET: Final = struct.Struct("!6s6sH")
IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
LENGTH: Final = struct.Struct("!H")
VNI_VALID: Final = 0x08
PROTOCOL: Final = 253
UNUSED_MAC: Final = bytes.fromhex("0200000000fd")
DISCARD: Final = IPv4Address("192.0.0.8").packed  # RFC 7600's dummy address
FRONT: Final = ETHERNET.size + IPV4.size
SHORTEST: Final = VXLAN.size + FRONT + LENGTH.size
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
ETH_P_IP, ETH_P_ALL = 0x0800, 0x0003
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # linux/if_packet.h
SNAP: Final = 1 << 16
TURN: Final = 32  # probes that are read before others have their turn


def datagram(probe: Probe, source: IPv4Address) -> bytes:
    """UDP's payload.  ValueError: the data does not fit."""
    room = probe.size - SHORTEST - len(probe.data)
    if room < 0:
        raise ValueError(f"{len(probe.data)} bytes do not fit a probe of {probe.size}")
    body = bytes(room) + probe.data + LENGTH.pack(len(probe.data))
    head = IPV4.pack(
        0x45, 0, IPV4.size + len(body), 0, 0x4000, 1, PROTOCOL, 0, source.packed, DISCARD
    )  # fmt: skip
    head = head[:10] + _checksum(head) + head[12:]
    ethernet = ETHERNET.pack(UNUSED_MAC, probe.mac, ETH_P_IP)
    return VXLAN.pack(VNI_VALID, probe.vni << 8) + ethernet + head + body


def content(frame: bytes) -> tuple[bytes, int] | None:
    """(data, bytes of the datagram that it came in) of a frame from the device; None: no probe."""
    if len(frame) < FRONT + LENGTH.size or frame[:6] != UNUSED_MAC:
        return None
    if frame[12:14] != b"\x08\0" or frame[FRONT - IPV4.size + 9] != PROTOCOL:
        return None
    (length,) = LENGTH.unpack_from(frame, len(frame) - LENGTH.size)
    if length > len(frame) - FRONT - LENGTH.size:
        return None
    end = len(frame) - LENGTH.size
    return frame[end - length : end], len(frame) + VXLAN.size


def _checksum(head: bytes) -> bytes:
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


class Sender:
    """Sends them from this host, with DF."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        self._sock.setblocking(False)

    def send(self, probe: Probe, source: IPv4Address) -> bool:
        """False: it is too large for the device."""
        try:
            self._sock.sendto(datagram(probe, source), (probe.to, self._port))
        except OSError as e:
            return e.errno != errno.EMSGSIZE
        return True

    def close(self) -> None:
        self._sock.close()


class Listener:
    """Sees them come out of one VXLAN device.  OSError: there is none."""

    def __init__(self, device: str) -> None:
        self.index = socket.if_nametoindex(device)
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            # By the destination's last and first half-words, then the protocol: whatever else
            # passes the device costs three comparisons.
            attach(self._sock, SO_ATTACH_FILTER, [
                (LD_H, 0, 0, 4), (JEQ, 0, 5, 0x00FD), (LD_H, 0, 0, 0), (JEQ, 0, 3, 0x0200),
                (LD_B, 0, 0, 23), (JEQ, 0, 1, PROTOCOL), (RET, 0, 0, SNAP), (RET, 0, 0, 0),
            ])  # fmt: skip
            self._sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self._sock.bind((device, ETH_P_ALL))  # others see nothing: a bridge takes it first
            self._sock.setblocking(False)
        except BaseException:
            self._sock.close()
            raise

    def fileno(self) -> int:
        return self._sock.fileno()

    def read(self) -> list[tuple[bytes, int]]:
        """What `content` found, of what is there."""
        found = []
        with suppress(OSError):  # there is no more, or the device is down
            for _ in range(TURN):
                seen = content(self._sock.recv(SNAP))
                if seen is not None:
                    found.append(seen)
        return found

    def close(self) -> None:
        self._sock.close()
