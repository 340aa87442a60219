"""Space that passes from peer to peer: who is asked for it, and what is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import msgspec

from plugins.weave import prefixes
from plugins.weave.allocator import Pool
from plugins.weave.context import Context
from plugins.weave.council import Council
from plugins.weave.entries import Realm, Transfer
from plugins.weave.identity import PeerId
from plugins.weave.ledger import Ledger
from plugins.weave.prefixes import BITS, Prefix
from plugins.weave.space_messages import Ask, Denied, Pull
from plugins.weave.wire import WireError

TABLE: Final = "weave_offer"
"""Rows: realm's id, prefix -> the transfer that we signed and that may be decided at any time."""
ANSWER: Final = 2.0  # s that an owner has to answer
ROUND: Final = 5.0  # s after which all owners are asked again
OFFERS: Final = 1024  # of one peer, under way
GIFTS: Final = 1024  # the latest, remembered


class Denial(IntEnum):
    """Why an owner gives nothing."""

    FULL = 1  # every address of its is in use
    RESTING = 2  # some were just freed, or it waits for them itself
    TAKEN = 3  # the one that was asked for is in use
    FOREIGN = 4  # it does not own it


@dataclass(slots=True)
class Search:
    """For space in one subnet, or for one address."""

    realm: Realm
    subnet: Prefix
    asked: PeerId | None = None
    until: float = 0.0  # when the next one is asked
    tried: set[PeerId] = field(default_factory=set)
    denied: dict[PeerId, Denial] = field(default_factory=dict)
    begun: float = float("-inf")
    rounds: int = 0  # that were completed

    @property
    def single(self) -> bool:
        return self.subnet.length == BITS[self.subnet.family]


class Seeker:
    """Asks owners, the one that has most to give first."""

    def __init__(self, context: Context, free: Callable[[PeerId], int]) -> None:
        self._context = context
        self._free = free  # what a peer says it has free, roughly
        self.searches: dict[tuple[bytes, Prefix], Search] = {}

    def search(self, realm: Realm, subnet: Prefix, now: float) -> Search:
        key = (realm.id, subnet)
        if key not in self.searches:
            self.searches[key] = Search(realm, subnet, begun=now)
        return self.searches[key]

    def keep(self, wanted: set[tuple[bytes, Prefix]]) -> None:
        """Drop searches that are not waited for any more."""
        for key in [each for each in self.searches if each not in wanted]:
            del self.searches[key]

    def owners(self, council: Council, search: Search) -> list[PeerId]:
        """Other peers that own something there, as far as is known."""
        found: dict[PeerId, None] = {}
        for first, last, owner in council.replica.ledger.pieces(search.realm):
            overlaps = last >= search.subnet.first and first <= search.subnet.last
            if owner != self._context.me and overlaps:
                found[owner] = None
        return list(found)

    def denied(self, message: Denied, source: PeerId, now: float) -> None:
        try:
            key = (message.realm, prefixes.decode(message.subnet))
            reason = Denial(message.reason)
        except (WireError, ValueError):
            return
        search = self.searches.get(key)
        if search is not None and search.asked == source:
            search.denied[source] = reason
            search.until = now

    def drive(self, council: Council, now: float) -> None:
        for search in self.searches.values():
            if now >= search.until:
                self._next(council, search, now)

    def _next(self, council: Council, search: Search, now: float) -> None:
        candidates = [
            peer for peer in self.owners(council, search)
            if self._context.lives(peer) and peer not in search.tried
        ]  # fmt: skip
        if not candidates:
            search.rounds += 1
            search.tried.clear()
            search.asked = None
            search.until = now + ROUND * self._context.jitter()
            return
        order = self._context.random(1)[0] % len(candidates)
        shuffled = candidates[order:] + candidates[:order]
        search.asked = max(shuffled, key=self._free)
        search.tried.add(search.asked)
        search.denied.pop(search.asked, None)
        search.until = now + ANSWER
        ledger = council.replica.ledger
        ask = Ask(ledger.id, search.realm, search.subnet.encode(), ledger.number)
        self._context.out.send(search.asked, ask)

    def deadline(self) -> float:
        return min((each.until for each in self.searches.values()), default=float("inf"))


