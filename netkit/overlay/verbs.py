"""What the overlay's process is asked over its control socket, and what it answers.

msgpack, checked against these types before anything is done.  One message asks one thing; answers
bear its number and come in any order, as some wait for other hosts.  A client that `Subscribe`s
gets `Notification` from then on.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(max_length=253)]
Some = Annotated[str, Meta(min_length=1, max_length=253)]
Device = Annotated[str, Meta(min_length=1, max_length=15)]
Mac = Annotated[str, Meta(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]
Addresses = Annotated[tuple[Text, ...], Meta(max_length=8)]
Names = Annotated[tuple[Some, ...], Meta(max_length=16)]
Subnets = Annotated[tuple[Text, ...], Meta(max_length=8)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
Vni = Annotated[int, Meta(ge=1, lt=2**24)]
Cursor = Annotated[str, Meta(max_length=1024)]


class Verb(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"):
    """Base of all."""


class Peer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a peer is looked for (`targets.resolved` makes one)."""

    host: Some  # numeric
    port: Annotated[int, Meta(ge=1, le=65535)]
    name: Text = ""  # as the user wrote it


Peers = Annotated[tuple[Peer, ...], Meta(max_length=256)]


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network of this host, and its devices there (`plugins/weave/driver.py`)."""

    id: Some  # of this host; elsewhere the network has the same number, and another id
    name: Some
    vni: Vni
    bridge: Device
    tap: Device
    vxlan: Device | None = None  # None: nothing of it goes in clear
    subnets: Subnets = ()
    mtu: Annotated[int, Meta(ge=68, le=65535)] = 1400


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A container's place in a network, or the host's where it is exposed."""

    id: Some
    network: Some  # the id
    mac: Mac
    addresses: Addresses = ()  # "10.32.0.2", without a length
    names: Names = ()
    container: Text = ""


class Connect(Verb, frozen=True, tag="connect"):
    """More peers to keep contact with."""

    peers: Peers
    replace: bool = False  # forget all others


class Forget(Verb, frozen=True, tag="forget"):
    """By address, with or without a port, or as the user wrote them."""

    peers: Annotated[tuple[Some, ...], Meta(max_length=256)]


class Networks(Verb, frozen=True, tag="networks"):
    """These are all there are on this host; endpoints of others are dropped."""

    networks: Annotated[tuple[Network, ...], Meta(max_length=1024)]


class PutNetwork(Verb, frozen=True, tag="network"):
    network: Network


class DropNetwork(Verb, frozen=True, tag="no network"):
    id: Some


class Endpoints(Verb, frozen=True, tag="endpoints"):
    """These are all there are on this host."""

    endpoints: Annotated[tuple[Endpoint, ...], Meta(max_length=4096)]


class PutEndpoint(Verb, frozen=True, tag="endpoint"):
    endpoint: Endpoint


class DropEndpoint(Verb, frozen=True, tag="no endpoint"):
    id: Some


class Allocate(Verb, frozen=True, tag="allocate"):
    """Some address; with a subnet one in it.  Answered "10.32.0.2/12" when it is decided."""

    ident: Some  # whose it is: who has one gets the same again
    network: Text = ""  # the id, where its subnet is not in the range
    subnet: Text = ""
    seconds: Seconds = 20.0


class Claim(Verb, frozen=True, tag="claim"):
    """That address.  Answered as `Allocate`."""

    ident: Some
    address: Some  # "10.32.5.7/24"
    network: Text = ""
    seconds: Seconds = 20.0


class Release(Verb, frozen=True, tag="release"):
    """What `ident` has or waits for; with an address only that."""

    ident: Some
    address: Text = ""


class Held(Verb, frozen=True, tag="held"):
    """What was allocated or claimed on this host and not released: [[ident, address], ...], of
    addresses that the overlay gives out; without a length."""


class SubnetsOf(Verb, frozen=True, tag="subnets of"):
    """Subnets that other hosts, which can be reached, have a network with: ["10.40.0.0/16"]; [] if
    none has it.  Where they differ, those of the peer with the lowest id."""

    name: Some


