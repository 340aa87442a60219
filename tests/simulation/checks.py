"""What must hold at any time, and what must hold once all is well again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from plugins.weave import limits
from plugins.weave.entries import Reclaim
from plugins.weave.holdings import Lost
from plugins.weave.identity import PeerId, short
from plugins.weave.mesh import Mesh
from plugins.weave.outbox import Recorded
from plugins.weave.output import Output
from plugins.weave.record import Kind, Place
from plugins.weave.requests import Allocated
from plugins.weave.statements import Endpoint, decode
from plugins.weave.taken import RecordChange
from tests.simulation.host import Host

NETWORK = b"net"


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Life:
    """What one run of a host's process has seen."""

    mesh: Mesh
    seen: dict[tuple[PeerId, Place], int] = field(default_factory=dict)
    """What a record of each place has to be at least, for what was here before."""


@dataclass(slots=True)
class Checker:
    """Looks at every step of every host."""

    lives: dict[int, Life] = field(default_factory=dict)
    removed: dict[int, set[PeerId]] = field(default_factory=dict)
    """By host: peers it knew to be removed, over all lives of one disk."""
    using: dict[tuple[bytes, int], tuple[PeerId, bytes]] = field(default_factory=dict)
    """By ledger and address: by whom and for what it is in use."""
    reclaimed: set[PeerId] = field(default_factory=set)
    """Peers that what they owned was taken from."""
    strict: bool = True
    """Whether no two may use an address: not if somebody's disk forgets what it has promised."""
    older: set[PeerId] = field(default_factory=set)
    """Peers that went on with an older disk: what they say of themselves may be older, too."""

    def step(self, host: Host, output: Output) -> None:
        mesh = host.mesh
        assert mesh is not None
        life = self.lives.get(host.number)
        if life is None or life.mesh is not mesh:
            life = self.lives[host.number] = Life(mesh)
        for _, data in output.messages:
            if len(data) > limits.MESSAGE + 80:
                raise Violation(f"host {host.number} sends a message of {len(data)} bytes")
        self._addresses(host, output)
        removed = self.removed.setdefault(host.number, set())
        for change in output.changes:
            origin = change.origin
            if change.new is not None and origin in removed:
                raise Violation(
                    f"host {host.number}: {short(origin)} was removed, and is back"
                )
            if change.kind == Kind.REMOVED and mesh.records.refused(PeerId(change.key)):
                removed.add(PeerId(change.key))
            self._ages(host, life, change)

    def _addresses(self, host: Host, output: Output) -> None:
        for event in output.events:
            if isinstance(event, Recorded) and isinstance(event.decided.entry.operation, Reclaim):
                self.reclaimed.add(event.decided.entry.operation.peer)
            elif isinstance(event, Allocated) and host.me not in self.reclaimed:
                assert host.core is not None
                assert host.core.space.council is not None
                at = (host.core.space.council.replica.ledger.id, event.address)
                mine = (host.me, event.ident)
                peer, ident = self.using.setdefault(at, mine)
                if peer in self.reclaimed:
                    self.using[at] = mine
                elif (peer, ident) != mine and self.strict:
                    raise Violation(f"{event.address:x} is in use at two places")
            elif isinstance(event, Lost):
                self.release(host.me, event.ident)

    def release(self, peer: PeerId, ident: bytes) -> None:
        for at in [at for at, by in self.using.items() if by == (peer, ident)]:
            del self.using[at]

    def owners(self, hosts: Iterable[Host]) -> None:
        """Nothing is owned by two that may both use it."""
        runs: dict[bytes, list[tuple[int, int, int]]] = {}
        for host in hosts:
            space = None if host.core is None else host.core.space
            if space is None or space.council is None or space.fenced(host.now):
                continue
            ledger = space.council.replica.ledger
            pool = space.holdings.pools.get(ledger.main.id)
            if pool is not None and host.me not in self.reclaimed:
                mine = runs.setdefault(ledger.id, [])
                mine += [(first, last, host.number) for first, last in pool.spare_runs]
        for several in runs.values():
            for (_, last, one), (first, _, other) in pairwise(sorted(several)):
                if last >= first and self.strict:
                    raise Violation(f"hosts {one} and {other} own the same addresses")

    def _ages(self, host: Host, life: Life, change: RecordChange) -> None:
        """What was replaced or deleted does not come back."""
        at = (change.origin, (change.kind, change.key))
        before = life.seen.get(at, 0)
        known = change.origin not in self.older
        if change.new is not None and change.new.version < before and known:
            origin = short(change.origin)
            raise Violation(f"host {host.number}: {at[1]} of {origin} is back as it was before")
        if change.new is not None:
            life.seen[at] = change.new.version
        elif change.old is not None:
            life.seen[at] = change.old.version + 1


