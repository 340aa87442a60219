"""Payloads of which datagrams came one by one: reordered, or not all of them.

Each session has a table of its own, so only a peer that sends with its index can fill it, and no
peer can empty another's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netkit.overlay.sleeve.framing import MOST_PIECES

AT_ONCE = 8  # payloads of one session that are incomplete; at most 64 KiB each


@dataclass(slots=True)
class _Partial:
    header: bytes = b""  # the first piece's
    pieces: int = 0  # 0: not known yet
    there: int = 0
    runs: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # by the first's number

    def whole(self) -> bytes | None:
        number, found = 0, []
        while number < self.pieces:
            count, data = self.runs.get(number, (0, b""))
            if not count:
                return None
            found.append(data)
            number += count
        return b"".join(found) if number == self.pieces else None


@dataclass(slots=True)
class Reassembly:
    """Of one session."""

    _waiting: dict[int, _Partial] = field(default_factory=dict)

    def add(
        self, counter: int, piece: int, pieces: int, header: bytes, run: bytes, count: int = 1
    ) -> tuple[bytes, bytes] | None:
        """The first header and the whole payload, once all is there.  Oldest ones are given up.

        `run` is `count` pieces that follow one another, the first of them with this header.
        """
        if piece + count > MOST_PIECES or (piece == 0 and not count <= pieces <= MOST_PIECES):
            return None
        found = self._waiting.get(counter)
        if found is None:
            if len(self._waiting) >= AT_ONCE:
                del self._waiting[next(iter(self._waiting))]
            found = self._waiting[counter] = _Partial()
        if piece == 0:
            found.header, found.pieces = header, pieces
        found.there += count - found.runs.get(piece, (0, b""))[0]
        found.runs[piece] = count, run
        if not found.pieces or found.there < found.pieces:
            return None
        whole = found.whole()
        if whole is None:
            return None
        del self._waiting[counter]
        return found.header, whole
