"""A stream of ICMP echo requests from a namespace, with the times of each and of its answer."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Self

from netkit import threads
from netkit.kernel import netns
from netkit.lab.probe import ECHO_REPLY, echo
from netkit.lab.recovery import Probe
from netkit.testing.waiting import readable

GAP = 0.01  # seconds from one to the next: as exact is a recovery time
LATE = 1.0  # seconds; what comes later is lost


class Stream:
    """Runs from `with` to its end, in a thread of its own.  KernelError without the namespace."""

    def __init__(self, ns: str, address: str) -> None:
        self.address = address
        self._socket = netns.open_socket(ns, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setblocking(False)
        self._ident = int.from_bytes(os.urandom(2), "big")
        self._sent: list[float] = []
        self._answered: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threads.once(f"probes to {address}", self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def probes(self) -> list[Probe]:
        """All so far; those that wait for their answer are not answered.  From any thread."""
        out = []
        for number, sent in enumerate(self._sent[:]):
            answered = self._answered.get(number)
            late = answered is None or answered - sent > LATE
            out.append(Probe(sent, None if late else answered))
        return out

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            number = len(self._sent)
            self._sent.append(time.monotonic())
            with suppress(OSError):  # there is no route, or no neighbour, just now
                request = echo(self._ident, struct.pack("=Q", number))
                self._socket.sendto(request, (self.address, 0))
            due = max(due + GAP, time.monotonic())
            while (left := due - time.monotonic()) > 0:
                if readable(self._socket.fileno(), left):
                    self._receive()

    def _receive(self) -> None:
        with suppress(OSError, struct.error):
            data = self._socket.recv(2048)
            now, head = time.monotonic(), (data[0] & 15) * 4
            kind, _, _, back = struct.unpack_from("!BBHH", data, head)
            if kind == ECHO_REPLY and back == self._ident:
                (number,) = struct.unpack_from("=Q", data, head + 8)
                if number < len(self._sent):
                    self._answered.setdefault(number, now)
