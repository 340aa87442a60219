"""Where a MAC or an IP address of a network is, and how frames go there: for traces of packets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netkit.errors import InvalidSpec
from netkit.overlay import verbs
from plugins.weave.forwarding import Key
from plugins.weave.identity import PeerId
from plugins.weave.membership import Status as Life
from plugins.weave.parts import packed_of
from plugins.weave.planes import Way
from plugins.weave.prefixes import of
from plugins.weave.prefixes import text as address_text
from plugins.weave.statements import Endpoint
from plugins.weave.step import Address

if TYPE_CHECKING:
    from plugins.weave.overlay import Overlay


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """What is known of one address.  `peer` "": it belongs to no peer, `why` says more."""

    me: str
    """Id of this host's peer, in hexadecimal."""
    peer: str = ""
    """Id of the peer that frames to the address go to; this host's own for its containers."""
    name: str = ""
    """Of that peer."""
    container: str = ""
    mac: str = ""
    addresses: tuple[str, ...] = ()
    """IP addresses that may be sent from with that MAC address."""
    way: str = Way.NONE.value
    """fastdp, sleeve, relay, none: as in `status connections`."""
    reason: str = ""
    """As there."""
    host: str = ""
    """Address of the peer's host, numeric; "": by relay, or none."""
    port: int = 0
    """UDP."""
    hop: str = ""
    """Name of the peer that passes on what is for it."""
    sealed: bool = False
    size: int = 0
    """Bytes of UDP's payload that the path carries; 0: there is none."""
    mtu: int = 0
    """Bytes of a packet that fits one datagram."""
    why: str = ""
    """Why frames do not get there."""


def answer(overlay: Overlay, verb: verbs.Locate) -> Location:
    """InvalidSpec: it asks for nothing."""
    if not (verb.mac or verb.address):
        raise InvalidSpec("what is to be located: a MAC or an IP address?")
    mac = bytes.fromhex(verb.mac.replace(":", "")) if verb.mac else None
    address = packed_of(verb.address) if verb.address else None
    return locate(overlay, verb.vni.to_bytes(3, "big"), mac, address)


def locate(overlay: Overlay, network: bytes, mac: bytes | None, address: bytes | None) -> Location:
    """By `mac`, or without one by `address` (4 or 16 bytes)."""
    forwarding = overlay.node.forwarding
    if mac is None and address is not None:
        mac = forwarding.mac_of(network, address)
    peer = None if mac is None else forwarding.peer_of(network, mac)
    me = overlay.me.hex()
    if mac is None or peer is None:
        return Location(me=me, why=_unknown(overlay, network, mac, address))
    found = next(
        (e for e in forwarding.shown_of(peer) if (e.network, e.mac) == (network, mac)), None
    )
    owned = tuple(
        _text(each) for each in (found.addresses if found else ())
        if forwarding.claimed(network, each) is not None
        and forwarding.mac_of(network, each) == mac
    )  # fmt: skip
    about = Location(
        me=me, peer=peer.hex(), name=overlay.peer_name(peer), mac=mac.hex(":"), addresses=owned,
        container=found.container if found else "",
    )  # fmt: skip
    return about if peer == overlay.me else _reached(overlay, peer, about)


def _reached(overlay: Overlay, peer: PeerId, about: Location) -> Location:
    path = overlay.carriers.path(peer)
    if path is None or path.way is Way.NONE:
        why = path.reason if path else "there is no session with it"
        return replace(about, reason=why, why=why)
    direct = isinstance(path.where, Address)
    hop = None if direct else overlay.node.mesh.routes.next_hop(peer)
    return replace(
        about, way=path.way.value, reason=path.reason, sealed=bool(path.key),
        host=path.where.host if isinstance(path.where, Address) else "",
        port=path.where.port if isinstance(path.where, Address) else 0,
        hop=overlay.peer_name(hop) if hop else "", size=path.size, mtu=path.mtu,
    )  # fmt: skip


def _unknown(overlay: Overlay, network: bytes, mac: bytes | None, address: bytes | None) -> str:
    """Why nothing is sent: who has it nevertheless, and what is the matter there."""
    for key, endpoint in sorted(overlay.node.forwarding.endpoints.items(), key=lambda e: e[0]):
        has = endpoint.mac == mac if mac is not None else address in endpoint.addresses
        if endpoint.network == network and has:
            return f"{overlay.peer_name(key[0])} has it, but {_out(overlay, key, endpoint)}"
    return "no host of the overlay has it on this network"


def _out(overlay: Overlay, key: Key, endpoint: Endpoint) -> str:
    peer, life = key[0], overlay.node.mesh.membership.status(key[0])
    if peer != overlay.me and life is not Life.ALIVE:
        return f"is {(life or Life.DEAD).value}: it is not reached by this host nor by others"
    if endpoint.hidden:
        return "its addresses are fenced there: netkit weave status ipam"
    return "another host has its MAC address, too: netkit weave status"


def _text(packed: bytes) -> str:
    single = of(packed)
    return address_text(single.family, single.first)
