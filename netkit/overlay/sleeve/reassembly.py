"""Payloads of which datagrams came one by one: reordered, or not all of them.

Each session has a table of its own, so nobody who cannot send with its index fills it, and no
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
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Reassembly:
    """Of one session."""

    _waiting: dict[int, _Partial] = field(default_factory=dict)

    def add(
        self, counter: int, piece: int, pieces: int, header: bytes, part: bytes
    ) -> tuple[bytes, bytes] | None:
        """The first header and the whole payload, once all is there.  Oldest ones are given up."""
        if piece >= MOST_PIECES or (piece == 0 and not 1 <= pieces <= MOST_PIECES):
            return None
        found = self._waiting.get(counter)
        if found is None:
            if len(self._waiting) >= AT_ONCE:
                del self._waiting[next(iter(self._waiting))]
            found = self._waiting[counter] = _Partial()
        if piece == 0:
            found.header, found.pieces = header, pieces
        found.parts[piece] = part
        if not found.pieces or len(found.parts) < found.pieces:
            return None
        del self._waiting[counter]
        try:
            whole = b"".join([found.parts[n] for n in range(found.pieces)])
        except KeyError:  # a piece beyond the last
            return None
        return found.header, whole
