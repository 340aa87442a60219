"""A transmitter and a receiver with sockets for TAP devices, over the loopback interface."""

from __future__ import annotations

import select
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

from netkit.overlay.sleeve.receive import Port, Receiver, Session
from netkit.overlay.sleeve.sealing import Keys, Opening, Seal
from netkit.overlay.sleeve.tables import PeerCounts, PutPeer, PutSession
from netkit.overlay.sleeve.transmit import Directory, Peer, Transmitter
from netkit.overlay.sleeve.vectors import UDP_GRO, unpacked_address
from tests.unit.netkit.overlay.sleeve.sleeve_frames import HERE, THERE, V4, V6

HOST, NETWORK, INDEX, PEER = "127.0.0.1", 5, 1234, 7
KEY = bytes(range(32))
SOON = 2.0  # seconds


def devices() -> tuple[socket.socket, socket.socket]:
    """(what the bridge has, what the sleeve has)."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in pair:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    pair[0].settimeout(SOON)
    return pair


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


@dataclass
class Ends:
    """Frames of the container HERE go in at `inside`, and come out at `outside`.

    Datagrams pass a socket of ours on the way, so that a test may drop, repeat and change them.
    """

    key: bytes = KEY
    size: int = 1472
    whole: bool = True
    into: Sequence[socket.socket] = field(default_factory=devices)
    out: Sequence[socket.socket] = field(default_factory=devices)

    def __post_init__(self) -> None:
        self.sender, self.relay, self.end = (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)
        )
        for each in (self.relay, self.end):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            each.bind((HOST, 0))
            each.settimeout(0.1)
        self.end.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
        told = PutPeer(
            peer=PEER, address=HOST, port=port_of(self.relay), index=INDEX, key=self.key,
            size=self.size, whole=self.whole,
        )  # fmt: skip
        self.peers = {PEER: Peer.of(told, Keys(Seal), PeerCounts())}
        directory = Directory({THERE: PEER}, (PEER,))
        self.transmitter = Transmitter(
            NETWORK, self.into[1].fileno(), self.sender.fileno(), self.peers, lambda: directory
        )
        session = PutSession(index=INDEX, peer=PEER, key=self.key, address=HOST)
        self.session = Session.of(session, Keys(Opening), PeerCounts())
        self.port = Port(self.out[1].fileno())
        self.port.sources.put(HERE, PEER, [ip_address(a[0]).packed for a in (V4, V6)])
        self.found: list[tuple[int, tuple[str, int]]] = []
        self.receiver = Receiver(
            self.end.fileno(), {INDEX: self.session}, {NETWORK: self.port},
            lambda index, sender: self.found.append((index, unpacked_address(sender))),
        )  # fmt: skip
        self._over = False
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.transmitter.run(lambda: self._over)

    def close(self) -> None:
        self._over = True
        while self._thread.is_alive():
            signal.pthread_kill(self._thread.ident or 0, signal.SIGUSR1)
            self._thread.join(0.005)
        for each in (self.sender, self.relay, self.end, *self.into, *self.out):
            each.close()

    @property
    def inside(self) -> socket.socket:
        return self.into[0]

    @property
    def outside(self) -> socket.socket:
        return self.out[0]

    @property
    def dropped(self) -> dict[str, int]:
        """By the receiver."""
        found = dict(self.receiver.dropped)
        for why, n in self.session.counts.dropped.items():
            found[why] = found.get(why, 0) + n
        return found

    def datagrams(self, *frames: bytes) -> list[bytes]:
        """What is sent for them."""
        for frame in frames:
            self.inside.send(frame)
        if self._thread.ident is None:
            self._thread.start()
        found: list[bytes] = []
        try:
            while True:
                found.append(self.relay.recv(65_536))
        except TimeoutError:
            return found

    def arrive(
        self, *datagrams: bytes, segment: int = 0, by: socket.socket | None = None
    ) -> list[bytes]:
        """The frames that come out; the datagrams come at once where `segment` is their size.

        They come by another socket than usual if one is given.
        """
        target, relay = self.end.getsockname(), by or self.relay
        if segment:
            size = [(socket.SOL_UDP, 103, segment.to_bytes(2, "little"))]
            relay.sendmsg([b"".join(datagrams)], size, 0, target)
        else:
            for each in datagrams:
                relay.sendto(each, target)
        ready = select.poll()
        ready.register(self.end, select.POLLIN)
        while ready.poll(30):
            self.receiver.step()
        found = []
        self.outside.setblocking(False)
        try:
            while True:
                found.append(self.outside.recv(1 << 17))
        except BlockingIOError:
            return found


signal.signal(signal.SIGUSR1, lambda *_: None)  # interrupts the call that waits


@contextmanager
def ends(key: bytes = KEY, size: int = 1472, *, whole: bool = True) -> Iterator[Ends]:
    made = Ends(key, size, whole)
    try:
        yield made
    finally:
        made.close()
