"""A peer without its sessions and its data plane: its place among others, and its addresses.

`Mesh` and `Space` over one thing that carries messages between authenticated peers (`sessions`).
What a peer says to another is a mesh's message, which begins as a msgpack array does (0x90 to
0x9f), or a space's, the first byte of which is marked (0x80 to 0x8f).  As with a mesh, `take` has
to follow whatever is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from plugins.weave.absent import BELOW_TABLE
from plugins.weave.crypto import Crypto, Random
from plugins.weave.entries import Reason, Reclaim
from plugins.weave.farewells import MARK, Farewells, marked
from plugins.weave.identity import Identity, PeerId, PublicKeys, short
from plugins.weave.membership import WeAreRemoved
from plugins.weave.mesh import Mesh
from plugins.weave.ourselves import Settings
from plugins.weave.outbox import Recorded
from plugins.weave.output import Output
from plugins.weave.prefixes import BITS, Place, parse
from plugins.weave.record import Kind, Record
from plugins.weave.removal import Removed
from plugins.weave.rows import HEAD_TABLE, RECORD_TABLE
from plugins.weave.space import TABLES as SPACE_TABLES
from plugins.weave.space import Space
from plugins.weave.space_messages import CODEC
from plugins.weave.statements import Network, read
from plugins.weave.step import Event, Where
from plugins.weave.wire import WireError

TALK: Final = 60.0
"""Seconds that a session is kept for after something about addresses was said in it."""
WAITING: Final = 8
"""Messages to one peer that wait for a session with it."""
TABLES: Final = (RECORD_TABLE, HEAD_TABLE, BELOW_TABLE, *SPACE_TABLES)
Rows = Mapping[str, Mapping[bytes, bytes]]


class Core:
    """`mesh` and `space` may be read, and `space` be asked for addresses."""

    def __init__(
        self,
        identity: Identity,
        crypto: Crypto,
        random: Random,
        settings: Settings,
        boot: bytes,
        now: float,
    ) -> None:
        """`boot`: another one whenever `now` may have begun anew (`Space`)."""
        self.me = identity.peer
        self.mesh = Mesh(identity, crypto, random, settings, self._believes)
        self._space = Space(
            identity=identity, crypto=crypto, random=random, keys=self._keys, boot=boot, now=now,
            name=self.name,
        )  # fmt: skip
        self.mesh.forwarding.owner = self._owner
        self._live = -1
        self._space_at: float | None = None
        """The space's deadline, if it is known."""
        self._talks: dict[PeerId, float] = {}
        self._waiting: dict[PeerId, list[bytes]] = {}
        self._ready: list[tuple[PeerId, bytes]] = []
        self._farewells = Farewells(self.mesh, self._space)

    # Life

    def start(self, rows: Rows, now: float) -> None:
        """Once, before all else, with what was written.  WireError: addresses are damaged."""
        blobs = [b for table in (RECORD_TABLE, HEAD_TABLE) for b in rows.get(table, {}).values()]
        self.mesh.start(now, blobs, rows.get(BELOW_TABLE, {}).items())
        self.space.restore(rows, now)

    @property
    def space(self) -> Space:
        self._space_at = None
        return self._space

    def deadline(self) -> float:
        if self._space_at is None:
            self._space_at = self._space.deadline()
        at = min(self.mesh.deadline(), self._space_at, self._farewells.deadline())
        return min(at, *self._talks.values()) if self._talks else at

    def tick(self, now: float) -> None:
        self.mesh.tick(now)
        if self._space_at is None or self._space_at <= now:
            self.space.tick(now)
        self._farewells.tick(now)
        for peer in [peer for peer, until in self._talks.items() if until <= now]:
            del self._talks[peer]
            self._waiting.pop(peer, None)
            self.mesh.exchange(peer, False, "addresses")

    @property
    def busy(self) -> bool:
        """Whether `take` has something."""
        return bool(self._ready) or self.mesh.busy or self._farewells.busy

    def take(self, now: float) -> Output:
        """What is to be done since the last call."""
        total = self._farewells.take()
        total.messages += self._ready
        self._ready = []
        while True:
            out = self.mesh.take()
            _extend(total, out)
            self._feed(out, now)
            for event in total.events:
                if isinstance(event, WeAreRemoved) and self._space.removed_by is None:
                    self.space.removed(event.by, now)
            if not self._follow(total, now) and not out.changes:
                if self._space.removed_by is not None:
                    total.dial.clear()  # no session with this peer is wanted any more
                return total

    # What the layer below reports

    def established(self, keys: PublicKeys, where: Where, now: float) -> None:
        if self.mesh.records.refused(keys.peer):
            self._farewells.begin(keys.peer, now)
            return
        self.mesh.established(keys, where, now)
        self._ready += [(keys.peer, data) for data in self._waiting.pop(keys.peer, [])]

    def moved(self, peer: PeerId, where: Where, now: float) -> None:
        """What is sent to a peer goes to another place from now on."""
        self.mesh.moved(peer, where, now)

    def lost(self, peer: PeerId, now: float) -> None:
        self._farewells.end(peer)
        self.mesh.lost(peer, now)

    def failed(self, where: Where, now: float, *, itself: bool = False) -> None:
        self.mesh.failed(where, now, itself=itself)

    def received(self, peer: PeerId, data: bytes, now: float) -> None:
        if peer in self._farewells:
            self._farewells.received(peer, data, now)
            return
        if not data or data[0] & MARK:
            self.mesh.received(peer, data, now)
            return
        try:
            self.space.receive(peer, marked(data), now)
        except WireError:
            return

    # What one passes to the other

    def _feed(self, out: Output, now: float) -> None:
        """Pass to the space what others said, and who is there."""
        for change in out.changes:
            if change.kind == Kind.SPACE and change.origin != self.me:
                value = None if change.new is None else change.new.value
                try:
                    self.space.received(change.origin, change.key, value, now)
                except WireError:
                    continue
        if self._live != self.mesh.membership.changes:
            self._live = self.mesh.membership.changes
            self.space.view(frozenset(self.mesh.membership.live) - {self.me}, now)

    def _follow(self, total: Output, now: float) -> bool:
        """Do what the space asks; False: it asks for nothing that changes records."""
        outcome = self._space.take()
        total.persist += outcome.persist
        total.events += outcome.events
        for key, value in outcome.publish:
            try:
                self.mesh.records.put(Kind.SPACE, key, value)
            except WireError:  # too large for a record: who wants it asks for it
                continue
        for peer, message in outcome.messages:
            self._say(total, peer, marked(CODEC.encode(message)), now)
        for event in outcome.events:
            self._on_event(total, event)
        return bool(outcome.publish or outcome.events)

    def _say(self, total: Output, peer: PeerId, data: bytes, now: float) -> None:
        """In a session that there is, or as soon as there is one."""
        if peer in self._farewells:
            total.messages.append((peer, data))
            return
        if self.mesh.in_session(peer):
            total.messages.append((peer, data))
            if peer not in self._talks:
                return
        else:
            waiting = self._waiting.setdefault(peer, [])
            waiting.append(data)
            del waiting[:-WAITING]
            if peer not in self._talks:
                self.mesh.exchange(peer, True, "addresses")
        self._talks[peer] = now + TALK

    def _owner(self, network: bytes, address: bytes) -> PeerId | None:
        """Whose an address is, in a network that this host has, too: its own record says which
        subnets there are, as another's may say anything."""
        record = self.mesh.records.get(self.me, Kind.NETWORK, network)
        statement = None if record is None else read(record.value, Network)
        for written in () if statement is None else statement.subnets:
            try:
                subnet = parse(written)
            except ValueError:
                continue
            size, number = BITS[subnet.family] // 8, int.from_bytes(address, "big")
            if len(address) == size and subnet.first <= number <= subnet.last:
                return self._space.owner(number, Place(network, subnet))
        return None

    def _on_event(self, total: Output, event: Event) -> None:
        if isinstance(event, Recorded):
            self.mesh.forwarding.reconsider()
        if isinstance(event, Removed) and event.done:
            self.mesh.remove(event.peer)
        operation = event.decided.entry.operation if isinstance(event, Recorded) else None
        if isinstance(operation, Reclaim) and operation.reason != Reason.EXPIRED:
            if operation.peer == self.me:
                total.events.append(WeAreRemoved(operation.by))
            else:
                self.mesh.records.remove(operation.peer)

    def _believes(self, record: Record) -> bool:
        """Whether a peer is rightly said to be removed: the council has given away what it had."""
        council = self._space.council
        return council is not None and council.replica.ledger.inherited(PeerId(record.key))

    def name(self, peer: PeerId) -> str:
        """For people: its nickname, or the beginning of its id."""
        host = self.mesh.membership.hosts.get(peer)
        return (host.nickname if host else "") or short(peer)

    def _keys(self, peer: PeerId) -> PublicKeys | None:
        host = self.mesh.membership.hosts.get(peer)
        return None if host is None else host.keys


def _extend(total: Output, more: Output) -> None:
    total.persist += more.persist
    total.dial += more.dial
    total.messages += more.messages
    total.hang += more.hang
    total.relayed += more.relayed
    total.changes += more.changes
    total.events += more.events
