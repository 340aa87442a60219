"""Whether a path gets long frames whole, or their segments sealed one by one.  Pure; no clock.

A frame of 44 segments that is sealed once is lost with any of its datagrams: at a loss of one
datagram in a hundred, a third of them.  Sealed one by one, segments cost several times the
processor.  So paths begin whole, and are shortened where what is lost that way is more than they
save; they become whole again after a while with next to no loss.  Measured, one TCP flow: at a loss
of 0.03 % whole frames had 4 times the goodput, at 0.1 % 1.8 times, at 1 % an eighth.

There is no step between: joined again where they arrive, segments are frames of several anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from netkit.overlay.sleeve.tables import PeerCounts, Received

SHORTEN = 0.003  # lost datagrams, as a share: an eighth of the frames with 44 segments
LENGTHEN = 0.0003
ENOUGH = 2000  # datagrams between two looks, at least: fewer say too little,
FEW = 5  # but for so many payloads that are missing: a lossy path is noticed at once
CALM = 30.0  # seconds with next to no loss until frames are whole again


@dataclass(slots=True)
class Shortening:
    """Of one path, in one direction; `whole` is for `PutPeer`."""

    whole: bool = True
    loss: float = 0.0  # share of datagrams, as of the last look
    _payloads: int = 0  # as of then
    _datagrams: int = 0
    _missing: int = 0
    _calm_since: float | None = None

    def look(self, received: Received | PeerCounts, now: float) -> bool:
        """`received`: what the other side counted of us; `now` in seconds.  Did `whole` change?

        Counts of a worker that was started anew are smaller, and are begun with.
        """
        payloads = received.payloads - self._payloads
        datagrams = received.datagrams - self._datagrams
        missing = received.missing - self._missing
        if payloads < 0 or datagrams < 0 or missing < 0:
            self._remember(received)
            return False
        if datagrams + missing < ENOUGH and missing < FEW:
            return False
        self._remember(received)
        self.loss = _share(payloads, datagrams, missing)
        return self._decide(now)

    def _remember(self, received: Received | PeerCounts) -> None:
        self._payloads, self._datagrams = received.payloads, received.datagrams
        self._missing = received.missing

    def _decide(self, now: float) -> bool:
        before = self.whole
        if self.loss >= SHORTEN:
            self.whole, self._calm_since = False, None
        elif self.loss > LENGTHEN:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= CALM:
            self.whole = True
        return self.whole != before


def _share(payloads: int, datagrams: int, missing: int) -> float:
    """Of datagrams that were lost, where a payload of several is lost with any of them."""
    if not missing:
        return 0.0
    each = datagrams / payloads if payloads else 1.0
    lost = missing / (missing + payloads)
    return float(1 - (1 - min(lost, 0.999)) ** (1 / max(each, 1.0)))
