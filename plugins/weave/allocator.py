"""Addresses of one realm that this host may give out: those in what it owns, one at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from plugins.weave.entries import Realm
from plugins.weave.prefixes import BITS, Prefix, cover

REST: Final = 30.0
"""Seconds that a freed address is given only to a container that asks for it: neighbours remember
its MAC address.  Who asks for it by value, or had it, gets it at once."""
FEW: Final = 16  # addresses
CURSORS: Final = 1024

Run = tuple[int, int]
"""First and last of consecutive addresses."""
Search = tuple[Prefix, tuple[Prefix, ...]]
"""A subnet, and parts of it that are left out."""


@dataclass(frozen=True, slots=True)
class Use:
    ident: bytes  # who has it; b"": it is resting
    until: float = 0.0  # of one that is resting
    former: bytes = b""  # of one that is resting: who had it, as far as is known


class Pool:
    """`owned` and `offered` come from outside, what is in use is here."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self.whole = realm.range
        self.uses: dict[int, Use] = {}
        self._of: dict[bytes, list[int]] = {}
        self._resting: deque[tuple[int, float]] = deque()  # address, until when; stale ones too
        self._former: dict[bytes, set[int]] = {}  # ident -> addresses that rest
        self._owned: list[Run] = []
        self._offered: dict[Prefix, None] = {}
        self._free: list[Run] = []  # owned and not offered
        self._cursors: dict[Search, int] = {}  # below there is nothing free

    # -- what may be given out -------------------------------------------------------------------

    @property
    def owned(self) -> list[Run]:
        return self._owned

    @property
    def spare_runs(self) -> list[Run]:
        """Owned and not offered to another."""
        return self._free

    def own(self, runs: Iterable[Run]) -> list[tuple[int, bytes]]:
        """What the ledger says; (address, whose) of those that are another's now."""
        self._owned = list(runs)
        self._recount()
        lost = [(at, use.ident) for at, use in self.uses.items() if not _in(self._owned, at)]
        for address, _ in lost:
            self._drop(address)
        return lost

    def offer(self, prefix: Prefix) -> None:
        """Nothing of it is given out here from now on."""
        self._offered[prefix] = None
        self._recount()

    def withdraw(self, prefix: Prefix) -> None:
        self._offered.pop(prefix, None)
        self._recount()

    def _recount(self) -> None:
        taken = sorted((each.first, each.last) for each in self._offered)
        self._free = list(_without(self._owned, taken))
        self._cursors.clear()

    # -- addresses -------------------------------------------------------------------------------

    def has(self, ident: bytes, subnet: Prefix) -> int | None:
        """Which address of the subnet it has already."""
        inside = (at for at in self._of.get(ident, ()) if subnet.first <= at <= subnet.last)
        return next(inside, None)

    def take(
        self, ident: bytes, subnet: Prefix, avoid: tuple[Prefix, ...] = ()
    ) -> int | None:
        """The one that it had until just now, else the lowest free one; of those outside of `avoid`
        first."""
        former = self._take_former(ident, subnet)
        if former is not None:
            return former
        address = self._take_lowest(ident, subnet, avoid)
        return self._take_lowest(ident, subnet, ()) if address is None and avoid else address

    def _take_former(self, ident: bytes, subnet: Prefix) -> int | None:
        first, last = subnet.hosts
        for address in sorted(self._former.get(ident, ())):
            if first <= address <= last and _in(self._free, address):
                self._put(address, ident)
                return address
        return None

    def _take_lowest(
        self, ident: bytes, subnet: Prefix, avoid: tuple[Prefix, ...]
    ) -> int | None:
        first, last = subnet.hosts
        at = max(self._cursors.get((subnet, avoid), first), first)
        left_out = sorted((each.first, each.last) for each in avoid)
        for low, high in _without(list(self._runs(at, last)), left_out):
            for address in range(max(low, at), min(high, last) + 1):
                if address not in self.uses:
                    self._put(address, ident)
                    self._note((subnet, avoid), address + 1)
                    return address
        self._note((subnet, avoid), last + 1)
        return None

    def _note(self, search: Search, cursor: int) -> None:
        if len(self._cursors) >= CURSORS:
            self._cursors.clear()
        self._cursors[search] = cursor

    def claim(self, ident: bytes, address: int) -> bytes | None:
        """Who has it: `ident`, if no other has; None: it is not ours to give."""
        use = self.uses.get(address)
        if use is not None and use.ident:
            return use.ident
        if not _in(self._free, address):
            return None
        self._put(address, ident)
        return ident

    def available(self, address: int) -> bool:
        """To who asks for it by value."""
        use = self.uses.get(address)
        return (use is None or not use.ident) and _in(self._free, address)

    def restore(self, address: int, ident: bytes, now: float) -> None:
        """From a row; b"" is one that was resting, and begins to rest anew."""
        if ident:
            self._put(address, ident)
        else:
            self._rest(address, now)

    def release(self, address: int, now: float) -> None:
        use = self.uses.get(address)
        if use is not None and use.ident:
            self._drop(address)
            self._rest(address, now, use.ident)

    def of(self, ident: bytes) -> list[int]:
        return sorted(self._of.get(ident, ()))

    def _put(self, address: int, ident: bytes) -> None:
        if address in self.uses:
            self._drop(address)
        self.uses[address] = Use(ident)
        self._of.setdefault(ident, []).append(address)

    def _drop(self, address: int) -> None:
        use = self.uses.pop(address)
        if use.ident:
            self._of[use.ident].remove(address)
            if not self._of[use.ident]:
                del self._of[use.ident]
        elif use.former:
            self._former[use.former].remove(address)
            if not self._former[use.former]:
                del self._former[use.former]

    def _rest(self, address: int, now: float, former: bytes = b"") -> None:
        self.uses[address] = Use(b"", now + REST, former)
        self._resting.append((address, now + REST))
        if former:
            self._former.setdefault(former, set()).add(address)

    # -- rest ------------------------------------------------------------------------------------

    def rested(self, now: float) -> list[int]:
        """Those that may be given out again."""
        done = []
        while self._resting and self._resting[0][1] <= now:
            address, until = self._resting.popleft()
            if not self._rests(address, until):
                continue  # it was lost or taken meanwhile, and perhaps got and used again
            self._drop(address)
            done.append(address)
        for address in done:
            for search, cursor in self._cursors.items():
                if search[0].first <= address < cursor:
                    self._cursors[search] = address
        return done

    def next_rested(self) -> float:
        return self._resting[0][1] if self._resting else _NEVER

    def resting(self, subnet: Prefix) -> int:
        return sum(
            subnet.first <= each <= subnet.last and self._rests(each, until)
            for each, until in self._resting
        )

    def _rests(self, address: int, until: float) -> bool:
        use = self.uses.get(address)
        return use is not None and not use.ident and use.until == until

    # -- counts and donations --------------------------------------------------------------------

    @property
    def total(self) -> int:
        return sum(last - first + 1 for first, last in self._owned)

    def free(self, subnet: Prefix) -> int:
        """How many can be given out."""
        first, last = subnet.hosts
        room = sum(min(high, last) - max(low, first) + 1 for low, high in self._runs(first, last))
        return room - sum(first <= at <= last for at in self.uses)

    def spare(self, subnet: Prefix) -> Prefix | None:
        """What to give to a peer that has nothing left in the subnet; None: nothing is free.

        Of the whole realm a 256th of it, or a few addresses; of a smaller subnet half of what is
        free there; and never more than half of the largest free prefix, unless that is one address.
        """
        free = self.free(subnet)
        best = max(self._gaps(subnet), key=lambda gap: (gap.size, gap.first), default=None)
        if best is None:
            return None
        most = max(self.whole.size >> 8, FEW) if subnet == self.whole else free // 2
        most = max(1, min(most, best.size // 2))
        while best.size > most:
            best = _half(best, subnet)
        return best

    def _gaps(self, subnet: Prefix) -> Iterator[Prefix]:
        """Free prefixes in the subnet that have an address which may be given out."""
        first, last = subnet.hosts
        blocked = sorted((at, at) for at in self.uses if subnet.first <= at <= subnet.last)
        runs = [(max(low, subnet.first), min(high, subnet.last))
                for low, high in self._runs(subnet.first, subnet.last)]  # fmt: skip
        for low, high in _without(runs, blocked):
            for gap in cover(subnet.family, low, high):
                if gap.first <= last and gap.last >= first:
                    yield gap

    def _runs(self, first: int, last: int) -> Iterator[Run]:
        """Those of the free runs that reach into first..last."""
        start = max(0, bisect_right(self._free, (first, _NO_END)) - 1)
        for low, high in self._free[start:] if start else self._free:
            if low > last:
                return
            if high >= first:
                yield low, high


_NO_END: Final = 1 << 129
_NEVER: Final = float("inf")


def _half(prefix: Prefix, subnet: Prefix) -> Prefix:
    """The upper half; the lower one if there is no address to give out in the upper."""
    length = prefix.length + 1
    middle = prefix.first + (1 << BITS[prefix.family] - length)
    upper = middle <= subnet.hosts[1]
    return Prefix(prefix.family, middle if upper else prefix.first, length)


def _in(runs: list[Run], address: int) -> bool:
    at = bisect_right(runs, (address, _NO_END)) - 1
    return at >= 0 and runs[at][0] <= address <= runs[at][1]


def _without(runs: list[Run], taken: list[Run]) -> Iterator[Run]:
    """`runs` less `taken`, both sorted."""
    at = 0
    for first, last in runs:
        low = first
        while at < len(taken) and taken[at][1] < low:
            at += 1
        index = at
        while index < len(taken) and taken[index][0] <= last:
            if taken[index][0] > low:
                yield low, taken[index][0] - 1
            low = max(low, taken[index][1] + 1)
            index += 1
        if low <= last:
            yield low, last
