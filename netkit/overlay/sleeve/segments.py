"""Segments of one frame that are sealed each by itself, and joined again where they arrive.

On a lossy path the loss of one datagram then costs one segment, as it would without an overlay;
between the losses, frames are as long as ever, so both TAP devices still have few of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
from netkit.overlay.sleeve.sealing import Seal
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
        plain, out, into, number = self._plain.view, self.area.view, seal.into, first
        plain[:FRONT] = front
        plain[BEFORE : BEFORE + end] = of.template
        data, at, counters = BEFORE + end, 0, seal.counters
        last = min(-(-of.data // step), first + min(MOST_PIECES, MOST_BYTES // each))
        for number in range(first, last):
            part = frame[end + number * step : end + (number + 1) * step]
            size, counter = data + len(part), next(counters)
            HEADER.pack_into(out, at, DATA, FLAG_ALONE, 0, 1, index, counter)
            NUMBER.pack_into(plain, FRONT, number)
            plain[data:size] = part
            begin = at + HEAD
            at = begin + into(counter, out[at:begin], plain[:size], out[begin:])
        return at, last - first


@dataclass(slots=True)
class Run:
    """Segments of one frame that follow one another, joined."""

    front: bytes
    headers: segmentation.Headers
    number: int  # of the first one
    begin: int  # where the data is
    end: int

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

    def add(self, open_into: Callable[[memoryview], int], size: int) -> bool:
        """Have a payload of `size` bytes opened to where it belongs; does it open?  Malformed."""
        area, run = self._area.view, self._run
        end = run.begin if run is not None else len(area)
        if size > end:
            raise segmentation.Malformed("more than was ever sent at once")
        begin = end - size
        if open_into(area[begin:end]) < 0:
            return False
        front, number = bytes(area[begin : begin + FRONT]), 0
        if size >= BEFORE:
            (number,) = NUMBER.unpack_from(area, begin + FRONT)
        at = begin + BEFORE
        if run is not None:
            template = run.headers.template
            data = at + len(template)
            if (
                number == run.number - 1 and front == run.front
                and area[at:data] == template and end - data == run.headers.step
            ):  # fmt: skip
                run.number, run.begin = number, data
                return True
            kept = bytes(area[begin:end])
            self._close(keep=True)
            end, begin = len(area), len(area) - size
            area[begin:end] = kept
            at = begin + BEFORE
        headers = segmentation.headers(area[at:end])
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
