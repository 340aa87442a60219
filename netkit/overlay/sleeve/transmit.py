"""Frames of one TAP device, sealed and sent to the peers that have their destinations."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from netkit.overlay.sleeve import framing, segmentation, vnet
from netkit.overlay.sleeve.framing import FLAG_BUNDLE, FRONT, HEAD, LENGTH, Cut
from netkit.overlay.sleeve.sealing import Keys, Seal
from netkit.overlay.sleeve.segmentation import Malformed
from netkit.overlay.sleeve.segments import Apart
from netkit.overlay.sleeve.tables import PeerCounts, PutPeer
from netkit.overlay.sleeve.vectors import Area, Gather, Reader, Train

EMPTY = (-errno.EAGAIN, -errno.EOPNOTSUPP)  # the latter of kernels that cannot ask: no bundles
GONE = frozenset({errno.EBADFD, errno.EBADF, errno.ENODEV, errno.EIO})  # deleted, or down
LONGEST = vnet.SIZE + 18 + 65_536  # bytes of a frame that a TAP device may give
BUNDLED = 16  # datagrams of a bundle at most, where the path loses little
# The path is shorter than was thought, or a queue is full: the sender above sends again.
TRANSIENT = frozenset({
    errno.EMSGSIZE, errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.ENETUNREACH,
    errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EPERM, errno.EACCES, errno.EINVAL,
    errno.EADDRNOTAVAIL, errno.ENOMEM, errno.EIO,
})  # fmt: skip


@dataclass(slots=True)
class Peer:
    """What all devices' transmitters share of one peer."""

    settings: PutPeer
    seal: Seal
    cut: Cut
    counts: PeerCounts = field(default_factory=PeerCounts)

    @classmethod
    def of(cls, settings: PutPeer, keys: Keys[Seal], counts: PeerCounts) -> Peer:
        """ValueError: a key that was in use, a size that cannot be, an address that is none."""
        return cls(settings, keys.of(settings.key), Cut(settings.size), counts)

    def dropped(self, why: str) -> None:
        self.counts.dropped[why] = self.counts.dropped.get(why, 0) + 1


@dataclass(slots=True)
class Directory:
    """Of one network: where frames go.  Replaced, never changed, by the control thread."""

    hosts: dict[bytes, int] = field(default_factory=dict)  # MAC address -> peer
    members: tuple[int, ...] = ()


class _Route:
    """To one peer, from one device: the headers, and the bundle that is being filled.

    What is sealed is sent from `sealed`, a frame that is not from `plain`, where it was read to.
    """

    def __init__(self, peer: Peer, plain: Area, sealed: Area, apart: Apart) -> None:
        settings, cut, seal = peer.settings, peer.cut, peer.seal
        self.peer = peer
        where = settings.index, settings.address, settings.port
        self.gather = Gather(sealed, cut, *where)
        # Of a frame that has a payload of its own:
        self.frame = self.gather if seal.sealed else Gather(plain, cut, *where)
        self.train = Train(apart.area, settings.address, settings.port)
        self.counters, self.tag = seal.counters, seal.tag
        self.longest = cut.capacity - seal.tag  # bytes of a payload
        self.uncut = self.longest - FRONT if settings.whole else 0  # bytes of a frame of segments
        pieces = min(BUNDLED, cut.most) if settings.whole else 1
        self.room = pieces * cut.part - seal.tag  # bytes of a bundle
        self.bundle = memoryview(bytearray(self.room))
        self.small = cut.part - seal.tag - FRONT - LENGTH.size  # bytes of a frame that is bundled
        self.used = FRONT


