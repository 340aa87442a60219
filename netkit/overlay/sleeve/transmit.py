"""Frames of one TAP device, sealed and sent to the peers that have their destinations."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from dataclasses import dataclass, field

from netkit.overlay.sleeve import framing, vnet
from netkit.overlay.sleeve.framing import FLAG_BUNDLE, FRONT, HEAD, LENGTH, TAG, Cut
from netkit.overlay.sleeve.sealing import Seal
from netkit.overlay.sleeve.segmentation import Malformed, split
from netkit.overlay.sleeve.tables import PeerCounts, PutPeer
from netkit.overlay.sleeve.vectors import Area, Gather

LONGEST = vnet.SIZE + 14 + 65_536  # bytes of a frame that a TAP device may give
BEFORE = FRONT  # bytes before the frame, where it is read to
# The path is shorter than was thought, or a queue is full: the sender above sends again.
TRANSIENT = frozenset({
    errno.EMSGSIZE, errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.ENETUNREACH,
    errno.EHOSTUNREACH, errno.EPERM, errno.EINVAL,
})  # fmt: skip


@dataclass(slots=True)
class Peer:
    """What all devices' transmitters share of one peer."""

    told: PutPeer
    seal: Seal
    cut: Cut
    counts: PeerCounts = field(default_factory=PeerCounts)

    @classmethod
    def of(cls, told: PutPeer, former: Peer | None) -> Peer:
        """The counter goes on under a key that was in use before."""
        same = former is not None and former.told.key == told.key and bool(told.key)
        seal = former.seal if same and former is not None else Seal(told.key)
        counts = former.counts if former is not None else PeerCounts()
        return cls(told, seal, Cut(told.size), counts)

    def dropped(self, why: str) -> None:
        self.counts.dropped[why] = self.counts.dropped.get(why, 0) + 1


@dataclass(slots=True)
class Directory:
    """Of one network: where frames go.  Replaced, never changed, by the thread that is told."""

    hosts: dict[bytes, int] = field(default_factory=dict)  # MAC address -> peer
    members: tuple[int, ...] = ()


class _Route:
    """To one peer, from one device: the headers, and the bundle that is being filled."""

    def __init__(self, peer: Peer, network: int, payload: Area) -> None:
        told = peer.told
        self.peer = peer
        self.gather = Gather(payload, peer.cut, told.index, told.address, told.port)
        self.bundle = Area(peer.cut.part)
        self.bundle.view[:FRONT] = framing.front(network)
        self.out = Area(peer.cut.part) if peer.seal.sealed else self.bundle
        self.bundled = Gather(self.out, peer.cut, told.index, told.address, told.port)
        self.used = FRONT
        self.room = peer.cut.part - (TAG if peer.seal.sealed else 0)


