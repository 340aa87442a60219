"""Whether what peers send gets lost on its way here, and when to report that to them.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf

from netkit.overlay.sleeve.shortening import Shortening
from netkit.overlay.sleeve.tables import Received

REPEAT = 5.0  # seconds between two reports, for one may be lost as well
CONFIRMATIONS = 3  # reports that nothing gets lost any more


@dataclass(slots=True)
class _Path:
    choice: Shortening = field(default_factory=Shortening)
    due: float = inf
    left: int = 0


class Losses:
    """By number of the peer."""

    def __init__(self) -> None:
        self._paths: dict[int, _Path] = {}

    def look(self, received: Mapping[int, Received], now: float) -> list[tuple[int, bool]]:
        """(peer, whether it gets lost): what is to be reported now.

        `received` has what came in all, of peers that something came from since the last look;
        `now` is in seconds.
        """
        reports = []
        for number, counts in received.items():
            path = self._paths.setdefault(number, _Path())
            if path.choice.look(counts, now):
                path.due, path.left = now, CONFIRMATIONS
            if now < path.due:
                continue
            lossy = not path.choice.whole
            reports.append((number, lossy))
            path.left -= not lossy
            path.due = now + REPEAT if lossy or path.left else inf
        return reports

    def only(self, numbers: Collection[int]) -> None:
        """There are no other peers."""
        for number in self._paths.keys() - set(numbers):
            del self._paths[number]
