"""Messages from and to the workers of the sleeve on their control socket.

msgpack, one message a packet of a SEQPACKET socket; files go along as SCM_RIGHTS.  A worker keeps
no more than its tables: the process that starts it sends everything first.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

MacField = Annotated[bytes, msgspec.Meta(min_length=6, max_length=6)]
NetworkId = Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFF)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class PutPeer(msgspec.Struct, tag="peer", frozen=True, kw_only=True):
    """Where frames for a peer are sent, and how; a known one is replaced.

    A key that comes back goes on with its counter, or is refused if that is gone.
    """

    peer: int  # a number of the caller's choice
    address: str
    port: Port
    index: int  # the receiver's of the session
    key: bytes = b""  # of AES-256-GCM; b"": this path is not encrypted
    size: int  # bytes of UDP's payload that the path carries
    whole: bool = True  # False: each segment is sealed by itself, for lossy paths


class DropPeer(msgspec.Struct, tag="no peer", frozen=True):
    peer: int


class PutSession(msgspec.Struct, tag="session", frozen=True, kw_only=True):
    """What may be received: by our index, from whom, under which key."""

    index: int
    peer: int
    key: bytes = b""
    address: str = ""  # with a path that is not encrypted: its only sender


class DropSession(msgspec.Struct, tag="no session", frozen=True):
    index: int


class PutNetwork(msgspec.Struct, tag="network", frozen=True):
    """The TAP device's file comes along with the message."""

    network: NetworkId


class DropNetwork(msgspec.Struct, tag="no network", frozen=True):
    network: NetworkId


class PutHost(msgspec.Struct, tag="host", frozen=True, kw_only=True):
    """A container of another peer."""

    network: NetworkId
    mac: MacField
    peer: int
    addresses: tuple[bytes, ...] = ()  # packed


class DropHost(msgspec.Struct, tag="no host", frozen=True):
    network: NetworkId
    mac: MacField


class Members(msgspec.Struct, tag="members", frozen=True):
    """Peers that get a broadcast or multicast frame of this network, once each."""

    network: NetworkId
    peers: tuple[int, ...]


class AskCounts(msgspec.Struct, tag="counts", frozen=True):
    """Answered by `Counts`."""


class AskReceived(msgspec.Struct, tag="received", frozen=True):
    """Answered by `Reception`."""


Message = (
    PutPeer | DropPeer | PutSession | DropSession | PutNetwork | DropNetwork | PutHost | DropHost
    | Members | AskCounts | AskReceived
)  # fmt: skip


class PeerCounts(msgspec.Struct):
    """Of one peer, since the worker's start."""

    frames: int = 0  # a frame of several segments is one
    bytes: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=dict)  # by reason
    payloads: int = 0  # that were sealed or opened
    datagrams: int = 0  # of these
    missing: int = 0  # payloads that were sent to us and did not arrive whole


class Counts(msgspec.Struct, tag="counted"):
    peers: dict[int, PeerCounts] = msgspec.field(default_factory=dict)
    dropped: dict[str, int] = msgspec.field(default_factory=dict)  # of no known peer, by reason


class Received(msgspec.Struct, array_like=True, frozen=True):
    """Of one peer, as in `PeerCounts`."""

    payloads: int = 0
    datagrams: int = 0
    missing: int = 0


class Reception(msgspec.Struct, tag="reception", frozen=True):
    """Of peers that something came from since it was asked for last, since the worker's start."""

    peers: dict[int, Received] = msgspec.field(default_factory=dict)


class Source(msgspec.Struct, tag="source", frozen=True):
    """Sealed data under this index comes from there now.  Sent by the receiving worker, unasked."""

    index: int
    address: str  # numeric
    port: int


class Done(msgspec.Struct, tag="done", frozen=True):
    """The message before this one is in force; with an error it is not, and nothing changed."""

    error: str = ""


Answer = Counts | Reception | Done
encode = msgspec.msgpack.Encoder().encode
message = msgspec.msgpack.Decoder(Message).decode
answer = msgspec.msgpack.Decoder(Answer).decode
source = msgspec.msgpack.Decoder(Source).decode
