"""All that reads from the wire, for `test_parsers` and `tests.fuzz`; a new parser is added here.

Each takes any bytes, and returns a value or raises `WireError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from plugins.weave import (
    control,
    handshake,
    messages,
    record,
    space_messages,
    statements,
    wire,
)
from plugins.weave.control import Control, What
from plugins.weave.handshake import Hello
from plugins.weave.identity import PeerId
from plugins.weave.statements import (
    Endpoint,
    Forgotten,
    Host,
    Links,
    Name,
    Network,
    Removed,
    Statement,
    Suspect,
)
from plugins.weave.wire import Cookie, Handshake, Kind, Pattern, Transport


@dataclass(frozen=True)
class Parser:
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    seeds: tuple[bytes, ...]  # valid ones, to begin with
    exact: bool = True  # each value has one encoding alone; msgpack has several

    def check(self, data: bytes) -> bool:
        """Whether it is accepted; AssertionError, or any other but WireError: a mistake."""
        try:
            value = self.decode(data)
        except wire.WireError:
            return False
        again = self.encode(value)
        assert self.decode(again) == value
        assert not self.exact or again == data
        return True


_HELLO = Hello(1, 1, 7, bytes(32), bytes(8), 3, True)
_PEER = PeerId(bytes(16))
PARSERS: dict[str, Parser] = {
    "datagram": Parser(
        wire.parse,
        lambda value: value.encode(),
        (
            Handshake(Kind.FIRST, Pattern.IK, 7, bytes(280), bytes(16), bytes(16)).encode(),
            Cookie(7, bytes(16), bytes(32)).encode(),
            Transport(Kind.CONTROL, 0, 7, 1, bytes(40)).encode(),
        ),
    ),
    "control": Parser(
        control.decode,
        lambda value: value.encode(),
        (
            Control(What.KEEPALIVE).encode(),
            Control(What.MESSAGE, b"message").encode(),
            Control(What.ARRIVED, number=7, size=1400).encode(),
            Control(What.PROBE, number=7, size=100).encode(),
        ),
    ),
    "message": Parser(
        messages.decode,
        messages.encode,
        (
            messages.encode(messages.Ping(7, bytes(16), True)),
            messages.encode(messages.Relay(_PEER, _PEER, 3, bytes(60))),
        ),
        exact=False,
    ),
    "space": Parser(
        space_messages.CODEC.decode,
        space_messages.CODEC.encode,
        (space_messages.CODEC.encode(space_messages.Page(bytes(16), 3, 0, 1, bytes(9))),),
        exact=False,
    ),
    "record": Parser(
        record.decode,
        lambda value: value.blob,
        (),
    ),
    "hello": Parser(
        handshake._CODEC.decode,
        handshake._CODEC.encode,
        (handshake._CODEC.encode(_HELLO),),
        exact=False,
    ),
}
_STATEMENTS: tuple[Statement, ...] = (
    Host(bytes(32), bytes(32), bytes(8), 1),
    Links(bytes(8)),
    Suspect(3),
    Removed(b"proof"),
    Forgotten(7),
    Endpoint(bytes(16), bytes(6)),
    Network("net", 7),
    Name(bytes(16), "name", (bytes(4),)),
)
for _value in _STATEMENTS:
    PARSERS[type(_value).__name__] = Parser(
        partial(statements.decode, kind=type(_value)),
        statements.encode,
        (statements.encode(_value),),
        exact=False,
    )
