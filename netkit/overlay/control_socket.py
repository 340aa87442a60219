"""What comes on the overlay's port for the control plane; under a flood it is looked at less often.

A datagram that leads to nothing costs some microseconds, and a wake-up many times that, which takes
the processor from the workers.  So after GARBAGE of them within WINDOW the socket is read every
PAUSE seconds, and until it is empty: its buffer holds what comes meanwhile.  Pings have ten times
as long for an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from netkit.overlay.core import Where
from netkit.overlay.loop import Loop, now
from netkit.overlay.sleeve.sockets import Pair

BATCH = 64  # datagrams that are read before others have their turn
GARBAGE, WINDOW = 50, 1.0  # datagrams, seconds
PAUSE, SHORTER = 0.05, 0.01  # seconds; the latter where MANY came in the last one
MANY = 100


class ControlSocket:
    """`receive` is called with each datagram, and says whether it led to anything."""

    def __init__(
        self, loop: Loop, pair: Pair, receive: Callable[[bytes, Where, float], bool]
    ) -> None:
        self._loop, self._pair, self._receive = loop, pair, receive
        self._useless = self._last = 0  # since `_since`; as of the last look
        self._since = float("-inf")
        self.deadline = float("inf")  # when `resume` has something to do
        self.resume()

    def resume(self) -> None:
        self.deadline = float("inf")
        self._loop.read(self._pair.control.fileno(), self._read)

    def close(self) -> None:
        self._loop.forget(self._pair.control.fileno())

    def _read(self) -> None:
        for _ in range(BATCH):
            try:
                found = self._pair.read()
            except OSError:  # an ICMP error of what was sent
                continue
            if not found:
                return self._drained(now())
            for data, (host, port) in found:
                self._useless += not self._receive(data, Where(_plain(host), port), now())
        return None

    def _drained(self, at: float) -> None:
        if self._useless > GARBAGE:
            self._loop.forget(self._pair.control.fileno())
            self.deadline = at + (SHORTER if self._useless > self._last + MANY else PAUSE)
        if at >= self._since + WINDOW:
            self._since, self._useless = at, 0
        self._last = self._useless


def _plain(host: str) -> str:
    """An IPv4 address as such, on a socket of IPv6 too."""
    if not host.startswith("::ffff:"):
        return host
    mapped = getattr(ip_address(host), "ipv4_mapped", None)
    return str(mapped) if mapped else host
