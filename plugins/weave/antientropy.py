"""Making two neighbours' records equal, at the cost of what differs.

A peer that finds, by a ping's root, that a neighbour has other records sends `Compare`.  The
neighbour answers with the digests of groups that differ (`Groups`), the first one with what it has
in the buckets that differ (`Heads`), and now either knows what the other lacks and sends it
(`Push`), or asks for it (`Pull`).  A replica that is not whole after that is made so by a manifest.
Every step is without state but for manifests of several pages; whatever is lost is found again next
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from plugins.weave import limits
from plugins.weave.identity import PeerId
from plugins.weave.messages import (
    FANOUT,
    ITEM,
    PAGE,
    Compare,
    Groups,
    Head,
    Heads,
    Manifest,
    Message,
    Pick,
    Pull,
    Push,
    Wanted,
)
from plugins.weave.record import Record
from plugins.weave.records import Records
from plugins.weave.replica import Replica
from plugins.weave.tree import Tree, differing

BURST = 16
"""Messages that one request is answered with: the rest waits for the next comparison."""
HEADS = 24
"""In one message."""
BUCKETS = 64
"""That one `Groups` is answered for."""
UNION = 128
"""Records that are sent whole, where no peer has all."""
MANIFESTS = 4
"""Of several pages, that are being put together from one neighbour."""

Send = Callable[[PeerId, Message], None]


class AntiEntropy:
    """The part of a peer that answers comparisons; what it wants sent it gives to `tell`."""

    def __init__(self, records: Records, tree: Tree, send: Send) -> None:
        self._records, self._tree, self._send = records, tree, send
        self._pages: dict[PeerId, dict[tuple[PeerId, int, int], dict[int, bytes]]] = {}

    def begin(self, peer: PeerId) -> None:
        """Compare with a neighbour that has other records."""
        self._send(peer, Compare(self._tree.groups()))

    def end(self, peer: PeerId) -> None:
        """The session is over."""
        self._pages.pop(peer, None)

    def sizes(self) -> list[tuple[str, int, int]]:
        """(what, how many, at most)."""
        manifests = max(map(len, self._pages.values()), default=0)
        return [("manifests of a neighbour", manifests, MANIFESTS)]

    def push(self, peer: PeerId, records: Iterable[Record]) -> int:
        """Send records, as many in a message as fit; return the number of messages."""
        count = 0
        for blobs in batches(record.blob for record in records):
            self._send(peer, Push(blobs))
            count += 1
        return count

    def received(self, peer: PeerId, message: Message) -> None:
        """Any of the messages above; others are not for us."""
        match message:
            case Push():
                self._records.receive(message.records)
            case Compare():
                self._on_compare(peer, message)
            case Groups():
                self._on_groups(peer, message)
            case Heads():
                self._on_heads(peer, message)
            case Pull():
                self._on_pull(peer, message)
            case Manifest():
                self._on_manifest(peer, message)
            case Pick():
                self._on_pick(peer, message)

    def _on_compare(self, peer: PeerId, message: Compare) -> None:
        groups = differing(self._tree.groups(), message.groups)
        for at in range(0, len(groups), 4):
            some = groups[at : at + 4]
            self._send(peer, Groups(tuple((group, self._tree.buckets(group)) for group in some)))

    def _on_groups(self, peer: PeerId, message: Groups) -> None:
        buckets = [
            group * FANOUT + index
            for group, theirs in message.groups
            for index in differing(self._tree.buckets(group), theirs)
        ]
        some: list[int] = []
        heads: list[Head] = []
        for bucket in buckets[:BUCKETS]:
            there = self._heads(bucket)
            if some and len(heads) + len(there) > HEADS:
                self._send(peer, Heads(bytes(some), tuple(heads)))
                some, heads = [], []
            some.append(bucket)
            heads += there[: 2 * HEADS]
        if some:
            self._send(peer, Heads(bytes(some), tuple(heads)))

    def _heads(self, bucket: int) -> list[Head]:
        heads = []
        for origin in self._tree.origins(bucket):
            replica = self._records.replica(origin)
            if replica is not None:
                heads.append(Head(origin, replica.version, replica.digest))
        return heads

    def _on_heads(self, peer: PeerId, message: Heads) -> None:
        theirs = {head.origin: head for head in message.heads}
        mine = [origin for bucket in message.buckets for origin in self._tree.origins(bucket)]
        pulls: list[Wanted] = []
        sent = 0
        for origin in dict.fromkeys([*mine, *theirs]):
            if sent < BURST:
                sent += self._level(peer, origin, theirs.get(origin), pulls)
        for at in range(0, len(pulls), 40):
            self._send(peer, Pull(tuple(pulls[at : at + 40])))

    def _level(self, peer: PeerId, origin: PeerId, theirs: Head | None, pulls: list[Wanted]) -> int:
        """Send what the neighbour lacks of one origin, and note what to ask it for."""
        replica = self._records.replica(origin)
        if replica is None or replica.head is None:
            if theirs is not None and self._records.welcome(origin, theirs.version):
                pulls.append(Wanted(origin, 0, False))
            return 0
        if theirs is None or replica.version > theirs.version:
            return self._send_newer(peer, replica, 0 if theirs is None else theirs.version)
        if replica.version < theirs.version:
            since = replica.version if replica.complete else replica.floor
            pulls.append(Wanted(origin, since, False))
        elif replica.digest != theirs.digest:
            if not replica.complete:
                pulls.append(Wanted(origin, replica.floor, True))
            else:
                return self._send_manifest(peer, origin, replica)
        return 0

    def _send_newer(self, peer: PeerId, replica: Replica, since: int) -> int:
        records = replica.newer(since)
        if replica.head is not None and replica.head not in records:
            records.append(replica.head)
        hosts = [record for record in records if not record.key and record.kind == 1]
        return self.push(peer, [*hosts, *(r for r in records if r not in hosts)])

    def _on_pull(self, peer: PeerId, message: Pull) -> None:
        sent = 0
        for wanted in message.wanted:
            replica = self._records.replica(wanted.origin)
            if replica is None or sent >= BURST:
                continue
            if wanted.manifest and (replica.complete or len(replica.live) > UNION):
                sent += self._send_manifest(peer, wanted.origin, replica)
            else:
                sent += self._send_newer(peer, replica, wanted.since)

    def _send_manifest(self, peer: PeerId, origin: PeerId, replica: Replica) -> int:
        if replica.head is None:
            return 0
        items = replica.items()
        pages = max(1, -(-len(items) // PAGE))
        self.push(peer, [replica.head])
        for page in range(pages):
            some = b"".join(items[page * PAGE : (page + 1) * PAGE])
            self._send(peer, Manifest(origin, replica.version, page, pages, some))
        return pages + 1

    def _on_manifest(self, peer: PeerId, message: Manifest) -> None:
        replica = self._records.replica(message.origin)
        if replica is None or replica.complete or replica.version != message.version:
            return
        items = self._assemble(peer, message)
        if items is None:
            return
        if self._records.adopt(message.origin, message.version, items):
            missing = sorted(replica.wanted)
        else:  # the neighbour is not whole either
            have = set(replica.items())
            floor = replica.floor.to_bytes(8, "big")
            missing = sorted(item for item in set(items) - have if item[:8] > floor)
        for at in range(0, min(len(missing), PAGE * BURST), PAGE):
            self._send(peer, Pick(message.origin, b"".join(missing[at : at + PAGE])))

    def _assemble(self, peer: PeerId, message: Manifest) -> list[bytes] | None:
        """All items, with the last page that was missing."""
        if message.pages == 1:
            return _split(message.items)
        begun = self._pages.setdefault(peer, {})
        of = (message.origin, message.version, message.pages)
        pages = begun.setdefault(of, {})
        pages[message.page] = message.items
        if len(begun) > MANIFESTS:
            del begun[next(iter(begun))]
        if len(pages) < message.pages:
            return None
        begun.pop(of, None)
        return [item for page in sorted(pages) for item in _split(pages[page])]

    def _on_pick(self, peer: PeerId, message: Pick) -> None:
        replica = self._records.replica(message.origin)
        if replica is not None:
            picked = frozenset(_split(message.items))
            self.push(peer, [r for r in replica.live.values() if r.item in picked])


def _split(items: bytes) -> list[bytes]:
    return [items[at : at + ITEM] for at in range(0, len(items) - ITEM + 1, ITEM)]


def batches(blobs: Iterable[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Of at most 16, each fit for one message."""
    batch: list[bytes] = []
    size = 0
    for blob in blobs:
        if batch and (size + len(blob) + 3 > limits.MESSAGE - 8 or len(batch) == 16):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(blob)
        size += len(blob) + 3
    if batch:
        yield tuple(batch)
