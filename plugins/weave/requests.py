"""Requests for addresses that wait: for space of another peer, for a lease, for others to rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from plugins.weave import prefixes
from plugins.weave.allocator import Pool
from plugins.weave.context import Context
from plugins.weave.council import Council
from plugins.weave.donation import Denial, Search, Seeker
from plugins.weave.entries import Realm, Register
from plugins.weave.holdings import IDENT, Holdings
from plugins.weave.identity import PeerId
from plugins.weave.ledger import Ledger
from plugins.weave.prefixes import Place, Prefix
from plugins.weave.step import Event


class Why(Enum):
    """Why there is no address."""

    EXHAUSTED = "exhausted"  # every address is in use
    TAKEN = "taken"  # the one that was asked for is in use
    RESTING = "resting"  # what is free was in use until seconds ago
    UNREACHABLE = "unreachable"  # the rest is owned by peers that cannot be reached
    NO_ANSWER = "no answer"  # owners were asked and did not answer in time
    NO_LEASE = "no lease"  # others may have been given what this host owns
    REMOVED = "removed"  # this host was removed from the overlay
    NOT_JOINED = "not joined"  # no other peer was met, and this one founds nothing


@dataclass(frozen=True, slots=True)
class Allocated(Event):
    ticket: int
    ident: bytes
    realm: Realm
    address: int
    length: int  # of the subnet it is in


@dataclass(frozen=True, slots=True)
class Refused(Event):
    ticket: int
    ident: bytes
    why: Why
    text: str  # for people


@dataclass(frozen=True, slots=True)
class Request:
    ticket: int
    ident: bytes
    place: Place | None  # None: the range, which a peer that has not joined does not know
    subnet: Prefix | None  # None: all of it
    address: int | None  # the one that is wanted
    until: float
    avoid: tuple[Prefix, ...] = ()  # parts of the subnet that come last

    def wanted(self, ledger: Ledger) -> tuple[Realm, Prefix]:
        """Where: in which realm, and what of it."""
        realm = ledger.realm(self.place)
        subnet = self.subnet or (self.place.prefix if self.place else realm.range)
        if self.address is not None:
            subnet = prefixes.single(subnet.family, self.address)
        return realm, subnet


class Requests:
    def __init__(self, context: Context, holdings: Holdings, seeker: Seeker) -> None:
        self._context = context
        self._holdings = holdings
        self._seeker = seeker
        self.waiting: dict[int, Request] = {}
        self._verdicts: dict[int, tuple[Why, str]] = {}
        self._count = 0

    def add(
        self, ident: bytes, place: Place | None, subnet: Prefix | None, address: int | None,
        until: float, avoid: tuple[Prefix, ...] = (),
    ) -> int:  # fmt: skip
        self._count += 1
        request = Request(self._count, ident, place, subnet, address, until, avoid)
        self.waiting[request.ticket] = request
        return request.ticket

    def cancel(self, ident: bytes) -> None:
        """Who wanted them does not any more."""
        for ticket in [each.ticket for each in self.waiting.values() if each.ident == ident]:
            self._drop(ticket)

    def wants(self, ledger: Ledger, pool: Pool, prefix: Prefix) -> bool:
        """Whether a request of our own waits for something there."""
        wanted = (each.wanted(ledger) for each in self.waiting.values())
        return any(realm == pool.realm and subnet.overlaps(prefix) for realm, subnet in wanted)

    def why(self, ticket: int) -> str:
        """What a request waits for; for people."""
        return self._verdicts.get(ticket, (Why.NO_ANSWER, ""))[1]

    def deadline(self) -> float:
        return min((each.until for each in self.waiting.values()), default=float("inf"))

    def serve(self, council: Council | None, leased: bool, early: bool, now: float) -> None:
        """Answer those that can be answered, and those whose time is over.  `early`: look for space
        of the range that was not asked for yet."""
        full: set[tuple[bytes, Prefix]] = set()
        wanted: set[tuple[bytes, Prefix]] = set()
        if early and council is not None:
            main = council.replica.ledger.main
            self._seeker.search(main, main.range, now)
            wanted.add((main.id, main.range))
        for request in list(self.waiting.values()):
            if council is None:
                self._not_yet(request, Why.NOT_JOINED, UNREACHED, now)
                continue
            realm, subnet = request.wanted(council.replica.ledger)
            pool = self._holdings.pool(realm)
            if not leased and pool.owned:
                self._not_yet(request, Why.NO_LEASE, council.holder.why_not(), now)
                continue
            key = (realm.id, subnet)
            if key in full or not self._try(pool, request, subnet):
                full.add(key)
                self._judge(council, pool, request, subnet, now)
                if request.ticket in self.waiting:
                    wanted.add(key)
        self._seeker.keep(wanted)

    def refuse_all(self, why: Why, text: str) -> None:
        """There is nothing to wait for."""
        for request in list(self.waiting.values()):
            self._refuse(request, why, text)
        self._seeker.keep(set())

    def _try(self, pool: Pool, request: Request, subnet: Prefix) -> bool:
        if request.address is None:
            address = pool.has(request.ident, subnet)
            if address is None:
                address = pool.take(request.ident, subnet, request.avoid)
        else:
            holder = pool.claim(request.ident, request.address)
            if holder not in (None, request.ident):
                self._refuse(request, Why.TAKEN, self._taken(pool, request.address, "here"))
                return True
            address = request.address if holder else None
        if address is None:
            return False
        self._holdings.taken(pool, address, request.ident)
        self._drop(request.ticket)
        of = request.subnet or (request.place.prefix if request.place else pool.whole)
        self._context.out.events.append(
            Allocated(request.ticket, request.ident, pool.realm, address, of.length)
        )
        return True

    def _judge(
        self, council: Council, pool: Pool, request: Request, wanted: Prefix, now: float
    ) -> None:
        """It is not to be had here: look for it elsewhere, and say what stands in the way."""
        search = self._seeker.search(pool.realm, wanted, now)
        owners = self._seeker.owners(council, search)
        away = [each for each in owners if not self._context.lives(each)]
        for owner in away:
            if owner == pool.realm.creator:
                self._register(council, pool.realm, now)
        if Denial.TAKEN in search.denied.values():
            holder = next(each for each, why in search.denied.items() if why == Denial.TAKEN)
            text = self._taken(pool, wanted.first, f"at {self._context.name(holder)}")
            self._refuse(request, Why.TAKEN, text)
            return
        final, why, text = self._verdict(pool, search, owners, away)
        if why == Why.NO_ANSWER and not council.holder.quorum:
            why, text = Why.UNREACHABLE, f"{wanted}: no space is passed on; {council.holder.away()}"
        if final:
            self._refuse(request, why, text)
        else:
            self._not_yet(request, why, text, now)

    def _verdict(
        self, pool: Pool, search: Search, owners: list[PeerId], away: list[PeerId]
    ) -> tuple[bool, Why, str]:
        """(whether waiting is of no use, why, text)."""
        where, name = search.subnet, self._context.name
        resting = pool.resting(where) or Denial.RESTING in search.denied.values()
        asked = [each for each in owners if each not in away]
        refused = all(each in search.denied for each in asked)
        told_full = all(search.denied.get(each) == Denial.FULL for each in asked)
        if away and refused and not resting:
            names = ", ".join(sorted(name(each) for each in away))
            what = "it" if search.single else "the rest"
            return (
                False,
                Why.UNREACHABLE,
                f"{where}: {what} is owned by peers out of reach: {names}",
            )
        if resting and refused:
            return False, Why.RESTING, f"{where}: what is free there was in use until just now"
        if told_full and not search.single:
            count = where.hosts[1] - where.hosts[0] + 1
            return True, Why.EXHAUSTED, f"all {count} addresses of {where} are in use"
        silent = ", ".join(sorted(name(each) for each in asked if each not in search.denied))
        return False, Why.NO_ANSWER, f"{where}: waiting for space; asked {silent or 'its owners'}"

    def _register(self, council: Council, realm: Realm, now: float) -> None:
        """What a peer that is gone made can be inherited only if the council knows of it."""
        register = Register(realm)
        if not council.replica.ledger.objection(register):
            council.request(register, now, now + 10)

    def _taken(self, pool: Pool, address: int, where: str) -> str:
        return f"{prefixes.text(pool.whole.family, address)} is in use {where}"

    def _not_yet(self, request: Request, why: Why, text: str, now: float) -> None:
        self._verdicts[request.ticket] = why, text
        if now >= request.until:
            self._refuse(request, why, text)

    def _refuse(self, request: Request, why: Why, text: str) -> None:
        self._drop(request.ticket)
        self._context.out.events.append(Refused(request.ticket, request.ident, why, text))

    def _drop(self, ticket: int) -> None:
        del self.waiting[ticket]
        self._verdicts.pop(ticket, None)


def check(ident: bytes, whole: Prefix | None, subnet: Prefix | None, address: int | None) -> None:
    """ValueError: that can never be had; `whole` is where it has to be, if that is known."""
    if not 0 < len(ident) <= IDENT:
        raise ValueError(f"an ident has 1 to {IDENT} bytes, not {len(ident)}")
    if whole and subnet and not whole.contains(subnet):
        raise ValueError(f"{subnet} is not in {whole}")
    inner = subnet or whole
    if address is not None and inner and not inner.hosts[0] <= address <= inner.hosts[1]:
        raise ValueError(f"that is no address for a host of {inner}")


UNREACHED: Final = "no peer was reached yet: see `netkit weave status connections`"
UNFOUNDED: Final = "no host has founded the range: run `netkit weave prime` on one"
