"""Segments of one frame that are sealed each by itself, and joined again where they arrive.

On a lossy path the loss of one datagram then costs one segment, as it would without an overlay;
between the losses, frames are as long as ever, so both TAP devices still have few of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netkit.overlay.sleeve import segmentation, vnet
from netkit.overlay.sleeve.framing import (
    DATA,
    FLAG_ALONE,
    FRONT,
    HEAD,
    HEADER,
    MOST_BYTES,
    MOST_PIECES,
    NUMBER,
)  # fmt: skip
from netkit.overlay.sleeve.sealing import Buffer, Opening, Seal
from netkit.overlay.sleeve.segmentation import Malformed
from netkit.overlay.sleeve.vectors import Area

BEFORE = FRONT + NUMBER.size  # bytes of a payload before the headers


class Apart:
    """Makes the datagrams, in `area`, of which one call sends as many as it can."""

    def __init__(self) -> None:
        self.area = Area(MOST_BYTES)
        self._plain = Area(MOST_BYTES)

    @staticmethod
    def each(headers: segmentation.Headers, seal: Seal) -> int:
        """Bytes of a datagram with a whole segment."""
        return HEAD + BEFORE + len(headers.template) + headers.step + seal.tag

    def fill(
        self,
        front: bytes,
        frame: memoryview,
        of: segmentation.Headers,
        first: int,
        seal: Seal,
        index: int,
    ) -> tuple[int, int]:
        """Seal segments from number `first` on.  (bytes in `area`, segments).

        `frame` has the headers `of`, and data.
        """  # fmt: skip
        end, step, each = len(of.template), of.step, self.each(of, seal)
        plain, out, into, counters = self._plain.view, self.area.view, seal.into, seal.counters
        plain[:FRONT] = front
        plain[BEFORE : BEFORE + end] = of.template
        data, at, begin = BEFORE + end, 0, end + first * step
        whole = plain[: data + step]
        last = min(-(-of.data // step), first + min(MOST_PIECES, MOST_BYTES // each))
        for number in range(first, last):
            part = frame[begin : begin + step]
            begin += step
            counter = next(counters)
            header = HEADER.pack(DATA, FLAG_ALONE, 0, 1, index, counter)
            NUMBER.pack_into(plain, FRONT, number)
            if len(part) < step:
                whole = plain[: data + len(part)]
            whole[data:] = part
            out[at : at + HEAD] = header
            at += HEAD
            at += into(counter, header, whole, out[at:])
        return at, last - first


@dataclass(slots=True)
class Run:
    """Segments of one frame that follow one another, joined."""

    front: bytes
    headers: segmentation.Headers
    number: int  # of the first one
    begin: int  # where the data is
    end: int
    before: int = 0  # bytes of a payload that are not data
    step: int = 0
    _ahead: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._ahead += self.front + bytes(NUMBER.size) + self.headers.template
        self.before, self.step = len(self._ahead), self.headers.step

    def ahead(self) -> bytearray:
        """What the payload before this one begins with."""
        NUMBER.pack_into(self._ahead, FRONT, (self.number - 1) & 0xFFFF)
        return self._ahead

    def frame(self, area: memoryview) -> memoryview:
        """As a frame, in place.  Malformed."""
        template, length = self.headers.template, self.end - self.begin
        whole = not self.number and length == self.headers.data
        made = template if whole else self.headers.of(self.number, length)
        begin = self.begin - len(made)
        area[begin : self.begin] = made
        return area[begin : self.end]


class Joining:
    """Joins segments, which are opened from the last to the first.

    So each one's data can be put right before that of the one after it, over headers that have been
    compared already: nothing is copied.
    """

    def __init__(self) -> None:
        self._area = Area(1 << 17)
        self._run: Run | None = None
        self._frames: list[tuple[bytes, memoryview]] = []

    def add(self, opening: Opening, counter: int, header: Buffer, payload: Buffer) -> bool:
        """Open a payload to where it belongs; does it open?  Malformed."""
        area, run = self._area.view, self._run
        size = len(payload) - opening.tag
        end = run.begin if run is not None else len(area)
        begin = end - size
        if size < BEFORE or begin < 0:
            raise Malformed("too short, or more than was ever sent at once")
        if opening.into(counter, header, payload, area[begin:end]) < 0:
            return False
        if run is not None:
            data = begin + run.before
            if end - data == run.step and area[begin:data] == run.ahead():
                run.number -= 1
                run.begin = data
                return True
        return self._begin(begin, end)

    def put(self, payload: Buffer) -> None:
        """One that is open already.  Malformed."""
        end = len(self._area.view)
        if len(payload) < BEFORE:
            raise Malformed("too short")
        self._area.view[end - len(payload) : end] = payload
        self._begin(end - len(payload), end)

    def _begin(self, begin: int, end: int) -> bool:
        """What was opened to there belongs to another frame than what came after it."""
        area = self._area.view
        if self._run is not None:
            kept = bytes(area[begin:end])
            self._close(keep=True)
            end, begin = len(area), len(area) - len(kept)
            area[begin:end] = kept
        at = begin + BEFORE
        headers = segmentation.headers(area[at:end])
        front = bytes(area[begin : begin + FRONT])
        (number,) = NUMBER.unpack_from(area, begin + FRONT)
        self._run = Run(front, headers, number, at + len(headers.template), end)
        return True

    def _close(self, *, keep: bool) -> None:
        run, self._run = self._run, None
        if run is not None:
            frame = run.frame(self._area.view)
            self._frames.append((run.front, memoryview(bytes(frame)) if keep else frame))

    def frames(self) -> list[tuple[bytes, memoryview]]:
        """What a payload begins with, and the frame, in order; they are valid until the next one.

        Malformed.
        """
        self._close(keep=False)
        found, self._frames = self._frames[::-1], []
        return found


assert vnet.SIZE < BEFORE + HEAD
