"""Leases: no peer takes what a peer owns while the peer believes that it may use it.

A peer asks the council's members to renew.  Each that grants *promises* to vote for no take-over
before `PROMISE` seconds of its own clock have passed.  The peer counts `LEASE` seconds of its own
from before it asked.  Clocks may be off by a tenth each way: a peer's LEASE lasts LEASE / 0.9 real
seconds at most, a promise PROMISE / 1.1 at least, which is more.  A council's majority cannot do
without those who promised if more than half of them, or half of an even number, did.

Promises are in memory only: a member that starts waits for PROMISE before it votes for any
take-over, as if it had just promised to everyone; so does one that learns of a new council.
"""

from __future__ import annotations

from typing import Final

import msgspec

from plugins.weave.entries import Number, Value
from plugins.weave.identity import PeerId
from plugins.weave.wire import WireError

LEASE: Final = 72 * 3600.0  # s, of the clock of who holds it: a host may be off for a weekend
PROMISE: Final = 90 * 3600.0  # s, of the clock of who gives it; more than LEASE * 1.1 / 0.9
RENEW: Final = 3600.0  # s between renewals
RETRY: Final = 5.0  # s, where a renewal was not answered by enough members
RETRY_MOST: Final = 60.0  # s, as that grows with every round
ROUNDS: Final = 8  # renewals of which answers are still waited for


class _Row(Value, frozen=True):
    boot: bytes
    until: float


class Lease:
    """Of a peer: until when it may use what it owns."""

    def __init__(self, boot: bytes) -> None:
        self.boot = boot  # distinguishes boots of the machine, as the clock begins anew with each
        self.until = float("-inf")
        self.round: Number = 0
        self._asked: dict[int, float] = {}
        self.grants: dict[PeerId, tuple[float, int]] = {}  # (when it was asked for, its entry)

    def valid(self, now: float) -> bool:
        return now < self.until

    def ask(self, now: float) -> int:
        """The number of a new round."""
        self.round += 1
        self._asked[self.round] = now
        self._asked.pop(self.round - ROUNDS, None)
        return self.round

    def granted(self, member: PeerId, round_: int, number: int) -> None:
        asked = self._asked.get(round_)
        if asked is not None and asked >= self.grants.get(member, (asked, 0))[0]:
            self.grants[member] = asked, number

    def reckon(self, council: tuple[PeerId, ...], number: int) -> bool:
        """Count the grants of a council, the one after entry `number`; whether that says more.

        A member that knows of a later entry, or voted for one, does not count until we know it:
        its council may be another.  The time counts from the oldest of the newest grants that
        are enough.
        """
        counted = sorted(
            (self.grants[each][0] for each in council
             if each in self.grants and self.grants[each][1] <= number),
            reverse=True,
        )  # fmt: skip
        enough = blocking(len(council))
        if len(counted) < enough:
            return False
        until = counted[enough - 1] + LEASE
        more = until > self.until
        self.until = max(self.until, until)
        return more

    def lose(self) -> None:
        """All that was owned is another's."""
        self.until = float("-inf")
        self.grants.clear()
        self._asked.clear()

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(_Row(self.boot, self.until))

    def restore(self, data: bytes) -> None:
        """Of a life before; of no use if the machine was started since.  WireError: damaged."""
        try:
            row = msgspec.msgpack.decode(data, type=_Row)
        except (msgspec.MsgspecError, ValueError) as error:
            raise WireError(f"no lease: {error}") from None
        if row.boot == self.boot:
            self.until = row.until


def blocking(members: int) -> int:
    """How many of the members, so that those left are no majority."""
    return members - members // 2


class Promises:
    """Of a member of the council."""

    def __init__(self, now: float) -> None:
        self.since = now
        self._given: dict[PeerId, float] = {}

    def give(self, peer: PeerId, now: float) -> None:
        self._given[peer] = now

    def changed(self, now: float) -> None:
        """The council is another: what others promised is not known."""
        self.since = now

    def free_at(self, peer: PeerId) -> float:
        """When a take-over of what `peer` owns may be voted for."""
        return max(self.since, self._given.get(peer, self.since)) + PROMISE

    def forget(self, now: float) -> None:
        """Those that are over: they say no more than `since` does."""
        self._given = {peer: at for peer, at in self._given.items() if at + PROMISE > now}