class Warnings(Verb, frozen=True, tag="warnings"):
    """`warnings` of `Status`: sentences on what the user has to see to."""


class Expose(Verb, frozen=True, tag="expose"):
    """The host itself is on a network, behind its bridge, with these addresses."""

    network: Some
    mac: Mac
    addresses: Addresses


class Hide(Verb, frozen=True, tag="hide"):
    network: Some


class DnsAdd(Verb, frozen=True, tag="dns add"):
    name: Some
    addresses: Addresses
    network: Text = ""
    container: Text = ""


class DnsRemove(Verb, frozen=True, tag="dns remove"):
    """What was added under a name, or for a container; with addresses only these."""

    name: Text = ""
    container: Text = ""
    network: Text = ""
    addresses: Addresses = ()


class DnsLookup(Verb, frozen=True, tag="dns lookup"):
    """Addresses of a name; full names of an address."""

    name: Some
    network: Text = ""


class Locate(Verb, frozen=True, tag="locate"):
    """Where an address of a network is, and how frames go there; by the MAC address, if given."""

    vni: Vni
    mac: Mac | None = None
    address: Text = ""


class Members(Verb, frozen=True, tag="members"):
    """A `Membership`: what there is after that place, from the beginning if it is ""."""

    after: Cursor = ""


class Status(Verb, frozen=True, tag="status"):
    """In short, for people and programs."""


class Report(Verb, frozen=True, tag="report"):
    """Everything."""


class RmPeer(Verb, frozen=True, tag="rmpeer"):
    """A name, or the beginning of an id.  Answered when it is decided."""

    peer: Some
    force: bool = False
    seconds: Seconds = 20.0


class Prime(Verb, frozen=True, tag="prime"):
    """Own the range, as the first host."""


class Reset(Verb, frozen=True, tag="reset"):
    """Give back what it owns, forget everything, and end: this host becomes a new peer."""

    seconds: Seconds = 10.0


class Stop(Verb, frozen=True, tag="stop"):
    """End; networks go on on this host."""


class Subscribe(Verb, frozen=True, tag="subscribe"):
    """Send this client events."""


Known = (
    Connect | Forget | Networks | PutNetwork | DropNetwork | Endpoints | PutEndpoint | DropEndpoint
    | Allocate | Claim | Release | Held | SubnetsOf | Warnings | Expose | Hide | DnsAdd | DnsRemove
    | DnsLookup | Locate | Members | Status | Report | RmPeer | Prime | Reset | Stop | Subscribe
)  # fmt: skip


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """Another host, or this one."""

    id: str  # of its peer, in hexadecimal
    name: str  # which it has given itself
    address: str  # numeric; "": not known


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of another host, on a network of this one, that frames go to.

    Names and container are as that host published them: any text of up to 253 characters.
    """

    id: str  # in hexadecimal, another one for each endpoint of a host
    network: str  # this host's id of it
    host: str  # id of the peer
    mac: str
    addresses: tuple[str, ...]  # those that it is reached by
    names: tuple[str, ...]
    container: str


class AddedName(msgspec.Struct, frozen=True, kw_only=True):
    """A name that was added (`DnsAdd`) by any host, for a network of this one."""

    network: str  # this host's id of it
    host: str  # id of the peer
    name: str
    addresses: tuple[str, ...]
    container: str


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `Members`: a part, in order."""

    hosts: tuple[Host, ...]  # of all that is here
    members: tuple[Member, ...]
    names: tuple[AddedName, ...]
    after: str = ""  # where the next part begins; "": this is the last one


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: Annotated[int, Meta(ge=0, lt=2**53)]
    verb: Known


class Done(msgspec.Struct, tag="done", frozen=True):
    """What came of a call."""

    number: int
    result: Any = None


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """Nothing came of it; `kind` is the name of a class of netkit.errors."""

    number: int
    kind: str
    text: str


class Notification(msgspec.Struct, tag="notification", frozen=True):
    what: dict[str, Any]


Answer = Done | Refused | Notification
encode = msgspec.msgpack.Encoder().encode
call = msgspec.msgpack.Decoder(Call).decode
answer = msgspec.msgpack.Decoder(Answer).decode
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
