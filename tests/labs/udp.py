"""Numbered UDP packets between two namespaces: which arrive, when, how often and in which order."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from netkit.kernel import netns

NUMBERED = struct.Struct("=Id")
IDLE = 0.3  # seconds without a packet, after which none comes
SO_RCVBUFFORCE = 33


@dataclass
class Arrived:
    """In the order of arrival: number, seconds under way, payload as it was."""

    sent: int
    seconds: float  # from the first arrival to the last
    packets: list[tuple[int, float, bytes]] = field(default_factory=list)

    @property
    def numbers(self) -> list[int]:
        return [number for number, _, _ in self.packets]

    @property
    def delays(self) -> list[float]:
        return sorted(delay for _, delay, _ in self.packets)

    @property
    def median(self) -> float:
        return self.delays[len(self.packets) // 2]

    def bits(self, overhead: int) -> float:
        """A second, with so many bytes of headers a packet; the first began before."""
        return sum((len(p) + overhead) * 8 for _, _, p in self.packets[1:]) / self.seconds


def send(
    source: str, target: str, address: str, count: int, gap: float = 0.0, size: int = 60
) -> Arrived:
    """`count` of them, `gap` seconds apart, from one namespace to the address of another."""
    inbox = netns.open_socket(target, socket.AF_INET, socket.SOCK_DGRAM)
    outbox = netns.open_socket(source, socket.AF_INET, socket.SOCK_DGRAM)
    with inbox, outbox:
        inbox.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        inbox.bind((address, 0))
        outbox.connect(inbox.getsockname())
        inbox.settimeout(IDLE)
        for _ in range(2):  # the first one waits for ARP
            outbox.send(NUMBERED.pack(0, 0.0))
            with suppress(TimeoutError):
                inbox.recv(100)
        seen: list[tuple[float, bytes]] = []
        done = threading.Event()
        reader = threading.Thread(target=_read, args=(inbox, seen, done))
        reader.start()
        start = time.monotonic()
        for number in range(count):
            if (wait := start + number * gap - time.monotonic()) > 0:
                time.sleep(wait)
            outbox.send(NUMBERED.pack(number, time.monotonic()).ljust(size, b"x"))
        done.set()
        reader.join()
    packets = []
    for at, payload in seen:
        number, sent = NUMBERED.unpack_from(payload)
        packets.append((number, at - sent, payload))
    return Arrived(count, seen[-1][0] - seen[0][0] if seen else 0.0, packets)


def _read(inbox: socket.socket, seen: list[tuple[float, bytes]], done: threading.Event) -> None:
    inbox.settimeout(IDLE)
    while True:
        try:
            payload = inbox.recv(1 << 16)
            seen.append((time.monotonic(), payload))
        except TimeoutError:
            if done.is_set():
                return
