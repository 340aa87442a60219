"""A peer's copy of the ledger: what it keeps, how it catches up, what it does not believe.

Kept are the entries since the last checkpoint but one, and all that changed the council: with these
anyone who knows an old council, or only how the ledger began, can check a newer state that another
peer sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from plugins.weave import ledger as ledgers
from plugins.weave.crypto import Crypto, digest
from plugins.weave.entries import HASH, Council, Decided, Genesis, Member, valid
from plugins.weave.identity import PeerId
from plugins.weave.ledger import CHECKPOINT, Ledger
from plugins.weave.outbox import Outbox
from plugins.weave.space_messages import PAGE, Page, Pull
from plugins.weave.step import Event
from plugins.weave.wire import WireError

TABLE: Final = "weave_ledger"
AT_ONCE: Final = 16  # entries, or pages of a state, that answer one question
ASK_AGAIN: Final = 1.0  # s


@dataclass(frozen=True, slots=True)
class Forked(Event):
    """Another entry than ours is valid: two councils decide, after a take-over by force or a copy
    of an old disk."""

    decided: Decided
    forced: bool


class LedgerReplica:
    def __init__(self, genesis: Genesis, crypto: Crypto, out: Outbox) -> None:
        self.ledger = Ledger(genesis)
        self.approved: set[bytes] = set()  # hashes of entries by force that the user agreed to
        self.forks: dict[bytes, Decided] = {}
        self._crypto = crypto
        self._out = out
        self._entries: dict[int, Decided] = {}
        self._councils: dict[int, Decided] = {}
        self._states: dict[int, bytes] = {}  # before entries with a checkpoint, the newest two
        self._ahead: _Ahead | None = None
        self._source: PeerId | None = None  # who was asked last
        self._early: dict[int, Decided] = {}  # that came before those before them; unchecked
        self._asked = float("-inf")
        self._asked_from = 0

    # -- what there is ---------------------------------------------------------------------------

    def newest(self) -> Decided | None:
        return self._entries.get(self.ledger.number)

    def behind(self) -> bool:
        return self._ahead is not None

    def write(self) -> None:
        self._out.save(TABLE, b"genesis", msgspec.msgpack.encode(self.ledger.genesis))

    def erase(self) -> None:
        """Another ledger takes its place: no row stays."""
        for prefix, rows in ((b"e", self._entries), (b"c", self._councils), (b"s", self._states)):
            for number in rows:
                self._out.save(TABLE, prefix + number.to_bytes(8, "big"), None)

    @classmethod
    def restore(cls, rows: dict[bytes, bytes], crypto: Crypto, out: Outbox) -> LedgerReplica:
        """From the rows of TABLE.  WireError: they are damaged."""
        try:
            replica = cls(msgspec.msgpack.decode(rows[b"genesis"], type=Genesis), crypto, out)
            entries = [msgspec.msgpack.decode(value, type=Decided)
                       for key, value in sorted(rows.items()) if key[:1] == b"e"]  # fmt: skip
            councils = [msgspec.msgpack.decode(value, type=Decided)
                        for key, value in sorted(rows.items()) if key[:1] == b"c"]  # fmt: skip
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            raise WireError(f"the ledger of addresses is damaged: {error}") from None
        replica._states = {
            int.from_bytes(key[1:], "big"): row for key, row in rows.items() if key[:1] == b"s"
        }
        replica._councils = {each.entry.number: each for each in councils}
        replica._entries = {each.entry.number: each for each in entries}
        if replica._states:
            replica.ledger = ledgers.load(replica._states[max(replica._states)])
        while (then := replica._entries.get(replica.ledger.number + 1)) is not None:
            if then.entry.previous != replica.ledger.head:
                raise WireError("the ledger of addresses is damaged: an entry does not follow")
            replica.ledger.apply(then.entry)
        return replica

    # -- what others say -------------------------------------------------------------------------

    def learn(self, decided: Decided, source: PeerId, now: float) -> list[Decided]:
        """The entries that were appended."""
        entry = decided.entry
        if entry.ledger != self.ledger.id:
            return []
        if entry.number <= self.ledger.number:
            self._compare(decided)
            return []
        if entry.number > self.ledger.number + 1:
            self._look_ahead(decided, source, now)
            return []
        if not self._valid(decided, self.ledger.members, self.ledger.generation):
            self._note_fork(decided)
            return []
        appended = self._append(decided)
        then = self._early.get(self.ledger.number + 1)
        return appended + (self.learn(then, source, now) if appended and then else [])

    def _append(self, decided: Decided) -> list[Decided]:
        entry = decided.entry
        forced = entry.generation == self.ledger.generation + 1
        if entry.previous != self.ledger.head or not (forced or self.ledger.follows(entry)):
            self._note_fork(decided)
            return []
        key = entry.number.to_bytes(8, "big")
        if entry.checkpoint:
            self._keep_state(entry.number, self.ledger.dump())
        self.ledger.apply(entry)
        self._entries[entry.number] = decided
        self._early.pop(entry.number, None)
        encoded = msgspec.msgpack.encode(decided)
        self._out.save(TABLE, b"e" + key, encoded)
        if isinstance(entry.operation, Council):
            self._councils[entry.number] = decided
            self._out.save(TABLE, b"c" + key, encoded)
        if self._ahead and self._ahead.newest <= entry.number:
            self._ahead = None
        elif entry.number == self._asked_from + AT_ONCE:
            self._asked = float("-inf")
        return [decided]

    def _keep_state(self, number: int, state: bytes) -> None:
        self._states[number] = state
        self._out.save(TABLE, b"s" + number.to_bytes(8, "big"), state)
        for old in [each for each in self._states if each < number - CHECKPOINT]:
            del self._states[old]
            self._out.save(TABLE, b"s" + old.to_bytes(8, "big"), None)
        for past in [each for each in self._entries if each < min(self._states)]:
            del self._entries[past]
            self._out.save(TABLE, b"e" + past.to_bytes(8, "big"), None)

    def _valid(self, decided: Decided, members: tuple[Member, ...], generation: int) -> bool:
        """By the council before it; or by force of who is the whole council after it, and the user
        of this host agreed."""
        entry = decided.entry
        if entry.generation == generation:
            return valid(decided, members, self._crypto)
        return entry.hash in self.approved and self._by_force(decided, generation)

    def _by_force(self, decided: Decided, generation: int) -> bool:
        entry = decided.entry
        return (
            entry.generation == generation + 1
            and isinstance(entry.operation, Council)
            and len(entry.operation.members) == 1
            and valid(decided, entry.operation.members, self._crypto)
        )

    def _compare(self, decided: Decided) -> None:
        ours = self._entries.get(decided.entry.number)
        if ours is None or ours.entry == decided.entry:
            return
        self._note_fork(decided)

    def _note_fork(self, decided: Decided) -> None:
        """Reported once, and only if its signer could: a stranger's changes nothing."""
        forced = self._by_force(decided, decided.entry.generation - 1)
        forced = forced and decided.entry.generation > self.ledger.generation
        if not forced and not valid(decided, self.ledger.members, self._crypto):
            return
        if decided.entry.hash not in self.forks and len(self.forks) < AT_ONCE:
            self.forks[decided.entry.hash] = decided
            self._out.events.append(Forked(decided, forced))

    # -- catching up -----------------------------------------------------------------------------

    def ask(self, source: PeerId, now: float) -> None:
        """Ask for what comes after what we know, now and then."""
        if now >= self._asked + ASK_AGAIN:
            self._asked, self._source = now, source
            number = council = self._asked_from = self.ledger.number
            page = 0
            if self._ahead:
                council, page = self._ahead.number, self._ahead.next_page()
            self._out.send(source, Pull(self.ledger.id, number, council, page))

    def answer(self, pull: Pull, source: PeerId) -> None:
        """Entries; if they are not kept any more, what shows who decides now, and a state."""
        if pull.number >= self.ledger.number:
            return
        if pull.number + 1 >= min(self._entries, default=self.ledger.number + 1):
            for number in range(pull.number + 1, pull.number + 1 + AT_ONCE):
                if number in self._entries:
                    self._out.send(source, self._entries[number])
            return
        later = [number for number in sorted(self._councils) if number > pull.council]
        for number in later[:AT_ONCE]:
            self._out.send(source, self._councils[number])
        if len(later) <= AT_ONCE:
            self._send_state(pull.page, source)

    def _send_state(self, page: int, source: PeerId) -> None:
        number = max(self._states)
        state = self._states[number]
        pages = -(-len(state) // PAGE)
        self._out.send(source, self._entries[number])
        for each in range(page, min(page + AT_ONCE, pages)):
            data = state[each * PAGE : (each + 1) * PAGE]
            self._out.send(source, Page(self.ledger.id, number, each, pages, data))

    def _look_ahead(self, decided: Decided, source: PeerId, now: float) -> None:
        if self._ahead is None:
            ledger = self.ledger
            self._ahead = _Ahead(ledger.number, ledger.members, ledger.generation)
        ahead, entry = self._ahead, decided.entry
        if entry.generation > ahead.generation:
            self._note_fork(decided)
        if entry.number <= self.ledger.number + 2 * AT_ONCE:
            self._early[entry.number] = decided
        if entry.number > ahead.number and self._valid(decided, ahead.members, ahead.generation):
            ahead.newest = max(ahead.newest, entry.number)
            if isinstance(entry.operation, Council):
                ahead.number, ahead.generation = entry.number, entry.generation
                ahead.members = entry.operation.members
                ahead.councils.append(decided)
            if entry.checkpoint and (not ahead.target or entry.number > ahead.target.entry.number):
                ahead.target, ahead.pages = decided, {}
        self.ask(source, now)

    def page(self, page: Page, source: PeerId, now: float) -> bool:
        """Whether that was the last one, and there is another state now."""
        ahead = self._ahead
        if source != self._source or page.page >= page.pages:
            return False
        if ahead is None or ahead.target is None or page.number != ahead.target.entry.number:
            return False
        ahead.pages[page.page] = page.data
        if len(ahead.pages) < page.pages:
            if ahead.next_page() % AT_ONCE == 0:
                self._asked = float("-inf")
                self.ask(source, now)
            return False
        state = b"".join(data for _, data in sorted(ahead.pages.items()))
        if digest(HASH, state) != ahead.target.entry.checkpoint:
            ahead.pages = {}  # somebody sent other pages: from the beginning, from another
            return False
        return self._install(ahead, state)

    def _install(self, ahead: _Ahead, state: bytes) -> bool:
        target = ahead.target
        assert target is not None
        self.ledger = ledgers.load(state)
        self._ahead, self._early = None, {}
        for number in self._entries:
            self._out.save(TABLE, b"e" + number.to_bytes(8, "big"), None)
        self._entries = {}
        for decided in ahead.councils:
            number = decided.entry.number
            if number <= self.ledger.number:
                self._councils[number] = decided
                key = b"c" + number.to_bytes(8, "big")
                self._out.save(TABLE, key, msgspec.msgpack.encode(decided))
        self._append(target)
        return True


class _Ahead:
    """What is known of later entries than those that took effect here."""

    def __init__(self, number: int, members: tuple[Member, ...], generation: int) -> None:
        self.newest = number  # the last entry that is known to be valid
        self.number = number  # of the last change of the council that is known
        self.members = members
        self.generation = generation
        self.councils: list[Decided] = []
        self.target: Decided | None = None  # before which the state is wanted
        self.pages: dict[int, bytes] = {}

    def next_page(self) -> int:
        return next(number for number in range(len(self.pages) + 1) if number not in self.pages)
