"""What netkitd says of its host: networks, endpoints and names; as records, and back.

Network ids, ids of endpoints and of names are the caller's choice.  A network's has to be the same
on all hosts that are to be on it: 1 to 32 bytes, of its name for instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from netkit.errors import InvalidSpec
from plugins.weave import statements
from plugins.weave.limits import KEY
from plugins.weave.record import Kind, Record
from plugins.weave.statements import decode, encode
from plugins.weave.step import Event
from plugins.weave.wire import WireError

ENCRYPTED: Final = "encrypted"
MTU: Final = "mtu"
ROOM: Final = 960
"""Bytes of a record's key and value together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network that this host has."""

    id: bytes
    name: str
    vni: int
    subnets: tuple[str, ...] = ()
    mtu: int = 1400
    encrypted: bool = False

    def statement(self) -> statements.Network:
        options = [(MTU, str(self.mtu)), *([(ENCRYPTED, "true")] if self.encrypted else [])]
        return statements.Network(self.name, self.vni, self.subnets, tuple(options))


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A container's place in a network, or the host's own where it is exposed."""

    id: bytes
    network: bytes
    mac: str
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Without a domain."""
    container: str = ""

    def statement(self) -> statements.Endpoint:
        try:
            mac = bytes.fromhex(self.mac.replace(":", ""))
        except ValueError:
            raise InvalidSpec(f"no MAC address: {self.mac!r}") from None
        return statements.Endpoint(
            self.network, mac, _packed(self.addresses), self.names, self.container
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name that was given by hand (`dns-add`)."""

    id: bytes
    network: bytes
    """b"": the default network."""
    name: str
    addresses: tuple[str, ...]
    container: str = ""

    def statement(self) -> statements.Name:
        return statements.Name(self.network, self.name, _packed(self.addresses), self.container)


@dataclass(frozen=True, slots=True)
class Granted(Event):
    """The answer to `allocate` or `claim`."""

    ticket: int
    ident: bytes
    address: str
    length: int
    """Of the subnet it is in."""


@dataclass(frozen=True, slots=True)
class AddressLost(Event):
    """An address in use here is another host's by now: what has it here has to stop using it."""

    ident: bytes
    address: str


Value = Network | Endpoint | Name
KINDS: Final = {Network: Kind.NETWORK, Endpoint: Kind.ENDPOINT, Name: Kind.NAME}


def record_of(value: Value) -> tuple[Kind, bytes, bytes]:
    """(kind, key, value) of its record.

    Raises:
        InvalidSpec: it is too long, or says what no such thing can have.
    """
    if not 0 < len(value.id) <= KEY:
        raise InvalidSpec(f"an id of {len(value.id)} bytes: use 1 to {KEY}")
    statement = value.statement()
    written = encode(statement)
    try:
        decode(written, type(statement))  # as its readers do: they are strict
    except WireError as error:
        raise InvalidSpec(f"{type(value).__name__.lower()} {value.id!r}: {error}") from None
    if len(written) + len(value.id) > ROOM:
        raise InvalidSpec(f"{type(value).__name__.lower()} {value.id!r} has too much to be sent")
    return KINDS[type(value)], value.id, written


def network_of(record: Record | None) -> Network | None:
    """A network as some peer has it."""
    said = None if record is None else statements.read(record.value, statements.Network)
    if record is None or said is None:
        return None
    options = dict(said.options)
    mtu = options.get(MTU, "")
    return Network(
        id=record.key, name=said.name, vni=said.vni, subnets=said.subnets,
        mtu=int(mtu) if mtu.isascii() and mtu.isdigit() and len(mtu) < 6 else 1400,
        encrypted=ENCRYPTED in options,
    )  # fmt: skip


def _packed(addresses: tuple[str, ...]) -> tuple[bytes, ...]:
    try:
        return tuple(ip_address(address).packed for address in addresses)
    except ValueError as error:
        raise InvalidSpec(str(error)) from None
