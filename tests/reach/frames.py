"""Frames with any addresses, and taps that see which of them come out where."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address
from typing import Self

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from netkit.kernel import netns
from tests.reach.town import Town

ETH_P_IP, ETHERNET = 0x0800, 14  # linux/if_ether.h; bytes of the header
TCP_OFFSET, UDP_HEADER = 12, 8  # where a TCP header has its length; bytes
SPORT = 40000
STRANGER = "02:00:00:00:00:01"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A forged packet: from `who`, by way of the host, with any addresses.

    `mac` is the container whose MAC address it bears, by default the sender's own.
    """

    who: str
    src: IPv4Address
    dst: IPv4Address
    port: int
    proto: str = "udp"
    sport: int = SPORT
    mac: str = ""


class Sender:
    """Sends to the MAC address that the host has on the sender's network."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self._near = cache(town.mac)

    def send(self, f: Frame, payload: bytes) -> None:
        t, far = self._town, f.who not in self._town.world.boxes
        dev, here = ("lan0", "lan0") if far else ("eth0", t.bridge(f.who))
        mac = STRANGER if far else t.hardware(f.mac or f.who)
        frame = Ether(dst=self._near(here), src=mac) / IP(src=str(f.src), dst=str(f.dst))
        ports = {"sport": f.sport, "dport": f.port}
        frame /= TCP(flags="S", **ports) if f.proto == "tcp" else UDP(**ports)
        self._out(f.who, dev, frame / Raw(payload))

    def claim(self, who: str, address: IPv4Address) -> None:
        """Send the host an unsolicited ARP answer: `who` has this address."""
        mac = self._town.hardware(who)
        near = self._near(self._town.bridge(who))
        reply = ARP(op="is-at", hwsrc=mac, psrc=str(address), hwdst=near, pdst=str(address))
        self._out(who, "eth0", Ether(dst=near, src=mac) / reply)

    def _out(self, who: str, dev: str, frame: Packet) -> None:
        with netns.inside(self._town.ns(who)):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with sock:
            sock.bind((dev, 0))
            sock.send(bytes(frame))


@dataclass(slots=True)
class Taps:
    """Payloads of TCP and UDP that arrive at interfaces, by the name of the tap.

    `places` are the namespace and the interface of each.
    """

    places: Mapping[str, tuple[str, str]]
    seen: dict[str, set[bytes]] = field(default_factory=dict)
    _sockets: dict[str, socket.socket] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        for name, (ns, dev) in self.places.items():
            with netns.inside(ns):
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
            self._stack.enter_context(sock)
            sock.bind((dev, ETH_P_IP))
            sock.setblocking(False)
            self._sockets[name], self.seen[name] = sock, set()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def saw(self, expected: Iterable[tuple[str, bytes]]) -> bool:
        """Return whether all of these payloads arrived, each at its tap."""
        for name, sock in self._sockets.items():
            with suppress(BlockingIOError):
                while True:
                    data, where = sock.recvfrom(2048)
                    payload = payload_of(data)
                    if where[2] != socket.PACKET_OUTGOING and payload is not None:
                        self.seen[name].add(payload)
        return all(payload in self.seen[name] for name, payload in expected)


def payload_of(frame: bytes) -> bytes | None:
    """Return the payload of a TCP or UDP packet; None for other protocols."""
    length = int.from_bytes(frame[ETHERNET + 2 : ETHERNET + 4], "big")
    packet = frame[ETHERNET : ETHERNET + length]
    start = (packet[0] & 15) * 4
    match packet[9]:
        case socket.IPPROTO_TCP:
            return packet[start + (packet[start + TCP_OFFSET] >> 4) * 4 :]
        case socket.IPPROTO_UDP:
            return packet[start + UDP_HEADER :]
    return None
