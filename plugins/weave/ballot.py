"""One decision by majority: single-decree Paxos (Lamport, "Paxos Made Simple", 2001) for one entry.

The members are those of the council after the entry before, so that a change of the council is an
entry as any other.  What differs from the paper: the proposal is shown with the first message, and
who would not vote for it says so, so that nothing is put to the vote that has no majority.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from plugins.weave.entries import NO_BALLOT, Ballot, Entry, Number, Value, Vote, majority
from plugins.weave.identity import PeerId
from plugins.weave.space_messages import Promise
from plugins.weave.wire import WireError


class Acceptor(Value, frozen=True):
    """What a member has to remember about entry `number`, before it answers."""

    number: Number
    promised: Ballot = NO_BALLOT
    accepted: Ballot = NO_BALLOT
    entry: Entry | None = None

    def promise(self, ballot: Ballot) -> Acceptor | None:
        """None: it promised a higher one, or this one to an earlier message of the same ballot."""
        if ballot < self.promised:
            return None
        return msgspec.structs.replace(self, promised=ballot)

    def accept(self, ballot: Ballot, entry: Entry) -> Acceptor | None:
        """None: it promised a higher one."""
        if ballot < self.promised:
            return None
        return msgspec.structs.replace(self, promised=ballot, accepted=ballot, entry=entry)

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self)


_ACCEPTOR: Final = msgspec.msgpack.Decoder(Acceptor)


def load(data: bytes) -> Acceptor:
    """What `Acceptor.dump` made; WireError otherwise."""
    try:
        return _ACCEPTOR.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise WireError(f"no ballot: {error}") from None


@dataclass(slots=True, kw_only=True)
class Proposal:
    """A ballot of ours: first who promises, then who votes."""

    ballot: Ballot
    mine: Entry
    members: tuple[PeerId, ...]
    until: float  # when it is given up
    promises: dict[PeerId, Promise] = field(default_factory=dict)
    entry: Entry | None = None  # what is put to the vote
    votes: dict[PeerId, Vote] = field(default_factory=dict)
    objections: dict[PeerId, str] = field(default_factory=dict)

    @property
    def needed(self) -> int:
        return majority(len(self.members))

    def promised(self, peer: PeerId, promise: Promise) -> bool:
        """Whether it can be put to the vote now."""
        if self.entry is not None or peer not in self.members or promise.ballot != self.ballot:
            return False
        self.promises[peer] = promise
        if promise.objection:
            self.objections[peer] = promise.objection
        if len(self.promises) < self.needed:
            return False
        self.entry = self._earlier()
        if self.entry is None and len(self.promises) - len(self.objections) >= self.needed:
            self.entry = self.mine
        return self.entry is not None

    def _earlier(self) -> Entry | None:
        """An entry that may have been decided already, and then has to be proposed again.

        It is the one of the highest ballot.  It cannot have been decided if too few are left who
        may have voted for it: those who did vote for a decided one never vote for another.
        """
        voted = [each for each in self.promises.values() if each.entry is not None]
        if not voted:
            return None
        highest = max(voted, key=lambda each: each.accepted or NO_BALLOT).entry
        others = sum(each.entry != highest for each in self.promises.values())
        return highest if len(self.members) - others >= self.needed else None

    def accepted(self, vote: Vote) -> bool:
        """Whether it is decided now."""
        if self.entry is None or vote.peer not in self.members:
            return False
        self.votes[vote.peer] = vote
        return len(self.votes) >= self.needed

    @property
    def hopeless(self) -> str:
        """Why there will be no majority; "": there may be."""
        if len(self.members) - len(self.objections) >= self.needed:
            return ""
        return min(self.objections.values())
