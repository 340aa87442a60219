"""Which ledger this peer follows, and how it comes to another one."""

from __future__ import annotations

from plugins.weave import ledger_replica
from plugins.weave.context import Context
from plugins.weave.council import Council
from plugins.weave.entries import Genesis, Member, Realm
from plugins.weave.holdings import Holdings
from plugins.weave.identity import PeerId
from plugins.weave.meeting import Joined, Meeting, Stranger, Summary
from plugins.weave.prefixes import Prefix


class Following:
    def __init__(self, context: Context, holdings: Holdings, meeting: Meeting) -> None:
        self.council: Council | None = None  # None: no peer was met yet
        self._context = context
        self._holdings = holdings
        self._meeting = meeting
        self._generation = 0  # that we want to come to, by force

    @property
    def coming(self) -> bool:
        """Whether what the ledger says is not yet what it is going to say."""
        council = self.council
        return council is not None and council.replica.ledger.generation < self._generation

    def found(self, prefix: Prefix, now: float) -> None:
        me = Member(self._context.me, self._context.identity.public.signing)
        realm = Realm(self._context.random(16), prefix.encode(), me.peer)
        self.council = Council.found(self._context, Genesis(realm, me), now)

    def met(self, origin: PeerId, summary: Summary | None, now: float) -> None:
        """Another peer says which one it follows."""
        self._context.joined.pop(origin, None)
        if summary is None:
            return
        other = summary.genesis
        self._context.joined[origin] = other.id
        if self.council is None:
            self._join(other, origin, now)
            return
        ours = self.council.replica.ledger.id
        if other.id == ours:
            return
        if self._nothing_here() and self._meeting.better(ours, self.used(), other):
            self._join(other, origin, now)
        elif self._meeting.note_stranger(origin, other):
            self._context.out.events.append(Stranger(origin, other))

    def _nothing_here(self) -> bool:
        """Whether nothing would be lost if we followed another ledger."""
        assert self.council is not None
        ledger = self.council.replica.ledger
        founded = ledger.genesis.founder.peer == self._context.me and ledger.number == 0
        owns = bool(self._holdings.pool(ledger.main).owned)
        return not self._holdings.used and (founded or not owns)

    def used(self) -> bool:
        number = self.council.replica.ledger.number if self.council else 0
        return self._holdings.used or number > 0

    def _join(self, genesis: Genesis, source: PeerId, now: float) -> None:
        if self.council:
            self._holdings.forget(self.council.replica.ledger.main)
        self._adopt(genesis, now).replica.ask(source, now)
        self._context.out.events.append(Joined(genesis, source))

    def _adopt(self, genesis: Genesis, now: float) -> Council:
        if self.council:
            self.council.replica.erase()
            self._context.out.save(ledger_replica.TABLE, b"ballot", None)
            self._context.out.save(ledger_replica.TABLE, b"lease", None)
            self._context.out.save(ledger_replica.TABLE, b"left", None)
        self._meeting.strangers.clear()
        self.council = Council.found(self._context, genesis, now)
        return self.council

    def force(self, now: float) -> None:
        """Become the whole council, or follow the one who did."""
        assert self.council is not None
        old = self.council.replica
        forced = [each for each in old.forks.values()
                  if each.entry.generation > old.ledger.generation]  # fmt: skip
        if not forced:
            self.council.force(now)
            return
        other = max(forced, key=lambda each: (each.entry.generation, each.entry.hash))
        self._generation = other.entry.generation
        new = self._adopt(old.ledger.genesis, now)
        new.replica.approved.add(other.entry.hash)
        new.replica.ask(other.votes[0].peer, now)
