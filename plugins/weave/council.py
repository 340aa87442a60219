"""The few peers that decide who owns which addresses, seen from one peer, be it a member or not.

The founder is the first council, alone.  It grows to three and five as peers come, and replaces
members that are gone, each time by a decision of its own.  Every peer keeps the decisions
(`plugins.weave.ledger_replica`), asks members to renew its lease (`plugins.weave.lease`) and to
propose what it wants decided; members vote (`plugins.weave.voting`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from plugins.weave.context import Context
from plugins.weave.entries import (
    Ballot,
    Decided,
    Entry,
    Genesis,
    Member,
    Operation,
    Reason,
    Reclaim,
    Vote,
    vote_text,
)
from plugins.weave.entries import Council as NewCouncil
from plugins.weave.holder import Holder
from plugins.weave.identity import PeerId
from plugins.weave.ledger_replica import TABLE, LedgerReplica
from plugins.weave.outbox import Recorded
from plugins.weave.space_messages import (
    Accept,
    Accepted,
    Declined,
    Grant,
    Message,
    Page,
    Prepare,
    Promise,
    Pull,
    Renew,
    Submit,
    Unwanted,
    name,
)
from plugins.weave.voting import Voting

SETTLED: Final = 60.0  # s that a peer was there before it becomes a member
GONE: Final = 900.0  # s after which a member that is gone is replaced
REVIEW: Final = 10.0  # s between looks at who is there
COMPARE: Final = 30.0  # s after which another peer is asked for newer entries
AGAIN: Final = 2.0  # s after which what was submitted is submitted again


@dataclass(slots=True)
class PendingOperation:
    """What we asked the council for."""

    operation: Operation
    until: float
    again: float
    turn: int = 0
    objection: str = ""


class Council:
    def __init__(self, context: Context, replica: LedgerReplica, now: float) -> None:
        self.context = context
        self.replica = replica
        self.holder = Holder(context, replica, now)
        self.voting = Voting(context, replica, now)
        self.pending: dict[bytes, PendingOperation] = {}
        self.refused: list[tuple[bytes, str]] = []  # what is not wished any more, to be taken
        self.since = now  # when we began to follow this ledger, or this process did
        self.left = False  # we said that we leave: it may be decided at any time
        self.changed = True  # what we own, perhaps, since somebody last set this to False
        self._review = now
        self._compare = now

    @classmethod
    def found(cls, context: Context, genesis: Genesis, now: float) -> Council:
        replica = LedgerReplica(genesis, context.crypto, context.out)
        replica.write()
        return cls(context, replica, now)

    @classmethod
    def restore(cls, context: Context, rows: dict[bytes, bytes], now: float) -> Council:
        """WireError: the rows are damaged."""
        council = cls(context, LedgerReplica.restore(rows, context.crypto, context.out), now)
        council.voting.restore(rows.get(b"ballot"))
        council.left = b"left" in rows
        if b"lease" in rows:
            council.holder.lease.restore(rows[b"lease"])
        return council

    # -- messages --------------------------------------------------------------------------------

    def receive(self, message: Message, source: PeerId, now: float) -> None:
        if isinstance(message, Decided):
            self._learn(message, source, now)
        elif isinstance(message, Prepare):
            self.voting.prepare(message, source, now)
        elif isinstance(message, Promise):
            self.voting.promised(message, source, now)
        elif isinstance(message, Accept):
            self.voting.accept(message, source, now)
        elif isinstance(message, Accepted):
            decided = self.voting.accepted(message, source)
            if decided:
                self._learn(decided, self.context.me, now)
                self._announce(decided)
        elif isinstance(message, Declined):
            self.voting.declined(message, source, now)
        elif isinstance(message, Renew):
            self.voting.renew(message, source, now)
        elif isinstance(message, Grant):
            self.holder.granted(message, source, now)
        elif isinstance(message, Submit):
            self.voting.submit(message.operation, source, now)
        elif isinstance(message, Unwanted):
            self._unwanted(message, source, now)
        elif isinstance(message, Pull):
            self.replica.answer(message, source)
        elif isinstance(message, Page) and self.replica.page(message, source, now):
            self.changed = True
            self.context.out.events += [Recorded(e) for e in (self.replica.newest(),) if e]
            self._advanced(True, now)

    def _learn(self, decided: Decided, source: PeerId, now: float) -> None:
        council = self.replica.ledger.members
        learned = self.replica.learn(decided, source, now)
        self.context.out.events += [Recorded(each) for each in learned]
        if learned:
            self.changed = self.changed or any(self._concerns(each.entry) for each in learned)
            self._advanced(self.replica.ledger.members != council, now)
        if self.replica.behind():
            self.replica.ask(source, now)

    def _concerns(self, entry: Entry) -> bool:
        return self.context.me in _concerned(entry.operation)

    def _announce(self, decided: Decided) -> None:
        """To those who wait for it; to everyone else as a record."""
        out = self.context.out
        peers = {*self.replica.ledger.council, *_concerned(decided.entry.operation)}
        out.send_all(tuple(sorted(peers - {self.context.me})), decided)
        out.published[b"entry"] = msgspec.msgpack.encode(decided)

    def _advanced(self, council: bool, now: float) -> None:
        self.voting.advanced()
        if council:
            self.voting.promises.changed(now)
            self.holder.changed(now)
        for key, pending in list(self.pending.items()):
            pending.objection = self.replica.ledger.objection(pending.operation)
            if pending.objection:
                self._settle(key, pending.objection)
        self.holder.reckon()
        self.voting.propose(now)

    # -- what we want decided --------------------------------------------------------------------

    def request(self, operation: Operation, now: float, until: float) -> bytes:
        """Have it proposed, again and again; the name under which it is refused or settled."""
        key = name(operation)
        if key not in self.pending:
            self.pending[key] = PendingOperation(operation, until, now)
            self._submit(self.pending[key], now)
        return key

    def _submit(self, pending: PendingOperation, now: float) -> None:
        """To ourselves, or the member whose turn it is: those that live first."""
        council = self.replica.ledger.council
        order = sorted(council, key=lambda each: not self.context.lives(each))
        target = order[pending.turn % len(order)]
        if pending.turn == 0 and self.voting.member:
            target = self.context.me
        pending.turn += 1
        pending.again = now + AGAIN * self.context.jitter()
        self.context.out.send(target, Submit(self.replica.ledger.id, pending.operation))

    def _unwanted(self, unwanted: Unwanted, source: PeerId, now: float) -> None:
        pending = self.pending.get(unwanted.operation)
        if pending is None or source not in self.replica.ledger.council:
            return
        pending.objection = unwanted.objection
        if unwanted.number > self.replica.ledger.number:
            self.replica.ask(source, now)

    def _settle(self, key: bytes, objection: str) -> None:
        del self.pending[key]
        self.changed = True
        self.refused.append((key, objection))

    def leave(self) -> None:
        """Use nothing any more: its receiver cannot know when we learn of it."""
        self.left = True
        self.context.out.save(TABLE, b"left", b"")

    def force(self, now: float) -> Decided:
        """Become the whole council, whatever the others may think: the user said so."""
        ledger, me = self.replica.ledger, self.context.me
        member = Member(me, self.context.identity.public.signing)
        entry = Entry(
            ledger.id, ledger.number + 1, ledger.generation + 1, ledger.head,
            NewCouncil((member,)), ledger.checkpoint(),
        )  # fmt: skip
        ballot = Ballot(0, me)
        vote = Vote(me, self.context.sign(vote_text(entry, ballot)))
        decided = Decided(entry, ballot, (vote,))
        self.replica.approved.add(entry.hash)
        self._learn(decided, me, now)
        self._announce(decided)
        return decided

    # -- time ------------------------------------------------------------------------------------

    def deadline(self) -> float:
        times = [self.voting.waiting, *(min(w.again, w.until) for w in self.pending.values())]
        if self.voting.member:
            times.append(self._review)
        return min(*times, self._compare, self.holder.deadline)

    def tick(self, now: float) -> None:
        self.voting.tick(now)
        for key, pending in list(self.pending.items()):
            if now >= pending.until:
                self._settle(key, pending.objection)
            elif now >= pending.again:
                self._submit(pending, now)
        if self.voting.member and now >= self._review:
            self._review = now + REVIEW
            self._look_around(now)
        if now >= self._compare:
            self._compare_notes(now)

    def _compare_notes(self, now: float) -> None:
        """Entries come to us as records; what was lost on the way, another has."""
        soon = AGAIN if self.replica.behind() else COMPARE
        self._compare = now + soon * self.context.jitter()
        others = [peer for peer in self.context.alive
                  if self.context.joined.get(peer) == self.replica.ledger.id]  # fmt: skip
        if others:
            pick = int.from_bytes(self.context.random(2), "big") % len(others)
            self.replica.ask(others[pick], now)

    def _look_around(self, now: float) -> None:
        """The first member that lives sees to the council, and to what the dead owned."""
        council, lives = self.replica.ledger.council, self.context.lives
        if next(each for each in council if lives(each)) != self.context.me:
            return
        change = self._better_council(now)
        if change:
            self.request(change, now, now + REVIEW)
            return
        for owner in self.replica.ledger.owners():
            expired = now >= self.voting.promises.free_at(owner)
            if expired and owner not in council and not lives(owner):
                ledger, me = self.replica.ledger, self.context.me
                reclaim = Reclaim(owner, me, me, ledger.number, Reason.EXPIRED)
                self.request(reclaim, now, now + REVIEW)
                return

    def _better_council(self, now: float) -> NewCouncil | None:
        context, ledger = self.context, self.replica.ledger
        joined = [peer for peer in context.alive if context.joined.get(peer) == ledger.id]
        size = wanted_size(1 + len(joined))
        keep = [each for each in ledger.members if self._counts(each.peer, now)]
        if len(keep) == len(ledger.members) >= size:
            return None
        candidates = sorted(
            (since, peer) for peer, since in context.alive.items()
            if peer in joined and peer not in ledger.council and now >= since + SETTLED
        )  # fmt: skip
        for _, peer in candidates[: size - len(keep)]:
            keys = context.keys(peer)
            if keys:
                keep.append(Member(peer, keys.signing))
        members = tuple(keep[: max(size, 1)])
        odd = members if len(members) % 2 else members[:-1]
        if not odd or set(odd) == set(ledger.members):
            return None
        return NewCouncil(odd)

    def _counts(self, peer: PeerId, now: float) -> bool:
        gone = self.context.dead.get(peer, self.context.since)
        return self.context.lives(peer) or now < gone + GONE


def _concerned(operation: Operation) -> set[PeerId]:
    """Whose ownership changes by it."""
    fields = ("giver", "taker", "peer", "heir", "by")
    return {getattr(operation, each) for each in fields if hasattr(operation, each)}


def wanted_size(peers: int) -> int:
    """Members of a council among so many: an even number would only need more votes."""
    return 5 if peers >= 7 else 3 if peers >= 3 else 1
