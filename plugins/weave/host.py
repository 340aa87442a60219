"""What clients of the overlay's process said of this host, kept in rows and restated at a start."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import msgspec

from netkit.errors import NetkitError, NotFound
from netkit.overlay import verbs
from netkit.overlay.core import Rows
from plugins.weave.crypto import digest
from plugins.weave.domain import DEFAULT
from plugins.weave.gathering import Outcome, gathered
from plugins.weave.local import Endpoint, Name, Network
from plugins.weave.names import placed
from plugins.weave.overlay import Overlay
from plugins.weave.step import Change, Step


class NETWORKS:
    """Rows: this host's id of a network -> `verbs.Network`."""

    table: Final = "weave_host_network"

    @staticmethod
    def key(network: verbs.Network) -> bytes:
        """What the network is called among peers: by its number."""
        return network.vni.to_bytes(3, "big")


ENDPOINTS: Final = "weave_host_endpoint"
"""Rows: an endpoint's id -> `verbs.Endpoint`."""
NAMES: Final = "weave_host_name"
"""Rows: an id -> `verbs.DnsAdd` of one address."""
EXPOSED: Final = "host:"
_encode = msgspec.msgpack.Encoder().encode


class Host:
    def __init__(self, overlay: Overlay, rows: Rows) -> None:
        self._overlay = overlay
        self.networks: dict[str, verbs.Network] = {
            each.id: each for each in _read(rows, NETWORKS.table, verbs.Network)
        }
        self._endpoints: dict[str, verbs.Endpoint] = {
            each.id: each
            for each in _read(rows, ENDPOINTS, verbs.Endpoint)
            if each.network in self.networks
        }
        self._names: dict[bytes, verbs.DnsAdd] = {
            _name_id(each): each for each in _read(rows, NAMES, verbs.DnsAdd)
        }

    def key(self, network: str) -> bytes:
        """Of a network by this host's id; b"" of none.  NotFound."""
        return NETWORKS.key(self._network(network)) if network else b""

    def address_of(self, mac: bytes, vni: int) -> str | None:
        """An IPv4 address of an endpoint of this host."""
        text = mac.hex(":")
        for each in self._endpoints.values():
            if each.mac == text and self.networks[each.network].vni == vni:
                return next((a for a in each.addresses if ":" not in a), None)
        return None

    def restate(self, now: float) -> Step:
        """This is all there is.  What others have come to own meanwhile is left out."""
        values = (
            [_network(each) for each in self.networks.values()],
            [self._endpoint(each) for each in self._endpoints.values()],
            [self._name(each) for each in self._names.values()],
        )
        networks, endpoints, names = values
        try:
            return self._overlay.resync(now, networks=networks, endpoints=endpoints, names=names)
        except NetkitError:
            step = self._overlay.resync(now, networks=networks, endpoints=(), names=names)
        for endpoint in endpoints:
            try:
                step += self._overlay.put(endpoint, now)
            except NetkitError:
                continue
        return step

    def do(self, verb: verbs.Known, now: float) -> Outcome:
        """NetkitError: nothing was done; one that is returned: the rest was."""
        match verb:
            case verbs.Networks():
                return self._only_networks(verb.networks, now)
            case verbs.Endpoints():
                return self._only_endpoints(verb.endpoints, now)
            case verbs.DnsAdd():
                return self._add_names(verb, now)
        return self._one(verb, now), None

    def _one(self, verb: verbs.Known, now: float) -> Step:
        match verb:
            case verbs.PutNetwork():
                return self._put_network(verb.network, now)
            case verbs.DropNetwork():
                return self._drop_network(verb.id, now)
            case verbs.PutEndpoint():
                return self._put_endpoint(verb.endpoint, now)
            case verbs.DropEndpoint():
                return self._drop_endpoint(verb.id, now)
            case verbs.Expose():
                exposed = verbs.Endpoint(
                    id=EXPOSED + verb.network, network=verb.network, mac=verb.mac,
                    addresses=verb.addresses,
                )  # fmt: skip
                return self._put_endpoint(exposed, now)
            case verbs.Hide():
                return self._drop_endpoint(EXPOSED + self._network(verb.network).id, now)
            case verbs.DnsRemove():
                return self._remove_names(verb, now)
        raise NotFound(f"there is nothing to do for {verb!r:.80}")

    # -- networks --------------------------------------------------------------------------------

    def _network(self, network: str) -> verbs.Network:
        found = self.networks.get(network)
        if found is None:
            raise NotFound(f"the overlay does not know network {network[:12]}")
        return found

    def _only_networks(self, networks: Iterable[verbs.Network], now: float) -> Outcome:
        wanted = {each.id: each for each in networks}
        gone = [each for each in self.networks if each not in wanted]
        return gathered([
            *(partial(self._drop_network, each, now) for each in gone),
            *(partial(self._put_network, each, now) for each in wanted.values()),
        ])  # fmt: skip

    def _put_network(self, network: verbs.Network, now: float) -> Step:
        former = self.networks.get(network.id)
        if former == network:
            return Step()
        step = self._overlay.put(_network(network), now)
        if former is not None and former.vni != network.vni:
            step += self._overlay.delete(Network, NETWORKS.key(former), now)
        self.networks[network.id] = network
        return step + _row(NETWORKS.table, network.id.encode(), network)

    def _drop_network(self, network: str, now: float) -> Step:
        found = self.networks.get(network)
        if found is None:
            return Step()
        step = Step()
        for each in [e.id for e in self._endpoints.values() if e.network == network]:
            step += self._drop_endpoint(each, now)
        step += self._overlay.delete(Network, NETWORKS.key(found), now)
        del self.networks[network]
        return step + _row(NETWORKS.table, network.encode(), None)

    # -- endpoints -------------------------------------------------------------------------------

    def _endpoint(self, endpoint: verbs.Endpoint) -> Endpoint:
        return Endpoint(
            id=_id(endpoint.id), network=self.key(endpoint.network), mac=endpoint.mac,
            addresses=endpoint.addresses, names=endpoint.names, container=endpoint.container,
        )  # fmt: skip

    def _only_endpoints(self, endpoints: Iterable[verbs.Endpoint], now: float) -> Outcome:
        wanted = {each.id: each for each in endpoints}
        gone = [each for each in self._endpoints if each not in wanted]
        return gathered([
            *(partial(self._drop_endpoint, each, now) for each in gone),
            *(partial(self._put_endpoint, each, now) for each in wanted.values()),
        ])  # fmt: skip

    def _put_endpoint(self, endpoint: verbs.Endpoint, now: float) -> Step:
        if self._endpoints.get(endpoint.id) == endpoint:
            return Step()
        step = self._overlay.put(self._endpoint(endpoint), now)
        former = self._endpoints.get(endpoint.id)
        if former is not None:
            step += self._forget_names(former, endpoint.addresses, now)
        self._endpoints[endpoint.id] = endpoint
        return step + _row(ENDPOINTS, endpoint.id.encode(), endpoint)

    def _drop_endpoint(self, endpoint: str, now: float) -> Step:
        former = self._endpoints.pop(endpoint, None)
        if former is None:
            return Step()
        step = self._overlay.delete(Endpoint, _id(endpoint), now)
        return step + _row(ENDPOINTS, endpoint.encode(), None) + self._forget_names(former, (), now)

    # -- names -----------------------------------------------------------------------------------

    def _name(self, verb: verbs.DnsAdd) -> Name:
        network = self.key(verb.network) if verb.network in self.networks else b""
        return Name(
            id=_name_id(verb), network=network, name=verb.name, addresses=verb.addresses,
            container=verb.container,
        )  # fmt: skip

    def _placed(self, name: str, network: str) -> tuple[str, str]:
        """The name on its network, and the id of that; a full name says which it is.

        "": the default one, which this host need not have.  InvalidSpec.
        """
        ids = {each.name.lower(): each.id for each in self.networks.values()}
        label, said = placed(name, ids)
        if said is None:
            return label, network
        return label, ids.get(said, "") if said == DEFAULT else ids[said]

    def _add_names(self, verb: verbs.DnsAdd, now: float) -> Outcome:
        self.key(verb.network)
        name, network = self._placed(verb.name, verb.network)
        verb = msgspec.structs.replace(verb, name=name, network=network)
        single = [msgspec.structs.replace(verb, addresses=(each,)) for each in verb.addresses]
        return gathered(partial(self._add_name, each, now) for each in single)

    def _add_name(self, verb: verbs.DnsAdd, now: float) -> Step:
        step = self._overlay.put(self._name(verb), now)
        self._names[_name_id(verb)] = verb
        return step + _row(NAMES, _name_id(verb), verb)

    def _remove_names(self, verb: verbs.DnsRemove, now: float) -> Step:
        name, network = self._placed(verb.name, verb.network) if verb.name else ("", verb.network)

        def meant(each: verbs.DnsAdd) -> bool:
            return (
                name in ("", each.name)
                and verb.container in ("", each.container)
                and network in ("", each.network)
                and (not verb.addresses or each.addresses[0] in verb.addresses)
            )

        found = [ident for ident, each in self._names.items() if meant(each)]
        if not found:
            raise NotFound(f"no such name was added on this host: {verb.name or verb.container}")
        return self._delete_names(found, now)

    def _forget_names(
        self, former: verbs.Endpoint, stay: tuple[str, ...], now: float
    ) -> Step:
        """What was added for a container goes with the addresses that it does not have any more."""
        left = {*former.addresses} - {*stay}
        return self._delete_names([
            ident for ident, each in self._names.items()
            if former.container and each.container == former.container
            and each.addresses[0] in left
        ], now)  # fmt: skip

    def _delete_names(self, found: Iterable[bytes], now: float) -> Step:
        step = Step()
        for ident in found:
            del self._names[ident]
            step += self._overlay.delete(Name, ident, now) + _row(NAMES, ident, None)
        return step


def _network(network: verbs.Network) -> Network:
    return Network(
        id=NETWORKS.key(network), name=network.name, vni=network.vni, subnets=network.subnets,
        mtu=network.mtu, encrypted=network.vxlan is None,
    )  # fmt: skip


def _id(endpoint: str) -> bytes:
    """Of an endpoint among peers: short, whatever it is called here."""
    return digest(16, endpoint.encode())


def _name_id(verb: verbs.DnsAdd) -> bytes:
    return digest(16, _encode((verb.name.lower(), verb.network, verb.container, verb.addresses)))


def _row(table: str, key: bytes, value: msgspec.Struct | None) -> Step:
    return Step(persist=(Change(table, key, None if value is None else _encode(value)),))


def _read(rows: Rows, table: str, kind: type[Any]) -> list[Any]:
    found = []
    for value in rows.get(table, {}).values():
        try:
            found.append(msgspec.msgpack.decode(value, type=kind))
        except msgspec.MsgspecError:
            continue  # netkitd says it anew at its start
    return found
