"""Which peers keep a session with each other: few each, and all are connected.

Ids of peers lie on a ring of 2**128.  A peer's fingers (Stoica et al., Chord, 2001) are the first
peers at or after its own id plus 1/2, 1/4, 1/8 ... of the ring, down to the next one.  Neighbours
are those one of which has the other for a finger: about 2 log2(n) each, any two log2(n) steps
apart, and a peer that comes or goes changes those of few others.  All peers that know of the same
peers agree.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from plugins.weave.identity import PEER_ID, PeerId

BITS = PEER_ID * 8
_RING = 1 << BITS


def neighbours(me: PeerId, live: Sequence[PeerId]) -> list[PeerId]:
    """Of `me`, in order.

    `live`: ids of all peers that are alive, sorted; `me` may be among them.
    """
    others = [peer for peer in live if peer != me]
    if len(others) <= 4:
        return others
    found = dict.fromkeys(_fingers(me, others))
    found |= dict.fromkeys(_fingered(me, others))
    return sorted(found)


def _fingers(me: PeerId, others: Sequence[PeerId]) -> list[PeerId]:
    own = int.from_bytes(me, "big")
    following = others[bisect_left(others, me) % len(others)]
    found = [following]
    for bit in range(BITS - 1, -1, -1):
        at = bisect_left(others, _id(own + (1 << bit)))
        finger = others[at % len(others)]
        found.append(finger)
        if finger == following:
            break
    return found


def _fingered(me: PeerId, others: Sequence[PeerId]) -> list[PeerId]:
    """Those that have `me` for a finger: plus a power of two they are after the one before us."""
    own = int.from_bytes(me, "big")
    previous = others[bisect_left(others, me) - 1]
    before = int.from_bytes(previous, "big")
    last = int.from_bytes(others[bisect_left(others, me) - 2], "big")
    found = [previous]
    for bit in range(BITS - 1, -1, -1):
        low = bisect_right(others, _id(before - (1 << bit)))
        high = bisect_right(others, _id(own - (1 << bit)))
        found += others[low:high] if low <= high else [*others[low:], *others[:high]]
        if 1 << bit <= (before - last) % _RING:
            break  # there is none but `previous` from here on
    return found


def _id(number: int) -> PeerId:
    return PeerId((number % _RING).to_bytes(PEER_ID, "big"))
