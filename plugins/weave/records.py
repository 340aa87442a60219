"""All records of all peers, as one of them keeps them.

Sans-IO: what a call causes (changes for those who look at records, rows for the database, records
to send to others) is collected and handed out by `Records.take`.  Rows have to be written before
anything is sent.

    records = Records(identity, crypto, random)
    records.load(rows)                         # at the start: what `take().writes` had written
    records.put(Kind.ENDPOINT, b"web", value)  # our own: signed, version given
    for record in records.iterate(Kind.ENDPOINT): ...
    taken = records.take()                     # after each step: taken.changes, .writes, .fresh
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from plugins.weave import limits
from plugins.weave import record as recording
from plugins.weave.absent import Absent
from plugins.weave.crypto import SIGNATURE, Crypto, Random
from plugins.weave.identity import Identity, PeerId
from plugins.weave.keyring import Keyring
from plugins.weave.record import CONTEXT, Body, Kind, Record, first_version, item_of
from plugins.weave.replica import Outcome, Replica
from plugins.weave.rows import HEAD_TABLE, RECORD_TABLE, readable, row
from plugins.weave.step import Change
from plugins.weave.taken import Faulty, InUse, RecordChange, Recovered, Taken
from plugins.weave.wire import WireError


class Records:
    """Ours and those of all others."""

    def __init__(self, identity: Identity, crypto: Crypto, random: Random) -> None:
        self.me = identity.peer
        self._identity, self._crypto = identity, crypto
        self._run = int.from_bytes(random(2), "big")
        self._epoch = 1
        self._recovered = False
        self._keyring = Keyring(crypto)
        self._keyring.add(self.me, identity.public.signing)
        self._replicas: dict[PeerId, Replica] = {self.me: Replica()}
        self._absent = Absent()
        self._count = 0
        self._taken = Taken()

    # Reading

    @property
    def origins(self) -> Iterable[PeerId]:
        """All that are known, ourselves first."""
        return self._replicas.keys()

    def replica(self, origin: PeerId) -> Replica | None:
        return self._replicas.get(origin)

    def get(self, origin: PeerId, kind: int, key: bytes = b"") -> Record | None:
        """The live record there."""
        replica = self._replicas.get(origin)
        return None if replica is None else replica.live.get((kind, key))

    def of(self, origin: PeerId, kind: int | None = None) -> Iterator[Record]:
        """Live records of one origin, in the order of places."""
        replica = self._replicas.get(origin)
        if replica is not None:
            for place in sorted(replica.live):
                if kind is None or place[0] == kind:
                    yield replica.live[place]

    def iterate(self, kind: int) -> Iterator[Record]:
        """Live records of one kind, of all origins by id.  It looks at everything: who needs that
        often keeps a view of his own, by `Taken.changes`."""
        for origin in sorted(self._replicas):
            yield from self.of(origin, kind)

    def refused(self, origin: PeerId) -> bool:
        """Whether the peer was removed."""
        return self._absent.removed(origin)

    def removed(self) -> frozenset[PeerId]:
        """All peers that were removed."""
        return self._absent.all_removed()

    def welcome(self, origin: PeerId, version: int) -> bool:
        """Whether records of this version may bring in a peer that we have none of."""
        return self._absent.welcome(origin, version)

    def __len__(self) -> int:
        """Live records."""
        return self._count

    # Our own

    def put(self, kind: int, key: bytes, value: bytes) -> Record:
        """Say something; what is said already is not said again.

        Raises:
            WireError: it is larger than a record may be, or we have said too much.
        """
        there = self.get(self.me, kind, key)
        if there is not None and there.value == value:
            return there
        if there is None and len(self._replicas[self.me].live) >= limits.RECORDS:
            raise WireError(f"a peer has {limits.RECORDS} records at most")
        return self._say(kind, key, value)

    def delete(self, kind: int, key: bytes = b"") -> Record | None:
        """Take it back; None: there was nothing."""
        return None if self.get(self.me, kind, key) is None else self._say(kind, key, None)

    def renew(self) -> None:
        """Say all of it again, as newer records: others have forgotten it."""
        for record in list(self.of(self.me)):
            self._say(record.kind, record.key, record.value)

    def _say(self, kind: int, key: bytes, value: bytes | None) -> Record:
        replica = self._replicas[self.me]
        version = max(replica.version + 1, first_version(self._epoch, self._run))
        place = (int(kind), key)
        item = None if value is None else item_of(version, kind, key, value)
        digest = replica.digest_with(place, item)
        body = Body(self.me, version, int(kind), key, value, digest)
        encoded = recording.encode(body)
        if len(encoded) + SIGNATURE > limits.RECORD or len(key) > limits.KEY:
            size = len(encoded) + SIGNATURE
            raise WireError(f"a record of {size} bytes: {limits.RECORD} at most")
        signature = self._crypto.sign(self._identity.signing, CONTEXT + encoded)
        record = recording.assemble(body, encoded + signature)
        old = replica.live.get(place)
        replica.own(record)
        self._note(record, old)
        return record

    # Others'

    def merge(self, records: Iterable[Record]) -> None:
        """Take what another peer passed on; what is not new, or not rightly signed, is nothing."""
        touched: dict[PeerId, Replica] = {}
        for record in records:
            replica = self._merge(record)
            if replica is not None:
                touched[record.origin] = replica
        for origin, replica in touched.items():
            self._settle(origin, replica)

    def receive(self, blobs: Iterable[bytes]) -> None:
        """As `merge`, of records as they come; what is none is nothing."""
        new = []
        for blob in blobs:
            try:
                body = recording.parse(blob)
            except WireError:
                continue
            replica = self._replicas.get(body.origin)
            if replica is None or not replica.knows(body, blob):
                new.append(recording.assemble(body, blob))
        self.merge(new)

    def _settle(self, origin: PeerId, replica: Replica) -> None:
        for record in replica.settle():
            self._forget_place(origin, record)
        self._taken.touched[origin] = None

    def _merge(self, record: Record) -> Replica | None:
        """The record's replica, if it has changed."""
        origin = record.origin
        replica = self._replicas.get(origin)
        if replica is None:
            if len(self._replicas) >= limits.ORIGINS or not self._absent.welcome(
                origin, record.version
            ):
                return None
            replica = Replica()
        held = replica.holding(record.version, record.place)
        known = held.body == record.body if held else not replica.counts(record)
        if known or not self._keyring.signed(record):
            return None
        self._replicas[origin] = replica
        outlived = origin == self.me and record.version > replica.version
        old = replica.live.get(record.place)
        outcome = replica.merge(record, self._room(replica))
        if outcome is Outcome.FULL:
            self._taken.events.append(Faulty(origin, f"it has over {len(replica.live)} records"))
            return None
        if outcome is Outcome.FORKED:
            self._forked(record, held, replica)
        elif outlived:
            self._outlived(record)
        if outcome is Outcome.NEW or record in (replica.head, replica.live.get(record.place)):
            self._note(record, old)
        return replica

    def _room(self, replica: Replica) -> int:
        """How many records it may have: when there are too many in all, its share of them."""
        if self._count < limits.TOTAL:
            return limits.RECORDS
        return min(limits.RECORDS, limits.TOTAL // len(self._replicas))

    def _forked(self, record: Record, held: Record | None, replica: Replica) -> None:
        """Two records of one version are here: of another peer, or of our own."""
        if record.origin == self.me:
            self._taken.events.append(InUse())
            self._epoch = max(self._epoch, record.epoch + 1)
        else:
            why = f"it signed two records of version {record.version}"
            self._taken.events.append(Faulty(record.origin, why))
        if held and held.value is not None and held.place not in replica.live:
            self._forget_place(record.origin, held)

    def _outlived(self, record: Record) -> None:
        """A record of ours that we do not remember."""
        if self._recovered and record.epoch >= self._epoch:
            self._taken.events.append(InUse())
        self._epoch = max(self._epoch, record.epoch + 1)
        if not self._recovered:
            self._recovered = True
            self._taken.events.append(Recovered(self._epoch))

    def adopt(self, origin: PeerId, version: int, items: Iterable[bytes]) -> bool:
        """Take a manifest; False: it is not that of the head that is here."""
        replica = self._replicas.get(origin)
        if replica is None or not replica.adopt(version, items):
            return False
        self._settle(origin, replica)
        return True

    # Peers that are gone

    def remove(self, origin: PeerId) -> None:
        """Drop all records of a peer that never comes back, and refuse those that come."""
        if not self.refused(origin):
            self._taken.writes += self._absent.remove(origin)
            self._drop(origin)

    def forget(self, origin: PeerId, version: int) -> None:
        """Drop all records of a peer; those up to `version` are refused from now on."""
        if origin != self.me and not self.refused(origin):
            self._taken.writes += self._absent.forget(origin, version)
            self._drop(origin)

    def _drop(self, origin: PeerId) -> None:
        replica = self._replicas.get(origin)
        if replica is None or origin == self.me:
            return
        for record in replica.live.values():
            self._forget_place(origin, record)
        self._taken.writes.append(Change(HEAD_TABLE, origin, None))
        self._taken.touched[origin] = None
        del self._replicas[origin]
        self._keyring.drop(origin)

    # Results

    @property
    def changed(self) -> bool:
        """Whether `take` has anything."""
        taken = self._taken
        return bool(taken.touched or taken.events or taken.writes)

    def take(self) -> Taken:
        """What happened since the last call."""
        taken, self._taken = self._taken, Taken()
        return taken

    def _note(self, record: Record, old: Record | None) -> None:
        """Of a record that was placed."""
        taken, origin, (kind, key) = self._taken, record.origin, record.place
        taken.touched[origin] = None
        taken.fresh.append(record)
        live = None if record.value is None else record
        if live is not old:
            taken.changes.append(RecordChange(origin, kind, key, old, live))
            self._count += (live is not None) - (old is not None)
        if live is None:
            taken.writes.append(Change(HEAD_TABLE, origin, record.blob))
        taken.writes.append(Change(RECORD_TABLE, row(record), live.blob if live else None))

    def _forget_place(self, origin: PeerId, record: Record) -> None:
        kind, key = record.place
        self._taken.changes.append(RecordChange(origin, kind, key, record, None))
        self._count -= 1
        self._taken.writes.append(Change(RECORD_TABLE, row(record), None))

    def load(self, blobs: Iterable[bytes], below: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Take up what the database has, at the start; what cannot be read is passed over.

        `blobs`: values of both tables of records, in any order; `below`: rows of BELOW_TABLE.
        """
        for origin, packed in below:
            self._absent.load(PeerId(origin), packed)
        for record in readable(blobs):
            replica = self._replicas.setdefault(record.origin, Replica())
            if replica.merge(record) is Outcome.NEW and record.kind == Kind.HOST:
                self._keyring.take(record)
        for origin, replica in self._replicas.items():
            replica.settle()
            self._taken.touched[origin] = None
            for (kind, key), record in replica.live.items():
                self._taken.changes.append(RecordChange(origin, kind, key, None, record))
            self._count += len(replica.live)
        self._epoch = self._replicas[self.me].epoch + 1
