"""What the values of records say, kind by kind, and the parser of all of them.

Values are msgpack arrays.  A newer version may add fields at the end: they are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Annotated, Any, Final, TypeVar

import msgspec

from plugins.weave import limits
from plugins.weave.identity import KeyField, PublicKeys
from plugins.weave.wire import WireError

Text = Annotated[str, msgspec.Meta(max_length=253)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
AddressField = tuple[Annotated[str, msgspec.Meta(max_length=45)], Port]
Mac = Annotated[bytes, msgspec.Meta(min_length=6, max_length=6)]
Ip = Annotated[bytes, msgspec.Meta(min_length=4, max_length=16)]
NetworkId = Annotated[bytes, msgspec.Meta(min_length=1, max_length=32)]
PREFIX: Final = 8  # bytes of a peer's id that distinguish neighbours


class Statement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all values."""


class Host(Statement, frozen=True):
    """Kind HOST, key empty: who the origin is.  Its keys are what its records are checked by."""

    signing: KeyField
    exchange: KeyField
    instance: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    """Random, of this run of the process."""
    incarnation: Count
    """Raised to contradict those who say that the origin is gone."""
    nickname: Text = ""
    addresses: Annotated[tuple[AddressField, ...], msgspec.Meta(max_length=8)] = ()
    """Where it can be reached: the best first."""
    features: Annotated[tuple[Text, ...], msgspec.Meta(max_length=16)] = ()
    software: Text = ""

    @property
    def keys(self) -> PublicKeys:
        return PublicKeys(self.signing, self.exchange)


class Links(Statement, frozen=True):
    """Kind LINKS, key empty: who the origin has a session with."""

    neighbours: Annotated[bytes, msgspec.Meta(max_length=PREFIX * limits.NEIGHBOURS)]
    """The first PREFIX bytes of each neighbour's id, in order, one after the other."""


class Suspect(Statement, frozen=True):
    """Kind SUSPECT, key: a peer's id.  The origin does not reach it, nor do others it asked."""

    incarnation: Count
    """The accused one's, as the origin knew it: a higher one contradicts."""


class Removed(Statement, frozen=True):
    """Kind REMOVED, key: a peer's id that is never to come back (rmpeer)."""

    proof: Annotated[bytes, msgspec.Meta(max_length=900)] = b""
    """Why: what `council` issued; checked by the one who reads it."""


class Forgotten(Statement, frozen=True):
    """Kind FORGOTTEN, key: a dead peer's id whose records are kept no more."""

    version: Count
    """Of the newest record that is forgotten; newer ones bring the peer back."""


class Endpoint(Statement, frozen=True):
    """Kind ENDPOINT, key: an id of the endpoint.  A container's place in one network."""

    network: NetworkId
    mac: Mac
    addresses: Annotated[tuple[Ip, ...], msgspec.Meta(max_length=8)] = ()
    """IPv4 as 4 bytes, IPv6 as 16."""
    names: Annotated[tuple[Text, ...], msgspec.Meta(max_length=16)] = ()
    """Without the network's domain."""
    container: Text = ""
    hidden: bool = False
    """Its addresses are resting or in doubt: no names, no forwarding."""

    def __post_init__(self) -> None:
        _check(self.addresses, _is_interface)


class Network(Statement, frozen=True):
    """Kind NETWORK, key: the network's id."""

    name: Text
    vni: Annotated[int, msgspec.Meta(ge=1, lt=2**24)]
    subnets: Annotated[tuple[Text, ...], msgspec.Meta(max_length=8)] = ()
    options: Annotated[tuple[tuple[Text, Text], ...], msgspec.Meta(max_length=16)] = ()


class Name(Statement, frozen=True):
    """Kind NAME, key: any: names that were given by hand (dns-add)."""

    network: Annotated[bytes, msgspec.Meta(max_length=32)]
    name: Text
    addresses: Annotated[tuple[Ip, ...], msgspec.Meta(max_length=16)]
    container: Text = ""

    def __post_init__(self) -> None:
        _check(self.addresses, _is_address)


def _check(addresses: Iterable[bytes], possible: Callable[[bytes], bool]) -> None:
    """Raises ValueError, which msgspec makes an error of decoding."""
    for packed in addresses:
        if not possible(packed):
            raise ValueError(f"an address that cannot be: {packed.hex()}")


def _is_address(packed: bytes) -> bool:
    """msgspec has bounds of a length, and not two lengths."""
    return len(packed) in {4, 16}


def _is_interface(packed: bytes) -> bool:
    """Neither loopback, multicast, unspecified nor broadcast (RFC 1122, 3.2.1.3; RFC 4291, 2.4),
    nor an IPv4 address as 16 bytes (RFC 4291, 2.5.5)."""
    if not _is_address(packed):
        return False
    if len(packed) == 16:
        return packed[0] != 0xFF and any(packed[:10])
    special = packed[0] == 127 or 224 <= packed[0] < 240
    return any(packed) and not special and packed != b"\xff\xff\xff\xff"


S = TypeVar("S", bound=Statement)


@cache
def _decoder(kind: type[Statement]) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


def encode(statement: Statement) -> bytes:
    """The value of a record."""
    return msgspec.msgpack.encode(statement)


def decode(value: bytes, kind: type[S]) -> S:
    """Raises WireError."""
    try:
        found: S = _decoder(kind).decode(value)
        return found
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"no {kind.__name__}: {error}") from None


@lru_cache(maxsize=limits.ORIGINS)
def read_host(value: bytes | None) -> Host | None:
    """As `read`: they are asked for often."""
    return read(value, Host)


def read(value: bytes | None, kind: type[S]) -> S | None:
    """None as well for what cannot be read: a peer that writes nonsense says nothing."""
    try:
        return None if value is None else decode(value, kind)
    except WireError:
        return None
