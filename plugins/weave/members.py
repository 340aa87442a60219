"""Endpoints of other hosts and added names, on networks of this host: what its resolver and its
access rules have to know.

Records of dead peers are left out, so are endpoints that frames do not go to.  A host receives no
more than MOST rows: beyond that each peer's first ones only, so that none displaces another's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from netkit.overlay.verbs import AddedName, Host, Member, Membership
from plugins.weave import prefixes
from plugins.weave.domain import DEFAULT
from plugins.weave.identity import PeerId
from plugins.weave.parts import Parts
from plugins.weave.record import Kind
from plugins.weave.statements import Name, read
from plugins.weave.step import Address

MOST: Final = 16_384
"""Endpoints and names that one host receives."""
PART: Final = 3_500
"""Of them in one answer: of the longest there are some 1,600 bytes, and of a host 350."""
Row = tuple[str, PeerId, bytes]
"""Its place in order; whose it is; its key."""


def membership(overlay: Parts, networks: Mapping[bytes, str], after: str = "") -> Membership:
    """`networks`: of this host, key among peers -> id here."""
    rows = _fair(sorted([*_endpoints(overlay, networks), *_names(overlay, networks)]), MOST)
    part = [row for row in rows if row[0] > after][: PART + 1]
    more = len(part) > PART
    members: list[Member] = []
    names: list[AddedName] = []
    for place, peer, key in part[:PART]:
        if place.startswith(ENDPOINT):
            members += _member(overlay, networks, peer, key)
        else:
            names += _name(overlay, networks, peer, key)
    hosts = dict.fromkeys(peer for _, peer, _ in part[:PART])
    return Membership(
        hosts=tuple(_host(overlay, peer) for peer in hosts), members=tuple(members),
        names=tuple(names), after=part[PART - 1][0] if more else "",
    )  # fmt: skip


ENDPOINT, NAME = "0", "1"


def _endpoints(overlay: Parts, networks: Mapping[bytes, str]) -> Iterator[Row]:
    forwarding = overlay.node.forwarding
    for peer, key in forwarding.shown():
        if peer != overlay.me and forwarding.endpoints[peer, key].network in networks:
            yield f"{ENDPOINT}{peer.hex()}{key.hex()}", peer, key


def _names(overlay: Parts, networks: Mapping[bytes, str]) -> Iterator[Row]:
    mesh = overlay.node.mesh
    default = _default(overlay, networks)
    for peer in mesh.membership.live:
        for record in mesh.records.of(peer, Kind.NAME):
            name = read(record.value, Name)
            if name is not None and (name.network or default) in networks:
                yield f"{NAME}{peer.hex()}{record.key.hex()}", peer, record.key


def _fair(rows: list[Row], most: int) -> Iterable[Row]:
    """All of them, or of each peer no more than its share."""
    if len(rows) <= most:
        return rows
    counts = Counter(peer for _, peer, _ in rows)
    left, share = most, 0
    for done, count in enumerate(sorted(counts.values())):
        share = left // (len(counts) - done)
        if count > share:
            break
        left -= count
    taken: Counter[PeerId] = Counter()
    kept = []
    for row in rows:
        taken[row[1]] += 1
        if taken[row[1]] <= share:
            kept.append(row)
    return kept


def _member(
    overlay: Parts, networks: Mapping[bytes, str], peer: PeerId, key: bytes
) -> Iterator[Member]:
    held = overlay.node.forwarding.held((peer, key))
    if held is not None:
        endpoint, addresses = held
        yield Member(
            id=key.hex(), network=networks[endpoint.network], host=peer.hex(),
            mac=endpoint.mac.hex(":"), addresses=_texts(addresses), names=endpoint.names,
            container=endpoint.container,
        )  # fmt: skip


def _name(
    overlay: Parts, networks: Mapping[bytes, str], peer: PeerId, key: bytes
) -> Iterator[AddedName]:
    record = overlay.node.mesh.records.get(peer, Kind.NAME, key)
    added = read(record.value, Name) if record else None
    if added is not None:
        network = networks[added.network or _default(overlay, networks)]
        yield AddedName(
            network=network, host=peer.hex(), name=added.name, addresses=_texts(added.addresses),
            container=added.container,
        )  # fmt: skip


def _default(overlay: Parts, networks: Mapping[bytes, str]) -> bytes:
    """The network of names that were added for none; b"" where this host does not have it."""
    here = overlay.networks.here
    return next((key for key in networks if key in here and here[key].name == DEFAULT), b"")


def _host(overlay: Parts, peer: PeerId) -> Host:
    host = overlay.node.mesh.membership.hosts.get(peer)
    where = overlay.node.sessions.where(peer)
    address = where.host if isinstance(where, Address) else ""
    if not address and host is not None and host.addresses:
        address = host.addresses[0][0]
    return Host(id=peer.hex(), name=overlay.peer_name(peer), address=address)


def _texts(addresses: Iterable[bytes]) -> tuple[str, ...]:
    single = map(prefixes.of, addresses)
    return tuple(prefixes.text(each.family, each.first) for each in single)
