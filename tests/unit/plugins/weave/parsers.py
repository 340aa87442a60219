"""All that reads from the wire, for `test_parsers` and `tests.fuzz`; a new parser is added here.

Each takes any bytes, and returns a value or raises `WireError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plugins.weave import control, handshake, wire
from plugins.weave.control import Control, What
from plugins.weave.handshake import Hello
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
PARSERS = {
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
    "hello": Parser(
        handshake._CODEC.decode,
        handshake._CODEC.encode,
        (handshake._CODEC.encode(_HELLO),),
        exact=False,
    ),
}
