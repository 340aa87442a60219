"""A member of the council: it votes, proposes, and promises leases."""

from __future__ import annotations

from typing import Final

from plugins.weave import ballot as ballots
from plugins.weave.ballot import Acceptor, Proposal
from plugins.weave.context import Context
from plugins.weave.entries import (
    Ballot,
    Council,
    Decided,
    Entry,
    Operation,
    Reason,
    Reclaim,
    Transfer,
    Vote,
    vote_text,
)
from plugins.weave.identity import PeerId, short
from plugins.weave.lease import Promises
from plugins.weave.ledger_replica import TABLE, LedgerReplica
from plugins.weave.space_messages import (
    Accept,
    Accepted,
    Declined,
    Grant,
    Prepare,
    Promise,
    Pull,
    Renew,
    Unwanted,
    name,
)

PATIENCE: Final = 1.0  # s that a ballot may take
SHARE: Final = 16  # operations of one peer that wait for their turn
LEAP: Final = 2**32  # by which a round is above those that are known, at most
DROPPED: Final = 10.0  # s after which one is; who wanted it asks again


class Voting:
    def __init__(self, context: Context, replica: LedgerReplica, now: float) -> None:
        self._context = context
        self._out = context.out
        self.replica = replica
        self.promises = Promises(now)
        self._acceptor = Acceptor(1)
        self._asked: set[PeerId] = set()  # whose take-over we were asked to vote for
        self._proposal: Proposal | None = None
        self._round = 0  # the highest known
        self._queue: dict[bytes, tuple[Operation, PeerId, float]] = {}
        self._resume = float("-inf")  # not to propose before

    def restore(self, row: bytes | None) -> None:
        if row is not None:
            self._acceptor = ballots.load(row)
        self.advanced()

    @property
    def member(self) -> bool:
        return self._context.me in self.replica.ledger.council

    @property
    def waiting(self) -> float:
        """When to call `tick`."""
        if self._proposal:
            return self._proposal.until
        return self._resume if self._queue else float("inf")

    # -- votes -----------------------------------------------------------------------------------

    def prepare(self, asked: Prepare, source: PeerId, now: float) -> None:
        if not self._current(asked.entry, source, now):
            return
        mine = self._acceptor.promise(asked.ballot)
        if mine is None or not self._heard(asked.ballot) or asked.ballot.peer != source:
            self._decline(asked.entry, asked.ballot, source, "")
            return
        self._remember(mine)
        number, earlier = mine.number, mine.entry
        accepted = mine.accepted if earlier else None
        self._out.send(source, Promise(
            self.replica.ledger.id, number, asked.ballot, accepted, earlier,
            self.objection(asked.entry, now)[:200],
        ))  # fmt: skip

    def accept(self, asked: Accept, source: PeerId, now: float) -> None:
        if not self._current(asked.entry, source, now) or asked.ballot.peer != source:
            return
        if not self._heard(asked.ballot):
            return
        objection = self.objection(asked.entry, now)
        mine = None if objection else self._acceptor.accept(asked.ballot, asked.entry)
        if isinstance(asked.entry.operation, Reclaim):
            self._asked.add(asked.entry.operation.peer)
        if mine is None:
            self._decline(asked.entry, asked.ballot, source, objection)
            return
        self._remember(mine)
        signature = self._context.sign(vote_text(asked.entry, asked.ballot))
        ledger = self.replica.ledger.id
        self._out.send(source, Accepted(ledger, mine.number, asked.ballot, signature))

    def _current(self, entry: Entry, source: PeerId, now: float) -> bool:
        ledger = self.replica.ledger
        if entry.number > ledger.number + 1:
            self.replica.ask(source, now)
        elif entry.number <= ledger.number:
            self.replica.answer(Pull(ledger.id, entry.number - 1, entry.number - 1), source)
        elif self.member and source in ledger.council and entry.generation == ledger.generation:
            return True
        return False

    def _decline(self, entry: Entry, ballot: Ballot, source: PeerId, objection: str) -> None:
        ledger, promised = self.replica.ledger.id, self._acceptor.promised
        self._out.send(source, Declined(ledger, entry.number, ballot, promised, objection[:200]))

    def _remember(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._out.save(TABLE, b"ballot", acceptor.dump())

    def objection(self, entry: Entry, now: float) -> str:
        """Why we do not vote for it; "": we do."""
        if not self.replica.ledger.follows(entry):
            return "it does not follow from the entry before"
        operation = entry.operation
        text = self.replica.ledger.objection(operation)
        if text:
            return text
        if isinstance(operation, Transfer):
            return self._unsigned(operation, operation.giver)
        if isinstance(operation, Reclaim):
            return self._reclaim_objection(operation, now)
        if isinstance(operation, Council):
            for member in operation.members:
                known = self._context.keys(member.peer)
                if member.peer == self._context.me:
                    known = self._context.identity.public
                if known is None or known.signing != member.key:
                    return f"the key of peer {short(member.peer)} is not known"
        return ""

    def _unsigned(self, operation: Transfer | Reclaim, by: PeerId) -> str:
        text = operation.signed(self.replica.ledger.id)
        if self._context.signed(by, text, operation.signature):
            return ""
        return f"it is not signed by peer {short(by)}, as far as is known"

    def _reclaim_objection(self, operation: Reclaim, now: float) -> str:
        peer = operation.peer
        if operation.reason == Reason.LEFT:
            return self._unsigned(operation, peer)
        if self._context.lives(peer):
            return f"peer {short(peer)} is alive"
        if operation.reason == Reason.REMOVED:
            return self._unsigned(operation, operation.by)
        left = self.promises.free_at(peer) - now
        return f"peer {short(peer)} may hold a lease for {left:.0f} s" if left > 0 else ""

    # -- leases ----------------------------------------------------------------------------------

    def renew(self, asked: Renew, source: PeerId, now: float) -> None:
        ledger = self.replica.ledger
        if asked.number > ledger.number:
            self.replica.ask(source, now)
        elif asked.number < ledger.number:
            self.replica.answer(Pull(ledger.id, asked.number, asked.number), source)
        voted = self._acceptor.entry is not None and self._acceptor.number > ledger.number
        operation = self._acceptor.entry.operation if self._acceptor.entry else None
        taken = voted and isinstance(operation, Reclaim) and operation.peer == source
        if not self.member or taken or source in self._asked:
            return
        self.promises.give(source, now)
        self._out.send(source, Grant(ledger.id, asked.round, ledger.number + voted))

    # -- proposals -------------------------------------------------------------------------------

    def submit(self, operation: Operation, source: PeerId, now: float) -> None:
        if not self.member:
            return
        ledger = self.replica.ledger
        text = ledger.objection(operation)
        if text:
            self._out.send(source, Unwanted(ledger.id, name(operation), ledger.number, text[:200]))
        elif sum(by == source for _, by, _ in self._queue.values()) < SHARE:
            self._queue.setdefault(name(operation), (operation, source, now + DROPPED))
            self.propose(now)

    def propose(self, now: float) -> None:
        """Begin a ballot, if there is something to decide and none is under way."""
        ledger = self.replica.ledger
        if self._proposal or not self._queue or not self.member or now < self._resume:
            return
        operation = next(iter(self._queue.values()))[0]
        entry = Entry(
            ledger.id, ledger.number + 1, ledger.generation, ledger.head, operation,
            ledger.checkpoint(),
        )  # fmt: skip
        self._round = max(self._round, self._acceptor.promised.round) + 1
        ballot = Ballot(self._round, self._context.me)
        self._proposal = Proposal(
            ballot=ballot, mine=entry, members=ledger.council,
            until=now + PATIENCE * self._context.jitter(),
        )  # fmt: skip
        self._out.send_all(ledger.council, Prepare(ledger.id, ballot, entry))

    def promised(self, promise: Promise, source: PeerId, now: float) -> None:
        proposal = self._ours(promise.number, promise.ballot)
        ledger, entry = self.replica.ledger, promise.entry
        if proposal is None or (entry and not ledger.follows(entry)):
            return
        if proposal.promised(source, promise) and proposal.entry:
            accept = Accept(ledger.id, proposal.ballot, proposal.entry)
            self._out.send_all(proposal.members, accept)
        elif proposal.entry is None and proposal.hopeless:
            self._give_up(proposal, proposal.hopeless, now)

    def accepted(self, accepted: Accepted, source: PeerId) -> Decided | None:
        """The entry, if it is decided now."""
        proposal = self._ours(accepted.number, accepted.ballot)
        if proposal is None or proposal.entry is None:
            return None
        keys = {member.peer: member.key for member in self.replica.ledger.members}
        text = vote_text(proposal.entry, proposal.ballot)
        if source not in keys or not self._context.crypto.verify(
            keys[source], text, accepted.signature
        ):
            return None
        if not proposal.accepted(Vote(source, accepted.signature)):
            return None
        self._proposal = None
        votes = tuple(proposal.votes[peer] for peer in sorted(proposal.votes))
        return Decided(proposal.entry, proposal.ballot, votes)

    def declined(self, declined: Declined, source: PeerId, now: float) -> None:
        self._heard(declined.promised)
        proposal = self._ours(declined.number, declined.ballot)
        if proposal is None or source not in proposal.members:
            return
        if declined.promised > proposal.ballot:
            self._proposal = None
            self._resume = now + PATIENCE / 4 * self._context.jitter()
        elif declined.objection:
            proposal.objections[source] = declined.objection
            if proposal.hopeless:
                self._give_up(proposal, proposal.hopeless, now)

    def _ours(self, number: int, ballot: Ballot) -> Proposal | None:
        proposal = self._proposal
        current = number == self.replica.ledger.number + 1
        return proposal if current and proposal and proposal.ballot == ballot else None

    def _heard(self, ballot: Ballot) -> bool:
        """Whether it is one that can come of proposals: rounds are not used up by a few."""
        if ballot.round > self._round + LEAP:
            return False
        self._round = max(self._round, ballot.round)
        return True

    def _give_up(self, proposal: Proposal, objection: str, now: float) -> None:
        self._proposal = None
        self._resume = now + PATIENCE / 4 * self._context.jitter()
        self._refuse(name(proposal.mine.operation), objection)

    def _refuse(self, operation: bytes, objection: str) -> None:
        queued = self._queue.pop(operation, None)
        if queued:
            ledger = self.replica.ledger
            self._out.send(
                queued[1], Unwanted(ledger.id, operation, ledger.number, objection[:200])
            )

    def advanced(self) -> None:
        """The ledger has another last entry."""
        ledger = self.replica.ledger
        if self._acceptor.number <= ledger.number:
            self._remember(Acceptor(ledger.number + 1))
            self._asked.clear()
            self._proposal = None
        for key, (operation, _, _) in list(self._queue.items()):
            objection = ledger.objection(operation)
            if objection:
                self._refuse(key, objection)

    def tick(self, now: float) -> None:
        if self._proposal and now >= self._proposal.until:
            self._proposal = None
        for key, (_, _, until) in list(self._queue.items()):
            if now >= until:
                self._refuse(key, "no majority of the council can be reached")
        self.promises.forget(now)
        self.propose(now)