class Giver:
    """Signs away what others ask for and we do not use.

    What is signed may be decided at any later time, so it is kept and not given out here until it
    was decided, or cannot be any more.
    """

    def __init__(self, context: Context, wants: Wants) -> None:
        self._context = context
        self._wants = wants  # whether we wait for something there: it is not passed on
        self.offers: dict[bytes, Transfer] = {}  # by the name that the council knows them under
        self._asked: dict[tuple[PeerId, bytes, bytes], bytes] = {}  # -> the offer
        self._gifts: dict[tuple[PeerId, bytes, bytes], int] = {}  # -> the entry it came with

    def ask(
        self, council: Council, pool: Pool | None, message: Ask, source: PeerId, now: float
    ) -> None:
        try:
            subnet = prefixes.decode(message.subnet)
        except WireError:
            return
        ledger, out = council.replica.ledger, self._context.out
        key = (source, message.realm.id, message.subnet)
        if self._gifts.get(key, 0) > message.number:
            council.replica.answer(Pull(ledger.id, message.number, message.number), source)
            return
        if self._asked.get(key) in self.offers:
            return  # it is on its way
        spare = None
        if pool is not None and pool.whole.contains(subnet) and len(self.offers) < OFFERS:
            spare = self._spare(pool, subnet)
        if pool is None or spare is None or self._wants(ledger, pool, spare):
            reason = self._why(pool, subnet)
            out.send(source, Denied(ledger.id, message.realm.id, message.subnet, reason))
            return
        epoch = ledger.owner(pool.realm, spare.first).epoch
        offer = Transfer(pool.realm, spare.encode(), self._context.me, source, epoch)
        offer = msgspec.structs.replace(
            offer, signature=self._context.sign(offer.signed(ledger.id))
        )
        pool.offer(spare)
        out.save(TABLE, pool.realm.id + spare.encode(), msgspec.msgpack.encode(offer))
        self._asked[key] = self._wish(council, offer, now)

    def _wish(self, council: Council, offer: Transfer, now: float) -> bytes:
        name = council.request(offer, now, float("inf"))
        self.offers[name] = offer
        return name

    def restore(self, council: Council, rows: dict[bytes, bytes], pools: Pools, now: float) -> None:
        """WireError: a row is damaged."""
        for row in rows.values():
            try:
                offer = msgspec.msgpack.decode(row, type=Transfer)
            except (msgspec.MsgspecError, ValueError) as error:
                raise WireError(f"an offer of addresses is damaged: {error}") from None
            pools(offer.realm).offer(prefixes.decode(offer.prefix))
            self._wish(council, offer, now)

    def settled(self, council: Council, name: bytes, pools: Pools) -> None:
        """It was decided, or it cannot be any more."""
        offer = self.offers.pop(name, None)
        if offer is None:
            return
        prefix = prefixes.decode(offer.prefix)
        pools(offer.realm).withdraw(prefix)
        self._context.out.save(TABLE, offer.realm.id + offer.prefix, None)
        owned = council.replica.ledger.owner(offer.realm, prefix.first)
        for key in [key for key, each in self._asked.items() if each == name]:
            del self._asked[key]
            if owned.owner == offer.taker:
                self._gifts[key] = owned.epoch
        while len(self._gifts) > GIFTS:
            del self._gifts[next(iter(self._gifts))]

    def _spare(self, pool: Pool, subnet: Prefix) -> Prefix | None:
        if subnet.length == BITS[subnet.family]:
            return subnet if pool.available(subnet.first) else None
        return pool.spare(subnet)

    def _why(self, pool: Pool | None, subnet: Prefix) -> Denial:
        if pool is None or not pool.whole.contains(subnet):
            return Denial.FOREIGN
        if subnet.length == BITS[subnet.family] and subnet.first in pool.uses:
            return Denial.TAKEN if pool.uses[subnet.first].ident else Denial.RESTING
        if subnet.length == BITS[subnet.family]:
            return Denial.RESTING if pool.available(subnet.first) else Denial.FOREIGN
        return Denial.FULL if not pool.resting(subnet) and pool.free(subnet) < 1 else Denial.RESTING


Pools = Callable[[Realm], Pool]
Wants = Callable[[Ledger, Pool, Prefix], bool]