class Transmitter:
    """One device's loop.  `peers` and `directory` are looked up anew for each frame."""

    def __init__(
        self,
        network: int,
        tap: int,
        socket: int,
        peers: dict[int, Peer],
        directory: Callable[[], Directory],
    ) -> None:
        self._network, self._tap, self._socket = network, tap, socket
        self._peers, self._directory = peers, directory
        self._plain = Area(BEFORE + LONGEST)
        self._plain.view[:BEFORE] = framing.front(network)
        self._frame = self._plain.view[BEFORE:]
        self._sealed = Area(BEFORE + LONGEST + TAG)
        self._routes: dict[int, _Route] = {}
        self._filled: list[_Route] = []  # with a bundle that has not been sent
        self.dropped: dict[str, int] = {}

    def run(self, wake: int) -> None:
        """Until the file `wake` can be read, or the device is gone."""
        ready = select.poll()
        ready.register(self._tap, select.POLLIN)
        ready.register(wake, select.POLLIN)
        into, tap = [self._frame], self._tap
        while True:
            try:
                size = os.readv(tap, into)
            except BlockingIOError:
                self.flush()
                if any(fd == wake for fd, _ in ready.poll()):
                    return
                continue
            except OSError as e:
                if e.errno in {errno.EBADFD, errno.ENODEV, errno.EIO}:  # it was deleted, or is down
                    return
                raise
            self.forward(size)

    def forward(self, size: int) -> None:
        """The frame of `size` bytes that was just read."""
        if size < vnet.SHORTEST:
            return self._drop("short")
        destination = bytes(self._frame[vnet.DESTINATION])
        directory = self._directory()
        if destination[0] & 1:
            for number in directory.members:
                self._to(number, size)
            return None
        number = directory.hosts.get(destination, -1)
        if number < 0:
            return self._drop("unknown destination")
        return self._to(number, size)

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
            return None
        payload = self._sealed if peer.seal.sealed else self._plain
        self._routes[number] = route = _Route(peer, self._network, payload)
        return route

    def _to(self, number: int, size: int) -> None:
        route = self._route(number)
        if route is None:
            return self._drop("no path")
        if size + LENGTH.size + FRONT <= route.room:
            return self._bundle(route, self._frame[:size])
        if route.used > FRONT:
            self._send_bundle(route)
        segments = self._frame[1] != vnet.GSO_NONE
        if size <= route.peer.cut.longest_frame and (route.peer.told.whole or not segments):
            return self._whole(route, size)
        if not segments:
            return route.peer.dropped("too long")
        return self._split(route, size)

    def _whole(self, route: _Route, size: int) -> None:
        peer, gather = route.peer, route.gather
        counter = next(peer.seal.counters)
        length = BEFORE + size
        if peer.seal.sealed:
            gather.prepare(counter, 0, length + TAG)
            peer.seal.into(counter, gather.first, self._plain.view[:length], self._sealed.view)
        else:
            gather.prepare(counter, 0, length)
        self._sent(peer, gather.send(self._socket), size, 1)

    def _split(self, route: _Route, size: int) -> None:
        """Cut in software.  What fits a datagram goes by way of bundles, of one frame each."""
        cut = route.peer.cut
        room = cut.part - TAG - FRONT if not route.peer.told.whole else cut.longest_frame
        step = max(vnet.read(self._frame).gso_size, 1)
        headers = min(200, room - step)  # the longest there are: IPv6, TCP with options
        frame = bytes(self._frame[:size])
        try:
            parts = list(split(memoryview(frame), max((room - headers) // step, 1)))
        except Malformed:
            return route.peer.dropped("malformed")
        for part in parts:
            if len(part) + LENGTH.size + FRONT <= route.room:
                self._bundle(route, memoryview(part))
                self._send_bundle(route)
            elif len(part) <= cut.longest_frame:
                self._frame[: len(part)] = part
                self._whole(route, len(part))
            else:
                route.peer.dropped("too long")
        self._frame[:size] = frame  # other peers may get it as well
        return None

    def _bundle(self, route: _Route, frame: memoryview) -> None:
        size = len(frame)
        if route.used + LENGTH.size + size > route.room:
            self._send_bundle(route)
        at = route.used
        if at == FRONT and route not in self._filled:
            self._filled.append(route)
        view = route.bundle.view
        LENGTH.pack_into(view, at, size)
        at += LENGTH.size
        view[at : at + size] = frame
        route.used = at + size
        route.peer.counts.frames += 1

    def _send_bundle(self, route: _Route) -> None:
        used = route.used
        if used == FRONT:
            return
        route.used = FRONT
        peer, gather = route.peer, route.bundled
        counter = next(peer.seal.counters)
        if peer.seal.sealed:
            gather.prepare(counter, FLAG_BUNDLE, used + TAG)
            peer.seal.into(counter, gather.first, route.bundle.view[:used], route.out.view)
        else:
            gather.prepare(counter, FLAG_BUNDLE, used)
        self._sent(peer, gather.send(self._socket), used, 0)

    def _sent(self, peer: Peer, error: int, size: int, frames: int) -> None:
        if not error:
            peer.counts.frames += frames
            peer.counts.bytes += size
        elif error in TRANSIENT:
            peer.dropped(errno.errorcode[error])
        else:
            raise OSError(error, os.strerror(error))

    def _drop(self, why: str) -> None:
        self.dropped[why] = self.dropped.get(why, 0) + 1


assert HEAD + FRONT < framing.SMALLEST
