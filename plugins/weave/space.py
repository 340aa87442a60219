"""The address space of the overlay, as one peer sees it: the module of it that others use.

Sans-IO, and as `plugins.weave.records`: calls collect what they cause, and `take` hands it out.
What `take().persist` has is written, in one transaction, before anything of it is sent or reported.

    space = Space(identity=..., crypto=..., random=..., keys=..., boot=..., now=...)
    space.restore(rows, now)                    # what `take().persist` had written, by table
    space.found(parse("10.32.0.0/12"), now)     # on a host that is launched without targets
    space.view(frozenset(peers), now)           # who can be reached, whenever that changes
    ticket = space.allocate(b"endpoint", now, now + 10)
    outcome = space.take()

`now`: seconds of a clock that only goes forward, also while the machine sleeps (CLOCK_BOOTTIME);
it begins anew with another `boot` at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from plugins.weave import donation, holdings, ledger_replica
from plugins.weave.context import Context
from plugins.weave.council import Council
from plugins.weave.crypto import Crypto, Random
from plugins.weave.donation import Giver, Seeker
from plugins.weave.entries import Decided
from plugins.weave.following import Following
from plugins.weave.holder import Fenced
from plugins.weave.holdings import Holdings
from plugins.weave.identity import Identity, PeerId, PublicKeys, short
from plugins.weave.meeting import Meeting, Summary
from plugins.weave.outbox import Outbox, Outcome
from plugins.weave.prefixes import Place, Prefix
from plugins.weave.removal import Removal
from plugins.weave.requests import UNFOUNDED, Requests, Why, check
from plugins.weave.space_messages import CODEC, Ask, Denied, Message
from plugins.weave.wire import WireError

Rows = Mapping[str, Mapping[bytes, bytes]]
"""Table -> key -> value."""
TABLES = (ledger_replica.TABLE, donation.TABLE, holdings.TABLE, holdings.REALMS)
REMOVED: Final = b"removed"  # in the ledger's table: by whom this host was removed
MET: Final = 2.0  # s after which what a peer says of its addresses has come
EARLY: Final = 60.0  # s in which a host that joined asks for a share of the range


class Space:
    def __init__(
        self, *, identity: Identity, crypto: Crypto, random: Random,
        keys: Callable[[PeerId], PublicKeys | None], boot: bytes, now: float,
        name: Callable[[PeerId], str] = short,
    ) -> None:  # fmt: skip
        self.out = Outbox(identity.peer)
        self.context = Context(
            identity=identity, crypto=crypto, random=random, keys=keys, boot=boot, out=self.out,
            since=now, name=name,
        )  # fmt: skip
        self.me = identity.peer
        self.holdings = Holdings(self.me, self.out)
        self.meeting = Meeting()
        self.following = Following(self.context, self.holdings, self.meeting)
        self.seeker = Seeker(self.context, self.meeting.free)
        self.requests = Requests(self.context, self.holdings, self.seeker)
        self.giver = Giver(self.context, self.requests.wants)
        self.removal = Removal(self.context)
        self._summary: Summary | None = None
        self._fenced: bool | None = None
        self.removed_by: PeerId | None = None
        """Who had this host removed from the overlay (`rmpeer`): nothing is its own any more."""

    @property
    def council(self) -> Council | None:
        return self.following.council

    # -- beginning -------------------------------------------------------------------------------

    def restore(self, rows: Rows, now: float) -> None:
        """WireError: they are damaged; nothing may be allocated, the host becomes a new peer."""
        written = rows.get(ledger_replica.TABLE, {})
        if REMOVED in written:
            self.removed_by = PeerId(written[REMOVED])
        if b"genesis" in written:
            self.following.council = Council.restore(self.context, dict(written), now)
        self.holdings.restore(
            dict(rows.get(holdings.REALMS, {})), dict(rows.get(holdings.TABLE, {})),
            self.council.replica.ledger if self.council else None, now,
        )  # fmt: skip
        if self.council:
            offers = dict(rows.get(donation.TABLE, {}))
            self.giver.restore(self.council, offers, self.holdings.pool, now)
        self._run(now)

    def found(self, prefix: Prefix, now: float) -> None:
        """Own the range, unless a ledger is followed already: `launch` without peers, `prime`."""
        if self.council is None:
            self.following.found(prefix, now)
            self._run(now)

    # -- what comes ------------------------------------------------------------------------------

    def receive(self, source: PeerId, data: bytes, now: float) -> None:
        """A message of a peer.  WireError: it is none."""
        self._dispatch(CODEC.decode(data), source, now)
        self._run(now)

    def received(self, origin: PeerId, key: bytes, value: bytes | None, now: float) -> None:
        """A record of another peer, of kind SPACE; None: it is deleted.  WireError: it is none."""
        if key == b"entry" and value is not None:
            message = CODEC.decode(value)
            if not isinstance(message, Decided):
                raise WireError("that record has to be an entry of the ledger")
            self._dispatch(message, origin, now)
        elif key == b"" and origin != self.me:
            self.following.met(origin, self.meeting.received(origin, value), now)
        self._run(now)

    def view(self, alive: frozenset[PeerId], now: float) -> None:
        came = alive - self.context.alive.keys()
        self.context.view(alive, now)
        if self.council and not came.isdisjoint(self.council.replica.ledger.council):
            self.council.holder.changed(now)
        self._run(now)

    def tick(self, now: float) -> None:
        """To be called at `deadline`."""
        if self.council:
            self.council.tick(now)
        self._run(now)

    def deadline(self) -> float:
        times = [self.requests.deadline(), self.holdings.deadline(), self.removal.deadline()]
        if self.council is None and self.requests.waiting and self.context.alive:
            times.append(max(self.context.alive.values()) + MET)
        if self.council:
            times += [self.council.deadline(), self.seeker.deadline()]
            if self._fenced is False and self.holdings.owns:
                times.append(self.council.holder.lease.until)
        return min(times)

    def take(self) -> Outcome:
        """What was caused since the last time."""
        return self.out.take()

    # -- addresses -------------------------------------------------------------------------------

    def allocate(
        self, ident: bytes, now: float, until: float, *, place: Place | None = None,
        subnet: Prefix | None = None, avoid: tuple[Prefix, ...] = (),
    ) -> int:  # fmt: skip
        """Some address of a subnet; without one, of the network's; without that, of the range.

        `place`: the network and its subnet that it is for; needed where that is outside of the
        range.  `subnet`: a part of it; what is in `avoid` comes last.  `ident`: at most
        `holdings.IDENT` bytes that say whose it is; who has, or just had, one in the subnet gets
        the same again.  The answer is an event with the ticket that is returned: `Allocated`, or
        `Refused`, at `until` at the latest.  ValueError: the subnet is not in the network or range.
        """
        return self._request(ident, place, subnet, None, now, until, avoid)

    def claim(
        self, ident: bytes, address: int, now: float, until: float, *, place: Place | None = None,
        subnet: Prefix | None = None,
    ) -> int:  # fmt: skip
        """A certain address.  As `allocate`; ValueError also if it is not one for a host."""
        return self._request(ident, place, subnet, address, now, until)

    def release(self, ident: bytes, now: float, address: int | None = None) -> None:
        """What `ident` has, or waits for, in all realms; with an address only that."""
        if address is None:
            self.requests.cancel(ident)
        for pool in self.holdings.pools.values():
            for each in pool.of(ident):
                if address in (None, each):
                    self.holdings.release(pool, each, now)
        self._run(now)

    def forget_network(self, place: Place, now: float) -> None:
        """The network is gone from this host, and nothing of it in use."""
        if self.council is not None:
            realm = self.council.replica.ledger.realm(place)
            if realm != self.council.replica.ledger.main:
                self.holdings.forget(realm)
        self._run(now)

    def owner(self, address: int, place: Place | None = None) -> PeerId | None:
        """Who may use an address, as far as is known: what endpoint records are held to."""
        if self.council is None:
            return None
        ledger = self.council.replica.ledger
        realm = ledger.realm(place)
        inside = realm.range.first <= address <= realm.range.last
        return ledger.owner(realm, address).owner if inside else None

    def fenced(self, now: float) -> bool:
        """Whether nothing of what this host owns may be in use."""
        council = self.council
        return (
            council is None or self.following.coming or council.left
            or self.removed_by is not None
            or not council.holder.lease.valid(now)
        )  # fmt: skip

    def removed(self, by: PeerId, now: float) -> None:
        """This host was removed from the overlay: it gives out and uses nothing from now on."""
        self.removed_by = by
        self.out.save(ledger_replica.TABLE, REMOVED, by)
        self._run(now)

    def why_fenced(self) -> str:
        """For people; "" where there is no ledger."""
        if self.removed_by is not None:
            return (
                f"this host was removed from the overlay by {self.context.name(self.removed_by)}:"
                " run `netkit weave reset` here, and launch again"
            )
        return self.council.holder.why_not() if self.council else ""

    def unfounded(self, now: float) -> bool:
        """Whether peers were met, and none of them follows a ledger that could be joined."""
        alive = self.context.alive
        return self.council is None and bool(alive) and now >= max(alive.values()) + MET

    # -- peers that leave ------------------------------------------------------------------------

    def remove_peer(self, peer: PeerId, now: float, until: float, *, force: bool = False) -> None:
        """`rmpeer`; the answer is the event `removal.Removed`.  With `force` this peer becomes the
        council, or follows the one that did, whatever those out of reach may think."""
        if self.council is None:
            raise ValueError("this host has no part in any address range")
        if force:
            self.following.force(now)
        assert self.council is not None
        self.removal.remove(self.council, peer, now, until)
        self._run(now)

    def leave(self, now: float, until: float) -> bool:
        """`reset`: give all to another peer; False: there is none.  From now on nothing is in use
        here any more, whatever comes of it: this peer has to become a new one."""
        if self.council is None:
            return False
        ledger = self.council.replica.ledger
        heirs = [
            peer for peer in (*ledger.council, *self.context.alive)
            if peer in self.context.alive and self.context.joined.get(peer) == ledger.id
        ]  # fmt: skip
        if heirs:
            self.council.leave()
            self.removal.leave(self.council, heirs[0], now, until)
            self._run(now)
        return bool(heirs)

    # -- one call --------------------------------------------------------------------------------

    def _request(
        self, ident: bytes, place: Place | None, subnet: Prefix | None, address: int | None,
        now: float, until: float, avoid: tuple[Prefix, ...] = (),
    ) -> int:  # fmt: skip
        whole = self.council.replica.ledger.main.range if self.council else None
        check(ident, place.prefix if place else whole, subnet, address)
        ticket = self.requests.add(ident, place, subnet, address, until, avoid)
        self._run(now)
        return ticket

    def _dispatch(self, message: Message, source: PeerId, now: float) -> None:
        council = self.council
        ledger = message.entry.ledger if isinstance(message, Decided) else message.ledger
        if council is None or ledger != council.replica.ledger.id:
            return
        if isinstance(message, Ask):
            known = self.holdings.known(message.realm, council.replica.ledger)
            pool = self.holdings.pool(message.realm) if known else None
            self.giver.ask(council, pool, message, source, now)
        elif isinstance(message, Denied):
            self.seeker.denied(message, source, now)
        else:
            council.receive(message, source, now)

    def _run(self, now: float) -> None:
        """Until nothing more follows from what happened."""
        self.holdings.rested(now)
        leased = False
        while True:
            council = self.council
            if council is not None:
                while self.out.own:
                    self._dispatch(self.out.own.pop(0), self.me, now)
                self._refresh(council, now)
                council.holder.needed = self.holdings.owns or bool(self.requests.waiting)
                council.holder.hold(now)
                leased = not self.fenced(now)
            early = council is not None and self._early(council, now)
            wanted = self.requests.waiting or self.seeker.searches or early
            if self.removed_by is not None:
                self.requests.refuse_all(Why.REMOVED, self.why_fenced())
            elif self.unfounded(now):
                self.requests.refuse_all(Why.NOT_JOINED, UNFOUNDED)
            elif wanted and not self.out.own:
                self.requests.serve(council, leased, early, now)
            if council is None or not (self.out.own or council.changed):
                break
        if council is not None:
            self.seeker.drive(council, now)
            self._send(council, leased)

    def _early(self, council: Council, now: float) -> bool:
        """Whether to ask for a share unasked, as this host may be cut off when it is wanted."""
        main = self.holdings.pool(council.replica.ledger.main)
        may = not council.left and self.removed_by is None
        return may and not main.owned and now < council.since + EARLY

    def _refresh(self, council: Council, now: float) -> None:
        if council.changed and not self.following.coming:
            self.holdings.refresh(council.replica.ledger)
        council.changed = False
        self.removal.drive(council, now)
        for name, _ in council.refused:
            self.giver.settled(council, name, self.holdings.pool)
        council.refused.clear()

    def _send(self, council: Council, leased: bool) -> None:
        """Others what we have, and who uses it whether he may."""
        reports = self.holdings.owns or self._fenced is not None
        if reports and self._fenced is not (not leased):
            self._fenced = not leased
            self.out.events.append(Fenced(not leased, "" if leased else self.why_fenced()))
        pool = self.holdings.pool(council.replica.ledger.main)
        free = max(pool.total - len(pool.uses), 0).bit_length()
        summary = Summary(council.replica.ledger.genesis, self.following.used(), free)
        if summary != self._summary:
            self._summary = summary
            self.out.published[b""] = msgspec.msgpack.encode(summary)
