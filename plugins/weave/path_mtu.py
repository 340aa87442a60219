"""How long a datagram may be on one path (RFC 8899): probes of several sizes, and what follows from
them.

A search goes in rounds: each size of a round is sent three times, and after a second the largest
that arrived is known to pass, the next larger one of the round not to; so a round leaves a ninth
of the range.  Each round has the size that is known to pass in it, too: where not even that comes
through, the round says nothing and is repeated.  Once nothing larger is left, the size in use is
confirmed every ten seconds; where three of these in a row are lost, the path has become narrower
without a word (a black hole): the search begins anew from the floor.  A path that became wider is
found ten minutes later.

Sizes are bytes of UDP's payload.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from plugins.weave.wire import PATH_FLOOR

KNOWN: Final = (9000, 1500, 1492, 1480, 1460, 1450, 1420, 1400, 1380)
"""Bytes of packets on common links, which are tried first."""
FAN: Final = 8
"""Sizes of a round after the first."""
GRAIN: Final = 8
"""Bytes that are not worth a round."""
TRIES: Final = 3
AGAIN: Final = 0.25
ROUND: Final = 1.0
PAUSE: Final = 5.0
"""Seconds between rounds while nothing comes through."""
CONFIRM: Final = 10.0
RAISE: Final = 600.0
"""RFC 8899, 5.1.1: PMTU_RAISE_TIMER."""


class PathMtu:
    """Of one path.  `due` says which sizes are to be probed now."""

    def __init__(self, headers: int, most: int, now: float) -> None:
        """`headers`: bytes of IP and UDP before the payload; `most`: of the longest packet."""
        self.size = PATH_FLOOR
        self.searching = True
        self._headers, self._top = headers, max(most - headers, PATH_FLOOR)
        self._high = self._top + 1  # bytes that do not pass, as far as is known
        self._round: dict[int, bool] = {}  # size -> whether it has arrived
        self._tries, self._next = 0, now
        self._lost = 0
        self._void = 0  # rounds in a row that said nothing
        self._raise = inf
        self._begin(self._common())

    @property
    def deadline(self) -> float:
        return min(self._next, self._raise)

    def arrived(self, size: int, now: float) -> None:
        if self.searching:
            if size in self._round:
                self._round[size] = True
                if all(self._round.values()):
                    self._next = now
        elif size == self.size:
            self._lost, self._tries = 0, 0
            self._next = now + CONFIRM

    def too_large(self, size: int, limit: int, now: float) -> None:
        """This host does not send `size` bytes; at most `limit`, if that is not 0."""
        self._high = max(min(self._high, limit + 1 if limit else size), PATH_FLOOR + 1)
        if self._high <= self.size:
            self._restart(now)
        for each in [each for each in self._round if each >= self._high]:
            del self._round[each]

    def due(self, now: float) -> list[int]:
        """Sizes to be probed; may be called at any time."""
        if now >= self._raise:
            self._raise, self._high = inf, self._top + 1
            self.searching = True
            self._begin(self._common())
            self._next = now
        if now < self._next:
            return []
        return self._search(now) if self.searching else self._confirm(now)

    def _search(self, now: float) -> list[int]:
        if self._tries == TRIES or all(self._round.values()):
            if not self._round[self.size]:
                return self._repeat(now)
            self._judge()
            sizes = self._fan()
            if not sizes:
                self.searching, self._tries, self._lost = False, 0, 0
                self._next, self._raise = now + CONFIRM, now + RAISE
                return []
            self._begin(sizes)
        self._tries += 1
        self._next = now + (AGAIN if self._tries < TRIES else ROUND - (TRIES - 1) * AGAIN)
        return [size for size, arrived in self._round.items() if not arrived]

    def _repeat(self, now: float) -> list[int]:
        """Nothing comes through; or less than did."""
        self._void += 1
        if self._void >= TRIES and self.size > PATH_FLOOR:
            self._restart(now)
            return self._search(now)
        self._tries = 0
        self._next = now + (PAUSE if self._void >= TRIES else 0.0)
        return self._search(now) if self._next <= now else []

    def _judge(self) -> None:
        """What the round has found."""
        self._void = 0
        passed = [size for size, arrived in self._round.items() if arrived]
        self.size = max([self.size, *passed])
        failed = [s for s, arrived in self._round.items() if not arrived and s > self.size]
        self._high = min([self._high, *failed])

    def _begin(self, sizes: Iterable[int]) -> None:
        fitting = [size for size in sizes if self.size <= size < self._high]
        self._round = dict.fromkeys([self.size, *fitting], False)
        self._tries = 0

    def _common(self) -> list[int]:
        """Sizes that are likely."""
        return sorted({size - self._headers for size in KNOWN} | {self._top})

    def _fan(self) -> list[int]:
        """Sizes between what passes and what does not, closer at the lower end."""
        room = self._high - 1 - self.size
        if room < GRAIN:
            return []
        return sorted({self.size + max(GRAIN, room * n * n // FAN**2) for n in range(1, FAN + 1)})

    def _confirm(self, now: float) -> list[int]:
        """Whether what passed does so still."""
        if self._tries:
            self._lost += 1
        if self._lost >= TRIES:
            self._restart(now)
            return self._search(now)
        self._tries += 1
        self._next = now + ROUND
        return [self.size]

    def _restart(self, now: float) -> None:
        """From the floor: less passes than did, or for a while nothing."""
        self.size, self.searching, self._raise = PATH_FLOOR, True, inf
        self._lost = self._void = 0
        self._begin(self._common())
        self._next = now