def bounded(host: Host) -> None:
    """What a host keeps is in proportion to what there is."""
    mesh = host.mesh
    if mesh is None:
        return
    known = list(mesh.records.origins)
    for origin in known:
        replica = mesh.records.replica(origin)
        assert replica is not None
        if len(replica.gone) > limits.DELETIONS or len(replica.live) > limits.RECORDS:
            raise Violation(f"host {host.number} keeps too much of {short(origin)}")
    live = sum(len(r.live) for r in map(mesh.records.replica, known) if r is not None)
    if live != len(mesh.records):
        raise Violation(f"host {host.number} counts {len(mesh.records)} of {live} records")
    if len(known) > limits.ORIGINS:
        raise Violation(f"host {host.number} knows {len(known)} peers")
    for name, size, most in mesh.sizes():
        if size > most:
            raise Violation(f"host {host.number}: {name} has {size}, more than {most}")


@dataclass(slots=True)
class Truth:
    """What should be known everywhere in the end: endpoints of hosts that run."""

    endpoints: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    """By host: what its netkitd has, as values of records."""

    def put(self, host: int, key: bytes, value: bytes) -> None:
        self.endpoints.setdefault(host, {})[key] = value

    def delete(self, host: int, key: bytes) -> None:
        self.endpoints.get(host, {}).pop(key, None)


def converged(hosts: Iterable[Host], truth: Truth) -> str:
    """Why the hosts that run do not agree yet with each other and with the truth; "" if they do."""
    up = [host for host in hosts if host.mesh is not None]
    if not up:
        return ""
    peers = sorted(host.me for host in up)
    meshes = [host.mesh for host in up if host.mesh is not None]
    if len({mesh.tree.root for mesh in meshes}) > 1:
        return "their records differ"
    for host, mesh in zip(up, meshes, strict=True):
        if mesh.membership.live != peers:
            return f"host {host.number} takes {len(mesh.membership.live)} peers for alive"
    return _views(up, meshes, truth)


def _views(up: list[Host], meshes: list[Mesh], truth: Truth) -> str:
    expected = _expected(up, truth)
    for host, mesh in zip(up, meshes, strict=True):
        shown = {
            (peer, key): endpoint
            for (peer, key), endpoint in mesh.forwarding.endpoints.items()
            if mesh.membership.status(peer) is not None
            and peer in {other.me for other in up}
        }
        if shown != expected:
            return f"host {host.number} has other endpoints than there are"
        for mac, (peer, address) in _owners(expected).items():
            if mesh.forwarding.peer_of(NETWORK, mac) != peer:
                return f"host {host.number} sends frames to the wrong peer"
            if address is not None and mesh.forwarding.mac_of(NETWORK, address) != mac:
                return f"host {host.number} answers ARP wrongly"
    return _named(up, meshes, expected)


def _expected(up: list[Host], truth: Truth) -> dict[tuple[PeerId, bytes], Endpoint]:
    return {
        (host.me, key): decode(value, Endpoint)
        for host in up
        for key, value in truth.endpoints.get(host.number, {}).items()
    }


def _owners(
    expected: dict[tuple[PeerId, bytes], Endpoint],
) -> dict[bytes, tuple[PeerId, bytes | None]]:
    """By MAC: whose it is, and the address that only this one has, the lowest claimant."""
    by_address: dict[bytes, tuple[PeerId, bytes]] = {}
    by_mac: dict[bytes, tuple[PeerId, bytes]] = {}
    for key in sorted(expected):
        by_mac.setdefault(expected[key].mac, key)
        for address in expected[key].addresses:
            by_address.setdefault(address, key)
    return {
        mac: (key[0], next((a for a in expected[key].addresses if by_address[a] == key), None))
        for mac, key in by_mac.items()
    }


def _named(
    up: list[Host], meshes: list[Mesh], expected: dict[tuple[PeerId, bytes], Endpoint]
) -> str:
    names = sum(len(e.names) * len(e.addresses) for e in expected.values())
    for host, mesh in zip(up, meshes, strict=True):
        if len(mesh.names.entries()) != names:
            return f"host {host.number} has {len(mesh.names.entries())} names of {names}"
    return ""
