"""What an overlay shows of itself: tables of its networks, and its status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Final

from plugins.weave import links, space_status
from plugins.weave.forwarding import Key
from plugins.weave.handshake import NEWEST, OLDEST
from plugins.weave.identity import PeerId
from plugins.weave.local import Network
from plugins.weave.membership import Status as Life
from plugins.weave.planes import Remote, Table, Way
from plugins.weave.prefixes import of
from plugins.weave.prefixes import text as address_text
from plugins.weave.reactions import OURSELVES
from plugins.weave.record import Kind
from plugins.weave.requests import UNFOUNDED
from plugins.weave.statements import Endpoint, Name, read
from plugins.weave.status import (
    ConnectionStatus,
    NameStatus,
    NetworkStatus,
    PeerStatus,
    Status,
    TargetStatus,
)
from plugins.weave.step import Address, Where

if TYPE_CHECKING:
    from plugins.weave.overlay import Overlay
    from plugins.weave.parts import Parts


# A peer is silent to who does not know its password: that cannot be distinguished from the others.
SILENT = "no answer: no peer there, another password, or a firewall"


def table(overlay: Parts, network: Network) -> Table:
    rows = overlay.node.forwarding.table(network.id)
    remotes = tuple(
        Remote(
            peer=peer, number=overlay.carriers.number(peer), mac=mac.hex(":"),
            addresses=tuple(_text(address) for address in addresses),
        )
        for peer, mac, addresses in rows
        if peer != overlay.me
    )  # fmt: skip
    return Table(
        network=network.id, vni=network.vni, encrypted=overlay.networks.encrypted(network),
        remotes=remotes, members=tuple(overlay.networks.members(network.id)),
        conflicts=_conflicts(overlay, network),
    )  # fmt: skip


def _conflicts(overlay: Parts, network: Network) -> tuple[str, ...]:
    return tuple(
        f"{_text(each.address)} is in use at {_user(overlay, each.winner)}: "
        f"{_user(overlay, each.loser)} has it, too, and gets nothing that is sent to it"
        for each in overlay.node.forwarding.conflicts()
        if each.network == network.id
    )


def _user(overlay: Parts, key: Key) -> str:
    """A host, and which container of it."""
    endpoint, host = overlay.node.forwarding.endpoints.get(key), overlay.peer_name(key[0])
    if endpoint is None or not (endpoint.names or endpoint.container):
        return host
    return f"{host} (container {next(iter(endpoint.names), endpoint.container[:12])})"


def _text(packed: bytes) -> str:
    """Of an IP or a MAC address."""
    if len(packed) == 6:
        return packed.hex(":")
    single = of(packed)
    return address_text(single.family, single.first)


def status(overlay: Overlay, now: float) -> Status:
    settings, node = overlay.settings, overlay.node
    dropped = node.sessions.dropped
    return Status(
        id=overlay.me.hex(), name=overlay.peer_name(overlay.me), software=settings.software,
        protocol=f"{OLDEST}..{NEWEST}", encryption=bool(settings.password),
        discovery=settings.discovery, trusted_subnets=settings.trusted_subnets,
        no_fastdp=overlay.carriers.paths.no_fastdp, targets=_targets(overlay),
        connections=_connections(overlay, now), peers=_peers(overlay), names=_names(overlay),
        networks=_networks(overlay), ipam=space_status.status(node.space, now),
        dropped=asdict(dropped),
        warnings=warnings(overlay, now),
    )  # fmt: skip


def warnings(overlay: Parts, now: float) -> tuple[str, ...]:
    faulty = [
        f"{overlay.peer_name(peer)} is not to be trusted: {why}"
        for peer, why in overlay.reactions.faulty.items()
    ]
    space = overlay.node.space
    removed = () if space.removed_by is None else (space.why_fenced(),)
    unfounded = (UNFOUNDED,) if space.unfounded(now) else ()
    happened = (*overlay.reactions.warnings.values(), *faulty)
    return (*removed, *unfounded, *happened, *_other_subnets(overlay))


SHOWN: Final = 20
"""Networks that others have with other subnets."""


def _other_subnets(overlay: Parts) -> Iterator[str]:
    found = (
        f"network {here.name} has {', '.join(theirs)} at {overlay.peer_name(peer)} and "
        f"{', '.join(here.subnets)} here: containers do not reach each other: make it with the same"
        " --subnet on both"
        for here in sorted(overlay.networks.here.values(), key=lambda each: each.name)
        for peer, theirs in overlay.networks.differing(here)
    )
    return islice(found, SHOWN)


def _targets(overlay: Overlay) -> tuple[TargetStatus, ...]:
    found = overlay.node.mesh.connector.targets
    return tuple(
        TargetStatus(str(where), name, peer.hex() if (peer := found.get(where)) else "")
        for where, name in sorted(overlay.targets().items())
    )


def _connections(overlay: Overlay, now: float) -> tuple[ConnectionStatus, ...]:
    refused = overlay.node.mesh.records.refused  # it has a session to learn that
    shown = [_established(overlay, each) for each in overlay.node.sessions.status(now)
             if not refused(each.keys.peer)]  # fmt: skip
    there = {each.peer for each in shown}
    password = bool(overlay.settings.password)
    failures = overlay.reactions.failures
    for trying in overlay.node.mesh.connector.trying(now):
        found = trying.peer or _at(overlay, trying.where)
        peer = found.hex() if found else ""
        if peer in there:
            continue  # by relay, from another address, or as target and as a peer that is known
        if peer:
            there.add(peer)
        waits = trying.rounds > 1
        why = failures.get(trying.where, SILENT if waits else "no answer yet")
        wait = f", next attempt in {trying.wait:.0f} s" if waits else ""
        shown.append(
            ConnectionStatus(
                "->", _where(overlay, found, trying.where),
                "retrying" if waits else "connecting", password, Way.NONE.value, why + wait, peer,
                overlay.peer_name(found) if found else "", 0, 0,
            )
        )
    ourselves = [where for where in overlay.targets() if failures.get(where) == OURSELVES]
    shown += [
        ConnectionStatus("->", str(w), "failed", password, Way.NONE.value, OURSELVES, "", "", 0, 0)
        for w in ourselves
    ]
    return tuple(shown)


def _at(overlay: Overlay, where: Where) -> PeerId | None:
    """The one peer that says that it can be reached there."""
    hosts = overlay.node.mesh.membership.hosts
    found = [peer for peer, host in hosts.items()
             if peer != overlay.me and any(Address(*each) == where for each in host.addresses)]
    return found[0] if len(found) == 1 else None


def _established(overlay: Overlay, session: links.Status) -> ConnectionStatus:
    peer = session.keys.peer
    path = overlay.carriers.path(peer)
    return ConnectionStatus(
        direction="->" if session.initiated else "<-", address=_where(overlay, peer, session.where),
        state="established",
        encrypted=bool(path.key) if path else bool(overlay.settings.password),
        way=path.way.value if path else Way.NONE.value, reason=path.reason if path else "",
        peer=peer.hex(), name=overlay.peer_name(peer), size=path.size if path else 0,
        mtu=path.mtu if path else 0,
    )  # fmt: skip


def _where(overlay: Overlay, peer: PeerId | None, where: Where) -> str:
    if isinstance(where, Address):
        return str(where)
    hop = overlay.node.mesh.routes.next_hop(peer) if peer else None
    return f"relay by {overlay.peer_name(hop)}" if hop else "relay, by no peer yet"


def _peers(overlay: Overlay) -> tuple[PeerStatus, ...]:
    mesh = overlay.node.mesh
    shown = []
    for peer, host in sorted(mesh.membership.hosts.items()):
        life = mesh.membership.status(peer) or Life.DEAD
        neighbours = () if life is Life.DEAD else mesh.routes.links(peer)  # the last that it said
        shown.append(
            PeerStatus(
                id=peer.hex(), name=overlay.peer_name(peer), state=life.value,
                software=host.software,
                addresses=tuple(str(Address(*address)) for address in host.addresses),
                links=tuple((each.hex(), overlay.peer_name(each)) for each in neighbours),
                faulty=overlay.reactions.faulty.get(peer, ""),
            )
        )
    return tuple(shown)


def _names(overlay: Overlay) -> tuple[NameStatus, ...]:
    containers: dict[tuple[PeerId, str], str] = {}
    records = overlay.node.mesh.records
    for (peer, _), endpoint in overlay.node.forwarding.endpoints.items():
        for address in endpoint.addresses:
            containers[peer, _text(address)] = endpoint.container
    for peer in overlay.node.mesh.membership.hosts:
        for record in records.of(peer, Kind.NAME):
            said = read(record.value, Name)
            for address in said.addresses if said else ():
                containers.setdefault((peer, _text(address)), said.container if said else "")
    return tuple(
        NameStatus(name, address, containers.get((origin, address), ""), origin.hex())
        for name, address, origin in overlay.node.names.entries()
    )


def _networks(overlay: Overlay) -> tuple[NetworkStatus, ...]:
    shown = []
    for network in sorted(overlay.networks.here.values(), key=lambda each: each.name):
        members: list[tuple[PeerId, Endpoint]] = [
            (peer, endpoint)
            for (peer, _), endpoint in overlay.node.forwarding.endpoints.items()
            if endpoint.network == network.id
        ]
        here = sum(peer == overlay.me for peer, _ in members)
        elsewhere = len(table(overlay, network).remotes)
        peers = tuple(peer.hex() for peer in overlay.networks.members(network.id))
        shown.append(
            NetworkStatus(
                network.name, network.vni, overlay.networks.encrypted(network), here, elsewhere,
                peers, _conflicts(overlay, network),
            )
        )
    return tuple(shown)
