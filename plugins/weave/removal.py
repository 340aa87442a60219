"""Peers that leave: what they own passes to another.  `rmpeer`, `reset`, and both by force."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from plugins.weave.context import Context
from plugins.weave.council import Council
from plugins.weave.entries import Council as NewCouncil
from plugins.weave.entries import Member, Operation, Reason, Reclaim
from plugins.weave.identity import PeerId
from plugins.weave.step import Event


@dataclass(frozen=True, slots=True)
class Removed(Event):
    """How `rmpeer`, or `reset` where it is this peer, went."""

    peer: PeerId
    done: bool
    addresses: int  # of the range, that passed to another
    text: str  # why not; for people


@dataclass(slots=True)
class _Leaving:
    peer: PeerId
    heir: PeerId
    until: float
    addresses: int
    pending: bytes = b""
    objection: str = ""


class Removal:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.leaving: dict[PeerId, _Leaving] = {}

    def remove(self, council: Council, peer: PeerId, now: float, until: float) -> None:
        """What `peer` owns is to be ours."""
        if self._context.lives(peer):
            text = (
                f"{self._context.name(peer)} can be reached: run `netkit weave reset` on it; or, if"
                " it has just ended, try again in half a minute"
            )
            self._context.out.events.append(Removed(peer, False, 0, text))
            return
        self._begin(council, peer, self._context.me, now, until)

    def leave(self, council: Council, heir: PeerId, now: float, until: float) -> None:
        """What we own is to be another's."""
        self._begin(council, self._context.me, heir, now, until)

    def _begin(
        self, council: Council, peer: PeerId, heir: PeerId, now: float, until: float
    ) -> None:
        count = sum(
            last - first + 1 for first, last, owner in _main(council) if owner == peer
        )  # fmt: skip
        self.leaving[peer] = _Leaving(peer, heir, until, count)
        self.drive(council, now)

    def drive(self, council: Council, now: float) -> None:
        """Next steps of all; those that ended are reported."""
        refused = dict(council.refused)
        for leaving in list(self.leaving.values()):
            leaving.objection = refused.get(leaving.pending) or leaving.objection
            if self._is_done(council, leaving):
                self._end(leaving, True, "")
            elif now >= leaving.until:
                self._end(leaving, False, leaving.objection or self._no_majority(council))
            elif leaving.pending not in council.pending:
                leaving.pending = council.request(self._next(council, leaving), now, leaving.until)

    def _is_done(self, council: Council, leaving: _Leaving) -> bool:
        ledger = council.replica.ledger
        if leaving.peer in ledger.council:
            return False
        owns = any(owner == leaving.peer for _, _, owner in _main(council))
        return not owns and ledger.inherited(leaving.peer)

    def _next(self, council: Council, leaving: _Leaving) -> Operation:
        ledger, context = council.replica.ledger, self._context
        if leaving.peer in ledger.council:
            return NewCouncil(self._without(council, leaving))
        reason = Reason.LEFT if leaving.peer == context.me else Reason.REMOVED
        claim = Reclaim(leaving.peer, leaving.heir, context.me, ledger.number, reason)
        signature = context.sign(claim.signed(ledger.id))
        return msgspec.structs.replace(claim, signature=signature)

    def _without(self, council: Council, leaving: _Leaving) -> tuple[Member, ...]:
        """The council less the one that leaves; where it was alone, its heir."""
        rest = tuple(each for each in council.replica.ledger.members if each.peer != leaving.peer)
        keys = self._context.keys(leaving.heir)
        if not rest and keys is not None:
            rest = (Member(leaving.heir, keys.signing),)
        return rest or council.replica.ledger.members

    def _end(self, leaving: _Leaving, done: bool, text: str) -> None:
        del self.leaving[leaving.peer]
        addresses = leaving.addresses if done else 0
        self._context.out.events.append(Removed(leaving.peer, done, addresses, text))

    def _no_majority(self, council: Council) -> str:
        members = council.replica.ledger.council
        away = [self._context.name(each) for each in members if not self._context.lives(each)]
        return (
            f"{len(away)} of the {len(members)} peers that decide on addresses cannot be reached"
            f" ({', '.join(away)}); if they never come back: `netkit weave rmpeer --force`"
        )

    def deadline(self) -> float:
        return min((each.until for each in self.leaving.values()), default=float("inf"))


def _main(council: Council) -> list[tuple[int, int, PeerId]]:
    ledger = council.replica.ledger
    return list(ledger.pieces(ledger.main))
