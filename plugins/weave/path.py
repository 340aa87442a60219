"""By which way frames go to each peer, and why: fastdp, sleeve, relay or none.

A peer with a session by relay is reached by relay, any other by the sleeve, and by fastdp where
that may be and works.  It may be where both sides want it and neither wants what goes between them
to be sealed: then never, whatever works.  Whether it works, probes find out: a VXLAN datagram as
long as the longest packet of a network in common, which the other side reports by its session.
Three answers in a row lead up, though not within 30 s of a loss; three losses in a row lead down at
once.  Where probes get no answer, they are repeated every half minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from math import inf
from typing import Final

from plugins.weave.crypto import Random
from plugins.weave.identity import PeerId
from plugins.weave.path_mtu import PathMtu
from plugins.weave.planes import SLEEVE, VXLAN, Way
from plugins.weave.step import Address, Where
from plugins.weave.wire import MAX_SEALED, PATH_FLOOR

GOOD: Final = 3
LOST: Final = 3
DWELL: Final = 30.0
SOON: Final = 0.2
"""Seconds between probes that are answered, until there are GOOD."""
WATCH: Final = 5.0
"""Seconds between two of them while frames go by fastdp."""
ANSWER: Final = 1.0
"""Seconds in which an answer comes."""
RETRY: Final = 30.0
TAKES_VXLAN: Final = 1
"""Feature of a peer, in handshakes: frames may come to it by the kernel's VXLAN."""
FAST: Final = 1 << 31
"""In the numbers of probes by VXLAN, so that they are none of a session's."""


HEADERS: Final = {4: 20 + 8, 6: 40 + 8}
"""Bytes of IP and UDP, by the version of IP."""


@dataclass(frozen=True, slots=True)
class Need:
    """What is to be carried to a peer in clear: of the networks in common, the longest packets."""

    network: bytes
    vni: int
    mtu: int
    mac: bytes
    """Of an endpoint of ours in it."""

    @property
    def size(self) -> int:
        """Bytes of UDP's payload."""
        return self.mtu + VXLAN


@dataclass(frozen=True, slots=True)
class Probe:
    """Please send it; `need`: by VXLAN, else in the session."""

    peer: PeerId
    number: int
    size: int
    need: Need | None = None


