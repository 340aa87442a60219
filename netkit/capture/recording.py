"""Read packets of all points, put them in order, hand them to a sink, and count what was lost."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from netkit.capture import pcapng
from netkit.capture.merging import Merging, Packet
from netkit.capture.points import Point
from netkit.kernel import packet_filter
from netkit.kernel.packet_socket import BUFFER, LARGEST, PacketSocket

BATCH = 256  # packets of a point, before others have their turn
IDLE, PENDING = 200, 5  # ms to wait where nothing, or something, is to be written
LAST_ROUNDS = 256  # at the end: of what still comes, no more than that
KINDS = {
    socket.PACKET_HOST: pcapng.INBOUND | pcapng.UNICAST,
    socket.PACKET_BROADCAST: pcapng.INBOUND | pcapng.BROADCAST,
    socket.PACKET_MULTICAST: pcapng.INBOUND | pcapng.MULTICAST,
    socket.PACKET_OTHERHOST: pcapng.INBOUND | pcapng.PROMISCUOUS,
    socket.PACKET_OUTGOING: pcapng.OUTBOUND,
}
Say = Callable[[str], None]
Comment = Callable[[Packet, int], Iterable[str]]


class Sink(Protocol):
    """`full` once it takes no more."""

    full: bool

    def begin(self, sources: Sequence[Source]) -> None: ...
    def packet(self, packet: Packet, comments: Iterable[str]) -> None: ...
    def flush(self) -> None: ...
    def end(self, counts: Sequence[pcapng.Counts]) -> None: ...


@dataclass(slots=True, kw_only=True)
class Source:
    """A point that is listened at.  `ended` is a file that can be read once its process is no more;
    -1: it has none.
    """

    point: Point
    packets: PacketSocket
    ended: int
    start: int = field(default_factory=time.time_ns)
    end: int = 0
    down: bool = False

    def close(self) -> None:
        self.packets.close()
        if self.ended >= 0:
            os.close(self.ended)

    def counts(self) -> pcapng.Counts:
        return pcapng.Counts(
            start=self.start, end=self.end or time.time_ns(),
            received=self.packets.received, dropped=self.packets.dropped,
        )  # fmt: skip


@contextmanager
def listening(
    points: Sequence[Point],
    filter: str,
    snaplen: int = LARGEST,
    promiscuous: bool = True,
    buffer: int = BUFFER,
) -> Iterator[list[Source]]:
    """All points, or none: KernelError, InvalidSpec for the filter.  `buffer`: bytes of each."""
    sources: list[Source] = []
    programs: dict[int, bytes] = {}
    try:
        for point in points:
            sources.append(_opened(point, snaplen, promiscuous, buffer))
        for kind in {s.packets.link_type for s in sources} if filter else ():
            programs[kind] = packet_filter.program(filter, kind, snaplen)
        for source in sources:
            source.packets.start(programs.get(source.packets.link_type, b""))
        yield sources
    finally:
        for source in sources:
            source.close()


def _opened(point: Point, snaplen: int, promiscuous: bool, buffer: int) -> Source:
    ended = os.pidfd_open(point.pid) if point.pid else -1
    try:
        packets = PacketSocket(
            point.ns, point.interface, snaplen=snaplen, promiscuous=promiscuous, buffer=buffer
        )
    except BaseException:
        if ended >= 0:
            os.close(ended)
        raise
    return Source(point=point, packets=packets, ended=ended)


class Recording:
    """`most` packets, `seconds` (None: without end); `comment` is asked about each packet."""

    def __init__(
        self, sources: Sequence[Source], sink: Sink, say: Say, *, most: int | None = None,
        seconds: float | None = None, comment: Comment | None = None,
    ) -> None:  # fmt: skip
        self._all, self._sink, self._say = sources, sink, say
        self._live = dict(enumerate(sources))
        self._merging = Merging(len(sources))
        self._most, self._seconds, self._comment = most, seconds, comment
        self._poll = select.poll()
        self.written = 0

    @property
    def dropped(self) -> int:
        return sum(s.packets.dropped for s in self._all)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Until `stopped`, a bound is reached, or no point is left.  OSError of the sink."""
        self._sink.begin(self._all)
        self._sink.flush()
        for source in self._all:
            for file in (source.packets.fileno(), source.ended):
                if file >= 0:
                    self._poll.register(file, select.POLLIN)
        until = None if self._seconds is None else time.monotonic() + self._seconds
        while self._live and not stopped() and not self._done():
            wait = PENDING if self._merging else IDLE
            if until is not None:
                left = int((until - time.monotonic()) * 1000)
                if left < 0:
                    break
                wait = min(wait, left + 1)
            self._round({file for file, _ in self._poll.poll(wait)})
        self._finish()

    def _done(self) -> bool:
        return self._sink.full or (self._most is not None and self.written >= self._most)

    def _round(self, ready: set[int]) -> None:
        for number, source in list(self._live.items()):
            self._read(number, source)
            if source.ended in ready:
                self._over(number, source, "its container has ended")
            elif source.down and not source.packets.exists():
                self._over(number, source, "the interface is gone")
        self._write(self._merging.ordered())
        self._sink.flush()

    def _read(self, number: int, source: Source) -> bool:
        """Whether all that waited was read."""
        begun = last = time.time_ns()
        for _ in range(BATCH):
            try:
                got = source.packets.receive()
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                if not source.down and source.packets.exists():
                    self._say(f"{source.point.name} is down: packets come again once it is up")
                source.down = True
                continue
            if got is None:
                self._merging.read(number, begun)
                return True
            source.down, last = False, got.stamp
            self._merging.add(
                Packet(point=number, stamp=got.stamp, data=got.data, length=got.length,
                       flags=KINDS.get(got.kind, 0))
            )  # fmt: skip
        self._merging.read(number, last)
        return False

    def _over(self, number: int, source: Source, why: str) -> None:
        rounds = 0
        while not self._read(number, source) and rounds < LAST_ROUNDS:
            rounds += 1
        source.packets.count()
        source.end = time.time_ns()
        for file in (source.packets.fileno(), source.ended):
            if file >= 0:
                self._poll.unregister(file)
        source.close()  # it would keep the namespace alive
        source.ended = -1
        del self._live[number]
        self._merging.gone(number)
        rest = f"{len(self._live)} other points go on" if self._live else "there is no other point"
        self._say(f"{source.point.name} has ended, {why}: {rest}")

    def _write(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            if self._done():
                return
            source = self._all[packet.point]
            kind = source.packets.link_type
            self._sink.packet(packet, self._comment(packet, kind) if self._comment else ())
            self.written += not self._sink.full

    def _finish(self) -> None:
        """What waits in the kernel came before the end."""
        for number, source in self._live.items():
            rounds = 0
            while not self._done() and not self._read(number, source) and rounds < LAST_ROUNDS:
                rounds += 1
            source.packets.count()
        self._write(self._merging.rest())
        self._sink.end([source.counts() for source in self._all])
        self._sink.flush()
