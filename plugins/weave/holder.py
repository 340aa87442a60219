"""A peer's lease, kept up: the members of the council are asked in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plugins.weave.context import Context
from plugins.weave.entries import majority
from plugins.weave.identity import PeerId
from plugins.weave.lease import RENEW, RETRY, RETRY_MOST, Lease, blocking
from plugins.weave.ledger_replica import TABLE, LedgerReplica
from plugins.weave.space_messages import Grant, Renew
from plugins.weave.step import Event

SPREAD: Final = 30.0  # s in which all peers ask a new council: their leases are good meanwhile


@dataclass(frozen=True, slots=True)
class Fenced(Event):
    """Whether the addresses of this host may be in use: if `fenced`, its endpoints are cut off."""

    fenced: bool
    text: str  # why; for people


class Holder:
    def __init__(self, context: Context, replica: LedgerReplica, now: float) -> None:
        self._context = context
        self._replica = replica
        self.lease = Lease(context.boot)
        self.needed = False
        self._due = now
        self._unanswered = 0  # rounds

    @property
    def deadline(self) -> float:
        return self._due if self.needed else float("inf")

    def hold(self, now: float) -> None:
        """See to it that there is a lease if one is needed: soon again if too few answer."""
        if not self.needed or now < self._due:
            return
        ledger = self._replica.ledger
        asked = Renew(ledger.id, self.lease.ask(now), ledger.number)
        self._unanswered += 1
        self._due = now + min(RETRY * self._unanswered, RETRY_MOST) * self._context.jitter()
        self._context.out.send_all(ledger.council, asked)

    def granted(self, grant: Grant, source: PeerId, now: float) -> None:
        if source in self._replica.ledger.council:
            self.lease.granted(source, grant.round, grant.number)
            if self.reckon():
                self._unanswered = 0
                self._due = now + RENEW * self._context.jitter()

    def reckon(self) -> bool:
        """Whether the lease lasts longer than was known."""
        more = self.lease.reckon(self._replica.ledger.council, self._replica.ledger.number)
        if more:
            self._context.out.save(TABLE, b"lease", self.lease.dump())
        return more

    def changed(self, now: float) -> None:
        """The council is another: ask it, at once if there is no lease."""
        soon = now + SPREAD * self._context.jitter() if self.lease.valid(now) else now
        self._due = min(self._due, soon)

    @property
    def quorum(self) -> bool:
        """Whether a majority can be reached: without one no owner changes."""
        council = self._replica.ledger.council
        return sum(map(self._context.lives, council)) >= majority(len(council))

    def why_not(self) -> str:
        """For people: which peers we would need an answer of."""
        members = len(self._replica.ledger.council)
        return (
            f"{blocking(members)} of the {members} peers that decide on addresses have to confirm"
            f" this host's; {self.away()}"
        )

    def away(self) -> str:
        """Which members are out of reach; for people."""
        missing = [each for each in self._replica.ledger.council if not self._context.lives(each)]
        if not missing:
            return "they were asked"
        return f"out of reach: {', '.join(self._context.name(each) for each in missing)}"