class Transmitter:
    """One device's loop.  `peers` and `directory` are looked up again after `changed`."""

    def __init__(
        self,
        network: int,
        tap: int,
        socket: int,
        peers: dict[int, Peer],
        directory: Callable[[], Directory],
    ) -> None:
        self._socket = socket
        self._peers, self._directory = peers, directory
        self._front = framing.front(network)
        self._plain = Area(FRONT + LONGEST, aligned=FRONT)
        self._plain.view[:FRONT] = self._front
        self._frame = self._plain.view[FRONT:]
        self._destination = self._frame[vnet.DESTINATION]
        self._reader = Reader(tap, self._plain, FRONT)
        self._sealed = Area(FRONT + LONGEST + framing.TAG)
        self._apart = Apart()
        self._routes: dict[int, _Route] = {}
        self._known: dict[bytes, _Route] = {}  # by MAC address
        self._change = self._seen = 0
        self._filled: list[_Route] = []  # with a bundle that has not been sent
        self.dropped: dict[str, int] = {}

    def changed(self) -> None:
        """The tables were; from another thread."""
        self._change += 1

    def run(self, over: Callable[[], bool]) -> None:
        """Until a signal interrupts and it is `over`, or the device is gone.  OSError."""
        wait, now, filled, forward = self._reader.wait, self._reader.now, self._filled, self.forward
        while True:
            size = now() if filled else wait()
            if size >= 0:
                forward(size)
            elif size in EMPTY:
                self.flush()
            elif -size in GONE or (size == -errno.EINTR and over()):
                return
            elif size != -errno.EINTR:
                raise OSError(-size, os.strerror(-size))

    def forward(self, size: int) -> None:
        """The frame of `size` bytes that was just read."""
        if size < vnet.SHORTEST:
            return self._drop("short")
        if self._change != self._seen:
            self._seen = self._change  # first: what changes from now on is looked up once more
            self._known.clear()
        route = self._known.get(self._destination.tobytes())
        if route is None:
            return self._look_up(size)
        return self._to(route, size)

    def _look_up(self, size: int) -> None:
        destination = self._destination.tobytes()
        directory = self._directory()
        if destination[0] & 1:
            for number in directory.members:
                if (route := self._route(number)) is not None:
                    self._to(route, size)
            return None
        number = directory.hosts.get(destination, -1)
        if number < 0:
            return self._drop("unknown destination")
        route = self._route(number)
        if route is None:
            return None
        self._known[destination] = route
        return self._to(route, size)

    def flush(self) -> None:
        """Send the bundles."""
        for route in self._filled:
            self._send_bundle(route)
        self._filled.clear()

    # one peer

    def _route(self, number: int) -> _Route | None:
        peer = self._peers.get(number)
        route = self._routes.get(number)
        if route is not None and route.peer is peer:
            return route
        if route is not None and route in self._filled:
            self._filled.remove(route)  # of former keys
        if peer is None:
            self._routes.pop(number, None)
            self._drop("no path")
            return None
        self._routes[number] = route = _Route(peer, self._plain, self._sealed, self._apart)
        return route

    def _to(self, route: _Route, size: int) -> None:
        if size <= route.small:
            return self._bundle(route, size)
        if route.used > FRONT:
            self._send_bundle(route)
        if size > route.uncut and self._frame[1]:
            return self._cut(route, size)
        return self._whole(route, size)

    def _whole(self, route: _Route, size: int) -> None:
        peer, length = route.peer, FRONT + size
        if length > route.longest:
            return peer.dropped("too long")
        gather, counter, tag = route.frame, next(route.counters), route.tag
        gather.prepare(counter, 0, length + tag)
        if tag:
            peer.seal.into(counter, gather.first, self._plain.view[:length], self._sealed.view)
        return self._sent(peer, gather.send(self._socket), size, 1, gather.pieces)

    def _cut(self, route: _Route, size: int) -> None:
        """A frame that is longer than one call sends, or whose segments go by themselves."""
        frame = self._frame[:size]
        try:
            headers = segmentation.headers(frame)
            if headers.data + len(headers.template) != size:
                raise Malformed("another length than its network header says")
            fits = Apart.each(headers, route.peer.seal) <= route.peer.cut.size
            if fits and not route.peer.settings.whole:
                return self._segments(route, frame, headers)
            if FRONT + size <= route.longest:
                return self._whole(route, size)
            return self._in_parts(route, headers)
        except Malformed:
            return route.peer.dropped("malformed")

    def _in_parts(self, route: _Route, of: segmentation.Headers) -> None:
        """As few frames as can be; all data but the first one's, which is little, is moved."""
        frame, end = self._frame, len(of.template)
        most = (route.longest - FRONT - end) // of.step
        if most < 1:
            return route.peer.dropped("too long")
        length, size = most * of.step, end + of.data
        rest = bytes(frame[end + length : size])
        frame[:end] = of.of(0, length)
        self._whole(route, end + length)
        for number in range(most, -(-of.data // of.step), most):
            data = rest[(number - most) * of.step : number * of.step]
            frame[:end] = of.of(number, len(data))
            kept = bytes(frame[end : end + len(data)])
            frame[end : end + len(data)] = data
            self._whole(route, end + len(data))
            frame[end : end + len(data)] = kept
        frame[:end] = of.template  # other peers may get it as well
        return None

    def _segments(self, route: _Route, frame: memoryview, of: segmentation.Headers) -> None:
        peer, first = route.peer, 0
        each = Apart.each(of, peer.seal)
        while first * of.step < of.data:
            size, count = self._apart.fill(
                self._front, frame, of, first, peer.seal, peer.settings.index
            )
            error = route.train.send(self._socket, size, each)
            self._sent(peer, error, len(frame) if not first else 0, not first, count)
            if not error:
                peer.counts.payloads += count - 1
            first += count

    def _bundle(self, route: _Route, size: int) -> None:
        at = route.used
        if at + LENGTH.size + size > route.room:
            self._send_bundle(route)
            at = FRONT
        if at == FRONT and route not in self._filled:
            self._filled.append(route)
        bundle = route.bundle
        LENGTH.pack_into(bundle, at, size)
        at += LENGTH.size
        bundle[at : at + size] = self._frame[:size]
        route.used = at + size
        route.peer.counts.frames += 1

    def _send_bundle(self, route: _Route) -> None:
        used, peer, gather = route.used, route.peer, route.gather
        if used == FRONT:
            return
        route.used = FRONT
        route.bundle[:FRONT] = self._front
        counter = next(peer.seal.counters)
        gather.prepare(counter, FLAG_BUNDLE, used + peer.seal.tag)
        peer.seal.into(counter, gather.first, route.bundle[:used], self._sealed.view)
        self._sent(peer, gather.send(self._socket), used, 0, gather.pieces)

    def _sent(self, peer: Peer, error: int, size: int, frames: int, datagrams: int) -> None:
        counts = peer.counts
        if not error:
            counts.frames += frames
            counts.bytes += size
            counts.payloads += 1
            counts.datagrams += datagrams
        elif error in TRANSIENT:
            peer.dropped(errno.errorcode[error])
        else:
            raise OSError(error, os.strerror(error))

    def _drop(self, why: str) -> None:
        self.dropped[why] = self.dropped.get(why, 0) + 1


assert HEAD + FRONT < framing.SMALLEST
