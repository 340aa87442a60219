"""Where packets go: a pcapng file, or lines of text."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from netkit.capture import pcapng
from netkit.capture.merging import Packet
from netkit.capture.recording import Source
from netkit.kernel.packet_socket import ETHERNET

PROGRAM = "netkit capture"
STATISTICS_SIZE = 256  # bytes of a point's block at the end, at most


class Pcapng:
    """`most` bytes (None: without bound), with what is written at the end."""

    def __init__(self, file: BinaryIO, snaplen: int, most: int | None = None) -> None:
        self._file, self._snaplen, self._most = file, snaplen, most
        self._room = io.BytesIO()
        self._size = self._reserved = 0
        self.full = False

    def begin(self, sources: Sequence[Source]) -> None:
        self._reserved = STATISTICS_SIZE * len(sources)
        self._add(pcapng.section(PROGRAM))
        for s in sources:
            self._add(
                pcapng.interface(
                    s.point.name, s.point.description, s.packets.link_type, self._snaplen
                )
            )

    def packet(self, packet: Packet, comments: Iterable[str]) -> None:
        block = pcapng.packet(
            packet.point, packet.stamp, packet.data, packet.length, packet.flags, comments
        )
        if self._most is not None and self._size + len(block) + self._reserved > self._most:
            self.full = True
            return
        self._add(block)

    def flush(self) -> None:
        if data := self._room.getbuffer():
            self._file.write(data)
            self._file.flush()
        data.release()
        self._room = io.BytesIO()

    def end(self, counts: Sequence[pcapng.Counts]) -> None:
        for number, each in enumerate(counts):
            self._add(pcapng.statistics(number, each))

    def _add(self, block: bytes) -> None:
        self._size += len(block)
        self._room.write(block)


class Lines:
    """A line for each packet: time, point, direction, and what `summary` says of it."""

    full = False

    def __init__(
        self, write: Callable[[str], object], summary: Callable[[bytes, bool], str]
    ) -> None:
        self._write, self._summary = write, summary
        self._sources: Sequence[Source] = ()
        self._width = 0
        self._lines: list[str] = []

    def begin(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._width = max(len(s.point.name) for s in sources)

    def packet(self, packet: Packet, comments: Iterable[str]) -> None:
        source = self._sources[packet.point]
        way = "out" if packet.flags & 3 == pcapng.OUTBOUND else "in"
        words = self._summary(packet.data, source.packets.link_type == ETHERNET)
        name = source.point.name.ljust(self._width)
        self._lines.append(f"{moment(packet.stamp)} {name} {way:3} {words}")
        self._lines += [f"    {each}" for each in comments]

    def flush(self) -> None:
        if self._lines:
            self._write("\n".join(self._lines) + "\n")
            self._lines = []

    def end(self, counts: Sequence[pcapng.Counts]) -> None: ...


def moment(stamp: int) -> str:
    """Local time of day with microseconds."""
    seconds, rest = divmod(stamp, 10**9)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1000:06d}"
