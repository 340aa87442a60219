"""What is sealed in control datagrams and probes: a byte that says what, and its content.

0  keepalive    nothing
1  message      of the parts above; up to MAX_CARRIED bytes
2  greeting     nothing; answered by a keepalive
3  goodbye      nothing: this session and all others of the sender are over
4  arrived      number 4 | size 2: a probe of that size (bytes of UDP's payload) came through
5  probe        number 4 | zeros, up to the size that is probed for
6  lossy        0 or 1: whether data of the receiver's gets lost on its way to the sender
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from plugins.weave.crypto import TAG
from plugins.weave.wire import HEADER, MAX_CARRIED, MAX_DATAGRAM, WireError

_NUMBER = struct.Struct("!I")
_ARRIVED = struct.Struct("!IH")
LEAST_PROBE = HEADER + TAG + 1 + _ARRIVED.size  # bytes; no shorter than what answers it


class What(IntEnum):
    KEEPALIVE = 0
    MESSAGE = 1
    GREETING = 2
    GOODBYE = 3
    ARRIVED = 4
    PROBE = 5
    LOSSY = 6


@dataclass(frozen=True, slots=True)
class Control:
    what: What
    message: bytes = b""
    number: int = 0
    size: int = 0  # of ARRIVED and PROBE: bytes of the whole datagram
    lossy: bool = False

    def encode(self) -> bytes:
        """ValueError: out of bounds, which is a mistake of ours."""
        head = bytes([self.what])
        if self.what == What.MESSAGE:
            if len(self.message) > MAX_CARRIED:
                raise ValueError(f"a message of {len(self.message)} bytes")
            return head + self.message
        if self.what == What.ARRIVED:
            return head + _ARRIVED.pack(self.number, self.size)
        if self.what == What.LOSSY:
            return head + bytes([self.lossy])
        if self.what == What.PROBE:
            if not LEAST_PROBE <= self.size <= MAX_DATAGRAM:
                raise ValueError(f"a probe of {self.size} bytes")
            return (head + _NUMBER.pack(self.number)).ljust(self.size - HEADER - TAG, b"\0")
        return head


def decode(plaintext: bytes) -> Control:
    """WireError: anything else."""
    try:
        what = What(plaintext[0])
    except (IndexError, ValueError):
        raise WireError("no kind of control message") from None
    body = plaintext[1:]
    if what == What.MESSAGE:
        if len(body) > MAX_CARRIED:
            raise WireError(f"a message of {len(body)} bytes")
        return Control(what, message=body)
    if what == What.ARRIVED:
        if len(body) != _ARRIVED.size:
            raise WireError("a probe's receipt of another size")
        number, size = _ARRIVED.unpack(body)
        return Control(what, number=number, size=size)
    if what == What.PROBE:
        return _probe(body)
    if what == What.LOSSY:
        if body not in {b"\0", b"\1"}:
            raise WireError("lossy or not, and nothing else")
        return Control(what, lossy=body == b"\1")
    if body:
        raise WireError(f"content of a {what.name.lower()}")
    return Control(what)


def _probe(body: bytes) -> Control:
    size = HEADER + TAG + 1 + len(body)
    if not LEAST_PROBE <= size <= MAX_DATAGRAM or body.count(0, 4) != len(body) - 4:
        raise WireError("a probe that is not padded by zeros")
    (number,) = _NUMBER.unpack_from(body)
    return Control(What.PROBE, number=number, size=size)
