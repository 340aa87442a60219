"""Names of endpoints and those added by hand: a view of ENDPOINT and NAME records.

Each network has a zone of its own, NETWORK.weave.local, and one is the default, whose names are
found in weave.local as well.  What dead peers say is not shown.  Names are compared as DNS does:
not by case, nor by a dot at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import Final, TypeVar

from netkit.errors import InvalidSpec
from plugins.weave.domain import DEFAULT, DOMAIN, full_name
from plugins.weave.identity import PeerId
from plugins.weave.record import Kind
from plugins.weave.statements import Endpoint, Name, Network, read
from plugins.weave.taken import RecordChange

LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
"""Of a name (RFC 1123, 2.1), in lower case; containers' names may have underscores."""
LONGEST: Final = 253
"""Characters of a full name (RFC 1035, 2.3.4)."""
K = TypeVar("K")
_Source = tuple[PeerId, int, bytes]
_Entry = tuple[bytes, tuple[str, ...], tuple[bytes, ...]]


def placed(name: str, networks: Collection[str]) -> tuple[str, str | None]:
    """A name as a user writes it: the name on its network, and which of `networks` (in lower case)
    that is; None: the name has no domain.

    InvalidSpec: it cannot be asked for.
    """
    label, network = _fold(name), None
    if label.endswith("." + DOMAIN):
        label = label[: -len(DOMAIN) - 1]
        rest, dot, zone = label.rpartition(".")
        label, network = (rest, zone) if dot and zone in networks else (label, DEFAULT)
    if not all(LABEL.fullmatch(part) for part in label.split(".")):
        raise InvalidSpec(f"{name!r} is no name of a host: use letters, digits, - and dots")
    if len(f"{label}.{network or ''}.{DOMAIN}") > LONGEST:
        raise InvalidSpec(f"a name of more than {LONGEST} characters: {name!r:.80}")
    return label, network


class Names:
    """`apply` has to be notified of changes of ENDPOINT, NAME and NETWORK records."""

    def __init__(self, visible: Callable[[PeerId], bool], me: PeerId | None = None) -> None:
        self._visible, self._me = visible, me
        self._entries: dict[_Source, _Entry] = {}
        self._by_name: dict[str, dict[_Source, None]] = {}
        self._by_address: dict[bytes, dict[_Source, None]] = {}
        self._networks: dict[bytes, dict[PeerId, str]] = {}
        self._turn = 0

    def apply(self, change: RecordChange) -> None:
        source = (change.origin, change.kind, change.key)
        value = None if change.new is None else change.new.value
        if change.kind == Kind.NETWORK:
            self._on_network(change.origin, change.key, read(value, Network))
            return
        self._drop(source)
        entry = _entry(change.kind, value)
        if entry is None:
            return
        self._entries[source] = entry
        for name in entry[1]:
            self._by_name.setdefault(name, {})[source] = None
        for address in entry[2]:
            self._by_address.setdefault(address, {})[source] = None

    def lookup(self, question: str, network: bytes | None = None) -> list[str]:
        """Addresses of a name, IPv4 and IPv6, another one first each time.

        `network`: whose zone it is looked up in if the name has no domain.
        """
        name, zone = self._zone(question, network)
        found = self._addresses(name, zone)
        self._turn += 1
        at = self._turn % len(found) if found else 0
        return found[at:] + found[:at]

    def reverse(self, address: str) -> list[str]:
        """Full names of an address, as an endpoint has them: its name before its short id."""
        packed = ip_address(address).packed
        names = []
        for source in sorted(self._by_address.get(packed, {})):
            network, labels, _ = self._entries[source]
            if self._visible(source[0]):
                zone = self.network_name(network)
                names += [full_name(label, zone) for label in labels]
        return list(dict.fromkeys(names))

    def entries(self) -> list[tuple[str, str, PeerId]]:
        """(full name, address, origin) of all that is shown."""
        return sorted(
            (full_name(label, self.network_name(network)), str(ip_address(address)), origin)
            for (origin, _, _), (network, labels, addresses) in self._entries.items()
            if self._visible(origin)
            for label in labels
            for address in addresses
        )

    def network_name(self, network: bytes) -> str:
        """As this host calls it, else the peer with the lowest id; its id in hexadecimal if none
        does.  So no other peer renames a network of this host."""
        names = self._networks.get(network)
        if not names:
            return network.hex() or DEFAULT
        return names[self._me if self._me in names else min(names)]

    def _zone(self, question: str, network: bytes | None) -> tuple[str, str | None]:
        """The name within its zone, and the zone's name."""
        name = _fold(question)
        if name.endswith("." + DOMAIN):
            name = name[: -len(DOMAIN) - 1]
            label, dot, zone = name.rpartition(".")
            known = {_fold(self.network_name(n)) for n in self._networks}
            return (label, zone) if dot and zone in known else (name, DEFAULT)
        return name, DEFAULT if network is None else _fold(self.network_name(network))

    def _addresses(self, name: str, zone: str | None) -> list[str]:
        found: dict[str, None] = {}
        for source in sorted(self._by_name.get(name, {})):
            network, _, addresses = self._entries[source]
            if _fold(self.network_name(network)) == zone and self._visible(source[0]):
                found |= dict.fromkeys(str(ip_address(address)) for address in addresses)
        return list(found)

    def _on_network(self, origin: PeerId, key: bytes, network: Network | None) -> None:
        names = self._networks.setdefault(key, {})
        names.pop(origin, None)
        if network is not None:
            names[origin] = network.name
        if not names:
            del self._networks[key]

    def _drop(self, source: _Source) -> None:
        entry = self._entries.pop(source, None)
        if entry is None:
            return
        _, names, addresses = entry
        _discard(self._by_name, names, source)
        _discard(self._by_address, addresses, source)


def _discard(index: dict[K, dict[_Source, None]], keys: tuple[K, ...], source: _Source) -> None:
    for key in keys:
        index[key].pop(source, None)
        if not index[key]:
            del index[key]


def _entry(kind: int, value: bytes | None) -> _Entry | None:
    if kind == Kind.ENDPOINT:
        endpoint = read(value, Endpoint)
        if endpoint is None or endpoint.hidden or not endpoint.names:
            return None
        return endpoint.network, _folded(endpoint.names), tuple(dict.fromkeys(endpoint.addresses))
    name = read(value, Name)
    if name is None:
        return None
    return name.network, _folded((name.name,)), tuple(dict.fromkeys(name.addresses))


def _fold(name: str) -> str:
    return name.lower().rstrip(".")


def _folded(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_fold(name) for name in names))
