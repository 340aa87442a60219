"""Real sockets in many namespaces at once: servers that say who they are, clients that ask.

All probes of a round run at the same time, so that each that fails has probes beside it that
succeed with the same server.
"""

from __future__ import annotations

import resource
import selectors
import socket
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Self

from netkit.kernel import netns
from tests.reach.model import Probe

GRACE = 0.4  # seconds for what must not arrive, after all that must has
PATIENCE = 60.0  # seconds for what must arrive
FILES = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    who: str
    ns: str
    address: IPv4Address
    port: int
    proto: str


class Servers:
    """Servers that answer every client with their name and record datagrams."""

    def __init__(self, services: Iterable[Service]) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(FILES, hard)), hard))
        self.received: dict[bytes, str] = {}
        self._selector = selectors.DefaultSelector()
        self._stop, theirs = (
            socket.socketpair()
        )  # closing one wakes the thread that waits on the other
        self._selector.register(theirs, selectors.EVENT_READ, None)
        by_ns: dict[str, list[Service]] = {}
        for s in services:
            by_ns.setdefault(s.ns, []).append(s)
        for ns, here in by_ns.items():
            with netns.inside(ns):
                for s in here:
                    self._open(s)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _open(self, s: Service) -> None:
        kind = socket.SOCK_STREAM if s.proto == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(socket.AF_INET, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((str(s.address), s.port))
        if s.proto == "tcp":
            sock.listen(1024)
        self._selector.register(sock, selectors.EVENT_READ, s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                with suppress(OSError):
                    self._answer(key.fileobj, key.data)  # type: ignore[arg-type]

    def _answer(self, sock: socket.socket, s: Service) -> None:
        while True:
            if s.proto == "tcp":
                peer, _ = sock.accept()
                with peer:
                    peer.send(s.who.encode())
                continue
            data, address = sock.recvfrom(2048)
            self.received[data] = s.who
            sock.sendto(s.who.encode(), address)


@dataclass(slots=True)
class Round:
    """Probes under way: `found` has the server that answered each."""

    places: Mapping[str, tuple[str, str]]  # namespace and source address ("" any), by who
    found: dict[Probe, str] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def run(self, probes: Collection[Probe], expected: Collection[Probe]) -> dict[Probe, str]:
        """Return the server that answered each probe; wait for those `expected` to be answered."""
        by_ns: dict[str, list[Probe]] = {}
        for p in probes:
            by_ns.setdefault(self.places[p.who][0], []).append(p)
        for ns, here in by_ns.items():
            with netns.inside(ns):
                for p in here:
                    self._send(p)
        end = time.monotonic() + PATIENCE
        awaited = set(expected)
        while time.monotonic() < end and not all(self.found.get(p) for p in awaited):
            self._receive(0.05)
        end = time.monotonic() + GRACE
        while self._selector.get_map() and (left := end - time.monotonic()) > 0:
            self._receive(left)  # but for those that have their answer, or were refused
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        return {p: self.found.get(p, "") for p in probes}

    def _send(self, p: Probe) -> None:
        kind = socket.SOCK_STREAM if p.proto == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(socket.AF_INET, kind)
        sock.setblocking(False)
        if source := self.places[p.who][1]:
            sock.bind((source, 0))
        try:
            sock.connect((str(p.dst), p.port))
        except BlockingIOError:
            pass
        except OSError:  # no route
            sock.close()
            return
        if p.proto == "udp":
            with suppress(OSError):
                sock.send(b"who?")
        self._selector.register(sock, selectors.EVENT_READ, p)

    def _receive(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            try:
                answer = sock.recv(99).decode()
            except OSError:
                answer = ""
            if answer or key.data not in self.found:
                self.found[key.data] = answer
            self._selector.unregister(sock)
            sock.close()
