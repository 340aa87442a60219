"""Who owns which addresses: a list of decisions that everyone keeps, and what it amounts to.

An *entry* is a decision of the council (`plugins.weave.council`): the signatures of a majority of
its members, as they were after the entry before, make it valid, so that there is one entry at most
for each number, and all who know the same entries know the same owners.  The number of the entry
that gave a prefix to its owner is that ownership's *epoch*: of those that contain an address the
longest prefix counts, and a newer one takes the place of all it contains.

A *realm* is what addresses are unique in: the range of the overlay, or the subnet of a network that
lies outside of it.  All of it is the founder's at first, which needs no decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from plugins.weave import prefixes
from plugins.weave.crypto import digest
from plugins.weave.entries import (
    HASH,
    Council,
    Entry,
    Genesis,
    HashField,
    Member,
    Number,
    Operation,
    PrefixField,
    Realm,
    Reason,
    Reclaim,
    Register,
    Transfer,
    Value,
)
from plugins.weave.identity import PeerId, PeerIdField, short
from plugins.weave.prefixes import Place, Prefix, PrefixMap
from plugins.weave.wire import WireError

CHECKPOINT: Final = 64  # every so many entries one has a hash of the state before it
REALMS: Final = 4096  # known to a ledger at most
_encode = msgspec.msgpack.Encoder().encode


class Owned(Value, frozen=True):
    owner: PeerIdField
    epoch: Number


class _Inherited(Value, frozen=True):
    """Of a peer that lost what it owned: a realm it made up to `after` is its heir's."""

    after: Number
    heir: PeerIdField
    number: Number


_Row = tuple[PrefixField, Owned]


class Document(Value, frozen=True):
    """The whole state, sorted, so that equal states are equal bytes."""

    genesis: Genesis
    number: Number
    head: HashField
    generation: Number
    members: tuple[Member, ...]
    realms: tuple[tuple[Realm, tuple[_Row, ...]], ...]
    inherited: tuple[tuple[PeerIdField, tuple[_Inherited, ...]], ...]


_DOCUMENT: Final = msgspec.msgpack.Decoder(Document)