class Path:
    """To one peer there is a session with."""

    def __init__(self, peer: PeerId, random: Random, most: int) -> None:
        self.peer = peer
        self._random, self._most = random, most
        self.where: Where | None = None
        self._family = 0  # of the address there
        self.sealed = True
        self.distrusted = False  # it is the other side alone that demands that
        self.takes_vxlan = False
        self.data = False
        """Whether there are networks in common."""
        self.need: Need | None = None
        self.fast = False
        self._mtu: PathMtu | None = None
        self._good = self._lost = 0
        self._lost_at = self._sent = -inf
        self._next = inf
        self._number: int | None = None  # of the probe that is not answered yet
        self._unanswered = False
        self._sizes: dict[int, int] = {}  # of probes under way: number -> size

    # What is so

    @property
    def size(self) -> int:
        if not isinstance(self.where, Address):
            return MAX_SEALED
        return self._mtu.size if self._mtu else PATH_FLOOR

    @property
    def way(self) -> Way:
        if self.where is None:
            return Way.NONE
        if not isinstance(self.where, Address):
            return Way.RELAY
        return Way.FASTDP if self.fast else Way.SLEEVE

    @property
    def mtu(self) -> int:
        """Bytes of packets that fit one datagram."""
        return self.size - (VXLAN if self.fast else SLEEVE)

    def reason(self, no_fastdp: str) -> str:
        """Of fastdp or the sleeve."""
        if self.fast and self.need:
            return f"fastdp: probed {self.need.size} bytes"
        return f"sleeve: {self.why_not(no_fastdp) or self._progress()}"

    def why_not(self, no_fastdp: str) -> str:
        """Why fastdp cannot be; "": it can, if probes are answered."""
        if self.sealed and self.distrusted:
            return "encrypted, for the other side does not trust this address (--trusted-subnets)"
        if self.sealed:
            return "encrypted, which the kernel's VXLAN is not"
        if no_fastdp:
            return no_fastdp
        if self._family != 4:
            return "no IPv4 address, which VXLAN needs here"
        if not self.takes_vxlan:
            return "the other side takes no VXLAN"
        if not self.data:
            return "no network has containers on both hosts"
        if self.need is None:
            return "no network with containers on both hosts may go in clear"
        if self._mtu and not self._mtu.searching and self._mtu.size < self.need.size:
            return (
                f"the path carries datagrams of {self._mtu.size} bytes, VXLAN would need"
                f" {self.need.size}"
            )
        return ""

    def _progress(self) -> str:
        if self._unanswered or self._lost:
            return "no answer to VXLAN probes"
        if self._good >= GOOD:
            return f"VXLAN answers again, and is taken {DWELL:.0f} s after it was lost"
        return f"VXLAN answered {self._good} of {GOOD} probes so far"

    # What happens

    def at(self, where: Where, now: float) -> None:
        """Datagrams go there from now on; another place is another path."""
        if where != self.where:
            self.where = where
            self._family = ip_address(where.host).version if isinstance(where, Address) else 0
            self._mtu, self._sizes = None, {}
            self._down(now)
            self._unanswered = False

    def wants(self, data: bool, need: Need | None, now: float) -> None:
        """What there is to be carried: something, and by VXLAN."""
        self.data = data
        if need != self.need:
            longer = need is None or self.need is None or need.size > self.need.size
            self.need = need
            self._number = None
            if longer:
                self._down(now)
                self._unanswered = False
            self._next = min(self._next, now)

    def probed(self, number: int, now: float) -> None:
        """It arrived, says the other side."""
        size = self._sizes.pop(number, None)
        if size is not None and self._mtu is not None:
            self._mtu.arrived(size, now)
        if number != self._number:
            return
        self._number = None
        self._good, self._lost, self._unanswered = self._good + 1, 0, False
        self._next = now + (WATCH if self.fast else SOON)
        if not self.fast and self._good >= GOOD:
            self._next = self._lost_at + DWELL
            if now >= self._next:
                self.fast = True
                self._next = now + WATCH

    def too_large(self, size: int, limit: int, now: float) -> None:
        if self._mtu is not None:
            self._mtu.too_large(size, limit, now)

    def check(self, no_fastdp: str, now: float) -> None:
        """Off fastdp, if it may not be any more; to be called before `way` is asked for."""
        if self.fast and self.why_not(no_fastdp):
            self._down(now)

    def tick(self, no_fastdp: str, now: float) -> list[Probe]:
        """Probes to be sent."""
        probes = []
        if self.data and isinstance(self.where, Address):
            if self._mtu is None:
                self._mtu = PathMtu(HEADERS[self._family], self._most, now)
            probes += [self._probe(size) for size in self._mtu.due(now)]
        self.check(no_fastdp, now)
        if self.why_not(no_fastdp):
            self._number = None
            self._next = min(self._next, now)  # at once, as soon as it may be
            return probes
        assert self.need is not None
        if self._number is not None and now >= self._sent + ANSWER:
            self._missed(now)
        if self._number is None and now >= self._next:
            self._number = FAST | int.from_bytes(self._random(4), "big")
            self._sent = now
            probes.append(Probe(self.peer, self._number, self.need.size, self.need))
        return probes

    def deadline(self, no_fastdp: str) -> float:
        at = inf
        if self.data and isinstance(self.where, Address):
            at = self._mtu.deadline if self._mtu else -inf
        if self.why_not(no_fastdp):
            return -inf if self.fast else at
        return min(at, self._next if self._number is None else self._sent + ANSWER)

    def _probe(self, size: int) -> Probe:
        number = int.from_bytes(self._random(4), "big") & ~FAST
        self._sizes[number] = size
        while len(self._sizes) > 64:
            del self._sizes[next(iter(self._sizes))]
        return Probe(self.peer, number, size)

    def _missed(self, now: float) -> None:
        self._number = None
        self._good, self._lost = 0, self._lost + 1
        self._next = now
        if self._lost >= LOST:
            self._unanswered = True
            if self.fast:
                self._lost_at = now
                self._down(now)
            self._lost, self._next = 0, now + RETRY

    def _down(self, now: float) -> None:
        self.fast = False
        self._good = self._lost = 0
        self._number = None
        self._next = now


class Paths:
    """To all peers with a session; those that are asked for by a peer are made."""

    def __init__(self, random: Random, most: int, no_fastdp: str) -> None:
        self._random, self._most = random, most
        self.no_fastdp = no_fastdp
        self.of: dict[PeerId, Path] = {}

    def path(self, peer: PeerId) -> Path:
        if peer not in self.of:
            self.of[peer] = Path(peer, self._random, self._most)
        return self.of[peer]

    def drop(self, peer: PeerId) -> None:
        self.of.pop(peer, None)

    def tick(self, peer: PeerId, now: float) -> list[Probe]:
        return self.of[peer].tick(self.no_fastdp, now)
