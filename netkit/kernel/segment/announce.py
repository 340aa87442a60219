"""Announce addresses on a segment by gratuitous ARP, a moment after they got a new owner.

A port of a bridge forwards only when the kernel has noticed its carrier (linkwatch), and a frame
may be lost: so not at once, and twice (RFC 5227, section 2.3, with shorter times).
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address

from netkit import threads
from netkit.errors import KernelError

AFTER = (0.05, 1.0)  # seconds

Send = Callable[[str, str, IPv4Address], None]  # namespace's path, link, address
log = logging.getLogger(__name__)


class Announcer:
    """Thread-safe.  Its own thread lives while something is due."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = threading.Condition()
        self._due: list[tuple[float, str, str, IPv4Address]] = []  # a heap, by time
        self._running = False

    def soon(self, ns: str, link: str, address: IPv4Address) -> None:
        now = time.monotonic()
        with self._lock:
            for seconds in AFTER:
                heapq.heappush(self._due, (now + seconds, ns, link, address))
            self._lock.notify()
            if not self._running:
                self._running = True
                threads.once("netkit-announce", self._run).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._due:
                    self._running = False
                    return
                left = self._due[0][0] - time.monotonic()
                if left > 0:
                    self._lock.wait(left)
                    continue
                _, ns, link, address = heapq.heappop(self._due)
            try:
                self._send(ns, link, address)
            except (KernelError, OSError) as error:  # removed again already
                log.debug("%s is not announced: %s", address, error)
            except Exception as error:  # noqa: BLE001  the next ones are announced all the same
                threads.report(f"announcing {address}", error)


__all__ = ["AFTER", "Announcer", "Send"]