class Ledger:
    """What the entries amount to.  `apply` takes entries that are known to be valid, in order."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.id = genesis.id
        self.number = 0  # the last entry's
        self.head = b""  # the last entry's hash
        self.generation = 0
        self.members: tuple[Member, ...] = (genesis.founder,)
        self._realms: dict[bytes, tuple[Realm, PrefixMap[Owned]]] = {}
        self._inherited: dict[PeerId, tuple[_Inherited, ...]] = {}
        self._map(genesis.realm)

    @property
    def council(self) -> tuple[PeerId, ...]:
        return tuple(member.peer for member in self.members)

    @property
    def main(self) -> Realm:
        return self.genesis.realm

    def realm(self, place: Place | None) -> Realm:
        """The range, or what a network has outside of it."""
        if place is None or self.main.range.contains(place.prefix):
            return self.main
        network = digest(16, b"netkit weave network 1\0", place.network)
        return Realm(network, place.prefix.encode(), self.genesis.founder.peer)

    def owner(self, realm: Realm, address: int) -> Owned:
        """Of an address of the realm."""
        known = self._realms.get(realm.id)
        if known is None:
            return self._creator(realm)
        found = known[1].covering(prefixes.single(realm.range.family, address))
        assert found is not None  # the realm's own prefix is in the map
        return found[1]

    def pieces(self, realm: Realm) -> Iterator[tuple[int, int, PeerId]]:
        """(first, last, owner) in order: all of the realm."""
        known = self._realms.get(realm.id)
        if known is None:
            yield realm.range.first, realm.range.last, self._creator(realm).owner
        else:
            for first, last, owned in known[1].pieces():
                yield first, last, owned.owner

    def inherited(self, peer: PeerId) -> bool:
        """Whether what it owned was given to another, ever."""
        return peer in self._inherited

    def owners(self) -> list[PeerId]:
        """Of anything in realms that have entries."""
        found = {owned.owner for _, spaces in self._realms.values() for _, owned in spaces.items()}
        return sorted(found)

    def realms(self) -> list[Realm]:
        return [realm for realm, _ in self._realms.values()]

    def objection(self, operation: Operation) -> str:
        """Why it has no place after the entries there are; "": it has.  Signatures aside."""
        if isinstance(operation, Transfer):
            return self._transfer_objection(operation)
        if isinstance(operation, Reclaim):
            return self._reclaim_objection(operation)
        if isinstance(operation, Register):
            return "it is known" if operation.realm.id in self._realms else self._full(operation)
        peers = [member.peer for member in operation.members]
        if len(set(peers)) < len(peers) or operation.members == self.members:
            return "that is no new council"
        return ""

    def _full(self, operation: Transfer | Register) -> str:
        known = operation.realm.id in self._realms or len(self._realms) < REALMS
        return "" if known else f"there are {REALMS} realms"

    def _reclaim_objection(self, operation: Reclaim) -> str:
        if operation.heir == operation.peer:
            return "a peer cannot inherit from itself"
        if operation.peer in self.council:
            return "it is in the council"
        again = any(
            each.after >= operation.after for each in self._inherited.get(operation.peer, ())
        )
        if not self.takes(operation) and (again or operation.reason == Reason.EXPIRED):
            return f"peer {short(operation.peer)} owns nothing"
        return ""

    def _transfer_objection(self, operation: Transfer) -> str:
        try:
            prefix, whole = prefixes.decode(operation.prefix), operation.realm.range
        except WireError as error:
            return str(error)
        if not whole.contains(prefix):
            return f"{prefix} is not in {whole}"
        if operation.taker == operation.giver:
            return "it is the taker's"
        known = self._realms.get(operation.realm.id)
        if known is None:
            owned = self._creator(operation.realm)
        else:
            found = known[1].covering(prefix)
            assert found is not None
            owned = found[1]
            inner = {known[1].covering(each) for each in known[1].inside(prefix)}
            if any(each and each[1].owner != operation.giver for each in inner):
                return f"part of {prefix} is another's"
        if owned.owner != operation.giver:
            return f"{prefix} is owned by {short(owned.owner)}, not by {short(operation.giver)}"
        if owned.epoch != operation.epoch:
            return f"{prefix} is of epoch {owned.epoch} now"
        return self._full(operation)

    def takes(self, operation: Reclaim) -> bool:
        """Whether there is something that a reclaim takes."""
        return any(
            owned.owner == operation.peer and owned.epoch <= operation.after
            for _, spaces in self._realms.values() for _, owned in spaces.items()
        )  # fmt: skip

    def follows(self, entry: Entry) -> bool:
        """Whether an entry is one that could come next."""
        return (
            entry.ledger == self.id
            and entry.number == self.number + 1
            and entry.generation == self.generation
            and entry.previous == self.head
            and entry.checkpoint == self.checkpoint()
        )

    def apply(self, entry: Entry) -> bool:
        """Whether its operation took effect: one that has an objection has none."""
        self.number, self.head, self.generation = entry.number, entry.hash, entry.generation
        effective = not self.objection(entry.operation)
        if effective:
            self._perform(entry.operation)
        return effective

    def _perform(self, operation: Operation) -> None:
        if isinstance(operation, Council):
            self.members = operation.members
        elif isinstance(operation, Register):
            self._map(operation.realm)
        elif isinstance(operation, Transfer):
            spaces = self._map(operation.realm)
            _assign(spaces, prefixes.decode(operation.prefix), Owned(operation.taker, self.number))
        else:
            heir = Owned(operation.heir, self.number)
            for _, spaces in self._realms.values():
                for prefix, owned in list(spaces.items()):
                    if owned.owner == operation.peer and owned.epoch <= operation.after:
                        spaces.set(prefix, heir)
            inherited = _Inherited(operation.after, operation.heir, self.number)
            before = self._inherited.get(operation.peer, ())
            self._inherited[operation.peer] = (*before, inherited)

    def _map(self, realm: Realm) -> PrefixMap[Owned]:
        if realm.id not in self._realms:
            spaces: PrefixMap[Owned] = PrefixMap()
            spaces.set(realm.range, self._creator(realm))
            self._realms[realm.id] = realm, spaces
        return self._realms[realm.id][1]

    def _creator(self, realm: Realm) -> Owned:
        """Who owns a realm of which nothing was given away yet."""
        owned = Owned(realm.creator, realm.version)
        while True:
            heirs = self._inherited.get(owned.owner, ())
            heir = next((each for each in heirs if owned.epoch <= each.after), None)
            if heir is None:
                return owned
            owned = Owned(heir.heir, heir.number)

    def checkpoint(self) -> bytes:
        """What the next entry has to say of the state."""
        if (self.number + 1) % CHECKPOINT:
            return b""
        return digest(HASH, self.dump())

    def dump(self) -> bytes:
        realms = tuple(
            (realm, tuple((prefix.encode(), owned) for prefix, owned in spaces.items()))
            for _, (realm, spaces) in sorted(self._realms.items())
        )
        return _encode(Document(
            self.genesis, self.number, self.head, self.generation, self.members, realms,
            tuple(sorted(self._inherited.items(), key=lambda each: each[0])),
        ))  # fmt: skip


def load(data: bytes) -> Ledger:
    """What `dump` made; WireError otherwise."""
    try:
        document = _DOCUMENT.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"no state of a ledger: {error}") from None
    ledger = Ledger(document.genesis)
    ledger.number, ledger.head = document.number, document.head
    ledger.generation, ledger.members = document.generation, document.members
    ledger._inherited = dict(document.inherited)
    ledger._realms = {}
    for realm, rows in document.realms:
        spaces: PrefixMap[Owned] = PrefixMap()
        for prefix, owned in rows:
            spaces.set(prefixes.decode(prefix), owned)
        ledger._realms[realm.id] = realm, spaces
    return ledger


def _assign(spaces: PrefixMap[Owned], prefix: Prefix, owned: Owned) -> None:
    """What comes back to the owner of all around it is no piece of its own any more: the epoch of
    the whole is raised instead, so that nothing signed for an older one is of use."""
    for each in spaces.inside(prefix):
        spaces.remove(each)
    around = spaces.covering(prefix)
    if around and around[0] == prefix:
        spaces.remove(prefix)
        around = spaces.covering(prefix)
    if around and around[1].owner == owned.owner:
        spaces.set(around[0], owned)
    else:
        spaces.set(prefix, owned)
